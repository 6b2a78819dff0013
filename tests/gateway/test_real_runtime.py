"""Gateway and runtime as they ship, both on real ports, under the stock openai client."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from attest.mock.vendor import MockVendor
from attest.protocol import paths
from gateway.upstream.transport import AsyncSealedTransport, Provenance, SealedTransport
from runtime.engine.stub import StubSettings
from tests.simulators.real_runtime import MODEL, TEXT, RealRuntime
from tests.simulators.running_gateway import RunningGateway, listening, running_gateway

TLS = ssl.create_default_context()
MESSAGES: Any = [{"role": "user", "content": "What colour is grass?"}]


@pytest.fixture
def runtime(vendor: MockVendor) -> RealRuntime:
    return RealRuntime(vendor)


@pytest.fixture
async def runtime_url(runtime: RealRuntime) -> AsyncIterator[str]:
    async with runtime.running() as url:
        yield url


@pytest.fixture
async def gateway(tmp_path: Path, runtime_url: str, runtime: RealRuntime) -> AsyncIterator[RunningGateway]:
    async with running_gateway(tmp_path, runtime_url, runtime.trust, runtime.reference) as gateway:
        yield gateway


def stock(url: str, api_key: str) -> openai.AsyncOpenAI:
    """The stock client."""
    http = openai.DefaultAsyncHttpxClient(verify=TLS)
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=api_key, http_client=http)


@pytest.fixture
async def client(gateway: RunningGateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with stock(gateway.url, gateway.api_key) as client:
        yield client


async def test_chat(client: openai.AsyncOpenAI, gateway: RunningGateway) -> None:
    raw = await client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES)
    answer = raw.parse()
    assert answer.choices[0].message.content == TEXT.decode()
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len(TEXT)
    assert raw.headers[paths.TEE_HEADER] == "MOCK"
    outcome = gateway.log_entries()[-1]["unmapped"]
    assert outcome["receipt_id"] == raw.headers[paths.RECEIPT_ID_HEADER]
    assert outcome["completion_tokens"] == len(TEXT)


async def test_a_streamed_chat(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
    assert "".join(pieces) == TEXT.decode()
    assert len(pieces) > 5


async def test_completions_streamed_and_not(client: openai.AsyncOpenAI) -> None:
    whole = await client.completions.create(model=MODEL, prompt="Grass", max_tokens=64)
    assert whole.choices[0].text == TEXT.decode()
    stream = await client.completions.create(model=MODEL, prompt="Grass", max_tokens=64, stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream if chunk.choices]) == TEXT.decode()


async def test_what_the_model_thinks_of_a_prompt_as_vllm_says_it(client: openai.AsyncOpenAI) -> None:
    """The stock client hands on what is not in its own API, both ways."""
    asked = {"prompt_logprobs": 1}
    completion = await client.completions.create(model=MODEL, prompt="Gr", max_tokens=1, extra_body=asked)
    chat = await client.chat.completions.create(model=MODEL, messages=MESSAGES, extra_body=asked)
    expected = [None, {"114": {"logprob": 0.0, "rank": 1, "decoded_token": "r"}}]
    assert (completion.choices[0].model_extra or {})["prompt_logprobs"] == expected
    assert chat.usage is not None
    assert len((chat.model_extra or {})["prompt_logprobs"]) == chat.usage.prompt_tokens
    with pytest.raises(openai.BadRequestError) as refused:
        await client.completions.create(model=MODEL, prompt="Gr", extra_body=asked, stream=True)
    assert refused.value.code == "invalid_value"
    assert "only allowed when stream is false" in refused.value.message


async def test_text_to_tokens_and_back_as_vllm_names_it(gateway: RunningGateway) -> None:
    async with httpx2.AsyncClient(base_url=gateway.url, headers=gateway.authorization, verify=TLS) as http:
        for before in ("", "/v1"):
            tokens = (await http.post(f"{before}/tokenize", json={"prompt": "Grün"})).json()["tokens"]
            answer = await http.post(f"{before}/detokenize", json={"tokens": tokens})
            assert answer.json() == {"prompt": "Grün"}
        refused = await http.post("/detokenize", json={"tokens": [1 << 31]})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tokens.0")
    assert {entry["unmapped"]["kind"] for entry in gateway.log_entries()} >= {"decision", "outcome"}


async def test_models(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == [MODEL]
    assert (await client.models.retrieve(MODEL)).id == MODEL


async def test_the_synchronous_client(gateway: RunningGateway) -> None:
    def work() -> tuple[str, str]:
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.api_key) as client:
            whole = client.chat.completions.create(model=MODEL, messages=MESSAGES)
            stream = client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
            return whole.choices[0].message.content or "", text

    assert await asyncio.to_thread(work) == (TEXT.decode(), TEXT.decode())


@pytest.mark.parametrize(
    ("arguments", "error", "code"),
    [
        ({"model": "nobody"}, openai.NotFoundError, "model_not_found"),
        (
            {"messages": [{"role": "user", "content": "x" * 5000}]},
            openai.BadRequestError,
            "context_length_exceeded",
        ),
        ({"temperature": 7}, openai.BadRequestError, "invalid_value"),
        ({"extra_body": {"nonsense": 1}}, openai.BadRequestError, "unknown_parameter"),
    ],
    ids=["model", "length", "value", "parameter"],
)
async def test_errors_are_the_stock_clients_errors(
    client: openai.AsyncOpenAI, arguments: dict[str, Any], error: type[openai.APIStatusError], code: str
) -> None:
    with pytest.raises(error) as caught:
        await client.chat.completions.create(**{"model": MODEL, "messages": MESSAGES, **arguments})
    assert caught.value.code == code


async def test_a_wrong_key_is_an_authentication_error(gateway: RunningGateway) -> None:
    async with stock(gateway.url, "sg-" + "A" * 43) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.models.list()
    assert caught.value.code == "invalid_api_key"


async def test_many_at_once_have_each_its_own_receipt(
    client: openai.AsyncOpenAI, gateway: RunningGateway
) -> None:
    await asyncio.gather(*(client.chat.completions.create(model=MODEL, messages=MESSAGES) for _ in range(40)))
    entries = [entry["unmapped"] for entry in gateway.log_entries()]
    decisions = [entry["tenant_sequence"] for entry in entries if entry["kind"] == "decision"]
    receipts = {entry["receipt_id"] for entry in entries if entry["kind"] == "outcome"}
    assert sorted(decisions) == list(range(1, 41))
    assert len(receipts) == 40


async def test_a_restarted_runtime_is_verified_anew_and_the_request_goes_through(
    tmp_path: Path, runtime: RealRuntime
) -> None:
    """New keys at every start; the gateway learns it from the problem type, the application never."""
    apps = [runtime.app(), runtime.app()]

    async def whichever(scope: Any, receive: Any, send: Any) -> None:
        await apps[0](scope, receive, send)

    async with (
        listening(whichever) as url,
        running_gateway(tmp_path, url, runtime.trust, runtime.reference) as gateway,
        stock(gateway.url, gateway.api_key) as client,
    ):
        for engine in runtime.engines:
            await engine.start()
        first = await client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES)
        apps.reverse()
        second = await client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES)
    assert first.headers[paths.STATEMENT_HEADER] != second.headers[paths.STATEMENT_HEADER]
    assert second.parse().choices[0].message.content == TEXT.decode()


async def test_hanging_up_stops_the_engine(tmp_path: Path, vendor: MockVendor) -> None:
    slow = RealRuntime(vendor, stub=StubSettings(token_ids=tuple(TEXT), token_interval_s=0.02))
    async with (
        slow.running() as url,
        running_gateway(tmp_path, url, slow.trust, slow.reference) as gateway,
        stock(gateway.url, gateway.api_key) as client,
    ):
        stream = await client.chat.completions.create(
            model=MODEL, messages=MESSAGES, stream=True, max_tokens=2000
        )
        await anext(aiter(stream))
        assert slow.engines[0].stats().running == 1
        await stream.close()
        async with asyncio.timeout(2):
            while slow.engines[0].stats().running:  # noqa: ASYNC110 - an engine has counters, no events
                await asyncio.sleep(0.01)


async def test_the_verdict_page_shows_every_check(gateway: RunningGateway) -> None:
    async with httpx2.AsyncClient(base_url=gateway.url, verify=TLS) as http:
        assert (await http.get("/sealgate/verdict")).status_code == 401
        page = (await http.get("/sealgate/verdict", headers=gateway.authorization)).json()
        health = (await http.get(paths.HEALTH_PATH)).json()
        metrics = (await http.get(paths.METRICS_PATH)).text
        document = (await http.get(paths.OPENAPI_PATH)).json()
    assert page["tee"] == "MOCK"
    assert len(page["checks"]) > 10
    assert all(check["outcome"] != "refused" for check in page["checks"])
    assert health == {"status": "ok", "verdict": True}
    assert 'sealgate_verdicts_total{outcome="verified"} 1' in metrics
    assert {paths.CHAT_PATH, "/sealgate/verdict"} <= set(document["paths"])


async def test_the_sealed_transport_alone(runtime_url: str, runtime: RealRuntime) -> None:
    transport = AsyncSealedTransport(runtime_url, trust=runtime.trust, reference=runtime.reference)
    async with httpx2.AsyncClient(transport=transport, verify=TLS) as http:
        client = openai.AsyncOpenAI(base_url="http://sealgate.local/v1", api_key="unused", http_client=http)
        raw = await client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES)
        assert raw.parse().choices[0].message.content == TEXT.decode()
        stream = await client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
        assert "".join([c.choices[0].delta.content or "" async for c in stream if c.choices]) == TEXT.decode()
        provenance: Provenance = stream.response.extensions["sealgate"]
        assert provenance.receipt is not None
        assert provenance.receipt.completion_tokens == len(TEXT)


async def test_the_sealed_transport_alone_in_threads(runtime_url: str, runtime: RealRuntime) -> None:
    def work() -> list[str]:
        transport = SealedTransport(runtime_url, trust=runtime.trust, reference=runtime.reference)
        with httpx2.Client(transport=transport, verify=TLS) as http:
            client = openai.OpenAI(base_url="http://sealgate.local/v1", api_key="unused", http_client=http)
            stream = client.completions.create(model=MODEL, prompt="Grass", max_tokens=64, stream=True)
            text = "".join(chunk.choices[0].text for chunk in stream if chunk.choices)
            return [text, *(model.id for model in client.models.list())]

    assert await asyncio.to_thread(work) == [TEXT.decode(), MODEL]


async def test_in_process_without_a_socket(runtime: RealRuntime) -> None:
    """The outer app as the transport's carrier: what embedding both in one test costs is one line."""
    app = runtime.app()
    await runtime.engines[-1].start()
    transport = AsyncSealedTransport(
        "http://runtime",
        trust=runtime.trust,
        reference=runtime.reference,
        transport=httpx2.ASGITransport(app),  # type: ignore[arg-type]  # its own idea of an ASGI app's type
    )
    async with httpx2.AsyncClient(transport=transport, verify=TLS) as http:
        response = await http.get("http://sealgate.local/v1/models")
    assert response.json()["data"][0]["id"] == MODEL
