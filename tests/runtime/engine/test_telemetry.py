"""The engine's own figures add up, whatever happens to its requests."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from runtime.engine.base import EngineRefusal, GenerateRequest, SamplingParams
from runtime.engine.chunked import ChunkedEngine
from runtime.engine.settings import EngineSettings
from runtime.engine.telemetry import Distribution, Histogram, Telemetry
from runtime.model.loaded import open_model
from tests.simulators.tiny_models import save_folder, tiny_config

TOKENS = 12


@pytest.fixture
async def engine(tmp_path: Path) -> ChunkedEngine:
    save_folder(tmp_path, tiny_config("llama"))
    engine = ChunkedEngine(
        open_model(tmp_path), EngineSettings(mode="float32", threads=1, kv_bytes=4 << 20, page_size=8)
    )
    await engine.start()
    return engine


def telemetry(engine: ChunkedEngine) -> Telemetry:
    figures = engine.stats().telemetry
    assert figures is not None
    return figures


async def ask(engine: ChunkedEngine, name: str, prompt: tuple[int, ...], stop_after: int = TOKENS) -> None:
    params = SamplingParams(TOKENS, temperature=0, ignore_eos=True)
    request = GenerateRequest(name, "tenant", prompt, params)
    async with contextlib.aclosing(engine.generate(request)) as outputs:
        count = 0
        async for _ in outputs:
            count += 1
            if count == stop_after:
                return


def test_a_histogram_counts_a_bound_with_what_is_below_it() -> None:
    histogram = Histogram((0.125, 0.25))
    for value in (0.0625, 0.125, 0.21875, 0.25, 5.0):
        histogram.observe(value)
    assert histogram.read() == Distribution((0.125, 0.25), (2, 2, 1), 5.65625)


async def test_each_token_counts_once_as_a_first_or_after_another(engine: ChunkedEngine) -> None:
    prompts = [tuple(range(5, 5 + length)) for length in (3, 20, 40)]
    await asyncio.gather(*(ask(engine, f"r{index}", prompt) for index, prompt in enumerate(prompts)))
    while not telemetry(engine).audits_passed:  # noqa: ASYNC110 an audit tells nobody that it ended
        await asyncio.sleep(0.005)
    await engine.stop()
    figures, stats = telemetry(engine), engine.stats()
    assert sum(figures.first_token.counts) == 3
    assert sum(figures.between_tokens.counts) == stats.completion_tokens - 3 == 3 * (TOKENS - 1)
    assert sum(figures.step.counts) == stats.steps
    assert figures.step_rows == stats.prompt_tokens + stats.completion_tokens - 3
    assert figures.budget_rows >= figures.step_rows
    # No request waited longer between tokens than all steps took.
    assert 0 < figures.between_tokens.total / 3 <= figures.step.total * 1.5 + 0.5
    assert figures.audits_passed > 0
    assert figures.audits_failed == 0


async def test_prefix_hits_are_counted_in_tokens_and_pages_come_back(engine: ChunkedEngine) -> None:
    prompt = tuple(range(5, 46))  # five whole pages and a token
    await ask(engine, "first", prompt)
    await ask(engine, "again", prompt)
    pages = telemetry(engine).pages
    assert pages is not None
    assert (pages.tokens_looked_up, pages.tokens_found) == (80, 40)
    assert pages.used == 0
    assert pages.cached > 0
    assert pages.cached <= pages.capacity
    await engine.stop()


async def test_refusals_are_counted_by_code_and_cancellations_are_none(engine: ChunkedEngine) -> None:
    with pytest.raises(EngineRefusal):
        await ask(engine, "empty", ())
    with pytest.raises(EngineRefusal):
        await ask(engine, "long", tuple(range(5, 300)) * 2)
    await ask(engine, "given up", (5, 6, 7), stop_after=2)
    assert telemetry(engine).refusals == {"invalid_parameter": 1, "context_length_exceeded": 1}
    waiting = asyncio.create_task(ask(engine, "stopped", (5, 6, 7)))
    await asyncio.sleep(0)
    await engine.stop()
    with contextlib.suppress(EngineRefusal):
        await waiting
    assert telemetry(engine).refusals.keys() <= {
        *("invalid_parameter", "context_length_exceeded", "engine_stopped")
    }
