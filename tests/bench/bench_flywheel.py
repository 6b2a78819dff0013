"""Time between tokens on the real engine while long prompts intrude, chunking on and off. Prints JSON.

Run: python -m tests.bench.bench_flywheel [--seconds 50] [--mode bf16] [--part both|between|capacity]

Three profiles share one engine (many tokens out, many in, both: 200/1,000, 1,500/100 and 500/500 tokens,
divided by ``--divide``), and every few seconds a long prompt intrudes. Users send their next request some
seconds after the last one ended, so that the machine is busy and not drowned; both ways have the same dice.
Chunking off puts no bound on a step: every waiting prompt is read whole, as soon as there is a place.

    between    milliseconds between two tokens of a stream as its consumer sees them, and to the first
    timeline   per second, the longest wait of any stream: what the plot shows
    capacity   tokens per second, in and out, while a fixed lot that waits from the start is served
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import os
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

from runtime.engine.base import GenerateRequest, SamplingParams
from runtime.engine.chunked import ChunkedEngine
from runtime.engine.schedule.budget import BudgetSettings
from runtime.engine.settings import EngineSettings
from runtime.model.loaded import open_model

BUDGETS = {
    "chunked": BudgetSettings(),
    "whole": BudgetSettings(step_rows=1 << 16, stretch=math.inf),
}
INTRUDER = "intruder"
INTRUDER_OUT = 16
RANKS = (*range(0, 1000, 10), *range(991, 1001))  # of the distribution, in thousandths
WARM_UP_S = 8.0  # for the cost model to see prompts and decoding


@dataclass(frozen=True)
class Profile:
    """A kind of request.

    Args:
        prompt: tokens in, on average.
        output: tokens out, on average.
        users: who each send the next request ``--think`` seconds after the last one ended, on average.
    """

    prompt: int
    output: int
    users: int


PROFILES = {
    "create": Profile(200, 1000, 3),
    "summarise": Profile(1500, 100, 2),
    "chat": Profile(500, 500, 3),
}


@dataclass
class Watch:
    """What the consumers of one kind of request saw, in seconds since the load began."""

    between: list[tuple[float, float]] = field(default_factory=list)  # when, how long
    first: list[float] = field(default_factory=list)
    tokens: int = 0


class Load:
    """Users and the intruder against one engine.

    Args:
        engine: started.
        seed: of lengths, tokens and pauses.
        options: of the command line.
    """

    def __init__(self, engine: ChunkedEngine, seed: int, options: argparse.Namespace) -> None:
        self._engine, self._seed, self._options = engine, seed, options
        self._began = time.perf_counter()
        self._asked = 0
        self.watches: defaultdict[str, Watch] = defaultdict(Watch)

    async def run(self, seconds: float) -> None:
        """All of them for so long."""
        users = [
            asyncio.create_task(self._user(kind, profile, random.Random(f"{self._seed} {kind} {user}")))  # noqa: S311 a load's dice
            for kind, profile in PROFILES.items()
            for user in range(profile.users)
        ]
        users.append(asyncio.create_task(self._intrude(random.Random(self._seed))))  # noqa: S311 likewise
        await asyncio.sleep(seconds)
        for user in users:
            user.cancel()
        for user in users:
            with suppress(asyncio.CancelledError):
                await user

    async def _user(self, kind: str, profile: Profile, chance: random.Random) -> None:
        while True:
            await asyncio.sleep(chance.expovariate(1 / self._options.think))
            await self.ask(kind, *lengths(profile, self._options.divide, chance), chance)

    async def _intrude(self, chance: random.Random) -> None:
        await asyncio.sleep(self._options.every / 2)
        async with asyncio.TaskGroup() as asking:
            while True:
                asking.create_task(self.ask(INTRUDER, self._options.intruder, INTRUDER_OUT, chance))
                await asyncio.sleep(self._options.every)

    async def ask(self, kind: str, prompt: int, output: int, chance: random.Random) -> None:
        """One request to its end; its tokens are its own, so that no page is found in the cache."""
        self._asked += 1
        tokens = tuple(chance.randrange(1000, 40_000) for _ in range(prompt))
        params = SamplingParams(output, temperature=0, ignore_eos=True)
        request = GenerateRequest(f"{self._seed}-{kind}-{self._asked}", kind, tokens, params)
        watch = self.watches[kind]
        asked = last = time.perf_counter()
        async with aclosing(self._engine.generate(request)) as outputs:
            async for _ in outputs:
                now = time.perf_counter()
                if last == asked:
                    watch.first.append(now - asked)
                else:
                    watch.between.append((now - self._began, now - last))
                last = now
                watch.tokens += 1


def lengths(profile: Profile, divide: int, chance: random.Random) -> tuple[int, int]:
    """Tokens in and out: each between half of the mean and half as much again."""
    prompt, output = (mean / divide * chance.uniform(0.5, 1.5) for mean in (profile.prompt, profile.output))
    return max(1, round(prompt)), max(2, round(output))


async def between(engine: ChunkedEngine, options: argparse.Namespace) -> dict[str, Any]:
    """Times of each kind after a warm-up, in milliseconds."""
    warm = Load(engine, 7, options)
    await warm.run(WARM_UP_S)
    load = Load(engine, 1, options)
    await load.run(options.seconds)
    kinds = {kind: watch for kind, watch in load.watches.items() if kind != INTRUDER}
    together = [gap for watch in kinds.values() for _, gap in watch.between]
    p50, p99 = percentile(together, 0.5), percentile(together, 0.99)
    return {
        "between_p50_ms": p50,
        "between_p99_ms": p99,
        "between_max_ms": percentile(together, 1.0),
        "p99_over_p50": round(p99 / p50, 2),
        "tokens": sum(watch.tokens for watch in kinds.values()),
        "kinds": {
            kind: {
                "between_p50_ms": percentile([gap for _, gap in watch.between], 0.5),
                "between_p99_ms": percentile([gap for _, gap in watch.between], 0.99),
                "first_p50_ms": percentile(watch.first, 0.5),
                "first_p99_ms": percentile(watch.first, 0.99),
                "answers": len(watch.first),
            }
            for kind, watch in sorted(load.watches.items())
        },
        "distribution_ms": [percentile(together, rank / 1000) for rank in RANKS],
        "timeline": list(timeline(kinds, options.seconds)),
    }


def timeline(kinds: dict[str, Watch], seconds: float) -> Iterator[dict[str, float]]:
    """Per half second the median and the longest wait of those that ended in it."""
    bins: defaultdict[int, list[float]] = defaultdict(list)
    for watch in kinds.values():
        for moment, gap in watch.between:
            bins[int(moment * 2)].append(gap)
    for half in range(int(seconds * 2)):
        if bins[half]:
            yield {
                "s": half / 2,
                "p50_ms": percentile(bins[half], 0.5),
                "max_ms": percentile(bins[half], 1.0),
            }


async def capacity(engine: ChunkedEngine, options: argparse.Namespace) -> float:
    """Tokens per second of a fixed lot that waits from the start."""
    chance = random.Random(2)  # noqa: S311 a load's dice
    load = Load(engine, 2, options)
    asks = [
        (kind, *lengths(profile, options.divide, chance))
        for kind, profile in PROFILES.items()
        for _ in range(options.lot)
    ]
    chance.shuffle(asks)
    began = time.perf_counter()
    await asyncio.gather(*[load.ask(*ask, random.Random(index)) for index, ask in enumerate(asks)])  # noqa: S311 likewise
    return sum(prompt + output for _, prompt, output in asks) / (time.perf_counter() - began)


def percentile(seconds: list[float], rank: float) -> float:
    """In milliseconds, to a hundredth."""
    if not seconds:
        return math.nan
    ordered = sorted(seconds)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * rank))] * 1000, 2)


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures asked for; the two ways take turns at capacity."""
    figures: dict[str, Any] = {
        "mode": options.mode,
        "threads": options.threads,
        "intruder": {"tokens": options.intruder, "every_s": options.every},
        "seconds": options.seconds,
        "lengths_divided_by": options.divide,
        "think_s": options.think,
    }
    rates: dict[str, list[float]] = {name: [] for name in options.ways}
    for turn in range(options.repeats if options.part != "between" else 1):
        for name in options.ways:
            settings = EngineSettings(
                options.mode, threads=options.threads, max_running=options.running, budget=BUDGETS[name]
            )
            engine = ChunkedEngine(open_model("smollm2"), settings)
            gc.collect()
            await engine.start()
            if options.part != "capacity" and turn == 0:
                figures[name] = await between(engine, options)
            if options.part != "between":
                rates[name].append(await capacity(engine, options))
            await engine.stop()
    if options.part != "between":
        middle = {name: sorted(each)[len(each) // 2] for name, each in rates.items()}
        figures["capacity_tokens_per_s"] = {name: round(rate, 1) for name, rate in middle.items()}
        if len(middle) > 1:
            figures["capacity_loss_percent"] = round(100 * (1 - middle["chunked"] / middle["whole"]), 2)
    if {"chunked", "whole"} <= figures.keys():
        ratio = figures["whole"]["between_p99_ms"] / figures["chunked"]["between_p99_ms"]
        figures["p99_times_lower"] = round(ratio, 2)
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=50, help="of load per way")
    parser.add_argument("--mode", default="bf16")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--part", choices=("both", "between", "capacity"), default="both")
    parser.add_argument("--ways", nargs="+", default=list(BUDGETS), choices=list(BUDGETS))
    parser.add_argument("--intruder", type=int, default=1000, help="tokens of the long prompt")
    parser.add_argument("--every", type=float, default=10)
    parser.add_argument("--divide", type=int, default=8, help="the profiles' lengths by this")
    parser.add_argument("--think", type=float, default=3, help="seconds")
    parser.add_argument("--running", type=int, default=16, help="places")
    parser.add_argument("--lot", type=int, default=14, help="requests of each profile, for capacity")
    parser.add_argument("--repeats", type=int, default=1, help="of capacity, ways by turns")
    print(json.dumps(asyncio.run(measure(parser.parse_args())), indent=1))


if __name__ == "__main__":
    main()
