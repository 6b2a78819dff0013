"""``/v1/embeddings`` through the seal, on a model of random weights."""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from attest.protocol import paths
from attest.protocol.openai.answers import EmbeddingsAnswer, ModelList
from runtime.embed.embedder import Embedder
from runtime.engine.base import EngineRefusal
from tests.simulators.sealing_client import InnerAnswer, SealingClient
from tests.simulators.stub_runtime import StubRuntime, served_by, stub_engine
from tests.simulators.tiny_encoders import MAX_TOKENS, WIDTH, tiny_embedder

TEXT = "a b c"


@dataclass
class Asked:
    """A runtime with an embedding model, and a tenant of it."""

    embedder: Embedder
    client: SealingClient

    async def ask(self, **members: Any) -> InnerAnswer:
        """One request."""
        return await self.client.call("POST", paths.EMBEDDINGS_PATH, {"model": "tiny", **members})

    async def vectors(self, **members: Any) -> list[list[float]]:
        """The vectors of an answer in numbers."""
        answer = EmbeddingsAnswer.model_validate((await self.ask(**members)).json())
        assert [item.index for item in answer.data] == list(range(len(answer.data)))
        return [item.embedding for item in answer.data if isinstance(item.embedding, list)]


@pytest.fixture
async def asked(tmp_path: Path) -> AsyncIterator[Asked]:
    embedder = tiny_embedder(tmp_path)
    runtime = await StubRuntime.started(served=replace(served_by(stub_engine()), embedder=embedder))
    await embedder.start()
    yield Asked(embedder, runtime.client())
    await embedder.stop()


async def test_numbers_and_base64_are_the_same_vector(asked: Asked) -> None:
    (vector,) = await asked.vectors(input=TEXT)
    coded = (await asked.ask(input=TEXT, encoding_format="base64")).json()["data"][0]["embedding"]
    assert list(struct.unpack(f"<{WIDTH}f", base64.b64decode(coded, validate=True))) == pytest.approx(vector)
    ids = asked.embedder.tokenizer.encode(TEXT)
    (expected,) = await asked.embedder.embed([ids], tenant="x")
    assert torch.equal(torch.tensor(vector), torch.tensor(expected))
    assert sum(value * value for value in vector) == pytest.approx(1)


async def test_batches_and_tokens(asked: Asked) -> None:
    """Tokens are taken as they are, so a text's own tokens give the text's own vector."""
    first, second = await asked.vectors(input=[TEXT, "the fox"])
    assert first == pytest.approx((await asked.vectors(input=TEXT))[0], abs=1e-6)
    ids = [asked.embedder.tokenizer.encode(text) for text in (TEXT, "the fox")]
    assert await asked.vectors(input=ids) == [first, second]
    assert await asked.vectors(input=ids[1]) == await asked.vectors(input="the fox")
    assert await asked.vectors(input=ids[1][1:-1]) != await asked.vectors(input="the fox")


async def test_usage_and_receipt_name_what_ran(asked: Asked) -> None:
    answer = await asked.ask(input=[TEXT, "the"], user="someone")
    usage = answer.json()["usage"]
    assert usage == {"prompt_tokens": 8, "total_tokens": 8}
    receipt = asked.client.receipt(answer)
    assert (receipt.prompt_tokens, receipt.completion_tokens, receipt.finish_reason) == (8, 0, None)
    assert (receipt.model, receipt.backend) == ("tiny", "sealgate")
    assert receipt.base_model_digest == asked.embedder.digest


async def test_the_models_page_has_its_limits(asked: Asked) -> None:
    page = ModelList.model_validate((await asked.client.call("GET", paths.MODELS_PATH)).json())
    text, embedding = page.data
    assert (text.kind, text.dimensions) == ("generate", None)
    assert (embedding.kind, embedding.dimensions, embedding.context_length) == ("embed", WIDTH, MAX_TOKENS)
    assert embedding.base_model_digest == asked.embedder.digest
    one = await asked.client.call("GET", f"{paths.MODELS_PATH}/tiny")
    assert one.json() == embedding.model_dump()


TOO_LONG = " ".join("a" * MAX_TOKENS)
TOO_LONG_SAYS = (
    "This model's maximum context length is 24 tokens, but '{}' has 26 tokens. "
    "Shorten it, or cut it in pieces."
)
REFUSED: dict[str, tuple[dict[str, Any], int, str, str, str]] = {
    "dimensions": (
        {"input": TEXT, "dimensions": 16},
        400,
        "unsupported_parameter",
        "dimensions",
        "This model's embeddings have 48 dimensions and cannot be shortened. Leave 'dimensions' out.",
    ),
    "length": (
        {"input": TOO_LONG},
        400,
        "context_length_exceeded",
        "input",
        TOO_LONG_SAYS.format("input"),
    ),
    "length of one": (
        {"input": [TEXT, TOO_LONG]},
        400,
        "context_length_exceeded",
        "input.1",
        TOO_LONG_SAYS.format("input.1"),
    ),
    "token": ({"input": [[2, 40]]}, 400, "invalid_value", "input", "Token ids run from 0 to 39."),
    "many": (
        {"input": ["a"] * 2049},
        400,
        "invalid_value",
        "input",
        "'input' must be a string, a list of token ids, or a list of at most 2048 of either, none empty.",
    ),
    "model": (
        {"input": TEXT, "model": "stub"},
        404,
        "model_not_found",
        "model",
        "This runtime makes embeddings by 'tiny'; see GET /v1/models.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_exact_refusals(asked: Asked, name: str) -> None:
    members, status, code, param, message = REFUSED[name]
    answer = await asked.ask(**members)
    error = answer.json()["error"]
    assert (answer.status, error["code"], error["param"], error["message"]) == (status, code, param, message)


@pytest.mark.parametrize("wrong", ["", [], [""], [[]], [1, "a"], ["a", [1]], [-1], None, 5, {"a": 1}])
async def test_inputs_that_are_none(asked: Asked, wrong: Any) -> None:
    answer = await asked.ask(input=wrong)
    assert (answer.status, answer.error_code, answer.json()["error"]["param"]) == (
        400,
        "invalid_value",
        "input",
    )


async def test_its_own_dimensions_may_be_asked_for(asked: Asked) -> None:
    assert (await asked.ask(input=TEXT, dimensions=WIDTH)).status == 200


async def test_too_many_tokens_at_once(asked: Asked) -> None:
    asked.embedder.max_request_tokens = 9
    error = (await asked.ask(input=[TEXT, TEXT])).json()["error"]
    assert error["message"] == (
        "'input' has 10 tokens in all, at most 9 are taken at once. Send it in several requests."
    )
    assert (error["code"], error["param"]) == ("invalid_value", "input")


async def test_the_embedding_model_generates_nothing(asked: Asked) -> None:
    request = {"model": "tiny", "messages": [{"role": "user", "content": "a"}]}
    answer = await asked.client.call("POST", paths.CHAT_PATH, request)
    assert (answer.status, answer.error_code) == (404, "model_not_found")


async def test_a_runtime_without_one(tmp_path: Path) -> None:
    runtime = await StubRuntime.started(stub_engine())
    request = {"model": "tiny", "input": "a"}
    answer = await runtime.client().call("POST", paths.EMBEDDINGS_PATH, request)
    assert (answer.status, answer.error_code) == (404, "model_not_found")
    assert answer.json()["error"]["message"] == "This runtime has no embedding model; see GET /v1/models."


async def test_a_stopped_or_full_model_is_an_error_with_its_status(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: Any, **__: Any) -> None:
        raise EngineRefusal("engine_overloaded", retry_after=2.5)

    monkeypatch.setattr(asked.embedder, "embed", full)
    answer = await asked.ask(input=TEXT)
    assert (answer.status, answer.error_code, answer.headers["retry-after"]) == (
        429,
        "engine_overloaded",
        "3",
    )
    monkeypatch.undo()
    await asked.embedder.stop()
    answer = await asked.ask(input=TEXT)
    assert (answer.status, answer.error_code) == (503, "engine_stopped")
