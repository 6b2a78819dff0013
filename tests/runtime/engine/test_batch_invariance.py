"""What a greedy answer owes to its neighbours: nothing, by Sealgate's kernels; rounding, by torch's.

An answer is made alone, its prompt read whole, without a cache. Then it is made again among others of other
lengths, in pieces, with its prefix found in the cache, and the tokens and their log-probabilities are
compared. By Sealgate's kernels they are the same numbers in every mode. By torch's, where tokens differ, the
two must have been level within the rounding that the mode is stated to have; how many may is stated too. The
quick test does it on a random model, the long one on the embedded one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from runtime.engine.base import GenerateRequest, SamplingParams, TokenOutput
from runtime.engine.chunked import ChunkedEngine
from runtime.engine.run.runner import Kernels
from runtime.engine.schedule.budget import BudgetSettings
from runtime.engine.settings import EngineSettings
from runtime.model.loaded import OpenModel, open_model
from tests.simulators.tiny_models import save_folder, tiny_config

MODES = ("float32", "bf16", "int8")


@dataclass(frozen=True)
class Rounding:
    """What a mode's answers may owe to company.

    Args:
        logprob: natural-log units by which a token's log-probability may move.
        others: part of the answers that may be other tokens, each from a place where two were level.
    """

    logprob: float
    others: float


@dataclass
class Comparison:
    """Answers in company beside the same answers alone."""

    answers: int = 0
    equal: int = 0
    moved: float = 0.0
    """The largest move of a log-probability before any difference."""
    margins: tuple[float, ...] = ()
    """By how much the token led, alone, where another was chosen in company."""

    def add(self, alone: Sequence[TokenOutput], company: Sequence[TokenOutput]) -> None:
        """Compare one answer."""
        self.answers += 1
        for ours, theirs in zip(alone, company, strict=True):
            if ours.token_id != theirs.token_id:
                self.margins += (lead(ours),)
                return
            self.moved = max(self.moved, abs((ours.logprob or 0.0) - (theirs.logprob or 0.0)))
        self.equal += 1

    def __str__(self) -> str:
        margins = ", ".join(f"{margin:.1e}" for margin in self.margins)
        return f"{self.equal} of {self.answers} equal, moved by {self.moved:.1e}, level: [{margins}]"


def lead(output: TokenOutput) -> float:
    """By how much the likeliest token led the next."""
    tops = output.top_logprobs or ()
    return tops[0][1] - tops[1][1]


async def answer(engine: ChunkedEngine, name: str, prompt: Sequence[int], tokens: int) -> list[TokenOutput]:
    """Greedy, with the two likeliest tokens of each place."""
    params = SamplingParams(tokens, temperature=0, ignore_eos=True, logprobs=2)
    request = GenerateRequest(name, "tenant", tuple(prompt), params)
    return [output async for output in engine.generate(request)]


WAYS: dict[str, dict[str, Any]] = {
    "2 at once": {"max_running": 2, "prefix_cache": False},
    "8 at once": {"max_running": 8, "prefix_cache": False},
    "32 at once": {"max_running": 32, "prefix_cache": False},
    "pieces of 37": {"max_running": 16, "prefix_cache": False, "budget": BudgetSettings(step_rows=37)},
    "prefix found": {"max_running": 8, "prefix_cache": True},
}


async def compared(
    opened: OpenModel, base: EngineSettings, prompts: list[list[int]], tokens: int
) -> dict[str, Comparison]:
    """Each way's answers beside those made alone."""
    alone = await answers(opened, base, {"max_running": 1, "prefix_cache": False}, prompts, tokens)
    found: dict[str, Comparison] = {}
    for name, changes in WAYS.items():
        company = await answers(opened, base, changes, prompts, tokens)
        comparison = found[name] = Comparison()
        for ours, theirs in zip(alone, company, strict=True):
            comparison.add(ours, theirs)
    return found


async def answers(
    opened: OpenModel, base: EngineSettings, changes: dict[str, Any], prompts: list[list[int]], tokens: int
) -> list[list[TokenOutput]]:
    """All prompts at once on one engine; with a cache, for the second time."""
    chosen = {"max_running": 1, **changes}
    settings = dataclasses.replace(base, **chosen)
    engine = ChunkedEngine(opened, settings)
    await engine.start()
    if settings.prefix_cache:
        await asyncio.gather(*[answer(engine, f"before {i}", p, 1) for i, p in enumerate(prompts)])
    made = await asyncio.gather(*[answer(engine, str(i), p, tokens) for i, p in enumerate(prompts)])
    await engine.stop()
    return list(made)


def check(found: dict[str, Comparison], stated: Rounding) -> None:
    """What is stated holds in every way."""
    for name, each in found.items():
        print(f"{name}: {each}")  # noqa: T201 the run's figures, shown by -s or on failure
        assert each.answers - each.equal <= stated.others * each.answers, f"{name}: {each}"
        assert each.moved <= stated.logprob, f"{name}: {each}"
        assert all(margin <= 2 * stated.logprob for margin in each.margins), f"{name}: {each}"


NOTHING = Rounding(0.0, 0.0)
RANDOM_MODEL_BY_TORCH = {
    "float32": Rounding(1e-4, 0.0),
    "bf16": Rounding(1e-4, 0.0),
    "int8": Rounding(0.1, 0.0),
}


@pytest.mark.parametrize("mode", MODES)
async def test_a_random_model(tmp_path: Path, mode: Any, kernels: Kernels) -> None:
    """Small and quick: every way, every mode."""
    save_folder(tmp_path, tiny_config("llama"))
    random = torch.Generator().manual_seed(9)
    prompts = [
        torch.randint(3, 300, ((3, 17, 60, 130)[i % 4],), generator=random).tolist() for i in range(16)
    ]
    base = EngineSettings(mode, threads=1, kv_bytes=16 << 20, kernels=kernels)
    stated = NOTHING if kernels == "native" else RANDOM_MODEL_BY_TORCH[mode]
    check(await compared(open_model(tmp_path), base, prompts, 8), stated)


TEXT = " ".join(
    f"On day {day} the {who} of {where} {did} {count} {what}, {why}."
    for day, (who, where, did, count, what, why) in enumerate(
        itertools.islice(
            itertools.product(
                ("baker", "clerk", "pilot"),
                ("Oslo", "Lima"),
                ("counted", "sold"),
                (3, 70, 415),
                ("loaves", "letters"),
                ("for it was cold", "which nobody had asked for"),
            ),
            72,
        )
    )
)


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.usefixtures("native")
async def test_the_embedded_model(smollm2: OpenModel, mode: Any) -> None:
    """Thirty-two requests of 4 to 300 tokens, sixteen tokens each: no bit differs."""
    ids = smollm2.tokenizer.encode(TEXT)
    prompts = [ids[31 * i : 31 * i + (4, 40, 120, 300)[i % 4]] for i in range(32)]
    assert [len(prompt) for prompt in prompts[:4]] == [4, 40, 120, 300]
    base = EngineSettings(mode, kv_bytes=1 << 29, kernels="native")
    check(await compared(smollm2, base, prompts, 16), NOTHING)


def test_a_wrong_token_is_noticed() -> None:
    """A token that led by more than rounding, or a log-probability that moved by more."""
    stated = Rounding(0.01, 1.0)
    one = TokenOutput(5, -1.0, ((5, -1.0), (6, -1.5)))
    near = TokenOutput(5, -1.0, ((5, -1.0), (6, -1.01)))
    for alone, company in ((one, TokenOutput(6, -1.0)), (one, TokenOutput(5, -1.2))):
        comparison = Comparison()
        comparison.add([alone], [company])
        with pytest.raises(AssertionError):
            check({"way": comparison}, stated)
    comparison = Comparison()
    comparison.add([near], [TokenOutput(6, -1.0)])
    check({"way": comparison}, stated)
    with pytest.raises(AssertionError):
        check({"way": comparison}, Rounding(0.01, 0.0))
