"""How long a step takes, learnt from steps: a sum of a fixed part and parts per row, sequence and position.

    seconds = fixed + prompt_row * rows + decode * sequences + cached * positions + pair * row-position pairs

Each measured step weighs by its relative error, old ones fade, and one that is further from what was
expected than steps usually are counts little: on a shared machine some wait for a stranger. Parts that the
last steps say nothing about (no prompt was read for an hour) stay as they were.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

from runtime.engine.schedule.step import StepLoad

_FADE = 0.99  # per step: about the last hundred count
_STAY = 0.3  # weight of "as before", in steps, when the parts are solved for
_SOLVE_EVERY = 4
_FIRST = 32  # steps after each of which it is solved: the guess may be far off
_SWEEPS = 6
_LEAST, _MOST = 0.1, 10.0  # by how much one solving may change a part
_LEAST_USUAL = 0.05
_USUAL_FADE = 0.9  # per step
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class StepCost:
    """The parts, in seconds, each above 0.

    Args:
        fixed: a step.
        prompt_row: a token of a prompt.
        decode: a sequence that decodes.
        cached: a position that a decoding sequence attends to.
        pair: a position that a prompt row attends to.
    """

    fixed: float
    prompt_row: float
    decode: float
    cached: float
    pair: float

    def of(self, load: StepLoad) -> float:
        """Seconds that a step of this load takes."""
        return (
            self.fixed
            + self.prompt_row * load.prompt_rows
            + self.decode * load.decodes
            + self.cached * load.cached
            + self.pair * load.pairs
        )


GUESS = StepCost(fixed=8e-3, prompt_row=5e-4, decode=8e-4, cached=4e-7, pair=1e-7)
"""For a start: a model of 135 million parameters on two cores."""


class CostModel:
    """The fit.

    Args:
        guess: what to go by before anything is measured; wrong by a factor of a hundred is soon mended.
    """

    def __init__(self, guess: StepCost = GUESS) -> None:
        self.cost = guess
        self.observed = 0
        self._usual = 1.0  # how far steps are from what was expected, as a logarithm
        self._products = [[0.0] * 5 for _ in range(5)]  # sums of weight * part * part
        self._targets = [0.0] * 5  # sums of weight * part * seconds

    def observe(self, load: StepLoad, seconds: float) -> None:
        """Learn from a step.

        Args:
            load: what it ran.
            seconds: how long it took, above 0; anything else is ignored.
        """
        if seconds <= 0:
            return
        self.observed += 1
        parts = (1.0, float(load.prompt_rows), float(load.decodes), float(load.cached), float(load.pairs))
        expected = self.cost.of(load)
        surprise = abs(math.log(seconds / expected))
        usual = max(_LEAST_USUAL, self._usual)
        # Bounded, so that one hiccup says little about what is usual, but many say that the model is wrong.
        self._usual = usual * _USUAL_FADE + min(surprise, 3 * usual) * (1 - _USUAL_FADE)
        # Relative error: a slow step is not worth more than a quick one.
        weight = min(1.0, 1.5 * usual / (surprise + _TINY)) / (expected * seconds)
        targets = self._targets
        for i, products in enumerate(self._products):
            weighted = weight * parts[i]
            targets[i] = targets[i] * _FADE + weighted * seconds
            for j in range(5):
                products[j] = products[j] * _FADE + weighted * parts[j]
        if self.observed <= _FIRST or self.observed % _SOLVE_EVERY == 0:
            self._solve()

    def _solve(self) -> None:
        """Coordinate descent on the factors by which the parts change: least squares with 'as before'.

        Factors have no unit, so one weight for 'as before' does for all parts; a part that no recent step
        had has nothing else to go by.
        """
        now = astuple(self.cost)
        factors = [1.0] * 5
        for _ in range(_SWEEPS):
            for i in range(5):
                row = self._products[i]
                rest = sum(row[j] * now[j] * factors[j] for j in range(5) if j != i)
                towards = (self._targets[i] - rest) * now[i] + _STAY
                factors[i] = min(_MOST, max(_LEAST, towards / (row[i] * now[i] * now[i] + _STAY)))
        self.cost = StepCost(*(max(_TINY, part * factor) for part, factor in zip(now, factors, strict=True)))
