"""Who is being served: what belongs to each sequence, found by the name that the scheduler has for it."""

from __future__ import annotations

from runtime.engine.base import EngineRefusal
from runtime.engine.live import Live
from runtime.engine.schedule.scheduler import Scheduler
from runtime.engine.schedule.sequence import State
from runtime.engine.schedule.step import Refusal, Step


class Roster:
    """The sequences that wait or run. What ends during a step keeps its adapter until the step is over.

    It has no lock: whoever guards the scheduler guards this with it.

    Args:
        scheduler: whose sequences; it is only told of new ones, and of those that end early, through here.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self.stopped = 0
        """Sequences ended by ``end_all``, since start."""
        self._scheduler = scheduler
        self._live: dict[str, Live] = {}
        self._leaving: list[Live] = []  # ended in the step that is out

    def add(self, live: Live, now: float) -> None:
        """Queue a sequence.

        Raises:
            EngineRefusal: as the scheduler refuses.
        """
        try:
            self._scheduler.add(live.sequence, now)
        except Refusal as refusal:
            raise EngineRefusal(refusal.code, refusal.detail, refusal.retry_after) from None
        self._live[live.sequence.id] = live

    def of(self, step: Step) -> tuple[Live, ...]:
        """Whose the items of a step are, in their order."""
        return tuple(self._live[item.sequence.id] for item in step.items)

    def give_up(self, live: Live) -> None:
        """Its consumer has gone: cancel the sequence, if it is still served."""
        if self._live.get(live.sequence.id) is live:
            self._scheduler.cancel(live.sequence.id)
            self.sweep()

    def end_all(self, code: str) -> None:
        """End every sequence with a refusal of this code."""
        for live in list(self._live.values()):
            if self._scheduler.cancel(live.sequence.id):
                self.stopped += 1
                live.deliver(EngineRefusal(code))
        self.sweep()

    def sweep(self) -> None:
        """Take leave of what has ended; of what is in a step, only for the consumer's part."""
        for sequence in self._scheduler.take_ended():
            live = self._live.pop(sequence.id)
            if sequence.state is State.FAILED:
                live.deliver(EngineRefusal(sequence.end_code or "engine_failed"))
            if sequence.in_step:
                self._leaving.append(live)
            else:
                live.release()

    def step_over(self) -> None:
        """Take leave also of those that ended during the step, which the scheduler has collected."""
        self.sweep()
        for live in self._leaving:
            live.release()
        self._leaving.clear()
