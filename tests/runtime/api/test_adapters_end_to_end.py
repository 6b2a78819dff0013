"""Adapters from a PEFT folder to the stock openai client, through gateway, seal and engine."""

from __future__ import annotations

import asyncio
import csv
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
import torch

from attest.mock.vendor import MockVendor
from attest.protocol import paths
from gateway.upstream.transport import AsyncSealedTransport, Provenance
from runtime.api.served import ServedModel
from runtime.engine.adapters import AdapterSettings
from runtime.engine.lora.shape import BaseShape
from runtime.loading import load_served_model
from runtime.settings import ModelSettings
from tests.simulators.adapter_folders import BASE, digest_of, save_adapter, served_with, tiny_base
from tests.simulators.real_runtime import RealRuntime
from tests.simulators.running_gateway import RunningGateway, running_gateway

TLS = ssl.create_default_context()


@pytest.fixture(scope="module")
def vendor() -> MockVendor:
    return MockVendor.create()


@asynccontextmanager
async def gateway_before(
    vendor: MockVendor, served: ServedModel, folder: Path
) -> AsyncIterator[tuple[openai.AsyncOpenAI, RunningGateway]]:
    """A gateway before a runtime that serves this, and the stock client of it."""
    runtime = RealRuntime(vendor, served=served)
    async with (
        runtime.running() as url,
        running_gateway(folder, url, runtime.trust, runtime.reference) as gateway,
        openai.AsyncOpenAI(
            base_url=f"{gateway.url}/v1",
            api_key=gateway.api_key,
            http_client=openai.DefaultAsyncHttpxClient(verify=TLS),
            max_retries=0,
        ) as client,
    ):
        yield client, gateway


async def complete(
    client: openai.AsyncOpenAI, model: str, prompt: Any, tokens: int
) -> tuple[str, str | None]:
    """The text, and the adapter that the answer's head names."""
    raw = await client.completions.with_raw_response.create(
        model=model, prompt=prompt, max_tokens=tokens, temperature=0, extra_body={"ignore_eos": True}
    )
    return raw.parse().choices[0].text, raw.headers.get(paths.ADAPTER_HEADER)


async def test_adapters_through_the_gateway(vendor: MockVendor, tmp_path: Path) -> None:
    opened = tiny_base(tmp_path)
    shape = BaseShape.of(opened.architecture)
    folders = {f"a{seed}": save_adapter(tmp_path / "adapters" / f"a{seed}", shape, seed) for seed in range(3)}
    served = served_with(tmp_path, tmp_path / "adapters", max_rank=8)
    async with gateway_before(vendor, served, tmp_path) as (client, _):
        names = [BASE, *folders]
        alone = [await complete(client, name, "the quick", 12) for name in names]
        digests = [None, *(digest_of(folder, opened) for folder in folders.values())]
        assert [digest for _, digest in alone] == digests
        assert len({text for text, _ in alone}) == len(names)
        mixed = await asyncio.gather(*(complete(client, name, "the quick", 12) for name in names * 3))
        assert mixed == alone * 3
        listed = [model async for model in client.models.list()]
        assert [(model.id, model.to_dict()["parent"]) for model in listed] == [
            (BASE, None), *((name, BASE) for name in folders)
        ]  # fmt: skip
        page = (await client.models.retrieve("a1")).to_dict()
        assert (page["adapter_digest"], page["adapter_rank"]) == (digests[2], 8)
        with pytest.raises(openai.NotFoundError) as unknown:
            await complete(client, "nobody", "the quick", 1)
        assert unknown.value.code == "model_not_found"
        save_adapter(tmp_path / "adapters" / "wide", shape, 5, rank=16)
        with pytest.raises(openai.BadRequestError) as refused:
            await complete(client, "wide", "the quick", 1)
        assert (refused.value.code, refused.value.param) == ("adapter_failed", "model")
        assert "adapter-rank-limit, expected at most 8" in refused.value.message


async def test_a_receipt_names_the_adapter(vendor: MockVendor, tmp_path: Path) -> None:
    """And the transport alone holds it against what the head announced."""
    opened = tiny_base(tmp_path)
    save_adapter(tmp_path / "adapters" / "a", BaseShape.of(opened.architecture), 1)
    served = served_with(tmp_path, tmp_path / "adapters", max_rank=8)
    runtime = RealRuntime(vendor, served=served)
    async with runtime.running() as url:
        transport = AsyncSealedTransport(url, trust=runtime.trust, reference=runtime.reference)
        async with openai.AsyncOpenAI(
            base_url="http://sealgate.local/v1",
            api_key="unused",
            http_client=openai.DefaultAsyncHttpxClient(transport=transport),
            max_retries=0,
        ) as client:
            raw = await client.completions.with_raw_response.create(model="a", prompt="the", max_tokens=2)
            provenance: Provenance = raw.http_response.extensions["sealgate"]
            assert provenance.receipt is not None
            assert provenance.receipt.adapter_digest == digest_of(tmp_path / "adapters" / "a", opened)


@pytest.mark.slow
@pytest.mark.model
async def test_an_adapter_trained_by_peft_answers_as_under_peft(
    vendor: MockVendor, smollm2_file: Path, shared: Path, tmp_path: Path
) -> None:
    """The embedded model in float32, beside the base and a second adapter; every token as PEFT chooses it."""
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = transformers.AutoModelForCausalLM.from_pretrained(
            smollm2_file.parent, gguf_file=smollm2_file.name, dtype=torch.float32
        )
        model: Any = peft.get_peft_model(
            base, peft.LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"), "questions"
        )
        model.add_adapter("queries", peft.LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False))
    (tmp_path / "adapters").mkdir()
    adapters = AdapterSettings(folder=tmp_path / "adapters")
    served = load_served_model(ModelSettings("smollm2", weights="float32", threads=2, adapters=adapters))
    texts = questions(shared)
    encode = served.tokenizer.encode
    train(model, [encode(text)[:40] for text in texts])
    model.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(str(tmp_path / "adapters"))
    prompts = [encode(text.split("\n")[0] + "\n") for text in texts[:4]]
    asked = [(name, prompt) for prompt in prompts for name in ("smollm2", "questions", "queries")]
    async with gateway_before(vendor, served, tmp_path) as (client, _):
        answers = await asyncio.gather(*(complete(client, name, prompt, 12) for name, prompt in asked))
    expected = [served.tokenizer.decode(greedy(model, name, prompt, 12)) for name, prompt in asked]
    assert [text for text, _ in answers] == expected
    assert len({digest for _, digest in answers}) == 3


def questions(shared: Path) -> list[str]:
    """Customers' questions with their category."""
    with (shared / "data" / "banking77" / "train.csv").open() as stream:
        rows = list(csv.DictReader(stream))[::600]
    return [f"{row['text']}\ncategory: {row['category']}" for row in rows[:16]]


def train(model: Any, examples: list[list[int]]) -> None:
    """A few steps: enough to answer otherwise than the base."""
    model.set_adapter("questions")
    model.train()
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=5e-3)
    for example in examples[:6]:
        ids = torch.tensor([example])
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def greedy(model: Any, name: str, prompt: list[int], tokens: int) -> list[int]:
    """What PEFT goes on with."""
    sequence = list(prompt)
    if name != "smollm2":
        model.set_adapter(name)
    with torch.inference_mode():
        for _ in range(tokens):
            if name == "smollm2":
                with model.disable_adapter():
                    logits = model(torch.tensor([sequence])).logits
            else:
                logits = model(torch.tensor([sequence])).logits
            sequence.append(int(logits[0, -1].argmax()))
    return sequence[len(prompt) :]
