"""Completions that show their prompt, and what the model thinks of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import torch

from attest.protocol import paths
from attest.protocol.openai.answers import CompletionAnswer
from tests.simulators.scored_model import Scored, scored_model
from tests.simulators.stub_runtime import StubRuntime, stub_engine

TEXT = "the quick brown fox jumps over the lazy dog, pack my box"


@pytest.fixture
async def scored(tmp_path: Path) -> AsyncIterator[Scored]:
    async with scored_model(tmp_path) as scored:
        yield scored


async def test_a_prompts_log_probabilities_are_those_of_transformers(scored: Scored) -> None:
    answer = await scored.ask(prompt=TEXT, echo=True, logprobs=3, max_tokens=0)
    document = CompletionAnswer.model_validate(answer.json())
    (choice,) = document.choices
    assert (choice.text, choice.finish_reason) == (TEXT, "length")
    ids = scored.served.tokenizer.encode(TEXT)
    expected = scored.expected(ids)
    own = expected.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    logprobs = choice.logprobs
    assert logprobs is not None
    assert logprobs.token_logprobs[0] is None
    assert logprobs.token_logprobs[1:] == pytest.approx(own.tolist(), abs=1e-4)
    assert "".join(logprobs.tokens) == TEXT
    places = zip(logprobs.text_offset, logprobs.tokens, strict=True)
    assert all(TEXT[at:].startswith(token) for at, token in places)
    assert logprobs.top_logprobs is not None
    assert logprobs.top_logprobs[0] is None
    for tops, row in zip(logprobs.top_logprobs[1:], expected, strict=True):
        assert tops is not None
        # Alternatives that are parts of characters share a key, which the likeliest keeps.
        assert max(tops.values()) == pytest.approx(float(row.max()), abs=1e-4)
        assert min(tops.values()) >= float(row.topk(3).values[-1]) - 1e-4
    assert answer.json()["usage"] == {
        "prompt_tokens": len(ids),
        "completion_tokens": 0,
        "total_tokens": len(ids),
    }
    receipt = scored.client.receipt(answer)
    assert (receipt.prompt_tokens, receipt.completion_tokens) == (len(ids), 0)


async def test_the_answer_follows_the_prompt_in_text_and_in_logprobs(scored: Scored) -> None:
    alone = (await scored.ask(prompt=TEXT, logprobs=0, max_tokens=4)).json()["choices"][0]
    both = (await scored.ask(prompt=TEXT, logprobs=0, max_tokens=4, echo=True)).json()["choices"][0]
    assert both["text"] == TEXT + alone["text"]
    assert both["logprobs"]["tokens"][-4:] == alone["logprobs"]["tokens"]
    assert both["logprobs"]["token_logprobs"][-4:] == pytest.approx(alone["logprobs"]["token_logprobs"])
    assert both["logprobs"]["text_offset"][-4] == len(TEXT)
    assert both["logprobs"]["top_logprobs"] is None


async def test_several_prompts_some_as_tokens(scored: Scored) -> None:
    """Each choice begins with its own prompt; without logprobs nothing is scored."""
    ids = [scored.served.tokenizer.encode(text) for text in (TEXT, "judge my vow")]
    choices = (await scored.ask(prompt=ids, echo=True, max_tokens=0, n=2)).json()["choices"]
    assert [choice["text"] for choice in choices] == [TEXT, TEXT, "judge my vow", "judge my vow"]
    assert [choice["logprobs"] for choice in choices] == [None] * 4
    one = (await scored.ask(prompt=[5], echo=True, max_tokens=0, logprobs=1)).json()["choices"][0]
    assert one["logprobs"]["token_logprobs"] == [None]


async def test_a_shared_beginning_is_read_once(scored: Scored) -> None:
    """What comes before the first token to be scored is found in the prefix cache."""
    ids = [(7 * place) % 250 + 10 for place in range(120)]
    whole = (await scored.ask(prompt=ids, echo=True, logprobs=0, max_tokens=0)).json()
    before = scored.served.engine.stats().prompt_tokens
    part = (
        await scored.ask(prompt=ids, echo=True, logprobs=0, max_tokens=0, prompt_logprobs_from=112)
    ).json()
    assert scored.served.engine.stats().prompt_tokens - before < 30
    scores, again = (each["choices"][0]["logprobs"]["token_logprobs"] for each in (whole, part))
    assert again[:112] == [None] * 112
    assert again[112:] == pytest.approx(scores[112:], abs=1e-4)
    none = (
        await scored.ask(prompt=ids, echo=True, logprobs=0, max_tokens=0, prompt_logprobs_from=500)
    ).json()
    assert none["choices"][0]["logprobs"]["token_logprobs"] == [None] * 120


async def test_scoring_beside_generation_disturbs_nobody(scored: Scored) -> None:
    asked = {"prompt": "sphinx of black quartz", "max_tokens": 12, "ignore_eos": True}
    alone = (await scored.ask(**asked)).json()["choices"][0]["text"]
    scoring = [scored.ask(prompt=TEXT, echo=True, logprobs=2, max_tokens=0) for _ in range(3)]
    among, *scores = await asyncio.gather(scored.ask(**asked), *scoring)
    assert among.json()["choices"][0]["text"] == alone
    assert [answer.json()["choices"][0]["text"] for answer in scores] == [TEXT] * 3


RULES: dict[str, tuple[dict[str, Any], str]] = {
    "nothing at all": (
        {"max_tokens": 0},
        "max_tokens 0 is only allowed when echo is true or prompt_logprobs is set.",
    ),
    "streamed": ({"echo": True, "stream": True}, "echo is only allowed when stream is false."),
    "from without echo": (
        {"prompt_logprobs_from": 2, "logprobs": 1},
        "prompt_logprobs_from is only allowed with prompt_logprobs, or with echo and logprobs.",
    ),
    "from without logprobs": (
        {"prompt_logprobs_from": 2, "echo": True},
        "prompt_logprobs_from is only allowed with prompt_logprobs, or with echo and logprobs.",
    ),
}


@pytest.mark.parametrize("name", RULES)
async def test_what_does_not_go_together(name: str) -> None:
    members, message = RULES[name]
    runtime = await StubRuntime.started(stub_engine())
    request = {"model": "stub", "prompt": "a", **members}
    answer = await runtime.client().call("POST", paths.COMPLETIONS_PATH, request)
    assert (answer.status, answer.error_code) == (400, "invalid_value")
    assert answer.json()["error"]["message"] == message


async def test_a_prompt_that_fills_the_context_cannot_be_scored() -> None:
    """Its scores come with the token that would follow."""
    client = (await StubRuntime.started(stub_engine(context=8))).client()
    request = {"model": "stub", "echo": True, "logprobs": 1, "max_tokens": 0}
    fits = await client.call("POST", paths.COMPLETIONS_PATH, {**request, "prompt": "x" * 7})
    assert fits.json()["choices"][0]["logprobs"]["token_logprobs"] == [None, *[0.0] * 6]
    answer = await client.call("POST", paths.COMPLETIONS_PATH, {**request, "prompt": "x" * 8})
    assert (answer.status, answer.error_code) == (400, "context_length_exceeded")
    assert "8 tokens, but 'prompt' already has 8 tokens" in answer.json()["error"]["message"]
