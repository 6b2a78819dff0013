"""SealedTransport alone, under the stock openai client: no gateway process, the same rules."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import httpx2
import openai
import pytest

from attest.mock.faults import apply_bundle_fault
from attest.mock.vendor import MockVendor
from attest.protocol import paths, problems
from gateway.upstream.outer import Patience
from gateway.upstream.transport import (
    AsyncSealedTransport,
    Provenance,
    SealedStreamBroken,
    SealedTransport,
)
from policies.labels import labelled
from tests.simulators.hostile_host import (
    HostileHost,
    HostRequest,
    evidence_of,
    hang,
    hang_up,
    respond,
    sealed_answer,
)
from tests.simulators.mock_peer import END, EVENTS, JSON_ANSWER, MockPeer

T = TypeVar("T")
TLS = ssl.create_default_context()
BASE_URL = "http://sealgate.local/v1"
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "the secret prompt"}]}
PATIENCE = Patience(first_event_s=0.7, idle_s=0.5, whole_s=2)


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
async def transport(host: HostileHost, peer: MockPeer) -> AsyncIterator[AsyncSealedTransport]:
    transport = AsyncSealedTransport(host.url, trust=peer.trust, reference=peer.reference, patience=PATIENCE)
    yield transport
    await transport.aclose()


@pytest.fixture
async def client(transport: AsyncSealedTransport) -> openai.AsyncOpenAI:
    http = httpx2.AsyncClient(transport=transport, verify=TLS)
    return openai.AsyncOpenAI(base_url=BASE_URL, api_key="unused", http_client=http)


async def in_thread(
    host: HostileHost, peer: MockPeer, work: Callable[[openai.OpenAI], T], **arguments: Any
) -> T:
    """Run ``work`` with the synchronous client, beside the host's event loop."""

    def run() -> T:
        transport = SealedTransport(
            host.url, trust=peer.trust, reference=peer.reference, patience=PATIENCE, **arguments
        )
        with httpx2.Client(transport=transport, verify=TLS) as http:
            return work(openai.OpenAI(base_url=BASE_URL, api_key="unused", http_client=http))

    return await asyncio.to_thread(run)


def text_of(stream: openai.Stream[Any]) -> str:
    """The text of a stream."""
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream)


async def test_the_async_client_streams(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(stream=True, **CHAT)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "one two three"


async def test_the_sync_client_streams(host: HostileHost, peer: MockPeer) -> None:
    text = await in_thread(
        host, peer, lambda client: text_of(client.chat.completions.create(stream=True, **CHAT))
    )
    assert text == "one two three"


async def test_the_sync_client_gets_an_answer_in_one_piece(host: HostileHost, peer: MockPeer) -> None:
    host.sealed = sealed_answer(peer.honest_answer)
    answer = await in_thread(host, peer, lambda client: client.chat.completions.create(**CHAT))
    assert answer.id == "chatcmpl-1"


async def test_a_response_says_what_it_rests_on(
    transport: AsyncSealedTransport, host: HostileHost, peer: MockPeer
) -> None:
    host.sealed = sealed_answer(peer.honest_answer)
    async with httpx2.AsyncClient(transport=transport, verify=TLS) as http:
        response = await http.post(f"{BASE_URL}/chat/completions", json=CHAT)
    provenance: Provenance = response.extensions["sealgate"]
    assert response.content == JSON_ANSWER
    assert provenance.receipt is not None
    assert provenance.receipt.receipt_id == response.headers[paths.RECEIPT_ID_HEADER] == "rcpt-1"
    assert provenance.runtime.statement_digest == response.headers[paths.STATEMENT_HEADER]
    assert response.headers[paths.TEE_HEADER] == "MOCK"


async def test_a_streams_receipt_is_there_when_the_stream_has_ended(transport: AsyncSealedTransport) -> None:
    async with (
        httpx2.AsyncClient(transport=transport, verify=TLS) as http,
        http.stream("POST", f"{BASE_URL}/chat/completions", json={**CHAT, "stream": True}) as response,
    ):
        provenance: Provenance = response.extensions["sealgate"]
        assert provenance.receipt is None
        assert await response.aread() == b"".join(EVENTS) + END
        assert provenance.receipt is not None


async def test_the_applications_own_headers_stay_here(
    transport: AsyncSealedTransport, host: HostileHost, peer: MockPeer
) -> None:
    host.sealed = sealed_answer(peer.honest_answer)
    async with httpx2.AsyncClient(transport=transport, verify=TLS) as http:
        await http.post(f"{BASE_URL}/chat/completions", json=CHAT, headers={"x-internal": "host-7"})
    names = {name for name, _ in peer.opened[-1].head.headers}
    assert names == {b"content-type", b"authorization"}


async def test_an_error_before_the_answer_is_a_response_that_is_not_repeated(
    client: openai.AsyncOpenAI, host: HostileHost
) -> None:
    """The stock client repeats after any exception of a transport, so there must not be one."""
    host.sealed = hang_up
    with pytest.raises(openai.InternalServerError) as caught:
        await client.chat.completions.create(**CHAT)
    assert caught.value.code == "runtime_interrupted"
    assert len(host.sealed_requests) == 1


async def test_the_sync_client_does_not_repeat_either(host: HostileHost, peer: MockPeer) -> None:
    host.sealed = hang
    with pytest.raises(openai.InternalServerError) as caught:
        await in_thread(
            host, peer, lambda client: text_of(client.chat.completions.create(stream=True, **CHAT))
        )
    assert caught.value.code == "runtime_timeout"
    assert len(host.sealed_requests) == 1


async def test_a_lie_sends_nothing(client: openai.AsyncOpenAI, host: HostileHost, peer: MockPeer) -> None:
    async def lie(request: HostRequest, writer: asyncio.StreamWriter) -> None:
        bundle = apply_bundle_fault("key-swapped", peer.world, request.nonce)
        await respond(200, paths.MEDIA_BUNDLE, bundle)(request, writer)

    host.evidence = lie
    with pytest.raises(openai.InternalServerError) as caught:
        await client.chat.completions.create(**CHAT)
    assert caught.value.code == "runtime_refused"
    assert host.sealed_requests == []


def unknown_key(times: int, peer: MockPeer, *, restarting: bool) -> Callable[..., Any]:
    """Claim ``times`` times not to hold the key; truly so if the peer restarts."""
    problem = json.dumps({"type": problems.OHTTP_KEY, "processed": False}).encode()
    left = times

    async def script(request: HostRequest, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            await sealed_answer(peer.honest_answer)(request, writer)
            return
        if restarting:
            peer.change_keys()
        await respond(400, problems.MEDIA_PROBLEM, problem)(request, writer)

    return script


@pytest.mark.parametrize("restarting", [True, False], ids=["restarted", "false claim"])
async def test_an_unknown_key_is_sealed_to_anew_only_if_the_keys_changed(
    client: openai.AsyncOpenAI, host: HostileHost, peer: MockPeer, *, restarting: bool
) -> None:
    host.sealed = unknown_key(1, peer, restarting=restarting)
    if restarting:
        assert (await client.chat.completions.create(**CHAT)).id == "chatcmpl-1"
    else:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.with_options(max_retries=0).chat.completions.create(**CHAT)
        assert caught.value.code == "runtime_not_processed"
    assert len(host.sealed_requests) == 1 + restarting


@pytest.mark.parametrize("restarting", [True, False], ids=["restarted", "false claim"])
async def test_the_sync_client_seals_anew_only_if_the_keys_changed(
    host: HostileHost, peer: MockPeer, *, restarting: bool
) -> None:
    host.sealed = unknown_key(1, peer, restarting=restarting)

    def ask(client: openai.OpenAI) -> str:
        try:
            return client.with_options(max_retries=0).chat.completions.create(**CHAT).id
        except openai.InternalServerError as error:
            return str(error.code)

    expected = "chatcmpl-1" if restarting else "runtime_not_processed"
    assert await in_thread(host, peer, ask) == expected
    assert len(host.sealed_requests) == 1 + restarting


async def test_a_broken_stream_raises(
    transport: AsyncSealedTransport, host: HostileHost, peer: MockPeer
) -> None:
    host.sealed = sealed_answer(peer.honest_stream, parts=3, pause_s=0.01)
    async with (
        httpx2.AsyncClient(transport=transport, verify=TLS) as http,
        http.stream("POST", f"{BASE_URL}/chat/completions", json={**CHAT, "stream": True}) as response,
    ):
        events = response.aiter_raw()
        assert await anext(events) + await anext(events) == b"".join(EVENTS[:2])
        with pytest.raises(SealedStreamBroken) as caught:
            await anext(events)
    assert caught.value.error.code == "runtime_interrupted"


async def test_a_broken_stream_raises_in_the_sync_client_too(host: HostileHost, peer: MockPeer) -> None:
    def forged(request: bytes) -> list[bytes]:
        return peer.sealed_parts(peer.open(request), [*EVENTS, END], tenant="somebody")

    host.sealed = sealed_answer(forged, pause_s=0.01)
    with pytest.raises(openai.APIConnectionError) as caught:
        await in_thread(
            host, peer, lambda client: text_of(client.chat.completions.create(stream=True, **CHAT))
        )
    assert isinstance(caught.value.__cause__, SealedStreamBroken)
    assert caught.value.__cause__.error.code == "receipt_refused"
    assert len(host.sealed_requests) == 1


async def test_a_label_that_lists_other_readers_sends_nothing(host: HostileHost, peer: MockPeer) -> None:
    with pytest.raises(openai.PermissionDeniedError) as caught:
        await in_thread(
            host,
            peer,
            lambda client: client.chat.completions.create(**CHAT),
            label=labelled({"org:acme": ["grp:finance"]}),
        )
    assert caught.value.code == "policy_denied"
    assert host.sealed_requests == []


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/images/generations", {}, "route_not_found"),
        ("/chat/completions", {"model": "m"}, "missing_parameter"),
        ("/chat/completions", {**CHAT, "user": "x" * (9 << 20)}, "request_too_large"),
    ],
    ids=["route", "body", "size"],
)
async def test_what_is_no_request_of_this_api_is_not_sealed(
    transport: AsyncSealedTransport, host: HostileHost, path: str, body: dict[str, Any], code: str
) -> None:
    async with httpx2.AsyncClient(transport=transport, verify=TLS) as http:
        response = await http.post(f"{BASE_URL}{path}", json=body)
    assert response.json()["error"]["code"] == code
    assert host.requests == []


async def test_closing_a_stream_hangs_up_on_the_runtime(
    transport: AsyncSealedTransport, host: HostileHost, peer: MockPeer
) -> None:
    host.sealed = sealed_answer(peer.honest_stream, pause_s=0.3)
    async with (
        httpx2.AsyncClient(transport=transport, verify=TLS) as http,
        http.stream("POST", f"{BASE_URL}/chat/completions", json={**CHAT, "stream": True}) as response,
    ):
        await anext(response.aiter_raw())
    await asyncio.wait_for(host.sealed_requests[0].hung_up.wait(), 1)
