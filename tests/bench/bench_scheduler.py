"""The scheduler under simulated load: time between tokens with chunking on and off. Prints one JSON object.

Run: python -m tests.bench.bench_scheduler [--seconds N]

The scheduler is the real one; the model is a cost per step with noise, so an hour takes a minute. Three
profiles share an engine (many tokens out, many in, both), and a long prompt intrudes every few seconds. Two
machines: two CPU cores with a model of 135 million parameters, and eight H100 with one of 70 billion (fit of
the splitwise-sim profile).

    flywheel   time between tokens, p50 and p99, and time to the first token, per profile
    capacity   time to finish a fixed lot of requests that all wait from the start
    overhead   processor time of planning and collecting a step of 64 sequences
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace

from runtime.engine.schedule.budget import BudgetSettings
from runtime.engine.schedule.cost import StepCost
from runtime.engine.schedule.scheduler import Scheduler
from runtime.engine.schedule.sequence import Owner, Sequence
from runtime.engine.schedule.settings import SchedulerSettings
from runtime.engine.schedule.step import Sampled, Step

_KEY = bytes(32)
_NOISE = 0.05  # of a step's time, relative
_HICCUPS = 0.005  # part of the steps that take half as long again: a shared machine


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of request.

    Args:
        prompt: tokens in, on average.
        output: tokens out, on average.
        users: who each send the next request about a second after the last one ended.
    """

    prompt: int
    output: int
    users: int


@dataclass(frozen=True, slots=True)
class Machine:
    """What a step costs, and who comes.

    Args:
        cost: of a step.
        profiles: by name.
        intruder: tokens of the prompt that intrudes; it has 16 tokens out.
        every_s: how often.
        pages: of 16 positions.
    """

    cost: StepCost
    profiles: dict[str, Profile]
    intruder: int
    every_s: float
    pages: int


MACHINES = {
    "cpu-135m": Machine(
        # bf16, two cores: 20 ms at 8 sequences, 54 ms at 32; 23 kB of keys and values per position.
        StepCost(fixed=8.7e-3, prompt_row=6e-4, decode=1.4e-3, cached=2e-6, pair=1.7e-7),
        {
            "create": Profile(50, 250, 3),
            "summarise": Profile(375, 25, 2),
            "chat": Profile(125, 125, 3),
        },
        intruder=2000,
        every_s=10,
        pages=4096,
    ),
    "h100-70b": Machine(
        StepCost(fixed=30e-3, prompt_row=7.17e-5, decode=2.23e-4, cached=1.49e-7, pair=1e-10),
        {
            "create": Profile(200, 1000, 32),
            "summarise": Profile(1500, 100, 16),
            "chat": Profile(500, 500, 32),
        },
        intruder=8000,
        every_s=5,
        pages=65536,
    ),
}
CHUNKED = BudgetSettings(step_rows=2048)
WHOLE = BudgetSettings(step_rows=1 << 20, stretch=math.inf)


@dataclass(slots=True)
class Watch:
    """What the consumers of one kind of request see, in seconds."""

    between: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True, order=True)
class Arrival:
    """A request to come."""

    at: float
    kind: str
    prompt: int
    output: int


def arrival(machine: Machine, kind: str, at: float, chance: random.Random) -> Arrival:
    """A request of a kind."""
    profile = machine.profiles[kind]
    prompt = max(1, round(profile.prompt * chance.uniform(0.5, 1.5)))
    return Arrival(at, kind, prompt, max(2, round(profile.output * chance.uniform(0.5, 1.5))))


class Simulation:
    """One engine in simulated time.

    Args:
        machine: see there.
        budget: of the scheduler.
        seed: of the noise.
    """

    def __init__(self, machine: Machine, budget: BudgetSettings, seed: int) -> None:
        self.scheduler = Scheduler(
            SchedulerSettings(pages=machine.pages, max_running=128, max_waiting=1 << 20, budget=budget), _KEY
        )
        self.now = 0.0
        self.watches: defaultdict[str, Watch] = defaultdict(Watch)
        self._machine = machine
        self._chance = random.Random(seed)  # noqa: S311 a simulation's dice
        self._last: dict[str, float] = {}
        self._added = 0

    def add(self, arrival: Arrival) -> None:
        """A request arrives; its tokens are its own, so that no page is found in the cache."""
        self._added += 1
        prompt = [self._added] * arrival.prompt
        sequence = Sequence(f"{arrival.kind}-{self._added}", Owner(arrival.kind), prompt, arrival.output)
        self.scheduler.add(sequence, arrival.at)

    def step(self) -> list[Sequence] | None:
        """Run a step; who ended, or None if there was nothing to run."""
        step = self.scheduler.schedule(self.now)
        if step is None:
            return None
        self.now += self._seconds(step)
        self.scheduler.collect(step, [Sampled(1) if item.samples else None for item in step.items], self.now)
        for item in step.items:
            if item.samples:
                self._note(item.sequence)
        ended = self.scheduler.take_ended()
        for sequence in ended:
            self._last.pop(sequence.id, None)
        return ended

    def serve(self, seconds: float) -> None:
        """Every user sends requests one after the other, and the intruder its prompts."""
        machine = self._machine
        every = machine.every_s
        coming = [
            Arrival((each + 0.5) * every, "intruder", machine.intruder, 16)
            for each in range(int(seconds / every))
        ]
        for kind, profile in machine.profiles.items():
            coming += [self._next(kind) for _ in range(profile.users)]
        heapq.heapify(coming)
        while self.now < seconds:
            while coming and coming[0].at <= self.now:
                self.add(heapq.heappop(coming))
            ended = self.step()
            if ended is None:
                self.now = coming[0].at
                continue
            for sequence in ended:
                kind = sequence.id.partition("-")[0]
                if kind in machine.profiles:
                    heapq.heappush(coming, self._next(kind))

    def finish(self, lot: list[Arrival]) -> None:
        """All of a lot at once, until all are done."""
        for arrival in lot:
            self.add(arrival)
        while not self.scheduler.idle:
            self.step()

    def _next(self, kind: str) -> Arrival:
        return arrival(self._machine, kind, self.now + self._chance.expovariate(1), self._chance)

    def _seconds(self, step: Step) -> float:
        noise = self._chance.lognormvariate(0, _NOISE)
        return self._machine.cost.of(step.load) * noise * (1.5 if self._chance.random() < _HICCUPS else 1.0)

    def _note(self, sequence: Sequence) -> None:
        kind = sequence.id.partition("-")[0]
        watch = self.watches[kind]
        last = self._last.get(sequence.id)
        if last is None:
            watch.first.append(self.now - sequence.arrived)
        else:
            watch.between.append(self.now - last)
        self._last[sequence.id] = self.now


def flywheel(machine: Machine, budget: BudgetSettings, seconds: float, seed: int = 1) -> dict[str, object]:
    """Times of each kind, in milliseconds."""
    simulation = Simulation(machine, budget, seed)
    simulation.serve(seconds)
    kinds = {kind: watch for kind, watch in simulation.watches.items() if kind != "intruder"}
    together = [gap for watch in kinds.values() for gap in watch.between]
    return {
        "between_p50_ms": milliseconds(together, 50),
        "between_p99_ms": milliseconds(together, 99),
        "p99_over_p50": round(milliseconds(together, 99) / milliseconds(together, 50), 2),
        "steps": simulation.scheduler.counts.steps,
        "kinds": {
            kind: {
                "between_p50_ms": milliseconds(watch.between, 50),
                "between_p99_ms": milliseconds(watch.between, 99),
                "first_p50_ms": milliseconds(watch.first, 50),
                "first_p99_ms": milliseconds(watch.first, 99),
            }
            for kind, watch in sorted(simulation.watches.items())
        },
    }


def capacity(machine: Machine, budget: BudgetSettings, requests: int = 300) -> float:
    """Tokens per second, in and out, while a lot of requests that all wait from the start is served."""
    chance = random.Random(2)  # noqa: S311 a simulation's dice
    lot = [arrival(machine, kind, 0.0, chance) for kind in machine.profiles for _ in range(requests // 3)]
    lot += [Arrival(0.0, "intruder", machine.intruder, 16) for _ in range(requests // 30)]
    chance.shuffle(lot)
    simulation = Simulation(machine, budget, 2)
    simulation.finish(lot)
    return sum(each.prompt + each.output for each in lot) / simulation.now


def overhead(sequences: int = 64, steps: int = 400) -> dict[str, float]:
    """Processor time of this thread to plan and to collect a step, median, in microseconds."""
    machine = MACHINES["cpu-135m"]
    simulation = Simulation(replace(machine, pages=1 << 14), CHUNKED, 3)
    for _ in range(sequences):
        simulation.add(Arrival(0.0, "chat", 200, 10 * steps))
    scheduler, planning, collecting = simulation.scheduler, [], []
    while len(planning) < steps:
        start = time.thread_time()
        step = scheduler.schedule(simulation.now)
        planned = time.thread_time()
        if step is None:
            raise RuntimeError("there is always work")
        simulation.now += machine.cost.of(step.load)
        outcomes = [Sampled(1) if item.samples else None for item in step.items]
        begun = time.thread_time()
        scheduler.collect(step, outcomes, simulation.now)
        if step.decodes == sequences:
            planning.append(planned - start)
            collecting.append(time.thread_time() - begun)
    return {
        "schedule_us": round(statistics.median(planning) * 1e6, 1),
        "collect_us": round(statistics.median(collecting) * 1e6, 1),
    }


def milliseconds(seconds: list[float], percentile: int) -> float:
    """A percentile, to a hundredth."""
    ordered = sorted(seconds)
    return round(ordered[min(len(ordered) - 1, len(ordered) * percentile // 100)] * 1000, 2)


def measure(seconds: float) -> dict[str, object]:
    """All figures."""
    figures: dict[str, object] = {}
    for name, machine in MACHINES.items():
        served = {"chunked": capacity(machine, CHUNKED), "whole": capacity(machine, WHOLE)}
        figures[name] = {
            "chunked": flywheel(machine, CHUNKED, seconds),
            "whole": flywheel(machine, WHOLE, seconds),
            "capacity_tokens_per_s": {kind: round(rate, 1) for kind, rate in served.items()},
            "capacity_loss_percent": round(100 * (1 - served["chunked"] / served["whole"]), 2),
        }
    return {**figures, "overhead_64": overhead()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="of simulated time per run")
    print(json.dumps(measure(parser.parse_args().seconds), indent=2))


if __name__ == "__main__":
    main()
