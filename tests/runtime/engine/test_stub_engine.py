"""The stub obeys the same contract as an engine with a model."""

from __future__ import annotations

import asyncio
import time

import pytest

from runtime.engine.base import (
    Engine,
    EngineInfo,
    EngineRefusal,
    GenerateRequest,
    SamplingParams,
    TokenOutput,
)
from runtime.engine.stub import StubEngine, StubSettings


def request(tokens: int, logprobs: int | None = None) -> GenerateRequest:
    return GenerateRequest("r", "tenant", (1, 2), SamplingParams(tokens, logprobs=logprobs))


async def outputs(engine: Engine, asked: GenerateRequest) -> list[TokenOutput]:
    return [output async for output in engine.generate(asked)]


async def test_it_cycles_its_tokens_and_ends_as_told() -> None:
    engine = StubEngine(StubSettings(token_ids=(7, 8, 9), tokens=4))
    await engine.start()
    got = await outputs(engine, request(10))
    assert [each.token_id for each in got] == [7, 8, 9, 7]
    assert got[-1].finish_reason == "stop"
    got = await outputs(engine, request(2, logprobs=1))
    assert got[-1] == TokenOutput(8, 0.0, ((8, 0.0),), "length")
    stats = engine.stats()
    assert (stats.finished, stats.running, stats.prompt_tokens, stats.completion_tokens) == (2, 0, 4, 6)


async def test_it_keeps_its_pace() -> None:
    engine = StubEngine(StubSettings(first_token_s=0.05, token_interval_s=0.01))
    await engine.start()
    start = time.perf_counter()
    await outputs(engine, request(6))
    assert time.perf_counter() - start >= 0.099


async def test_cancelling_and_stopping_are_counted() -> None:
    engine = StubEngine(StubSettings(token_interval_s=0.005))
    with pytest.raises(EngineRefusal) as refusal:
        await outputs(engine, request(1))
    assert refusal.value.code == "engine_stopped"
    await engine.start()
    stream = engine.generate(request(100))
    await anext(stream)
    await stream.aclose()
    assert (engine.stats().cancelled, engine.stats().running) == (1, 0)
    task = asyncio.create_task(outputs(engine, request(100)))
    await asyncio.sleep(0.02)
    await engine.stop()
    with pytest.raises(EngineRefusal) as refusal:
        await task
    assert refusal.value.code == "engine_stopped"


async def test_it_refuses_what_an_engine_refuses() -> None:
    engine = StubEngine(info=EngineInfo("stub", "stub", 10, "none"))
    await engine.start()
    with pytest.raises(EngineRefusal) as refusal:
        await outputs(engine, request(9))
    assert refusal.value.code == "context_length_exceeded"
