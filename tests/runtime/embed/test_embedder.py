"""Turns, bounds and endings of the embedding model's work, on a model of random weights."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import torch

from runtime.embed import embedder as module
from runtime.embed.embedder import Embedder
from runtime.engine.base import EngineRefusal
from tests.simulators.tiny_encoders import tiny_embedder

LONG = [2, *range(5, 25), 3]
SHORT = [2, 7, 3]


class Gated:
    """The encoder, letting passes through one at a time and writing down what each was given."""

    def __init__(self, embedder: Embedder) -> None:
        self._encoder = embedder._encoder
        self.passes: list[int] = []
        self._gate = threading.Semaphore(0)
        embedder._encoder = self  # type: ignore[assignment]  # the one method that is called

    def embed(self, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        """As the encoder, once it may."""
        self.passes.append(sum(map(len, texts)))
        self._gate.acquire(timeout=5)
        return self._encoder.embed(texts)

    def let(self, passes: int) -> None:
        """So many more may pass."""
        self._gate.release(passes)


@pytest.fixture
async def embedder(tmp_path: Path) -> AsyncIterator[Embedder]:
    made = tiny_embedder(tmp_path)
    await made.start()
    yield made
    await made.stop()


async def until(holds: object) -> None:
    async with asyncio.timeout(5):
        while not holds():  # type: ignore[operator]  # noqa: ASYNC110 - a list in another thread has no events
            await asyncio.sleep(0.001)


async def test_one_long_request_delays_others_by_one_piece(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE_TOKENS", 50)
    gated = Gated(embedder)
    long = asyncio.create_task(embedder.embed([LONG] * 7, tenant="a"))
    await until(lambda: gated.passes)
    short = asyncio.create_task(embedder.embed([SHORT], tenant="b"))
    await asyncio.sleep(0)
    gated.let(2)
    await short
    assert not long.done()
    gated.let(10)
    vectors = await long
    assert len(vectors) == 7
    assert gated.passes == [44, 3, 44, 44, 22]


async def test_what_a_vector_is_does_not_depend_on_other_requests(embedder: Embedder) -> None:
    alone = await embedder.embed([LONG, SHORT], tenant="a")
    others = [embedder.embed([SHORT] * count, tenant=str(count)) for count in (1, 5, 9)]
    among, *_ = await asyncio.gather(embedder.embed([LONG, SHORT], tenant="a"), *others)
    assert among == alone


async def test_who_hangs_up_gives_the_rest_of_the_work_up(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE_TOKENS", 22)
    gated = Gated(embedder)
    task = asyncio.create_task(embedder.embed([LONG] * 100, tenant="a"))
    await until(lambda: gated.passes)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gated.let(1000)
    assert len(await embedder.embed([SHORT], tenant="a")) == 1
    assert gated.passes == [22, 3]


async def test_too_much_waiting_is_refused_at_once_and_one_tenant_cannot_fill_it(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TENANT_WAITING_TOKENS", 50)
    monkeypatch.setattr(module, "MAX_WAITING_TOKENS", 100)
    gated = Gated(embedder)
    running = [asyncio.create_task(embedder.embed([LONG] * 2, tenant="a"))]
    await until(lambda: gated.passes)
    with pytest.raises(EngineRefusal) as refused:
        await embedder.embed([LONG], tenant="a")
    assert refused.value.code == "engine_overloaded"
    assert refused.value.retry_after
    running.append(asyncio.create_task(embedder.embed([LONG] * 2, tenant="b")))
    await asyncio.sleep(0)
    with pytest.raises(EngineRefusal) as refused:
        await embedder.embed([LONG], tenant="c")
    assert refused.value.code == "engine_overloaded"
    running.append(asyncio.create_task(embedder.embed([SHORT], tenant="c")))
    await asyncio.sleep(0)
    gated.let(10)
    assert [len(vectors) for vectors in await asyncio.gather(*running)] == [2, 2, 1]


async def test_a_failed_pass_fails_its_own_request(embedder: Embedder) -> None:
    with pytest.raises(EngineRefusal) as refused:
        await embedder.embed([[4000]], tenant="a")  # no row of the embedding; the API refuses such ids
    assert refused.value.code == "engine_failed"
    assert len(await embedder.embed([SHORT], tenant="a")) == 1


async def test_a_vector_that_is_no_number_fails(embedder: Embedder) -> None:
    embedder._encoder._words[7] = torch.nan
    with pytest.raises(EngineRefusal) as refused:
        await embedder.embed([SHORT], tenant="a")
    assert refused.value.code == "engine_failed"


async def test_stopping_ends_what_waits(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE_TOKENS", 22)
    gated = Gated(embedder)
    task = asyncio.create_task(embedder.embed([LONG] * 3, tenant="a"))
    await until(lambda: gated.passes)
    stopping = asyncio.create_task(embedder.stop())
    await asyncio.sleep(0.01)
    gated.let(1)
    await stopping
    with pytest.raises(EngineRefusal) as refused:
        await task
    assert refused.value.code == "engine_stopped"
    with pytest.raises(EngineRefusal) as refused:
        await embedder.embed([SHORT], tenant="a")
    assert refused.value.code == "engine_stopped"


async def test_figures_add_up_however_a_request_ends(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TENANT_WAITING_TOKENS", 50)
    gated = Gated(embedder)
    given_up = asyncio.create_task(embedder.embed([LONG] * 2, tenant="a"))
    await until(lambda: gated.passes)
    with pytest.raises(EngineRefusal):
        await embedder.embed([LONG], tenant="a")
    assert embedder.figures().waiting == 1
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    gated.let(100)
    await embedder.embed([LONG, SHORT], tenant="a")
    with pytest.raises(EngineRefusal):
        await embedder.embed([[4000]], tenant="a")
    figures = embedder.figures()
    assert figures.waiting == 0
    assert figures.requests == {"finished": 1, "cancelled": 1, "failed": 1}
    assert figures.refusals == {"engine_overloaded": 1, "engine_failed": 1}
    assert (figures.texts, figures.tokens) == (4, 3 * len(LONG) + len(SHORT))
    assert sum(figures.request_s.counts) == 1
    assert sum(figures.pass_s.counts) == 2
    assert figures.self_check.worst_error < 1


async def test_its_threads_give_way_to_those_of_the_process(embedder: Embedder) -> None:
    """To the engine's, that is: by as much as was asked for, and those of nobody else."""
    seen: list[int] = []
    vectors = embedder._vectors

    def watched(piece: list[Sequence[int]]) -> list[list[float]]:
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return vectors(piece)

    embedder._vectors = watched  # type: ignore[method-assign]  # on the thread that makes the passes
    before = os.getpriority(os.PRIO_PROCESS, 0)
    await embedder.embed([SHORT], tenant="a")
    assert seen == [min(before + module.NICENESS, 19)]
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
