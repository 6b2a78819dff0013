"""How much of a prompt a step may read while others wait for their next token.

A step that only decodes takes a certain time; reading prompts adds to it. The time a step may take lies
between

    comfort    a stretch of the pace, which is what decoding alone has been taking, and
    bound      the stated time between tokens,

nearer to the bound the longer prompts have had to wait: budget follows load, since a queue that only grows
helps nobody. The bound is approached slowly: one long prompt must not change the pace of everyone's tokens;
many of them in a row must. The pace rises within a second and falls within twenty: while fewer decode, their
steps have more room for prompts and take as long as before, so that tokens keep coming evenly and the time
is not lost to those who wait. The room for prompt rows is what the cost model leaves of a step's time. Where
nobody decodes nobody is delayed, and a step reads as many rows as it can hold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from runtime.engine.schedule.cost import CostModel
from runtime.engine.schedule.step import StepLoad

_CALM = 0.02  # how fast the observed overrun fades, per step
_MOST_OVERRUN = 1.5
_LEAST_SECONDS = 1e-6
_PACE_RISES_S, _PACE_FALLS_S = 1.0, 20.0
_LEAST_STRETCH = 1.2
"""Of what decoding alone takes now, for where it has just become more: prompts must get on then, too."""


@dataclass(frozen=True, slots=True)
class BudgetSettings:
    """Bounds of a step.

    Args:
        step_rows: rows of any step, decoding ones included.
        between_tokens_s: the stated time between tokens; None states none but ``most_stretch``.
        stretch: how much longer than decoding alone has been taking a step may take in comfort; math.inf
            always fills the step, i.e. turns the adaptive budget off.
        most_stretch: the same at the bound, where ``between_tokens_s`` does not say.
        patience_s: what waits may take this long to read before the step's time begins to grow.
        adapt_s: of much waiting take the step's time from comfort to the bound.
        least_rows: prompt rows that a step always has room for, whatever the time, so that prompts get on;
            and the smallest piece.
        multiple: larger pieces of prompts are a multiple of so many rows, as products of matrices like them.
    """

    step_rows: int = 1024
    between_tokens_s: float | None = None
    stretch: float = 1.5
    most_stretch: float = 2.0
    patience_s: float = 0.5
    adapt_s: float = 15.0
    least_rows: int = 4
    multiple: int = 8


class Room:
    """What is left for prompt rows in a step being planned.

    Args:
        rows: at most so many.
        seconds: predicted to take at most this long.
        least: so many rows are given even if they take longer.
        multiple: see ``BudgetSettings``.
        model: predicts.
    """

    def __init__(self, rows: int, seconds: float, least: int, multiple: int, model: CostModel) -> None:
        self.rows = rows
        self._seconds = seconds
        self._least = least
        self._multiple = multiple
        self._cost = model.cost
        self.taken = 0
        self.pairs = 0

    def take(self, start: int, pending: int, others: int = 0) -> int:
        """Rows for a prompt.

        Args:
            start: positions it has behind it.
            pending: tokens it has to go.
            others: tokens that prompts after it would run. Up to half of the room is left to them, so that
                a short prompt is not kept waiting until a long one is read.

        Returns:
            Rows; 0 if there are none left for this prompt.
        """
        fitting = self._fitting(start)
        least = min(pending, self._least)
        rows = min(pending, self.rows - self.taken, max(fitting - min(fitting // 2, others), least))
        if self.taken and fitting < least:
            return 0  # a sliver: the next step has room for a piece
        if self._multiple < rows < pending:
            rows -= rows % self._multiple
        pairs = rows * start + rows * (rows + 1) // 2
        self.taken += rows
        self.pairs += pairs
        self._seconds -= self._cost.prompt_row * rows + self._cost.pair * pairs
        return rows

    @property
    def open(self) -> bool:
        """Whether there is room for a piece of a prompt."""
        if not self.taken:
            return self.rows > 0
        return self.rows > self.taken and self._fitting(0) >= self._least

    def _fitting(self, start: int) -> int:
        """The most rows whose time fits: rows * row + pair * (rows * start + rows**2 / 2) <= seconds."""
        if self._seconds == math.inf:
            return self.rows - self.taken
        if self._seconds <= 0:
            return 0
        pair, row = self._cost.pair, self._cost.prompt_row + self._cost.pair * start
        # The root in the form that loses no digits where the square matters little.
        return int(2 * self._seconds / (row + math.sqrt(row * row + 2 * pair * self._seconds)))


class Budget:
    """Plans room from measured steps.

    Args:
        settings: see there.
        model: the cost of steps.
    """

    def __init__(self, settings: BudgetSettings, model: CostModel) -> None:
        self._settings = settings
        self._model = model
        self._pressure = 0.0  # 0 in comfort, 1 at the bound
        self._pace: float | None = None  # seconds that decoding alone has been taking
        self._drain_s = 0.0  # how long the backlog of the last plan takes at its pace
        self._overrun = 1.0  # how far steps go beyond their prediction, at about the 95th percentile

    @property
    def observed(self) -> int:
        """Steps learnt from."""
        return self._model.observed

    def room(self, decodes: int, cached: int, backlog: int) -> Room:
        """Room for prompt rows beside ``decodes`` sequences over ``cached`` positions.

        Args:
            decodes: sequences that decode in the step.
            cached: positions they attend to.
            backlog: prompt tokens that wait to be read.
        """
        alone, target = self._times(decodes, cached)
        seconds = target / self._overrun - alone if decodes and backlog else math.inf
        # At this pace, each step of ``target`` seconds reads what takes ``target - alone``.
        work = backlog * self._model.cost.prompt_row if decodes else 0.0
        self._drain_s = 0.0 if target == math.inf else work * target / max(target - alone, _LEAST_SECONDS)
        return self._room(decodes, seconds)

    def rows_per_second(self, decodes: int, cached: int) -> float:
        """Prompt rows read per second beside so much decoding."""
        alone, target = self._times(decodes, cached)
        room = self._room(decodes, target / self._overrun - alone if decodes else math.inf)
        rows = room.take(0, self._settings.step_rows)
        taken = self._model.cost.of(StepLoad(rows, 0, 0, room.pairs)) - self._model.cost.fixed
        return rows / (alone + taken)

    def observe(self, load: StepLoad, predicted: float, seconds: float) -> None:
        """Learn from a step: what it cost, and how far beyond its prediction it went."""
        if seconds <= 0:
            return
        if load.decodes:
            alone = self._alone(load.decodes, load.cached)
            pace = self._pace or alone
            follow = seconds / (_PACE_RISES_S if alone > pace else _PACE_FALLS_S)
            self._pace = pace + (alone - pace) * min(1.0, follow)
        late = max(-1.0, min(1.0, self._drain_s / self._settings.patience_s - 1.0))
        self._pressure = max(0.0, min(1.0, self._pressure + late * seconds / self._settings.adapt_s))
        beyond = seconds > predicted * self._overrun
        self._overrun += _CALM * (0.95 if beyond else -0.05)
        self._overrun = min(_MOST_OVERRUN, max(1.0, self._overrun))
        self._model.observe(load, seconds)

    def _alone(self, decodes: int, cached: int) -> float:
        """Seconds that decoding alone takes."""
        return self._model.cost.of(StepLoad(0, decodes, cached, 0))

    def _times(self, decodes: int, cached: int) -> tuple[float, float]:
        """Seconds that decoding alone takes, and that a step with prompts may take."""
        settings = self._settings
        alone = self._alone(decodes, cached)
        if settings.stretch == math.inf:
            return alone, math.inf
        pace = max(self._pace or alone, alone * min(1.0, _LEAST_STRETCH / settings.stretch))
        bound = settings.between_tokens_s or pace * settings.most_stretch
        comfort = min(bound, pace * settings.stretch)
        return alone, comfort + (bound - comfort) * self._pressure

    def _room(self, decodes: int, seconds: float) -> Room:
        settings = self._settings
        return Room(
            settings.step_rows - decodes, seconds, settings.least_rows, settings.multiple, self._model
        )
