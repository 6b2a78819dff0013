"""Decide what the next pass through the model computes.

Decoding sequences go first, one token each; what is left of the step's budget reads prompts, in the
order they came, cut where the budget ends. While others decode the budget is small, so that a long
prompt delays each of their tokens by little; alone, a prompt is read in large pieces.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from runtime.engine.base import EngineRefusal
from runtime.engine.sequence import Sequence, State


@dataclass(frozen=True)
class Limits:
    """Bounds of a step and of the queue.

    Args:
        max_batch: sequences that hold a cache at once.
        max_waiting: sequences queued beyond those.
        prompt_rows: prompt tokens per step while nothing decodes.
        prompt_rows_shared: prompt tokens per step while something does.
    """

    max_batch: int = 8
    max_waiting: int = 256
    prompt_rows: int = 512
    prompt_rows_shared: int = 64


@dataclass(frozen=True)
class Scheduled:
    """The next ``rows`` pending tokens of a sequence are to be run."""

    sequence: Sequence
    rows: int


class Scheduler:
    """The queue and the running set. Not thread-safe: the engine holds its lock around every call.

    Args:
        limits: see there.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence.

        Raises:
            EngineRefusal: ``engine_overloaded`` if the queue is full, ``duplicate_request``.
        """
        if len(self.waiting) >= self._limits.max_waiting:
            raise EngineRefusal("engine_overloaded", f"{len(self.waiting)} requests are waiting")
        known = (each.request.request_id for each in (*self.running, *self.waiting))
        if sequence.request.request_id in known:
            raise EngineRefusal("duplicate_request", sequence.request.request_id)
        self.waiting.append(sequence)

    def schedule(self) -> list[Scheduled]:
        """The next step's work; empty if there is none. Moves waiting sequences to running as room allows."""
        while self.waiting and len(self.running) < self._limits.max_batch:
            sequence = self.waiting.popleft()
            sequence.state = State.RUNNING
            self.running.append(sequence)
        step = [Scheduled(sequence, 1) for sequence in self.running if sequence.pending == 1]
        budget = self._limits.prompt_rows_shared if step else self._limits.prompt_rows
        for sequence in self.running:
            if sequence.pending > 1 and budget > 0:
                rows = min(sequence.pending, budget)
                step.append(Scheduled(sequence, rows))
                budget -= rows
        return step

    def remove(self, sequence: Sequence, state: State) -> bool:
        """Take a sequence out and drop its cache. Whether it was still in."""
        if sequence.state not in (State.WAITING, State.RUNNING):
            return False
        if sequence.state is State.WAITING:
            self.waiting.remove(sequence)
        else:
            self.running.remove(sequence)
        sequence.state = state
        sequence.cache = None
        return True
