"""What a client of embeddings does to answers that stream meanwhile. Prints one JSON object.

    python -m tests.bench.bench_embeddings_beside [--seconds 12] [--streams 4] [--threads 2] [--repeats 3]

So many answers stream from the embedded model; then the same beside a client that asks for embeddings without
end, once with the embedder's threads giving way and once with their being the engine's equals, in turns. Of
each: the time between two tokens, what both got done, and how many cores the process had, which tells a
machine that others used. Last, the embedder alone.
``sealgate model pull smollm2`` and ``minilm`` come first.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import time
from typing import Any, Final

from runtime import settings
from runtime.embed.embedder import Embedder, load_embedder
from runtime.engine.base import GenerateRequest, SamplingParams
from runtime.engine.chunked import ChunkedEngine
from runtime.engine.settings import EngineSettings
from runtime.model.loaded import open_model
from runtime.model.store import stored_model
from tests.bench.bench_embeddings import texts

TEXTS: Final = 32
PROMPT: Final = tuple(range(100, 132))
ANSWER: Final = 64
EQUAL: Final = 0
"""The niceness of everybody else."""


class Streams:
    """Answers without end; when each token came after the one before."""

    def __init__(self, engine: ChunkedEngine, count: int) -> None:
        self._engine = engine
        self._count = count
        self.gaps: list[float] = []

    async def run(self, seconds: float) -> None:
        """For so long, from the first token of all."""
        until = time.perf_counter() + seconds
        await asyncio.gather(*(self._one(index, until) for index in range(self._count)))

    async def _one(self, index: int, until: float) -> None:
        turn = 0
        while time.perf_counter() < until:
            turn += 1
            request = GenerateRequest(
                request_id=f"{index}.{turn}",
                tenant="bench",
                prompt_token_ids=(*PROMPT, 200 + index, turn % 1000),
                params=SamplingParams(max_tokens=ANSWER, temperature=0.0, ignore_eos=True),
            )
            last = None
            async with contextlib.aclosing(self._engine.generate(request)) as outputs:
                async for _ in outputs:
                    now = time.perf_counter()
                    if last is not None:
                        self.gaps.append(now - last)
                    if now > until:
                        return
                    last = now


async def embedding(embedder: Embedder, done: list[int]) -> None:
    """One client that asks again as soon as it was answered; counts tokens."""
    asked = texts(TEXTS)
    while True:
        await embedder.embed(asked, tenant="client")
        done.append(sum(map(len, asked)))


@contextlib.asynccontextmanager
async def started(threads: int, niceness: int) -> Any:
    """An embedder whose threads have this niceness."""
    embedder = load_embedder("minilm", threads=threads, niceness=niceness)
    await embedder.start()
    try:
        yield embedder
    finally:
        await embedder.stop()


async def measured(
    engine: ChunkedEngine, embedder: Embedder | None, *, streams: int, seconds: float
) -> dict[str, float]:
    """One turn."""
    done: list[int] = []
    client = None if embedder is None else asyncio.create_task(embedding(embedder, done))
    running, began, worked = Streams(engine, streams), time.perf_counter(), time.process_time()
    await (running.run(seconds) if streams else asyncio.sleep(seconds))
    took = time.perf_counter() - began
    if client is not None:
        client.cancel()
        await asyncio.gather(client, return_exceptions=True)
    cores = (time.process_time() - worked) / took
    return {**figures(running.gaps, took), "embedded_tokens_per_s": sum(done) / took, "cores": cores}


def figures(gaps: list[float], took: float) -> dict[str, float]:
    """Milliseconds between tokens, and tokens per second."""
    if not gaps:
        return {}
    ranked = statistics.quantiles(gaps, n=1000)
    return {
        "between_p50_ms": ranked[499] * 1000,
        "between_p99_ms": ranked[989] * 1000,
        "between_longest_ms": max(gaps) * 1000,
        "tokens_per_s": len(gaps) / took,
    }


def medians(turns: list[dict[str, float]]) -> dict[str, float]:
    """Of each figure."""
    return {name: round(statistics.median(turn[name] for turn in turns), 1) for name in turns[0]}


async def all_measured(options: argparse.Namespace) -> dict[str, Any]:
    """Everything."""
    engine = ChunkedEngine(
        open_model(stored_model(settings.home(), "smollm2").weights), EngineSettings(threads=options.threads)
    )
    await engine.start()
    turns: dict[str, list[dict[str, float]]] = {}
    async with started(options.threads, options.niceness) as polite, started(options.threads, EQUAL) as equal:
        ways: dict[str, tuple[Embedder | None, int]] = {
            "answers alone": (None, options.streams),
            "beside embeddings that give way": (polite, options.streams),
            "beside embeddings as equals": (equal, options.streams),
            "embeddings alone": (polite, 0),
        }
        await measured(engine, polite, streams=options.streams, seconds=2.0)  # warm
        for _ in range(options.repeats):
            for name, (embedder, streams) in ways.items():
                turn = await measured(engine, embedder, streams=streams, seconds=options.seconds)
                turns.setdefault(name, []).append(turn)
    await engine.stop()
    return {
        "threads": options.threads,
        "streams": options.streams,
        "seconds": options.seconds,
        "repeats": options.repeats,
        "niceness": options.niceness,
        **{name: medians(each) for name, each in turns.items()},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--niceness", type=int, default=10)
    print(json.dumps(asyncio.run(all_measured(parser.parse_args())), indent=1))


if __name__ == "__main__":
    main()
