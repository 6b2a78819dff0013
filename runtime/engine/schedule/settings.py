"""What a scheduler is set to, and what it has counted."""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime.engine.schedule.budget import BudgetSettings
from runtime.engine.schedule.prefix import Share
from runtime.engine.schedule.sequence import State


@dataclass(frozen=True, slots=True)
class SchedulerSettings:
    """Bounds.

    Args:
        pages: of the key-value cache, the null page included.
        page_size: positions in each.
        max_running: sequences that hold pages at once; below ``budget.step_rows``.
        max_waiting: sequences queued beyond those. A tenant may queue as many as there are places left in
            the queue, so that one alone has half of it and the last places are for those who have few.
        max_wait_s: refuse whoever would wait longer than this for a first token; None refuses nobody for it.
        aging_s: waiting this long counts as one step of priority.
        budget: of a step.
        share: of the prefix cache between tenants.
        prefix_cache: whether computed pages are kept for later sequences.
    """

    pages: int
    page_size: int = 16
    max_running: int = 64
    max_waiting: int = 1024
    max_wait_s: float | None = None
    aging_s: float = 15.0
    budget: BudgetSettings = field(default_factory=BudgetSettings)
    share: Share = field(default_factory=Share)
    prefix_cache: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.max_running < self.budget.step_rows:
            raise ValueError("a step must have room for every running sequence and a row of a prompt")


@dataclass(slots=True)
class SchedulerCounts:
    """Since start; free of content."""

    steps: int = 0
    prompt_rows: int = 0
    decode_rows: int = 0
    preemptions: int = 0
    finished: int = 0
    cancelled: int = 0
    failed: int = 0
    refused: int = 0

    def count_end(self, state: State) -> None:
        """A sequence has ended in this state."""
        if state is State.FINISHED:
            self.finished += 1
        elif state is State.CANCELLED:
            self.cancelled += 1
        else:
            self.failed += 1
