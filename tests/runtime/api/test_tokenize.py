"""``/v1/tokenize``: what a prompt is to the model, before it is asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attest.protocol import paths
from attest.protocol.openai.answers import TokenizeAnswer
from tests.simulators.sealing_client import InnerAnswer, SealingClient
from tests.simulators.stub_runtime import StubRuntime, served_by, stub_engine
from tests.simulators.tiny_encoders import MAX_TOKENS, tiny_embedder

MESSAGES = [{"role": "user", "content": "Grüße"}]
FUNCTION = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


@pytest.fixture
async def client() -> SealingClient:
    return (await StubRuntime.started(stub_engine(context=64))).client()


async def tokenize(client: SealingClient, **members: Any) -> InnerAnswer:
    return await client.call("POST", paths.TOKENIZE_PATH, {"model": "stub", **members})


async def test_a_text(client: SealingClient) -> None:
    answer = TokenizeAnswer.model_validate((await tokenize(client, prompt="Grün")).json())
    assert answer.tokens == list("Grün".encode())
    assert (answer.count, answer.max_model_len) == (5, 64)
    assert (await tokenize(client, prompt="")).json()["count"] == 0


async def test_a_conversation_counts_what_a_chat_does(client: SealingClient) -> None:
    counted = (await tokenize(client, messages=MESSAGES)).json()["count"]
    request = {"model": "stub", "messages": MESSAGES}
    answer = (await client.call("POST", paths.CHAT_PATH, request)).json()
    assert counted == answer["usage"]["prompt_tokens"]
    assert (await tokenize(client, messages=MESSAGES, tools=[FUNCTION])).status == 200


async def test_nothing_ran_and_the_receipt_says_so(client: SealingClient) -> None:
    receipt = client.receipt(await tokenize(client, prompt="abc"))
    assert (receipt.model, receipt.prompt_tokens, receipt.finish_reason) == (None, 0, None)


async def test_longer_than_the_context_is_counted_all_the_same(client: SealingClient) -> None:
    assert (await tokenize(client, prompt="x" * 20_000)).json()["count"] == 20_000


async def test_by_the_embedding_model(tmp_path: Path) -> None:
    """Special tokens and all, as it will be charged; there is no conversation to have with it."""
    embedder = tiny_embedder(tmp_path)
    client = (await StubRuntime.started(served=replace(served_by(stub_engine()), embedder=embedder))).client()
    answer = (await tokenize(client, model="tiny", prompt="a fox")).json()
    assert answer == {"tokens": [2, 5, 32, 3], "count": 4, "max_model_len": MAX_TOKENS}
    refused = await tokenize(client, model="tiny", messages=MESSAGES)
    assert (refused.status, refused.error_code) == (404, "model_not_found")


@pytest.mark.parametrize(
    "members",
    [{}, {"prompt": "a", "messages": MESSAGES}, {"prompt": "a", "tools": [FUNCTION]}, {"messages": []}],
)
async def test_one_of_the_two(client: SealingClient, members: dict[str, Any]) -> None:
    answer = await tokenize(client, **members)
    assert (answer.status, answer.error_code) == (400, "invalid_value")


async def test_another_model_and_another_method(client: SealingClient) -> None:
    assert (await tokenize(client, model="gpt-9", prompt="a")).error_code == "model_not_found"
    assert (await client.call("GET", paths.TOKENIZE_PATH)).error_code == "method_not_allowed"
