"""``/v1/tokenize``: what a prompt is to the model, before it is asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attest.protocol import paths
from attest.protocol.openai.answers import DetokenizeAnswer, TokenizeAnswer
from tests.simulators.sealing_client import InnerAnswer, SealingClient
from tests.simulators.stub_runtime import StubRuntime, served_by, stub_engine
from tests.simulators.tiny_encoders import MAX_TOKENS, tiny_embedder

MESSAGES = [{"role": "user", "content": "Grüße"}]
FUNCTION = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


@pytest.fixture
async def client() -> SealingClient:
    return (await StubRuntime.started(stub_engine(context=64))).client()


async def detokenize(client: SealingClient, **members: Any) -> InnerAnswer:
    return await client.call("POST", paths.DETOKENIZE_PATH, {"model": "stub", **members})


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
    tokens = [2, 5, 32, 3]
    assert answer == {"tokens": tokens, "count": 4, "max_model_len": MAX_TOKENS, "token_strs": None}
    bare = await tokenize(client, model="tiny", prompt="a fox", add_special_tokens=False)
    assert bare.json()["tokens"] == [5, 32]
    named = await tokenize(client, model="tiny", prompt="a foxes", return_token_strs=True)
    assert named.json()["token_strs"] == ["[CLS]", "a", "fox", "##es", "[SEP]"]
    assert (await detokenize(client, model="tiny", tokens=tokens)).json() == {"prompt": "[CLS] a fox [SEP]"}
    refused = await tokenize(client, model="tiny", messages=MESSAGES)
    assert (refused.status, refused.error_code) == (404, "model_not_found")


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"prompt": "a", "messages": MESSAGES},
        {"prompt": "a", "tools": [FUNCTION]},
        {"messages": []},
        {"messages": MESSAGES, "add_special_tokens": True},
    ],
)
async def test_one_of_the_two(client: SealingClient, members: dict[str, Any]) -> None:
    answer = await tokenize(client, **members)
    assert (answer.status, answer.error_code) == (400, "invalid_value")


async def test_another_model_and_another_method(client: SealingClient) -> None:
    assert (await tokenize(client, model="gpt-9", prompt="a")).error_code == "model_not_found"
    assert (await client.call("GET", paths.TOKENIZE_PATH)).error_code == "method_not_allowed"
    assert (await detokenize(client, model="gpt-9", tokens=[1])).error_code == "model_not_found"
    assert (await client.call("GET", paths.DETOKENIZE_PATH)).error_code == "method_not_allowed"


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"prompt": "a", "add_generation_prompt": False}, "add_generation_prompt"),
        ({"messages": MESSAGES, "continue_final_message": True}, "continue_final_message"),
        ({"messages": MESSAGES, "chat_template": "{{ messages }}"}, "chat_template"),
    ],
)
async def test_what_vllm_would_do_and_this_does_not_is_refused_by_name(
    client: SealingClient, members: dict[str, Any], param: str
) -> None:
    answer = await tokenize(client, **members)
    assert (answer.status, answer.error_code) == (400, "unsupported_parameter")
    assert answer.json()["error"]["param"] == param
    asked_anyway = {"add_generation_prompt": True, "continue_final_message": False}
    assert (await tokenize(client, messages=MESSAGES, **asked_anyway)).status == 200


async def test_where_vllm_has_them_and_without_a_model(client: SealingClient) -> None:
    """Its clients need not name one: there is one that generates text."""
    tokens = (await client.call("POST", "/tokenize", {"prompt": "Grün"})).json()["tokens"]
    assert (await client.call("POST", "/detokenize", {"tokens": tokens})).json() == {"prompt": "Grün"}


async def test_tokens_back_to_text(client: SealingClient) -> None:
    """Special ones are written out; nothing runs."""
    answer = await detokenize(client, tokens=[*b"abc", 256])
    assert DetokenizeAnswer.model_validate(answer.json()).prompt == "abc<end>"
    assert (await detokenize(client, tokens=[])).json() == {"prompt": ""}
    receipt = client.receipt(answer)
    assert (receipt.model, receipt.prompt_tokens, receipt.finish_reason) == (None, 0, None)


@pytest.mark.parametrize(
    ("tokens", "code"),
    [([257], "invalid_value"), ([-1], "invalid_value"), (["a"], "invalid_type"), (None, "invalid_type")],
)
async def test_what_is_no_token_is_refused(client: SealingClient, tokens: Any, code: str) -> None:
    answer = await detokenize(client, tokens=tokens)
    assert (answer.status, answer.error_code) == (400, code)
    assert answer.json()["error"]["param"].startswith("tokens")
