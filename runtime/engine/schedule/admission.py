"""Whether a new sequence can be served in time, said at once rather than by letting it wait in vain.

The wait is predicted from what would go before it: with fair turns, of every other tenant no more than what
its own tenant has waiting; from the pace at which prompts are read; and from how long sequences keep their
places. Before a few steps are measured nothing is predicted and nobody refused for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from runtime.engine.schedule.budget import Budget
from runtime.engine.schedule.queue import WaitingQueue
from runtime.engine.schedule.sequence import Sequence
from runtime.engine.schedule.step import Refusal

_MEASURED_STEPS = 8
_SHORTEST_WAIT_S = 0.1
_FADE = 0.9  # of earlier stays, per sequence that ends


class Admission:
    """Predicts waits.

    Args:
        max_running: places.
        max_wait_s: the longest wait before a prompt begins to be read; None for any.
        budget: knows the pace.
    """

    def __init__(self, max_running: int, max_wait_s: float | None, budget: Budget) -> None:
        self._places = max_running
        self._max_wait_s = math.inf if max_wait_s is None else max_wait_s
        self._budget = budget
        self._stay_s = 1.0

    def left(self, stay_s: float) -> None:
        """A sequence has given its place up after this long."""
        self._stay_s = self._stay_s * _FADE + stay_s * (1 - _FADE)

    def next_place_s(self) -> float:
        """About how long until the queue moves up by one."""
        return max(_SHORTEST_WAIT_S, self._stay_s / self._places)

    def check(
        self, sequence: Sequence, running: Iterable[Sequence], waiting: WaitingQueue, now: float
    ) -> None:
        """Refuse who would wait too long to be read, or be read after its deadline.

        Raises:
            Refusal: ``engine_overloaded`` with the seconds after which there should be room;
                ``deadline_exceeded`` for a deadline that could not be kept even with no one else here.
        """
        left = math.inf if sequence.deadline is None else sequence.deadline - now
        if left <= 0:
            raise Refusal("deadline_exceeded", "the deadline has passed")
        if min(left, self._max_wait_s) == math.inf or self._budget.observed < _MEASURED_STEPS:
            return
        alone = len(sequence.tokens) / self._budget.rows_per_second(0, 0)
        if alone > left:
            raise Refusal("deadline_exceeded", f"reading the prompt takes {alone:.1f} s by itself")
        wait, reading = self._predict(sequence, list(running), waiting)
        late = max(wait - self._max_wait_s, wait + reading - left)
        if late > 0:
            raise Refusal(
                "engine_overloaded", f"{wait:.1f} s of work come first", max(late, _SHORTEST_WAIT_S)
            )

    def _predict(
        self, sequence: Sequence, running: list[Sequence], waiting: WaitingQueue
    ) -> tuple[float, float]:
        """Seconds until the sequence begins to be read, and from then until its first token."""
        decoding = [each for each in running if each.pending == 1]
        rate = self._budget.rows_per_second(len(decoding), sum(each.computed for each in decoding))
        tokens, count = waiting.ahead_of(sequence)
        tokens += sum(each.pending for each in running if each.pending > 1)
        lacking = count + 1 - (self._places - len(running))
        wait = max(tokens / rate, max(0, lacking) * self._stay_s / self._places)
        return wait, len(sequence.tokens) / rate
