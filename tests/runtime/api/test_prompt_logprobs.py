"""``prompt_logprobs``: what the model thinks of a prompt, in vLLM's shape."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from attest.protocol import paths
from attest.protocol.openai.answers import ChatAnswer, CompletionAnswer, PromptLogprobs
from tests.simulators.scored_model import Scored, scored_model
from tests.simulators.stub_runtime import StubRuntime, stub_engine

TEXT = "sphinx of black quartz, judge my vow"
MESSAGES = [{"role": "user", "content": TEXT}]


@pytest.fixture
async def scored(tmp_path: Path) -> AsyncIterator[Scored]:
    async with scored_model(tmp_path) as scored:
        yield scored


def assert_are_of(scored: Scored, found: PromptLogprobs | None, ids: list[int], count: int) -> None:
    """As transformers has them: each place's own token first, then the likeliest, with their ranks."""
    assert found is not None
    assert found[0] is None
    assert len(found) == len(ids)
    for own, place, row in zip(ids[1:], found[1:], scored.expected(ids), strict=True):
        assert place is not None
        keys = [int(key) for key in place]
        rest = [token for token in row.topk(count).indices.tolist() if token != own]
        assert keys[0] == own
        assert keys[1:] == rest[: len(keys) - 1]
        assert len(keys) >= count
        for token, each in zip(keys, place.values(), strict=True):
            assert each.logprob == pytest.approx(float(row[token]), abs=1e-4)
            assert each.rank - 1 == pytest.approx(int((row > row[token]).sum()), abs=1)
            assert each.decoded_token == scored.served.tokenizer.decode([token], skip_special_tokens=False)


@pytest.mark.parametrize("count", [0, 3])
async def test_of_a_plain_completion(scored: Scored, count: int) -> None:
    answer = await scored.ask(prompt=TEXT, prompt_logprobs=count, max_tokens=3, ignore_eos=True)
    (choice,) = CompletionAnswer.model_validate(answer.json()).choices
    assert_are_of(scored, choice.prompt_logprobs, scored.served.tokenizer.encode(TEXT), count)
    assert choice.logprobs is None
    plain = (await scored.ask(prompt=TEXT, max_tokens=3, ignore_eos=True)).json()["choices"][0]
    assert choice.text == plain["text"]
    assert "prompt_logprobs" not in plain


async def test_of_a_chat_with_the_template_around_it(scored: Scored) -> None:
    answer = await scored.ask(paths.CHAT_PATH, messages=MESSAGES, prompt_logprobs=2, max_tokens=2, n=2)
    document = ChatAnswer.model_validate(answer.json())
    assert_are_of(scored, document.prompt_logprobs, scored.served.tokenizer.encode_chat(MESSAGES), 2)
    assert len(document.choices) == 2
    plain = await scored.ask(paths.CHAT_PATH, messages=MESSAGES, max_tokens=2)
    assert "prompt_logprobs" not in plain.json()


async def test_nothing_need_be_generated(scored: Scored) -> None:
    answer = await scored.ask(prompt=TEXT, prompt_logprobs=1, max_tokens=0)
    (choice,) = CompletionAnswer.model_validate(answer.json()).choices
    ids = scored.served.tokenizer.encode(TEXT)
    assert_are_of(scored, choice.prompt_logprobs, ids, 1)
    assert (choice.text, choice.finish_reason) == ("", "length")
    receipt = scored.client.receipt(answer)
    assert (receipt.prompt_tokens, receipt.completion_tokens) == (len(ids), 0)


async def test_each_prompt_its_own_and_every_answer_to_it_the_same(scored: Scored) -> None:
    """A prompt is scored once, however many answers are wanted; one token follows nothing."""
    prompts = [scored.served.tokenizer.encode(TEXT), [7], scored.served.tokenizer.encode("five dozen jugs")]
    before = scored.served.engine.stats().prompt_tokens
    answer = await scored.ask(prompt=prompts, prompt_logprobs=1, max_tokens=1, n=3)
    choices = CompletionAnswer.model_validate(answer.json()).choices
    for index, choice in enumerate(choices):
        assert_are_of(scored, choice.prompt_logprobs, prompts[index // 3], 1)
    assert choices[3].prompt_logprobs == [None]
    assert scored.served.engine.stats().prompt_tokens - before <= 3 * sum(map(len, prompts))


async def test_beside_echo_each_has_as_many_alternatives_as_it_asked_for(scored: Scored) -> None:
    for logprobs, prompt_logprobs in ((1, 4), (4, 1)):
        asked = {"logprobs": logprobs, "prompt_logprobs": prompt_logprobs}
        answer = await scored.ask(prompt=TEXT, echo=True, max_tokens=0, **asked)
        (choice,) = CompletionAnswer.model_validate(answer.json()).choices
        ids = scored.served.tokenizer.encode(TEXT)
        assert_are_of(scored, choice.prompt_logprobs, ids, prompt_logprobs)
        assert choice.logprobs is not None
        assert choice.logprobs.top_logprobs is not None
        alone = await scored.ask(prompt=TEXT, echo=True, max_tokens=0, logprobs=logprobs)
        tops = alone.json()["choices"][0]["logprobs"]["top_logprobs"]
        assert [each and set(each) for each in choice.logprobs.top_logprobs] == [
            each and set(each) for each in tops
        ]
        assert choice.text == TEXT


async def test_from_a_place_on(scored: Scored) -> None:
    ids = [(7 * place) % 250 + 10 for place in range(120)]
    whole = (await scored.ask(prompt=ids, prompt_logprobs=0, max_tokens=0)).json()["choices"][0]
    before = scored.served.engine.stats().prompt_tokens
    part = await scored.ask(prompt=ids, prompt_logprobs=0, max_tokens=0, prompt_logprobs_from=112)
    assert scored.served.engine.stats().prompt_tokens - before < 30  # the rest was found in the prefix cache
    found = part.json()["choices"][0]["prompt_logprobs"]
    assert found[:112] == [None] * 112
    for one, other in zip(found[112:], whole["prompt_logprobs"][112:], strict=True):
        ((token, each),) = one.items()
        assert each["logprob"] == pytest.approx(other[token]["logprob"], abs=1e-4)


async def test_it_disturbs_nobody(scored: Scored) -> None:
    asked = {"prompt": "pack my box", "max_tokens": 12, "ignore_eos": True}
    alone = (await scored.ask(**asked)).json()["choices"][0]["text"]
    scoring = [scored.ask(prompt=TEXT, prompt_logprobs=20, max_tokens=1) for _ in range(3)]
    among, *scores = await asyncio.gather(scored.ask(**asked), *scoring)
    assert among.json()["choices"][0]["text"] == alone
    lengths = {len(answer.json()["choices"][0]["prompt_logprobs"]) for answer in scores}
    assert lengths == {len(scored.served.tokenizer.encode(TEXT))}


RULES: dict[str, tuple[dict[str, Any], str | None]] = {
    "streamed": ({"prompt_logprobs": 1, "stream": True}, None),
    "streamed, none": ({"prompt_logprobs": 0, "stream": True}, None),
    "too many": ({"prompt_logprobs": 21}, "prompt_logprobs"),
    "all, as vLLM would with -1": ({"prompt_logprobs": -1}, "prompt_logprobs"),
    "from nothing": ({"prompt_logprobs_from": 2}, None),
}


@pytest.mark.parametrize("path", [paths.COMPLETIONS_PATH, paths.CHAT_PATH])
@pytest.mark.parametrize("name", RULES)
async def test_what_is_refused(path: str, name: str) -> None:
    members, param = RULES[name]
    runtime = await StubRuntime.started(stub_engine())
    prompt = {"messages": MESSAGES} if path == paths.CHAT_PATH else {"prompt": "a"}
    answer = await runtime.client().call("POST", path, {"model": "stub", **prompt, **members})
    assert (answer.status, answer.error_code) == (400, "invalid_value")
    assert answer.json()["error"]["param"] == param
