"""The sealed route against those who know its address, and those who know its keys."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import tracemalloc
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attest.channel import bhttp
from attest.digest import sha256_digest
from attest.protocol import paths, problems
from attest.protocol.receipt import open_receipt
from attest.protocol.tenant_token import RequestSigner, sign_request_token
from attest.refusal import Refused
from runtime.api.exchange import Exchange
from runtime.api.inner import InnerApp
from tests.simulators.sealing_client import SealingClient, ask, opened, scope
from tests.simulators.stub_runtime import StubRuntime, served_by, stub_engine

QUESTION = {"model": "stub", "messages": [{"role": "user", "content": "Hi"}]}
BODY = json.dumps(QUESTION).encode()


@pytest.fixture
async def runtime() -> StubRuntime:
    return await StubRuntime.started()


@pytest.fixture
def client(runtime: StubRuntime) -> SealingClient:
    return runtime.client()


def assert_problem(answer: Any, kind: str, status: int, processed: object) -> None:
    assert answer.headers["content-type"] == problems.MEDIA_PROBLEM
    document = answer.json()
    assert (document["type"], document["status"], document["processed"]) == (kind, status, processed)
    assert answer.status == status


def prompts_run(runtime: StubRuntime) -> int:
    return int(runtime.engine.stats().prompt_tokens)


# Before opening: plain problems


async def test_a_replayed_request_runs_once(runtime: StubRuntime, client: SealingClient) -> None:
    parts = client.seal("POST", paths.CHAT_PATH, BODY)
    assert (await client.send(parts.sealed)).status == 200
    ran = prompts_run(runtime)
    assert_problem(await client.send(parts.sealed), problems.REPLAYED, 409, "unknown")
    assert prompts_run(runtime) == ran


async def test_of_two_replays_at_once_one_runs() -> None:
    runtime = await StubRuntime.started(stub_engine("x", first_token_s=0.05))
    client = runtime.client()
    parts = client.seal("POST", paths.CHAT_PATH, BODY)
    answers = await asyncio.gather(*[client.send(parts.sealed) for _ in range(4)])
    assert sorted(answer.status for answer in answers) == [200, 409, 409, 409]


@pytest.mark.parametrize("keep", [0, 3, 7, 500, 1127, -1])
async def test_a_request_cut_off_anywhere_does_not_run(
    runtime: StubRuntime, client: SealingClient, keep: int
) -> None:
    sealed = client.seal("POST", paths.CHAT_PATH, BODY).sealed
    answer = await client.send(sealed[:keep])
    kind = (
        problems.OHTTP_KEY if keep == -1 else problems.TRUNCATED
    )  # what does not open may be under an old key
    assert_problem(answer, kind, 400, processed=False)
    assert prompts_run(runtime) == 0


async def test_a_cut_request_does_not_use_up_the_whole_one(client: SealingClient) -> None:
    """Or whoever saw the first bytes could have the rest refused."""
    parts = client.seal("POST", paths.CHAT_PATH, BODY)
    await client.send(parts.sealed[:-1])
    assert opened(parts.opener, (await client.send(parts.sealed)).body).status == 200


@pytest.mark.parametrize("place", [7, 600, 1127, 1200, -1])
async def test_a_flipped_bit_does_not_run(runtime: StubRuntime, client: SealingClient, place: int) -> None:
    sealed = bytearray(client.seal("POST", paths.CHAT_PATH, BODY).sealed)
    sealed[place] ^= 1
    answer = await client.send(bytes(sealed))
    assert answer.status in {400, 413}
    assert answer.json()["processed"] is False
    assert prompts_run(runtime) == 0


async def test_a_request_to_unknown_keys_is_told_so(client: SealingClient) -> None:
    sealed = bytearray(client.seal("POST", paths.CHAT_PATH, BODY).sealed)
    sealed[0] ^= 0x80
    assert_problem(await client.send(bytes(sealed)), problems.OHTTP_KEY, 400, processed=False)


async def test_after_a_restart_a_request_to_the_old_keys_is_told_so(client: SealingClient) -> None:
    """The new process has keys under the same ids, and the old request does not open under them."""
    restarted = await StubRuntime.started()
    client.app = restarted.app
    answer = await client.send(client.seal("POST", paths.CHAT_PATH, BODY).sealed)
    assert_problem(answer, problems.OHTTP_KEY, 400, processed=False)


async def test_an_unoffered_suite_is_told_so(client: SealingClient) -> None:
    sealed = bytearray(client.seal("POST", paths.CHAT_PATH, BODY).sealed)
    sealed[6] = 1
    assert_problem(await client.send(bytes(sealed)), problems.OHTTP_KEY, 400, processed=False)


async def test_an_oversized_request_is_refused_without_holding_it() -> None:
    runtime = await StubRuntime.started(max_request_bytes=20_000)
    client = runtime.client()
    sealed = client.seal("POST", paths.CHAT_PATH, b"x" * 4_000_000).sealed
    tracemalloc.start()
    answer = await client.send(sealed)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert_problem(answer, problems.TOO_LARGE, 413, processed=False)
    assert peak < 2_000_000


async def test_another_media_type_is_refused(client: SealingClient) -> None:
    sealed = client.seal("POST", paths.CHAT_PATH, BODY).sealed
    answer = await ask(client.app, "POST", paths.SEALED_PATH, sealed, "message/ohttp-req")
    assert_problem(answer, problems.MEDIA_TYPE, 415, processed=False)


async def test_a_request_that_drips_is_given_up() -> None:
    runtime = await StubRuntime.started(receive_timeout_s=0.05)
    messages: list[Any] = []

    async def receive() -> Any:
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        messages.append(message)

    await runtime.app(scope("POST", paths.SEALED_PATH, paths.MEDIA_SEALED_REQUEST), receive, send)
    assert messages[0]["status"] == 408
    assert json.loads(messages[1]["body"])["processed"] is False


async def test_too_many_at_once_are_told_to_come_later() -> None:
    runtime = await StubRuntime.started(stub_engine("x", first_token_s=0.2), max_open_requests=1)
    client = runtime.client()
    first = asyncio.create_task(client.chat("Hi"))
    await asyncio.sleep(0.05)
    answer = await client.send(client.seal("POST", paths.CHAT_PATH, BODY).sealed)
    assert_problem(answer, problems.BUSY, 503, processed=False)
    assert answer.headers["retry-after"] == "1"
    assert (await first).status == 200
    assert (await client.chat("Hi")).status == 200


async def test_a_full_memory_of_requests_ends_its_keys_and_forgets_nothing() -> None:
    runtime = await StubRuntime.started(replay_capacity=2)
    client = runtime.client()
    old = [client.seal("POST", paths.CHAT_PATH, BODY) for _ in range(3)]
    answers = [await client.send(parts.sealed) for parts in old]
    assert [answer.status for answer in answers] == [200, 200, 400]
    assert_problem(answers[2], problems.OHTTP_KEY, 400, processed=False)
    for parts in old:
        assert_problem(await client.send(parts.sealed), problems.OHTTP_KEY, 400, processed=False)
    assert (await runtime.client().chat("Hi")).status == 200


# After opening: sealed errors


async def refused(client: SealingClient, code: str, status: int = 401, **bent: Any) -> None:
    """The request is refused with ``code``, sealed, without a receipt, and does not run."""
    answer = await client.call("POST", paths.CHAT_PATH, BODY, **bent)
    assert (answer.status, answer.error_code) == (status, code)
    assert answer.receipt_text is None
    assert paths.RECEIPT_ID_HEADER not in answer.headers


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"audience": sha256_digest(b"another keyset")}, "token_audience"),
        ({"body_sha256": hashlib.sha256(b"another body").hexdigest()}, "token_body"),
        ({"method": "GET"}, "token_method"),
        ({"path": paths.COMPLETIONS_PATH}, "token_path"),
        ({"sequence": 0}, "token_sequence"),
        ({"label_id": "public"}, "token_label"),
        ({"statement_digest": "none"}, "token_statement"),
    ],
)
async def test_a_token_for_something_else(
    runtime: StubRuntime, client: SealingClient, claims: dict[str, Any], code: str
) -> None:
    await refused(client, code, **claims)
    assert prompts_run(runtime) == 0


@pytest.mark.parametrize(("seconds", "code"), [(-91, "token_expired"), (32, "token_not_yet_valid")])
async def test_a_token_of_another_time(client: SealingClient, seconds: int, code: str) -> None:
    await refused(client, code, now=client.clock() + timedelta(seconds=seconds))


async def test_no_token(client: SealingClient) -> None:
    await refused(client, "token_missing", token="")


async def test_two_tokens(client: SealingClient) -> None:
    await refused(client, "token_missing", headers=((b"authorization", b"Bearer x"),))


async def test_another_tenants_token_is_for_another_body(runtime: StubRuntime, client: SealingClient) -> None:
    """A token seen elsewhere does not carry a request of one's own."""
    other = runtime.client()
    stolen = sign_request_token(
        other.signer,
        audience=client.keyset.digest,
        statement_digest=sha256_digest(b"s"),
        sequence=1,
        label_id=sha256_digest(b"l"),
        body_sha256=hashlib.sha256(b"their body").hexdigest(),
        method="POST",
        path=paths.CHAT_PATH,
        now=client.clock(),
    )
    await refused(client, "token_body", token=stolen)


async def test_a_token_with_another_tenants_key_in_its_header(client: SealingClient) -> None:
    """The key in the header is the tenant: naming another's key is forging their signature."""
    honest = RequestSigner(Ed25519PrivateKey.generate())
    forger = RequestSigner(Ed25519PrivateKey.generate())
    forger._header, forger.thumbprint = honest._header, honest.thumbprint
    client.signer = forger
    await refused(client, "token_signature")


async def test_a_sequence_number_is_good_once_per_tenant(runtime: StubRuntime, client: SealingClient) -> None:
    assert (await client.call("POST", paths.CHAT_PATH, BODY, sequence=5)).status == 200
    await refused(client, "sequence_replayed", sequence=5)
    assert (await client.call("POST", paths.CHAT_PATH, BODY, sequence=4)).status == 200
    assert (await client.call("POST", paths.CHAT_PATH, BODY, sequence=5000)).status == 200
    await refused(client, "sequence_too_old", sequence=6)
    assert (await runtime.client().call("POST", paths.CHAT_PATH, BODY, sequence=5)).status == 200


async def test_a_refused_token_uses_up_no_number(client: SealingClient) -> None:
    await refused(client, "token_path", sequence=9, path="/v1/models")
    assert (await client.call("POST", paths.CHAT_PATH, BODY, sequence=9)).status == 200


async def test_tenants_are_bounded_and_none_is_forgotten() -> None:
    runtime = await StubRuntime.started(max_tenants=1)
    first, second = runtime.client(), runtime.client()
    assert (await first.chat("Hi")).status == 200
    await refused(second, "tenant_store_full", 503)
    await refused(first, "sequence_replayed", sequence=1)


@pytest.mark.parametrize(
    ("message", "status", "code"),
    [
        (b"", 400, "bhttp_truncated"),
        (b"\x09", 400, "bhttp_framing"),
        (b"\x01\x40\xc8", 400, "bhttp_framing"),
        (b"\x00\x04POST", 400, "bhttp_truncated"),
    ],
)
async def test_what_is_no_request_inside(
    client: SealingClient, message: bytes, status: int, code: str
) -> None:
    await refused(client, code, status, message=message)


async def test_a_head_beyond_its_bound(client: SealingClient) -> None:
    head = bhttp.RequestHead("POST", "https", "inner", paths.CHAT_PATH, ((b"x-filler", b"y" * 40_000),))
    await refused(client, "request_too_large", 413, message=bhttp.encode_request(head, BODY))


# Answers


async def test_an_answer_opens_for_its_own_request_only(client: SealingClient) -> None:
    one, two = (client.seal("POST", paths.CHAT_PATH, BODY) for _ in range(2))
    sealed = (await client.send(one.sealed)).body
    with pytest.raises(Refused) as caught:
        opened(two.opener, sealed)
    assert caught.value.code == "hpke-open-failed"


async def test_a_receipt_is_of_its_own_runtime(client: SealingClient) -> None:
    answer = await client.chat("Hi")
    assert answer.receipt_text is not None
    other = (await StubRuntime.started()).identity.current().keyset.receipt_key
    with pytest.raises(Refused) as caught:
        open_receipt(answer.receipt_text, receipt_key=other)
    assert caught.value.code == "receipt-signature"


class FailingEngine:
    """Breaks after two tokens with an error that quotes what it was given."""

    def __init__(self, secret: str, *, after: int) -> None:
        self._inner = stub_engine("ab" * 10)
        self._secret = secret
        self._after = after
        self.info = self._inner.info

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def generate(self, request: Any) -> Any:
        """Two tokens, then the fault."""
        made = 0
        async for output in self._inner.generate(request):
            if made == self._after:
                raise ValueError(f"cannot go on with {self._secret}")
            made += 1
            yield output


CANARY = "canary-7b1f-prompt"


async def test_an_engine_that_breaks_before_the_first_token() -> None:
    runtime = await StubRuntime.started(FailingEngine(CANARY, after=0))
    answer = await runtime.client().chat(CANARY)
    assert (answer.status, answer.error_code) == (500, "internal_error")
    assert CANARY.encode() not in answer.body


async def test_an_answer_that_breaks_in_the_middle_cannot_be_taken_for_whole() -> None:
    runtime = await StubRuntime.started(FailingEngine(CANARY, after=2))
    client = runtime.client()
    body = json.dumps({**QUESTION, "stream": True}).encode()
    parts = client.seal("POST", paths.CHAT_PATH, body)
    answer = await client.send(parts.sealed)
    with pytest.raises(Refused) as caught:
        opened(parts.opener, answer.body)
    assert caught.value.code == "ohttp-truncated"


async def test_no_prompt_or_answer_text_in_logs_metrics_reprs_or_plain_errors(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """A canary goes in and comes out; nothing that the host can read has it."""
    caplog.set_level(logging.DEBUG)
    seen: list[str] = []
    for engine in (stub_engine(CANARY), FailingEngine(CANARY, after=0), FailingEngine(CANARY, after=3)):
        runtime = await StubRuntime.started(engine)
        client = runtime.client()
        for members in ({}, {"stream": True}, {"n": 2}, {"stop": CANARY}, {CANARY: CANARY}):
            parts = client.seal(
                "POST",
                paths.CHAT_PATH,
                json.dumps(
                    {"model": "stub", "messages": [{"role": "user", "content": CANARY}], **members}
                ).encode(),
            )
            answer = await client.send(parts.sealed)
            assert CANARY.encode() not in answer.body
            seen += [repr(parts.opener), repr(client.keyset)]
        await client.call("GET", f"/v1/{CANARY}")
        await client.send(CANARY.encode())
        await ask(runtime.app, "GET", f"/{CANARY}")
        attestation = await ask(runtime.app, "GET", paths.ATTESTATION_PATH, query=f"nonce={CANARY}")
        metrics = await ask(runtime.app, "GET", paths.METRICS_PATH)
        assert "sealed" in metrics.body.decode()
        seen += [attestation.body.decode(), metrics.body.decode(), repr(runtime.identity)]
        seen.append(repr(runtime.attestation))
    output = capsys.readouterr()
    seen += [output.out, output.err, caplog.text]
    seen += [repr(record.__dict__) for record in caplog.records if record.name.startswith("sealgate")]
    assert any(record.name == "sealgate.runtime" for record in caplog.records)
    assert [text for text in seen if CANARY in text] == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: served_by(stub_engine(CANARY)),
        lambda: Exchange(tenant="t", label_id="l", receipt_id="r"),
        lambda: RequestSigner(Ed25519PrivateKey.generate()),
    ],
)
def test_reprs_say_names_and_sizes(make: Callable[[], object]) -> None:
    assert CANARY not in repr(make())


async def test_the_inner_app_answers_nobody_without_an_exchange() -> None:
    """Mounted by mistake, it opens nothing."""
    engine = stub_engine()
    await engine.start()
    answer = await ask(
        InnerApp(served_by(engine), max_body_bytes=1000), "POST", paths.CHAT_PATH, BODY, paths.MEDIA_JSON
    )
    assert (answer.status, answer.json()["error"]["code"]) == (401, "no_tenant")


# The outer routes, through an ordinary client


@pytest.fixture
async def host(runtime: StubRuntime) -> Any:
    transport = httpx2.ASGITransport(app=runtime.app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://runtime") as http:
        yield http


async def test_keys_health_and_description(runtime: StubRuntime, host: httpx2.AsyncClient) -> None:
    keys = await host.get(paths.OHTTP_KEYS_PATH)
    assert keys.headers["content-type"] == paths.MEDIA_OHTTP_KEYS
    assert keys.content == runtime.identity.current().keyset.ohttp_keys
    assert (await host.get(paths.HEALTH_PATH)).json() == {"status": "ok"}
    assert paths.SEALED_PATH in (await host.get(paths.OPENAPI_PATH)).json()["paths"]


@pytest.mark.parametrize(
    "query",
    ["", "nonce=", "nonce=0", f"nonce={'0' * 65}", f"nonce={'A' * 64}", f"nonce={'0' * 64}&nonce={'0' * 64}"],
)
async def test_a_nonce_is_64_hex_digits_once(host: httpx2.AsyncClient, query: str) -> None:
    answer = await host.get(f"{paths.ATTESTATION_PATH}?{query}")
    assert (answer.status_code, answer.json()["type"]) == (400, problems.NONCE)


async def test_other_routes_and_methods(host: httpx2.AsyncClient) -> None:
    for answer, status in (
        (await host.get("/v1/models"), 404),
        (await host.post(paths.CHAT_PATH, json=QUESTION), 404),
        (await host.get(paths.SEALED_PATH), 405),
        (await host.delete(paths.OHTTP_KEYS_PATH), 405),
    ):
        assert (answer.status_code, answer.json()["type"]) == (status, problems.BLANK)
