"""Embeddings under the stock client: gateway, policy, seal, receipt, and the real embedding model."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import openai
import pytest

from attest.mock.vendor import MockVendor
from attest.protocol import paths
from attest.refusal import Refused
from gateway.upstream.transport import AsyncSealedTransport, Provenance
from policies.header import format_header
from policies.labels import Label
from runtime import settings
from runtime.embed.embedder import Embedder, load_embedder
from runtime.model.store import stored_model
from tests.simulators.real_runtime import MODEL, RealRuntime
from tests.simulators.running_gateway import RunningGateway, running_gateway

pytestmark = pytest.mark.model

TLS = ssl.create_default_context()
TEXTS = ["A man is eating food.", "Someone eats a meal.", "The stock market fell sharply."]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    try:
        stored_model(settings.home(), "minilm")
    except Refused:
        pytest.skip("minilm is not pulled (make test pulls it)")
    return load_embedder("minilm", threads=2)


@pytest.fixture
async def runtime(vendor: MockVendor, embedder: Embedder) -> RealRuntime:
    runtime = RealRuntime(vendor)
    runtime.served = replace(runtime._stub(), embedder=embedder)
    return runtime


@pytest.fixture
async def runtime_url(runtime: RealRuntime) -> AsyncIterator[str]:
    async with runtime.running() as url:
        yield url


@pytest.fixture
async def gateway(tmp_path: Path, runtime_url: str, runtime: RealRuntime) -> AsyncIterator[RunningGateway]:
    async with running_gateway(tmp_path, runtime_url, runtime.trust, runtime.reference) as gateway:
        yield gateway


def stock(gateway: RunningGateway) -> openai.AsyncOpenAI:
    """The stock client, which asks for base64 unless told otherwise."""
    http = openai.DefaultAsyncHttpxClient(verify=TLS)
    return openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=gateway.api_key, http_client=http, max_retries=0
    )


async def test_like_texts_are_near_and_the_log_says_which_weights_read_them(
    gateway: RunningGateway, embedder: Embedder
) -> None:
    async with stock(gateway) as client:
        raw = await client.embeddings.with_raw_response.create(model="minilm", input=TEXTS)
        numbers = await client.embeddings.create(model="minilm", input=TEXTS, encoding_format="float")
        models = {model.id: model.to_dict() async for model in client.models.list()}
    answer = raw.parse()
    one, same, other = (item.embedding for item in answer.data)
    assert len(one) == 384
    assert sum(a * b for a, b in zip(one, same, strict=True)) > 0.6
    assert abs(sum(a * b for a, b in zip(one, other, strict=True))) < 0.2
    assert numbers.data[2].embedding == pytest.approx(other, abs=1e-7)
    assert (answer.model, answer.usage.prompt_tokens) == ("minilm", 23)
    assert models["minilm"]["base_model_digest"] == embedder.digest
    decision, outcome = [entry["unmapped"] for entry in gateway.log_entries()[:2]]
    assert decision["facts"]["model"] == embedder.digest
    assert outcome["prompt_tokens"] == 23
    assert outcome["receipt_id"] == raw.headers[paths.RECEIPT_ID_HEADER]


async def test_the_sealed_transport_alone(runtime_url: str, runtime: RealRuntime, embedder: Embedder) -> None:
    transport = AsyncSealedTransport(runtime_url, trust=runtime.trust, reference=runtime.reference)
    async with openai.AsyncOpenAI(
        base_url="http://sealgate.local/v1",
        api_key="unused",
        http_client=openai.DefaultAsyncHttpxClient(transport=transport),
    ) as client:
        raw = await client.embeddings.with_raw_response.create(model="minilm", input=TEXTS[0])
        provenance: Provenance = raw.http_response.extensions["sealgate"]
    assert provenance.receipt is not None
    assert (provenance.receipt.model, provenance.receipt.base_model_digest) == ("minilm", embedder.digest)


async def test_an_embedding_model_that_nobody_accepted_gets_no_text(
    tmp_path: Path, runtime_url: str, runtime: RealRuntime
) -> None:
    reference = runtime.reference
    narrow = replace(reference, runtime=replace(reference.runtime, embedding_model_digests=frozenset()))
    async with (
        running_gateway(tmp_path, runtime_url, runtime.trust, narrow) as gateway,
        stock(gateway) as client,
    ):
        with pytest.raises(openai.InternalServerError) as refused:
            await client.embeddings.create(model="minilm", input=TEXTS)
    assert (refused.value.code, refused.value.body["refusal"]) == (  # type: ignore[index]  # a JSON object
        "runtime_refused",
        "embedding-model-not-accepted",
    )


async def test_data_that_may_not_be_embedded_is_not(gateway: RunningGateway) -> None:
    """By the policies that ship; the same label lets it be read and answered."""
    label = {paths.LABEL_HEADER: format_header(Label(flags=frozenset({"no-embed"})))}
    async with stock(gateway) as client:
        with pytest.raises(openai.PermissionDeniedError) as denied:
            await client.embeddings.create(model="minilm", input=TEXTS, extra_headers=label)
        answer = await client.completions.create(model=MODEL, prompt="a", max_tokens=40, extra_headers=label)
    assert denied.value.code == "policy_denied"
    assert answer.choices[0].text


async def test_tokens_are_counted_as_the_answer_will_count_them(gateway: RunningGateway) -> None:
    async with stock(gateway) as client:
        counted = await client.post(
            "/tokenize", body={"model": "minilm", "prompt": TEXTS[0]}, cast_to=dict[str, object]
        )
        answer = await client.embeddings.create(model="minilm", input=TEXTS[0])
    assert counted["count"] == answer.usage.prompt_tokens == len(counted["tokens"])  # type: ignore[arg-type]  # a list
    assert counted["max_model_len"] == 256


async def test_errors_reach_the_stock_client(gateway: RunningGateway) -> None:
    async with stock(gateway) as client:
        with pytest.raises(openai.BadRequestError) as long:
            await client.embeddings.create(model="minilm", input=["fine", "word " * 255])
        with pytest.raises(openai.NotFoundError) as other:
            await client.embeddings.create(model=MODEL, input="fine")
        with pytest.raises(openai.BadRequestError) as none:
            await client.embeddings.create(model="minilm", input=[])
    assert (long.value.code, long.value.param) == ("context_length_exceeded", "input.1")
    assert "maximum context length is 256 tokens, but 'input.1' has 257 tokens" in long.value.message
    assert other.value.code == "model_not_found"
    assert (none.value.code, none.value.param) == ("invalid_value", "input")
