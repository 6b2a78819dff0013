"""Two hundred prompts and more through the embedded model, beside transformers as it is installed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from runtime.engine.base import GenerateRequest, SamplingParams
from runtime.engine.chunked import ChunkedEngine
from runtime.engine.run.native.library import available
from runtime.engine.run.weights import has_bfloat16
from runtime.engine.schedule.budget import BudgetSettings
from runtime.engine.settings import EngineSettings
from runtime.model.loaded import OpenModel
from tests.oracles.greedy_transformers import QUESTIONS, TEXTS, TOKENS
from tests.simulators.greedy_answers import (
    Difference,
    Known,
    differences,
    generated,
    load,
    transformers_model,
    wrong,
)

pytestmark = [pytest.mark.slow, pytest.mark.model]

PROMPTS = 208
NEW_TOKENS = 8
LENGTHS = (6, 24, 80, 200)
NEAR_TIE_IN_HALF_WIDTH = 5e-3
"""What float16 keys and values may move a logit by; measured: one answer went where a token led by 2.2e-3."""
MOST_NEAR_TIES = 2
"""Of the 208 answers of a way."""
POSITION = 30 * 2 * 3 * 64 * 4
"""Bytes of one position's keys and values."""
WHOLE = EngineSettings("float32", max_running=32, prefix_cache=False)
WAYS = {
    "mixed": WHOLE,
    "chunked": replace(WHOLE, max_running=16, budget=BudgetSettings(step_rows=49)),
    "prefix hits": replace(WHOLE, max_running=16, prefix_cache=True),
    "preempted": replace(WHOLE, kv_bytes=POSITION * 320, page_size=1),
    "alone": replace(WHOLE, max_running=1),
}


@pytest.fixture(scope="module")
def reference(smollm2_file: Path) -> Any:
    return transformers_model(smollm2_file)


@pytest.fixture(scope="module")
def prompts(smollm2: OpenModel) -> list[list[int]]:
    """Of 6 to 200 tokens, cut from given text."""
    text = " ".join(QUESTIONS + TEXTS) + str(asyncio.__doc__) + (transformers.__doc__ or "")
    text += Path(asyncio.__file__).with_name("base_events.py").read_text()[:20_000]
    ids = smollm2.tokenizer.encode(text)
    random = torch.Generator().manual_seed(11)
    cut: list[list[int]] = []
    for length in LENGTHS:
        starts = torch.randint(0, len(ids) - length, (PROMPTS // len(LENGTHS),), generator=random).tolist()
        cut += [ids[start : start + length] for start in starts]
    return cut


def mixed(model: Any, prompts: list[list[int]]) -> list[Known]:
    """Transformers answers those of a length together; then they are shuffled."""
    known: list[Known] = []
    for length in LENGTHS:
        known += generated(model, [prompt for prompt in prompts if len(prompt) == length], NEW_TOKENS)
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(12)).tolist()
    return [known[index] for index in order]


@pytest.fixture(scope="module")
def many(reference: Any, prompts: list[list[int]]) -> list[Known]:
    return mixed(reference, prompts)


@dataclass(frozen=True)
class Run:
    """What an engine did with many prompts.

    Args:
        found: answers that go another way.
        read: prompt tokens that were not found in the cache.
        preemptions: sequences whose pages were taken back.
    """

    found: list[Difference]
    read: int
    preemptions: int

    def shown(self, name: str, count: int) -> str:
        """The figures."""
        levels = ", ".join(f"{each.margin:.1e}" for each in self.found)
        return (
            f"{name}: {count - len(self.found)} of {count} equal, where not the token led by [{levels}]; "
            f"{self.read} prompt tokens read, {self.preemptions} preemptions"
        )


async def run(opened: OpenModel, settings: EngineSettings, many: list[Known]) -> Run:
    """All at once through one engine; with a cache every prompt but its last tokens has been read before."""
    engine = ChunkedEngine(opened, settings)
    await engine.start()
    if settings.prefix_cache:
        await asyncio.gather(
            *[answer(engine, f"before {i}", each.prompt[:-3], 1) for i, each in enumerate(many)]
        )
    before = engine.stats()
    outputs = await asyncio.gather(*[answer(engine, str(i), each.prompt) for i, each in enumerate(many)])
    stats = engine.stats()
    engine.verify()
    await engine.stop()
    read = stats.prompt_tokens - before.prompt_tokens
    return Run(differences(outputs, many), read, stats.preemptions)


async def answer(engine: ChunkedEngine, name: str, prompt: list[int], tokens: int = NEW_TOKENS) -> list[int]:
    params = SamplingParams(tokens, temperature=0, ignore_eos=True)
    request = GenerateRequest(name, "tenant", tuple(prompt), params)
    return [output.token_id async for output in engine.generate(request)]


@pytest.mark.parametrize("way", WAYS)
async def test_hundreds_of_prompts(smollm2: OpenModel, many: list[Known], way: str) -> None:
    if way == "preempted":  # the short first: many start together, and all of them grow
        many = sorted(many, key=lambda known: len(known.prompt))
    done = await run(smollm2, WAYS[way], many)
    print(done.shown(way, len(many)))  # noqa: T201 the run's figures, shown by -s or on failure
    assert not wrong(done.found)
    assert len(done.found) <= MOST_NEAR_TIES
    if way == "prefix hits":
        assert done.read < sum(len(known.prompt) for known in many) / 3
    if way == "preempted":
        assert done.preemptions > 0


async def test_hundreds_of_prompts_in_half_width(
    smollm2: OpenModel, smollm2_file: Path, prompts: list[list[int]]
) -> None:
    """Transformers with its matrices rounded to float16, which is what ``bf16`` computes with here.

    Keys and values are in float16 too, which transformers' are not. Measured: 207 of 208 answers equal.
    """
    if has_bfloat16(torch.device("cpu")) and not available():
        pytest.skip("activations are bfloat16 too on this processor: other sums than transformers'")
    many = mixed(transformers_model(smollm2_file, half=True), prompts)
    done = await run(smollm2, replace(WHOLE, mode="bf16"), many)
    print(done.shown("bf16", len(many)))  # noqa: T201 likewise
    assert not wrong(done.found, NEAR_TIE_IN_HALF_WIDTH)
    assert len(done.found) <= MOST_NEAR_TIES


AGREEMENT_IN_INT8 = 0.78 if available() else 0.4
"""Part of the answers of eight tokens that quantisation leaves as they are, at least. Measured: 0.81 (169 of
208) by Sealgate's kernels, whose activations have 16 bits; 0.44 by torch's, whose have 8."""


async def test_hundreds_of_prompts_in_int8(smollm2: OpenModel, many: list[Known]) -> None:
    """Another model by its weights: transformers has no such, so what is stated is how much it agrees."""
    done = await run(smollm2, replace(WHOLE, mode="int8"), many)
    print(done.shown("int8", len(many)))  # noqa: T201 likewise
    assert len(done.found) <= (1 - AGREEMENT_IN_INT8) * len(many)


def test_what_is_stored_is_what_transformers_says(reference: Any) -> None:
    """The default suite's answers, made anew."""
    stored = load().answers
    again = [generated(reference, [each.prompt], TOKENS)[0] for each in stored]
    assert [each.tokens for each in again] == [each.tokens for each in stored]
