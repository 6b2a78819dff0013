"""The whole path on real parts: stock openai client, gateway on a port, any kind of host, peer inside."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from attest.mock.faults import FAULTS, apply_bundle_fault
from attest.mock.vendor import MockVendor
from attest.protocol import paths, problems
from gateway.upstream.outer import MAX_PROBLEM_BYTES
from tests.simulators.hostile_host import (
    HostileHost,
    HostRequest,
    Script,
    evidence_of,
    hang,
    hang_up,
    http_chunk,
    raw,
    respond,
    sealed_answer,
    sealed_head,
)
from tests.simulators.mock_peer import END, EVENTS, JSON_ANSWER, TOLD_BY_PEERS, MockPeer
from tests.simulators.running_gateway import RunningGateway, running_gateway

TLS = ssl.create_default_context()  # made once: reading the machine's roots takes longer than a test
CANARY = "canary-7f3a-the-secret-prompt"
CHAT = {"model": "m", "messages": [{"role": "user", "content": CANARY}]}


@pytest.fixture(scope="module")
def peer(vendor: MockVendor) -> MockPeer:
    return MockPeer(vendor)


@pytest.fixture
async def host(peer: MockPeer) -> AsyncIterator[HostileHost]:
    async with HostileHost() as host:
        host.evidence = evidence_of(peer)
        host.sealed = sealed_answer(peer.honest_stream)
        yield host


@pytest.fixture
async def gateway(tmp_path: Path, host: HostileHost, peer: MockPeer) -> AsyncIterator[RunningGateway]:
    async with running_gateway(
        tmp_path,
        host.url,
        peer.trust,
        peer.reference,
        idle_timeout_s=0.5,
        first_token_timeout_s=0.9,
        answer_timeout_s=2,
    ) as gateway:
        yield gateway


@pytest.fixture
async def client(gateway: RunningGateway) -> AsyncIterator[openai.AsyncOpenAI]:
    """The stock client with its stock retries."""
    async with openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1",
        api_key=gateway.api_key,
        http_client=openai.DefaultAsyncHttpxClient(verify=TLS),
    ) as client:
        yield client


@pytest.fixture
async def http(gateway: RunningGateway) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=gateway.url, headers=gateway.authorization, verify=TLS) as http:
        yield http


async def streamed(client: openai.AsyncOpenAI) -> str:
    """The text of a streamed chat."""
    text = ""
    async for chunk in await client.chat.completions.create(stream=True, **CHAT):  # type: ignore[call-overload]
        text += chunk.choices[0].delta.content or ""
    return text


def outcomes(gateway: RunningGateway) -> list[dict[str, Any]]:
    """The outcome entries of the log: outcome, and code where there is one."""
    entries = [entry for entry in gateway.log_entries() if entry["unmapped"]["kind"] == "outcome"]
    return [{**entry["unmapped"], "code": entry.get("status_code")} for entry in entries]


# Answers


async def test_a_streamed_answer_comes_through(client: openai.AsyncOpenAI) -> None:
    assert await streamed(client) == "one two three"


async def test_events_come_as_they_are_made_and_the_end_only_after_the_receipt(
    http: httpx2.AsyncClient, host: HostileHost, peer: MockPeer
) -> None:
    may_end = asyncio.Event()

    async def script(request: HostRequest, writer: asyncio.StreamWriter) -> None:
        parts = peer.honest_stream(request.body)
        writer.write(sealed_head() + b"".join(map(http_chunk, parts[:-1])))
        await may_end.wait()
        writer.write(http_chunk(parts[-1]) + b"0\r\n\r\n")

    host.sealed = script
    received = b""
    async with http.stream("POST", paths.CHAT_PATH, json={**CHAT, "stream": True}) as response:
        async for data in response.aiter_raw():
            received += data
            if received == b"".join(EVENTS):  # all that may be had before the receipt
                may_end.set()
    assert received == b"".join(EVENTS) + END


async def test_an_answer_in_one_piece_says_what_it_rests_on(
    http: httpx2.AsyncClient, host: HostileHost, peer: MockPeer, gateway: RunningGateway
) -> None:
    host.sealed = sealed_answer(peer.honest_answer)
    response = await http.post(paths.CHAT_PATH, json=CHAT)
    assert (response.status_code, response.content) == (200, JSON_ANSWER)
    assert response.headers[paths.RECEIPT_ID_HEADER] == "rcpt-1"
    assert response.headers[paths.TEE_HEADER] == "MOCK"
    opened = peer.opened[-1]
    assert response.headers[paths.STATEMENT_HEADER] == opened.claims.statement_digest
    assert response.headers[paths.LABEL_ID_HEADER] == opened.claims.label_id
    assert response.headers[paths.REQUEST_ID_HEADER].startswith("req_")
    decision, outcome = gateway.log_entries()
    assert decision["unmapped"]["tenant_sequence"] == opened.claims.sequence == 1
    assert outcome["unmapped"]["outcome"] == "answered"
    assert outcome["unmapped"]["receipt_id"] == "rcpt-1"


async def test_the_entry_is_on_disk_before_a_byte_leaves(
    http: httpx2.AsyncClient, host: HostileHost, peer: MockPeer, gateway: RunningGateway
) -> None:
    seen: list[int] = []

    async def script(request: HostRequest, writer: asyncio.StreamWriter) -> None:
        seen.append(len(gateway.log_entries()))
        await sealed_answer(peer.honest_answer)(request, writer)

    host.sealed = script
    assert (await http.post(paths.CHAT_PATH, json=CHAT)).status_code == 200
    assert seen == [1]


async def test_sequence_numbers_have_no_gap(
    http: httpx2.AsyncClient, host: HostileHost, peer: MockPeer
) -> None:
    host.sealed = sealed_answer(peer.honest_answer)
    before = len(peer.opened)
    await asyncio.gather(*(http.post(paths.CHAT_PATH, json=CHAT) for _ in range(10)))
    assert sorted(opened.claims.sequence for opened in peer.opened[before:]) == list(range(1, 11))


# What the caller does wrong

BAD_REQUESTS: dict[str, tuple[dict[str, Any], int, str]] = {
    "not json": ({"content": b"{"}, 400, "invalid_json"),
    "not utf-8": ({"content": b'{"model":"\xff"}'}, 400, "invalid_json"),
    "an array": ({"json": []}, 400, "invalid_type"),
    "empty": ({"content": b""}, 400, "invalid_json"),
    "deep": ({"content": b"[" * 100_000}, 400, "invalid_json"),
    "no model": ({"json": {"messages": CHAT["messages"]}}, 400, "missing_parameter"),
    "wrong type": ({"json": {**CHAT, "max_tokens": "16"}}, 400, "invalid_type"),
    "out of range": ({"json": {**CHAT, "temperature": 3}}, 400, "invalid_value"),
    "unknown": ({"json": {**CHAT, "temprature": 1}}, 400, "unknown_parameter"),
    "functions": ({"json": {**CHAT, "functions": [{}]}}, 400, "unsupported_parameter"),
    "form": ({"data": {"a": "b"}}, 415, "unsupported_media_type"),
    "compressed": (
        {"content": b"{}", "headers": {"content-type": "application/json", "content-encoding": "gzip"}},
        415,
        "unsupported_media_type",
    ),
    "huge": ({"json": {**CHAT, "user": "x" * (5 << 20)}}, 413, "request_too_large"),
    "bad label": ({"json": CHAT, "headers": {"data-label": "???"}}, 400, "invalid_label"),
    "bad key": ({"json": CHAT, "headers": {"authorization": "Bearer sg-no"}}, 401, "invalid_api_key"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
async def test_bad_input_is_refused_and_nothing_is_sent(
    http: httpx2.AsyncClient, host: HostileHost, name: str
) -> None:
    arguments, status, code = BAD_REQUESTS[name]
    if "content" in arguments and "headers" not in arguments:
        arguments = {**arguments, "headers": {"content-type": "application/json"}}
    response = await http.post(paths.CHAT_PATH, **arguments)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert response.headers["x-should-retry"] == "false"
    assert host.requests == []


async def test_a_body_without_an_announced_length_is_bounded_as_it_comes(
    http: httpx2.AsyncClient, host: HostileHost
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(6):
            yield b" " * (1 << 20)

    response = await http.post(
        paths.CHAT_PATH, content=endless(), headers={"content-type": "application/json"}
    )
    assert response.json()["error"]["code"] == "request_too_large"
    assert host.requests == []


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/v1/audio/speech", "route_not_found"),
        ("GET", paths.EMBEDDINGS_PATH, "method_not_allowed"),
        ("GET", "/v1/chat/completions/", "route_not_found"),
        ("GET", "/v1/models/" + "x" * 300, "route_not_found"),
        ("DELETE", paths.CHAT_PATH, "method_not_allowed"),
        ("POST", paths.MODELS_PATH, "method_not_allowed"),
    ],
)
async def test_other_routes_and_methods_are_answered_in_the_same_form(
    http: httpx2.AsyncClient, host: HostileHost, method: str, path: str, code: str
) -> None:
    response = await http.request(method, path)
    assert response.json()["error"]["code"] == code
    assert host.sealed_requests == []


# A runtime that does not prove itself


@pytest.mark.parametrize("name", TOLD_BY_PEERS)
async def test_a_liar_gets_nothing(
    client: openai.AsyncOpenAI, host: HostileHost, peer: MockPeer, gateway: RunningGateway, name: str
) -> None:
    async def lie(request: HostRequest, writer: asyncio.StreamWriter) -> None:
        bundle = apply_bundle_fault(name, peer.world, request.nonce)
        await respond(200, paths.MEDIA_BUNDLE, bundle)(request, writer)

    host.evidence = lie
    with pytest.raises(openai.InternalServerError) as caught:
        await streamed(client)
    assert caught.value.code == "runtime_refused"
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["refusal"] == FAULTS[name].expected_code
    assert host.sealed_requests == []
    assert CANARY.encode() not in host.received
    (entry,) = gateway.log_entries()
    assert entry["unmapped"]["refusal"] == FAULTS[name].expected_code


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (hang_up, "runtime_unreachable"),
        (raw(b"\x00\xff garbage\r\n\r\n"), "runtime_unreachable"),
        (respond(502, "text/html", b""), "runtime_unreachable"),
        (respond(302, "text/html", b"", "location: http://127.0.0.1:9/"), "runtime_refused"),
        (respond(200, "text/html", b"<html>"), "runtime_refused"),
        (respond(200, paths.MEDIA_BUNDLE, b"x" * (1 << 21)), "runtime_refused"),
    ],
    ids=["hangs up", "garbage", "bad gateway", "redirect", "html", "huge"],
)
async def test_no_evidence_no_data(
    http: httpx2.AsyncClient, host: HostileHost, script: Script, code: str
) -> None:
    host.evidence = script
    response = await http.post(paths.CHAT_PATH, json=CHAT)
    assert response.json()["error"]["code"] == code
    assert host.sealed_requests == []
    assert len(host.requests) == 1


async def test_nobody_there_is_unreachable(tmp_path: Path, peer: MockPeer) -> None:
    async with (
        running_gateway(tmp_path, "http://127.0.0.1:9", peer.trust, peer.reference) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, headers=gateway.authorization, verify=TLS) as http,
    ):
        response = await http.post(paths.CHAT_PATH, json=CHAT)
    assert (response.status_code, response.json()["error"]["code"]) == (502, "runtime_unreachable")
    assert response.headers["x-should-retry"] == "true"


async def test_a_mock_is_denied_where_the_setting_does_not_allow_it(
    tmp_path: Path, host: HostileHost, peer: MockPeer
) -> None:
    async with (
        running_gateway(tmp_path, host.url, peer.trust, peer.reference, allow_mock=False) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, headers=gateway.authorization, verify=TLS) as http,
    ):
        response = await http.post(paths.CHAT_PATH, json=CHAT)
        (entry,) = gateway.log_entries()
    assert (response.status_code, response.json()["error"]["code"]) == (403, "policy_denied")
    assert host.sealed_requests == []
    assert "tenant_sequence" not in entry["unmapped"]


async def test_a_label_that_lists_other_readers_is_denied(
    http: httpx2.AsyncClient, host: HostileHost
) -> None:
    label = 'c=("grp:finance"), v=1'
    response = await http.post(paths.CHAT_PATH, json=CHAT, headers={"data-label": label})
    assert response.status_code in {400, 403}
    assert host.sealed_requests == []


# A host that breaks the answer


def _early(peer: MockPeer) -> dict[str, tuple[Script, int, str]]:
    """Faults before anything was released: script, status, code."""
    problem = json.dumps({"type": problems.BUSY, "processed": False}).encode()
    return {
        "hangs": (hang, 504, "runtime_timeout"),
        "hangs up": (hang_up, 502, "runtime_interrupted"),
        "garbage": (raw(b"\x00\xff garbage\r\n\r\n"), 502, "runtime_interrupted"),
        "html": (respond(200, "text/html", b"<html>"), 502, "runtime_misbehaved"),
        "error page": (respond(500, "text/html", b"oops"), 502, "runtime_misbehaved"),
        "huge error page": (
            respond(500, problems.MEDIA_PROBLEM, b"x" * (MAX_PROBLEM_BYTES * 4)),
            502,
            "runtime_misbehaved",
        ),
        "redirect": (
            respond(307, "text/html", b"", "location: http://127.0.0.1:9/sealed"),
            502,
            "runtime_misbehaved",
        ),
        "busy": (respond(503, problems.MEDIA_PROBLEM, problem), 503, "runtime_not_processed"),
        "unsealed answer": (
            respond(200, "text/event-stream", b"".join(EVENTS) + END),
            502,
            "runtime_misbehaved",
        ),
        "garbage as sealed": (
            respond(200, paths.MEDIA_SEALED_RESPONSE, b"\x01" * 500),
            502,
            "runtime_misbehaved",
        ),
        "empty": (respond(200, paths.MEDIA_SEALED_RESPONSE, b""), 502, "runtime_interrupted"),
        "compressed": (
            respond(200, paths.MEDIA_SEALED_RESPONSE, b"\x01" * 500, "content-encoding: gzip"),
            502,
            "runtime_misbehaved",
        ),
        "head only": (sealed_answer(peer.honest_stream, parts=1), 502, "runtime_interrupted"),
        "killed after the head": (
            sealed_answer(peer.honest_stream, parts=1, ends_properly=False),
            502,
            "runtime_interrupted",
        ),
        "cut in the head": (
            sealed_answer(peer.honest_stream, parts=1, cut=20),
            502,
            "runtime_interrupted",
        ),
    }


EARLY = list(_early(MockPeer.__new__(MockPeer)))


@pytest.mark.parametrize("name", EARLY)
async def test_a_broken_answer_is_an_error_and_nothing_is_sent_twice(
    client: openai.AsyncOpenAI, host: HostileHost, peer: MockPeer, gateway: RunningGateway, name: str
) -> None:
    script, status, code = _early(peer)[name]
    host.sealed = script
    retries = (
        0 if code == "runtime_not_processed" else 2
    )  # only what did not run may be repeated, by the client
    with pytest.raises(openai.InternalServerError) as caught:
        await streamed(client.with_options(max_retries=retries))
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert len(host.sealed_requests) == 1
    (outcome,) = outcomes(gateway)
    assert outcome["outcome"] in {"not-sent", "refused", "interrupted"}


def _late(peer: MockPeer) -> dict[str, tuple[Script, str, int]]:
    """Faults in mid-stream: script, code, whole events that the application had before."""
    honest = peer.honest_stream

    def swapped(request: bytes) -> list[bytes]:
        parts = honest(request)
        return [parts[0], parts[1], parts[3], parts[2], *parts[4:]]

    def half_events(request: bytes) -> list[bytes]:
        return peer.sealed_parts(peer.open(request), [EVENTS[0], EVENTS[1][:30]])

    def forged(request: bytes) -> list[bytes]:
        return peer.sealed_parts(peer.open(request), [*EVENTS, END], response_sha256="0" * 64)

    def none(request: bytes) -> list[bytes]:
        return peer.sealed_parts(peer.open(request), [*EVENTS, END], with_receipt=False)

    return {
        "killed between events": (
            sealed_answer(honest, parts=3, ends_properly=False, pause_s=0.01),
            "runtime_interrupted",
            2,
        ),
        "killed within a chunk": (
            sealed_answer(honest, parts=3, cut=60, ends_properly=False, pause_s=0.01),
            "runtime_interrupted",
            1,
        ),
        "cut at a chunk's end": (sealed_answer(honest, parts=3, pause_s=0.01), "runtime_interrupted", 2),
        "cut before the receipt": (sealed_answer(honest, parts=5, pause_s=0.01), "runtime_interrupted", 3),
        "stops": (_then_hang(peer, 3), "runtime_timeout", 2),
        "drips": (_then_drip(peer, 3), "runtime_timeout", 2),
        "swaps": (sealed_answer(swapped, pause_s=0.01), "runtime_misbehaved", 1),
        "half an event": (sealed_answer(half_events, pause_s=0.01), "runtime_interrupted", 1),
        "forged receipt": (sealed_answer(forged, pause_s=0.01), "receipt_refused", 3),
        "no receipt": (sealed_answer(none, pause_s=0.01), "receipt_refused", 3),
    }


def _then_hang(peer: MockPeer, parts: int) -> Script:
    async def script(request: HostRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(sealed_head() + b"".join(map(http_chunk, peer.honest_stream(request.body)[:parts])))
        await hang(request, writer)

    return script


def _then_drip(peer: MockPeer, parts: int) -> Script:
    """A byte every 50 ms: always something arriving, never anything of use."""

    async def script(request: HostRequest, writer: asyncio.StreamWriter) -> None:
        sealed = peer.honest_stream(request.body)
        writer.write(sealed_head() + b"".join(map(http_chunk, sealed[:parts])))
        for index in range(len(sealed[parts])):
            writer.write(http_chunk(sealed[parts][index : index + 1]))
            await asyncio.sleep(0.05)

    return script


LATE = list(_late(MockPeer.__new__(MockPeer)))


@pytest.mark.parametrize("name", LATE)
async def test_a_stream_that_breaks_ends_in_an_error_event_and_no_end_marker(
    http: httpx2.AsyncClient, host: HostileHost, peer: MockPeer, gateway: RunningGateway, name: str
) -> None:
    host.sealed, code, events = _late(peer)[name]
    response = await http.post(paths.CHAT_PATH, json={**CHAT, "stream": True})
    whole = b"".join(EVENTS[:events])
    assert response.content.startswith(whole + b'data: {"error": ')
    error = json.loads(response.content[len(whole) + len(b"data: ") :])["error"]
    assert error["code"] == code
    assert END not in response.content
    assert len(host.sealed_requests) == 1
    (outcome,) = outcomes(gateway)
    assert outcome["outcome"] in {"refused", "interrupted"}
    assert outcome["code"] == error.get("refusal", code)


@pytest.mark.parametrize("name", ["killed between events", "forged receipt", "stops"])
async def test_the_stock_client_raises_what_breaks_in_mid_stream(
    client: openai.AsyncOpenAI, host: HostileHost, peer: MockPeer, name: str
) -> None:
    host.sealed, code, _ = _late(peer)[name]
    with pytest.raises(openai.APIError) as caught:
        await streamed(client)
    assert caught.value.code == code
    assert len(host.sealed_requests) == 1


@pytest.mark.parametrize("name", ["forged receipt", "no receipt"])
async def test_of_an_answer_in_one_piece_a_bad_receipt_withholds_all(
    http: httpx2.AsyncClient, host: HostileHost, peer: MockPeer, name: str
) -> None:
    members: dict[str, Any] = {"tenant": "x"} if name == "forged receipt" else {"with_receipt": False}

    def answer(request: bytes) -> list[bytes]:
        return peer.sealed_parts(
            peer.open(request), [JSON_ANSWER], content_type="application/json", **members
        )

    host.sealed = sealed_answer(answer)
    response = await http.post(paths.CHAT_PATH, json=CHAT)
    assert (response.status_code, response.json()["error"]["code"]) == (502, "receipt_refused")
    assert b"chatcmpl" not in response.content


async def test_an_answer_in_one_piece_is_bounded(
    http: httpx2.AsyncClient, host: HostileHost, peer: MockPeer
) -> None:
    def huge(request: bytes) -> list[bytes]:
        opened = peer.open(request)
        return peer.sealed_parts(opened, [b"x" * (1 << 20)] * 65, content_type="application/json")

    host.sealed = sealed_answer(huge)
    response = await http.post(paths.CHAT_PATH, json=CHAT)
    assert response.json()["error"]["code"] == "runtime_misbehaved"


# The one thing that is sealed a second time


def _key_unknown(
    times: int, then: Script, restarting: MockPeer | None = None
) -> tuple[Script, Callable[[], int]]:
    """Say so ``times`` times; ``restarting`` has new keys by then, as it must for the claim to be true."""
    count = 0
    problem = json.dumps({"type": problems.OHTTP_KEY, "processed": False}).encode()

    async def script(request: HostRequest, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        if restarting is not None and count <= times:
            restarting.change_keys()
        answer = respond(400, problems.MEDIA_PROBLEM, problem) if count <= times else then
        await answer(request, writer)

    return script, lambda: count


async def test_after_an_unknown_key_it_verifies_and_seals_anew_once(
    client: openai.AsyncOpenAI, host: HostileHost, peer: MockPeer, gateway: RunningGateway
) -> None:
    host.sealed, count = _key_unknown(1, sealed_answer(peer.honest_stream), restarting=peer)
    assert await streamed(client) == "one two three"
    assert count() == 2
    questions = [request for request in host.requests if request.method == "GET"]
    assert len({request.nonce for request in questions}) == 2
    first, second = host.sealed_requests
    assert first.body != second.body
    assert [outcome["outcome"] for outcome in outcomes(gateway)] == ["not-sent", "answered"]
    assert peer.opened[-1].claims.sequence == 2


async def test_a_runtime_that_never_knows_the_key_is_asked_twice_and_no_more(
    client: openai.AsyncOpenAI, host: HostileHost, peer: MockPeer
) -> None:
    host.sealed, count = _key_unknown(100, hang_up, restarting=peer)
    with pytest.raises(openai.InternalServerError) as caught:
        await streamed(client.with_options(max_retries=0))
    assert caught.value.code == "runtime_not_processed"
    assert count() == 2


async def test_a_false_claim_of_an_unknown_key_repeats_nothing(
    client: openai.AsyncOpenAI, host: HostileHost, gateway: RunningGateway
) -> None:
    """The claim is unsigned: a host may have passed the request on. The new verdict binds the same keys."""
    host.sealed, count = _key_unknown(100, hang_up)
    with pytest.raises(openai.InternalServerError) as caught:
        await streamed(client.with_options(max_retries=0))
    assert caught.value.code == "runtime_not_processed"
    assert count() == 1
    assert len([request for request in host.requests if request.method == "GET"]) == 2
    assert len(outcomes(gateway)) == 1


async def test_after_an_unknown_key_a_liar_gets_nothing_more(
    client: openai.AsyncOpenAI, host: HostileHost, peer: MockPeer
) -> None:
    """The second attempt begins with a verdict of its own."""
    script, _ = _key_unknown(1, sealed_answer(peer.honest_stream))

    async def then_lie(request: HostRequest, writer: asyncio.StreamWriter) -> None:
        async def lie(question: HostRequest, answer: asyncio.StreamWriter) -> None:
            bundle = apply_bundle_fault("debug-guest", peer.world, question.nonce)
            await respond(200, paths.MEDIA_BUNDLE, bundle)(question, answer)

        host.evidence = lie
        await script(request, writer)

    host.sealed = then_lie
    with pytest.raises(openai.InternalServerError) as caught:
        await streamed(client)
    assert caught.value.code == "runtime_refused"
    assert len(host.sealed_requests) == 1


# The application that leaves, and the log that fails


@pytest.mark.parametrize("parts", [0, 2], ids=["before the answer", "in mid-stream"])
async def test_hanging_up_hangs_up_on_the_runtime_and_is_logged(
    http: httpx2.AsyncClient, host: HostileHost, peer: MockPeer, gateway: RunningGateway, parts: int
) -> None:
    host.sealed = _then_hang(peer, parts) if parts else hang
    began = asyncio.get_running_loop().time()
    with pytest.raises(httpx2.ReadTimeout):
        await http.post(paths.CHAT_PATH, json={**CHAT, "stream": True}, timeout=0.2)
    await asyncio.wait_for(host.sealed_requests[0].hung_up.wait(), 2)
    assert asyncio.get_running_loop().time() - began < 0.6  # before the gateway's own timeout
    async with asyncio.timeout(2):
        while "sealgate_client_hangups_total 1" not in (await http.get(paths.METRICS_PATH)).text:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
    (outcome,) = outcomes(gateway)
    assert (outcome["outcome"], outcome["code"]) == ("cancelled", "client-hung-up")


async def test_without_a_log_nothing_is_sent(
    http: httpx2.AsyncClient, host: HostileHost, gateway: RunningGateway
) -> None:
    gateway.settings.audit_file.rename(gateway.settings.audit_file.with_suffix(".moved"))
    response = await http.post(paths.CHAT_PATH, json=CHAT)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "audit_unavailable")
    assert host.sealed_requests == []


# What is never shown


async def test_no_log_metric_or_error_holds_content(
    http: httpx2.AsyncClient,
    host: HostileHost,
    peer: MockPeer,
    gateway: RunningGateway,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    shown = b""
    for script, _, _ in [*_early(peer).values()][1:6]:
        host.sealed = script
        shown += (await http.post(paths.CHAT_PATH, json=CHAT)).content
    for script, _, _ in [_late(peer)["forged receipt"], _late(peer)["swaps"]]:
        host.sealed = script
        response = await http.post(paths.CHAT_PATH, json={**CHAT, "stream": True})
        shown += response.content.partition(b'data: {"error"')[2]
    shown += (await http.post(paths.CHAT_PATH, json={**CHAT, CANARY: CANARY})).content
    shown += (await http.get(paths.METRICS_PATH)).content
    shown += gateway.settings.audit_file.read_bytes()
    shown += caplog.text.encode()
    assert b"request=req_" in caplog.text.encode(), "the log was looked at while it was written"
    for secret in (CANARY, "three", gateway.api_key):
        assert secret.encode() not in shown
    assert CANARY.encode() not in host.received
