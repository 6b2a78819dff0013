"""The engine's contract: limits, ends, preemption, scoring, guides, failures, and no content shown."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import torch

from runtime.engine.base import EngineRefusal, GenerateRequest, SamplingParams, TokenOutput
from runtime.engine.chunked import ChunkedEngine
from runtime.engine.lora.batch import LoraBatches
from runtime.engine.lora.shape import BaseShape
from runtime.engine.lora.store import AdapterStore
from runtime.engine.lora.tables import LoraTables
from runtime.engine.run.batch import Piece
from runtime.engine.schedule.budget import BudgetSettings
from runtime.engine.settings import EngineSettings
from runtime.model.loaded import OpenModel, open_model
from tests.simulators.tiny_models import save_folder, tiny_config


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> OpenModel:
    folder = tmp_path_factory.mktemp("model")
    save_folder(folder, tiny_config("llama"))
    return open_model(folder)


def made(opened: OpenModel, **changes: Any) -> ChunkedEngine:
    settings = {"mode": "float32", "threads": 1, "kv_bytes": 4 << 20, "page_size": 8, **changes}
    return ChunkedEngine(opened, EngineSettings(**settings))


@pytest.fixture
async def engine(loaded: OpenModel) -> AsyncIterator[ChunkedEngine]:
    engine = made(loaded)
    await engine.start()
    yield engine
    await engine.stop()


def request(
    name: str = "r",
    *,
    prompt: tuple[int, ...] = (5, 6, 7),
    tokens: int = 20,
    adapter: str | None = None,
    **changes: Any,
) -> GenerateRequest:
    params = SamplingParams(**{"max_tokens": tokens, "temperature": 0, "ignore_eos": True, **changes})
    return GenerateRequest(name, "tenant", prompt, params, adapter_digest=adapter)


async def outputs(engine: ChunkedEngine, asked: GenerateRequest) -> list[TokenOutput]:
    return [output async for output in engine.generate(asked)]


async def until(holds: Callable[[], bool]) -> None:
    """Wait for another thread's doing, at most two seconds of a busy machine."""
    for _ in range(200):
        if holds():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it did not come about")


async def test_info_says_what_it_is(engine: ChunkedEngine, loaded: OpenModel) -> None:
    info = engine.info
    assert (info.backend, info.model_name, info.context_length, info.dtype) == (
        "sealgate",
        loaded.name,
        512,
        "float32",
    )


async def test_length_ends_with_the_last_token(engine: ChunkedEngine) -> None:
    got = await outputs(engine, request(tokens=4))
    assert [each.finish_reason for each in got] == [None, None, None, "length"]
    assert (await outputs(engine, request(tokens=1)))[0].finish_reason == "length"


async def test_stop_tokens_end_as_the_models_own_do(engine: ChunkedEngine) -> None:
    everything = [each.token_id for each in await outputs(engine, request())]
    stop = everything[3]
    got = await outputs(engine, request(stop_token_ids=(stop,)))
    assert [each.token_id for each in got] == everything[: everything.index(stop) + 1]
    assert got[-1].finish_reason == "stop"


async def test_the_last_position_of_the_context_is_usable_and_the_next_refused(engine: ChunkedEngine) -> None:
    prompt = tuple(3 + i % 200 for i in range(500))
    assert len(await outputs(engine, request(prompt=prompt, tokens=12))) == 12
    with pytest.raises(EngineRefusal) as refusal:
        await outputs(engine, request(prompt=prompt, tokens=13))
    assert refusal.value.code == "context_length_exceeded"
    assert "500" in refusal.value.detail


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (request(prompt=()), "invalid_parameter"),
        (request(prompt=(320,)), "invalid_parameter"),
        (request(prompt=(-1,)), "invalid_parameter"),
        (request(adapter="sha256:" + "0" * 64), "adapter_not_found"),
    ],
)
async def test_what_cannot_run_is_refused_and_counted_nowhere(
    engine: ChunkedEngine, asked: GenerateRequest, code: str
) -> None:
    with pytest.raises(EngineRefusal) as refusal:
        await outputs(engine, asked)
    assert refusal.value.code == code
    assert engine.stats().running == engine.stats().failed == engine.stats().steps == 0


async def test_a_seed_repeats_alone_and_in_company(engine: ChunkedEngine) -> None:
    asked = {"temperature": 1.0, "seed": 42, "tokens": 15}
    alone = [each.token_id for each in await outputs(engine, request(**asked))]
    crowd = await asyncio.gather(
        outputs(engine, request("same", **asked)),
        *[outputs(engine, request(str(i), prompt=(9,) * (i + 1), temperature=1.0)) for i in range(5)],
    )
    assert [each.token_id for each in crowd[0]] == alone


async def test_logprobs_are_of_the_tokens_handed_out(engine: ChunkedEngine) -> None:
    got = await outputs(engine, request(logprobs=3, tokens=5))
    for each in got:
        assert each.top_logprobs is not None
        assert each.top_logprobs[0] == (each.token_id, each.logprob)
        assert len(each.top_logprobs) == 3


async def test_cancelling_frees_the_cache_and_the_place(engine: ChunkedEngine) -> None:
    stream = engine.generate(request(tokens=500))
    await anext(stream)
    await stream.aclose()
    assert engine.stats().running == 0
    assert engine.stats().cancelled == 1
    pool = engine._scheduler.pool
    await until(lambda: pool.free + engine._scheduler.cache.idle == pool.usable)  # after the step under way
    engine.verify()
    handed_out = engine.stats().completion_tokens
    await asyncio.sleep(0.05)
    assert engine.stats().completion_tokens == handed_out


async def test_cancelling_the_task_and_while_waiting_frees_too(loaded: OpenModel) -> None:
    engine = made(loaded, max_running=1)
    await engine.start()
    running = asyncio.create_task(outputs(engine, request("running", tokens=500)))
    waiting = asyncio.create_task(outputs(engine, request("waiting", tokens=500)))
    await until(lambda: engine.stats().completion_tokens > 0)
    assert (engine.stats().running, engine.stats().waiting) == (1, 1)
    for task in (waiting, running):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await until(lambda: engine.stats().running == engine.stats().waiting == 0)
    assert engine.stats().cancelled == 2
    assert len(await outputs(engine, request("after"))) == 20
    await engine.stop()


async def test_one_cancelled_sequence_leaves_the_others_alone(engine: ChunkedEngine) -> None:
    expected = await outputs(engine, request("alone", tokens=60))

    async def give_up(name: str) -> None:
        stream = engine.generate(request(name, prompt=(8,) * 90, tokens=300))
        await anext(stream)
        await stream.aclose()

    got, *_ = await asyncio.gather(
        outputs(engine, request("kept", tokens=60)), *[give_up(str(index)) for index in range(6)]
    )
    assert [each.token_id for each in got] == [each.token_id for each in expected]


async def test_overload_is_refused_at_once(loaded: OpenModel) -> None:
    engine = made(loaded, max_running=1, max_waiting=1)
    await engine.start()
    tasks = [asyncio.create_task(outputs(engine, request("0", tokens=300)))]
    await until(lambda: engine.stats().running > 0)
    tasks.append(asyncio.create_task(outputs(engine, request("1", tokens=1))))
    await asyncio.sleep(0)
    with pytest.raises(EngineRefusal) as refusal:
        await outputs(engine, request("2"))
    assert refusal.value.code == "engine_overloaded"
    with pytest.raises(EngineRefusal) as refusal:
        await outputs(engine, request("0"))
    assert refusal.value.code in ("duplicate_request", "engine_overloaded")
    await asyncio.gather(*tasks)
    await engine.stop()


async def test_stopping_ends_everyone_with_a_code(loaded: OpenModel) -> None:
    engine = made(loaded, max_running=1)
    with pytest.raises(EngineRefusal) as refusal:
        await outputs(engine, request())  # before start
    assert refusal.value.code == "engine_stopped"
    await engine.start()
    with pytest.raises(RuntimeError, match="runs already"):
        await engine.start()
    tasks = [asyncio.create_task(outputs(engine, request(str(index), tokens=500))) for index in range(3)]
    await until(lambda: engine.stats().completion_tokens > 0)
    await engine.stop()
    await engine.stop()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, EngineRefusal)
        assert result.code == "engine_stopped"
    with pytest.raises(EngineRefusal) as refusal:
        await outputs(engine, request())
    assert refusal.value.code == "engine_stopped"
    assert not [thread for thread in threading.enumerate() if thread.name == "engine"]


async def test_a_fault_of_the_model_ends_the_step_not_the_engine(
    engine: ChunkedEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The error's text may quote content: neither the refusal nor the log repeats it."""
    with monkeypatch.context() as patched:

        def broken(*_arguments: Any) -> torch.Tensor:
            raise RuntimeError("canary-91c2")

        patched.setattr(engine.runner, "forward", broken)
        with caplog.at_level(logging.DEBUG), pytest.raises(EngineRefusal) as refusal:
            await outputs(engine, request())
    assert refusal.value.code == "engine_failed"
    assert "canary" not in caplog.text + str(refusal.value)
    assert "RuntimeError" in caplog.text
    assert engine.stats().failed == 1
    assert len(await outputs(engine, request())) == 20


async def test_logits_that_are_no_numbers_fail_their_sequence_only(
    engine: ChunkedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = engine.runner.logits

    def half_broken(hidden: torch.Tensor) -> torch.Tensor:
        logits = original(hidden).clone()
        if len(logits) > 1:
            logits[0] = torch.nan
        return logits

    monkeypatch.setattr(engine.runner, "logits", half_broken)
    results = await asyncio.gather(
        outputs(engine, request("a", tokens=200)),
        outputs(engine, request("b", tokens=200)),
        return_exceptions=True,
    )
    refused = [each for each in results if isinstance(each, EngineRefusal)]
    assert [each.code for each in refused] == ["engine_failed"]
    assert [len(each) for each in results if isinstance(each, list)] == [200]


async def test_counters_count(engine: ChunkedEngine) -> None:
    await outputs(engine, request(prompt=tuple(range(3, 33)), tokens=7))
    stats = engine.stats()
    assert (stats.prompt_tokens, stats.completion_tokens, stats.finished) == (30, 7, 1)
    assert (stats.running, stats.waiting, stats.cancelled, stats.failed) == (0, 0, 0, 0)
    assert stats.steps == 7


async def test_a_long_prompt_leaves_others_their_pace(loaded: OpenModel) -> None:
    """Between two tokens of a decoding sequence lies at most one piece of another's prompt."""
    engine = made(loaded, max_running=8, budget=BudgetSettings(step_rows=17))
    await engine.start()
    short = engine.generate(request("short", tokens=100))
    await anext(short)
    long = asyncio.create_task(outputs(engine, request("long", prompt=(9,) * 320, tokens=1)))
    tokens_before = engine.stats().completion_tokens
    await long
    assert engine.stats().completion_tokens - tokens_before >= 18  # 320 / 16 steps, each with a token
    await short.aclose()
    await engine.stop()


async def test_the_event_loop_stays_free(engine: ChunkedEngine) -> None:
    """The model runs on its own thread: a timer beside it keeps its time."""
    task = asyncio.create_task(outputs(engine, request(tokens=300)))
    worst = 0.0
    while not task.done():
        start = time.perf_counter()
        await asyncio.sleep(0.005)
        worst = max(worst, time.perf_counter() - start)
    assert worst < 0.5


def test_a_consumer_whose_loop_is_gone_harms_nobody(loaded: OpenModel) -> None:
    """An event loop that ends in the middle of a generation, as a crashed server thread's would."""
    engine = made(loaded)
    asyncio.run(engine.start())

    async def abandon() -> Any:
        stream = engine.generate(request("abandoned", tokens=400))
        await anext(stream)
        return stream

    loop = asyncio.new_event_loop()
    stream = loop.run_until_complete(abandon())
    loop.close()

    async def go_on() -> int:
        got = await outputs(engine, request("after"))
        await engine.stop()
        return len(got)

    assert asyncio.run(go_on()) == 20
    asyncio.run(stream.aclose())
    assert engine.stats().running == 0


def test_nothing_shown_holds_tokens(loaded: OpenModel) -> None:
    asked = request(prompt=(123, 234))
    shown = repr(asked) + repr(TokenOutput(123, -0.5, ((234, -0.5),), "stop")) + repr(made(loaded))
    assert "123" not in shown
    assert "234" not in shown


async def test_pages_run_out_and_nobody_notices(loaded: OpenModel) -> None:
    """Six sequences over pages for about two: the later ones give theirs up and run again."""
    names = [request(str(i), prompt=tuple(range(3 + i, 40 + i)), tokens=60) for i in range(6)]
    roomy = made(loaded)
    await roomy.start()
    expected = [[each.token_id for each in await outputs(roomy, asked)] for asked in names]
    await roomy.stop()
    page = 3 * 8 * 2 * 2 * 16 * 4
    engine = made(loaded, kv_bytes=page * 30, prefix_cache=False)
    await engine.start()
    got = await asyncio.gather(*[outputs(engine, asked) for asked in names])
    assert [[each.token_id for each in one] for one in got] == expected
    assert engine.stats().preemptions > 0
    engine.verify()
    await engine.stop()


async def test_a_prompt_seen_before_is_found(engine: ChunkedEngine) -> None:
    """By its own tenant and label only; the answer is the same."""
    prompt = tuple(range(3, 103))
    first = await outputs(engine, request("a", prompt=prompt))
    assert engine.stats().prompt_tokens == 100
    second = await outputs(engine, request("b", prompt=prompt))
    assert engine.stats().prompt_tokens < 110
    stranger = dataclasses.replace(request("c", prompt=prompt), tenant="stranger")
    third = await outputs(engine, stranger)
    assert engine.stats().prompt_tokens > 200
    assert len({tuple(each.token_id for each in one) for one in (first, second, third)}) == 1


async def test_a_deadline_ends_a_sequence(engine: ChunkedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast the machine: each token takes two milliseconds more."""
    sound = engine.runner.logits

    def slow(hidden: torch.Tensor) -> torch.Tensor:
        time.sleep(0.002)
        return sound(hidden)

    monkeypatch.setattr(engine.runner, "logits", slow)
    asked = dataclasses.replace(request(tokens=500), deadline=time.monotonic() + 0.2)
    with pytest.raises(EngineRefusal) as refusal:
        await outputs(engine, asked)
    assert refusal.value.code == "deadline_exceeded"
    assert engine.stats().failed == 1
    past = dataclasses.replace(request(), deadline=time.monotonic() - 1)
    with pytest.raises(EngineRefusal) as refusal:
        await outputs(engine, past)
    assert refusal.value.code == "deadline_exceeded"


async def test_urgent_requests_go_first(loaded: OpenModel) -> None:
    engine = made(loaded, max_running=1)
    await engine.start()
    order: list[str] = []

    async def run(name: str, priority: int) -> None:
        await outputs(engine, dataclasses.replace(request(name), priority=priority))
        order.append(name)

    running = asyncio.create_task(outputs(engine, request("first", tokens=100)))
    await until(lambda: engine.stats().running == 1)
    later = [asyncio.create_task(run(name, priority)) for name, priority in (("plain", 0), ("urgent", 5))]
    await asyncio.gather(running, *later)
    assert order == ["urgent", "plain"]
    await engine.stop()


@pytest.mark.parametrize("first", [1, 30])
async def test_what_the_model_thinks_of_a_prompt(loaded: OpenModel, first: int) -> None:
    """In pieces of a prompt, from any token on, whatever the prefix cache holds: as it is in one pass."""
    prompt = tuple(3 + (7 * i) % 290 for i in range(90))
    engine = made(loaded, max_running=4, budget=BudgetSettings(step_rows=32))
    await engine.start()
    await outputs(engine, request("before", prompt=prompt))
    got = await outputs(
        engine, request(prompt=prompt, tokens=2, prompt_logprobs=2, prompt_logprobs_from=first)
    )
    pieces = Piece(prompt, 0, list(range(1, 13)), 90)
    cache = engine.runner.cache(13, 8)
    with torch.inference_mode():
        batch = engine.runner.batch([pieces], cache)
        logits = engine.runner.logits(engine.runner.forward(batch, cache))
    await engine.stop()
    expected = torch.log_softmax(logits.double(), dim=1)
    scored = got[0].prompt_logprobs
    assert scored is not None
    assert len(scored) == 90 - first
    assert got[1].prompt_logprobs is None
    for offset, (logprob, _, top) in enumerate(scored):
        position = first + offset
        assert logprob == pytest.approx(float(expected[position - 1, prompt[position]]), abs=1e-3)
        assert top[0][1] == pytest.approx(float(expected[position - 1].max()), abs=1e-3)
        assert len(top) == 2


class Only:
    """A guide that allows the given tokens, one after the other."""

    def __init__(self, *tokens: int) -> None:
        self.tokens = list(tokens)

    def allowed(self) -> bytes | None:
        """See ``TokenGuide``."""
        mask = bytearray(40)
        if self.tokens:
            mask[self.tokens[0] // 8] |= 1 << self.tokens[0] % 8
        return bytes(mask)

    def advance(self, token_id: int) -> None:
        """See ``TokenGuide``."""
        assert token_id == self.tokens.pop(0)


async def test_a_guide_keeps_the_form(engine: ChunkedEngine) -> None:
    """Of its own request only; and one that allows nothing ends it with a code."""
    free = [each.token_id for each in await outputs(engine, request("free", tokens=3))]
    guided = dataclasses.replace(request("guided", tokens=3, temperature=1.0), guide=Only(9, 200, 31))
    stuck = dataclasses.replace(request("stuck", tokens=3), guide=Only(9))
    got, others, failed = await asyncio.gather(
        outputs(engine, guided),
        outputs(engine, request("neighbour", tokens=3)),
        outputs(engine, stuck),
        return_exceptions=True,
    )
    assert not isinstance(got, BaseException)
    assert not isinstance(others, BaseException)
    assert [each.token_id for each in got] == [9, 200, 31]
    assert [each.token_id for each in others] == free
    assert isinstance(failed, EngineRefusal)
    assert failed.code == "guide_failed"


async def test_an_adapter_runs_and_is_given_back(loaded: OpenModel) -> None:
    """Leased before the first step, applied to its own rows only, released when the sequence has ended."""
    shape = BaseShape.of(loaded.architecture)
    tables = LoraTables(shape, 8, torch.float32)
    store = AdapterStore(tables, base_model_digest=loaded.base_model_digest, budget_bytes=1 << 20)
    settings = EngineSettings(mode="float32", threads=1, kv_bytes=4 << 20)
    engine = ChunkedEngine(loaded, settings, adapters=(store, LoraBatches(tables)))
    await engine.start()
    plain = [each.token_id for each in await outputs(engine, request("plain"))]
    with pytest.raises(EngineRefusal) as refusal:
        await outputs(engine, request(adapter="sha256:" + "1" * 64))
    assert refusal.value.code == "adapter_not_found"
    again = [each.token_id for each in await outputs(engine, request("again"))]
    assert plain == again
    await engine.stop()
    store.close()


async def test_books_that_do_not_balance_stop_the_engine(
    engine: ChunkedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    await outputs(engine, request())
    engine._scheduler.pool.take()  # a page that nobody knows of
    with caplog.at_level(logging.ERROR):
        await outputs(engine, request("last"))
        await until(lambda: engine._stopping)
    assert "do not balance" in caplog.text
    with pytest.raises(EngineRefusal) as refusal:
        await outputs(engine, request("after"))
    assert refusal.value.code == "engine_stopped"
