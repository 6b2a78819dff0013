"""What an engine counts of itself beside ``EngineStats``: plain numbers, free of content, cheap to keep.

    Meter        kept by an engine while it works: two numbers changed per token, a dozen per step
    Telemetry    what the meter says at one moment, with the memory's figures; nothing in it changes any more

Nothing here has a lock. Whoever keeps a meter guards it; nothing is averaged or rounded while counting, since
what may leave the enclave is decided where it leaves (``runtime.api.engine_metrics``).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

FIRST_TOKEN_S: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 20.0, 30.0, 60.0)
"""Bounds, in seconds, for a wait whose goal is one second."""

TOKEN_S: Final = (
    *(0.001, 0.002, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.08),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0),
)
"""Bounds, in seconds, for steps and times between tokens: fine enough to tell p99 from p50 around 50 ms."""


@dataclass(frozen=True)
class Distribution:
    """Values counted in buckets.

    Args:
        bounds: upper ends of the buckets, ascending; one more bucket holds what is above.
        counts: of each bucket, not summed up.
        total: sum of all values.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float


class Histogram:
    """A distribution being counted.

    Args:
        bounds: upper ends of the buckets, ascending.
    """

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def read(self) -> Distribution:
        """As it stands."""
        return Distribution(self._bounds, tuple(self._counts), self._total)


@dataclass(slots=True)
class Meter:
    """What an engine counts while it works.

    Args:
        first_token: seconds from asking to the first token, per request.
        between_tokens: seconds from a token to the next of the same request.
        step: seconds that a step takes.
        step_rows: tokens run, over all steps.
        budget_rows: tokens that the plans had room for, over all steps.
        refusals: requests not served, by code.
        audits_passed: checks of the page books that found them sound.
        audits_failed: that did not; the engine stops at the first.
    """

    first_token: Histogram = field(default_factory=lambda: Histogram(FIRST_TOKEN_S))
    between_tokens: Histogram = field(default_factory=lambda: Histogram(TOKEN_S))
    step: Histogram = field(default_factory=lambda: Histogram(TOKEN_S))
    step_rows: int = 0
    budget_rows: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    audits_passed: int = 0
    audits_failed: int = 0

    def token(self, waited_s: float, *, first: bool) -> None:
        """A request was given a token, so long after it asked or after its last one."""
        (self.first_token if first else self.between_tokens).observe(waited_s)

    def stepped(self, seconds: float, rows: int, budget_rows: int) -> None:
        """A step is over."""
        self.step.observe(seconds)
        self.step_rows += rows
        self.budget_rows += budget_rows


@dataclass(frozen=True)
class PageFigures:
    """The memory for keys and values.

    Args:
        capacity: pages there are.
        page_tokens: positions in each.
        used: pages that a running sequence holds.
        cached: pages that none holds and the prefix cache keeps, until room is needed.
        tokens_looked_up: prompt tokens that might have been found in the cache, since start.
        tokens_found: of those, found.
    """

    capacity: int
    page_tokens: int
    used: int
    cached: int
    tokens_looked_up: int
    tokens_found: int


@dataclass(frozen=True)
class AdapterFigure:
    """One adapter, or several together.

    Args:
        loads: times it was read from its source.
        evictions: times it left memory for another.
        memory_bytes: that it takes now, tables not counted.
    """

    loads: int = 0
    evictions: int = 0
    memory_bytes: int = 0

    def __add__(self, other: AdapterFigure) -> AdapterFigure:
        return AdapterFigure(
            self.loads + other.loads,
            self.evictions + other.evictions,
            self.memory_bytes + other.memory_bytes,
        )


@dataclass(frozen=True, repr=False)
class AdaptersFigures:
    """All adapters.

    Args:
        registered: that may be asked for.
        hot: laid out in memory.
        placed: ready to run.
        pinned: in use now.
        waiting: requests that wait for an adapter.
        tables_bytes: that the tables take, full or empty.
        failed_loads: that were refused, since start.
        every: all of them together.
        busiest: those asked for most, by digest, most first.
    """

    registered: int
    hot: int
    placed: int
    pinned: int
    waiting: int
    tables_bytes: int
    failed_loads: int
    every: AdapterFigure
    busiest: Mapping[str, AdapterFigure]

    def __repr__(self) -> str:
        return f"AdaptersFigures({self.registered} registered, {self.hot} hot)"


@dataclass(frozen=True)
class SelfCheckFigures:
    """The check at start; an engine that failed it serves nothing, so there is no other result.

    Args:
        seconds: that it took.
        worst_error: the largest deviation found, as a part of what is allowed (below 1).
    """

    seconds: float
    worst_error: float


@dataclass(frozen=True)
class Telemetry:
    """An engine's figures at one moment.

    Args:
        first_token: see ``Meter``.
        between_tokens: see ``Meter``.
        step: see ``Meter``.
        refusals: see ``Meter``.
        step_rows: see ``Meter``.
        budget_rows: see ``Meter``.
        rows_limit: tokens of any one step; None where the engine does not say.
        audits_passed: see ``Meter``.
        audits_failed: see ``Meter``.
        pages: None where the engine has none, or does not say.
        adapters: None where it serves the base model alone.
        self_check: None where it has none.
    """

    first_token: Distribution
    between_tokens: Distribution
    step: Distribution
    refusals: Mapping[str, int]
    step_rows: int = 0
    budget_rows: int = 0
    rows_limit: int | None = None
    audits_passed: int = 0
    audits_failed: int = 0
    pages: PageFigures | None = None
    adapters: AdaptersFigures | None = None
    self_check: SelfCheckFigures | None = None

    @classmethod
    def of(
        cls,
        meter: Meter,
        *,
        rows_limit: int | None = None,
        pages: PageFigures | None = None,
        adapters: AdaptersFigures | None = None,
        self_check: SelfCheckFigures | None = None,
    ) -> Telemetry:
        """What a meter says now, and the figures beside it."""
        return cls(
            first_token=meter.first_token.read(),
            between_tokens=meter.between_tokens.read(),
            step=meter.step.read(),
            refusals=dict(meter.refusals),
            step_rows=meter.step_rows,
            budget_rows=meter.budget_rows,
            rows_limit=rows_limit,
            audits_passed=meter.audits_passed,
            audits_failed=meter.audits_failed,
            pages=pages,
            adapters=adapters,
            self_check=self_check,
        )
