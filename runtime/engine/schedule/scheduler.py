"""Decide what the next pass through the model computes.

    add        take a sequence on, or refuse it at once
    schedule   plan a step: decoding sequences first, then pieces of started prompts, then new prompts
    collect    count what the step computed, append the chosen tokens, end what is complete

Who runs the step in between owns time and threads; here both are arguments. One step is out at a time.

Decoding sequences are in every step; prompts only get what the budget leaves. When pages run out, the
sequence of the lowest rank (priority, then arrival) gives its pages back and is run again from its tokens
later. Ranks never change, so the highest-ranked running sequence always gets on and nothing can go round in
circles. All pages of a prompt are taken when it starts: prompts half read never wait for each other.
"""

from __future__ import annotations

import heapq
import math
from bisect import insort
from collections.abc import Iterator

from runtime.engine.schedule.admission import Admission
from runtime.engine.schedule.budget import Budget, Room
from runtime.engine.schedule.cost import CostModel
from runtime.engine.schedule.fairness import GENERATED_TOKEN, PROMPT_TOKEN, TokenCounters
from runtime.engine.schedule.pages import IntegrityError, PagePool
from runtime.engine.schedule.prefix import PrefixCache
from runtime.engine.schedule.queue import HIGHEST_PRIORITY, WaitingQueue
from runtime.engine.schedule.sequence import Sequence, State
from runtime.engine.schedule.settings import SchedulerCounts, SchedulerSettings
from runtime.engine.schedule.step import (
    Outcome,
    Refusal,
    RunFailed,
    Sampled,
    Scheduled,
    Step,
    StepLoad,
)


class Scheduler:
    """The queue, the running set and the pages. Not thread-safe.

    Args:
        settings: see there.
        prefix_key: 16 to 64 random bytes, new in each process: keys the names of cached pages.
        cost: of steps; by default it is learnt from a guess.
    """

    def __init__(self, settings: SchedulerSettings, prefix_key: bytes, cost: CostModel | None = None) -> None:
        self.settings = settings
        self.counts = SchedulerCounts()
        self.pool = PagePool(settings.pages, settings.page_size)
        self.cache = PrefixCache(self.pool, prefix_key, settings.share, enabled=settings.prefix_cache)
        self.cost = cost or CostModel()
        self.running: list[Sequence] = []  # by rank
        self._counters = TokenCounters()
        self.waiting = WaitingQueue(self._counters, settings.aging_s)
        self._budget = Budget(settings.budget, self.cost)
        self._admission = Admission(settings.max_running, settings.max_wait_s, self._budget)
        self._by_id: dict[str, Sequence] = {}
        self._orders = 0
        self._deadlines: list[tuple[float, int, str]] = []  # heap; entries of ended sequences are stale
        self._ended: list[Sequence] = []
        self._out: Step | None = None
        self._now = 0.0  # as last heard
        self._short = False  # whether this plan took pages back: then it gives none to newcomers
        self._blocked = False  # whether the one whose turn it is found no pages: then no room is left for it

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._by_id and self._out is None

    def get(self, sequence_id: str) -> Sequence | None:
        """A waiting or running sequence."""
        return self._by_id.get(sequence_id)

    def add(self, sequence: Sequence, now: float) -> None:
        """Take a new sequence on.

        Raises:
            Refusal: at once, if it cannot run, or not in time; nothing is held then.
        """
        try:
            self._check(sequence, now)
        except Refusal:
            self.counts.refused += 1
            raise
        self._orders += 1
        sequence.order, sequence.arrived = self._orders, now
        self._by_id[sequence.id] = sequence
        if sequence.deadline is not None:
            heapq.heappush(self._deadlines, (sequence.deadline, sequence.order, sequence.id))
        self.waiting.add(sequence)

    def cancel(self, sequence_id: str) -> bool:
        """End a sequence now, even while a step that covers it is out. Whether it was still there.

        Its pages are free at once, or after that step, which still writes to them.
        """
        sequence = self._by_id.get(sequence_id)
        if sequence is None:
            return False
        self._end(sequence, State.CANCELLED, "cancelled")
        return True

    def take_ended(self) -> list[Sequence]:
        """The sequences that ended since this was last asked, by whatever cause, in that order."""
        ended, self._ended = self._ended, []
        return ended

    def schedule(self, now: float) -> Step | None:
        """Plan the next step; None if there is nothing to run.

        Sequences past their deadline end here. The step's rows are to be run and ``collect`` or ``abandon``
        called before the next plan.
        """
        if self._out is not None:
            raise RuntimeError("a step is out")
        self._now = now
        self._expire(now)
        items: list[Scheduled] = []
        reading: list[Sequence] = []
        self._short = False
        preemptions = self.counts.preemptions
        cached = self._plan_decodes(items, reading)
        if self.counts.preemptions > preemptions:
            self._short = True
        decodes = len(items)
        backlog = self.waiting.pending
        for sequence in reading:
            backlog += sequence.pending
        room = self._budget.room(decodes, cached, backlog)
        if backlog:
            self._plan_prompts(items, reading, room, now)
        if not items:
            return None
        load = StepLoad(room.taken, decodes, cached, room.pairs)
        for item in items:
            item.sequence.in_step = True
        self._out = Step(
            number=self.counts.steps + 1,
            items=tuple(items),
            decodes=decodes,
            budget=decodes + room.rows,
            load=load,
            predicted_s=self.cost.cost.of(load),
            scheduled_at=now,
        )
        return self._out

    def collect(self, step: Step, outcomes: tuple[Outcome, ...] | list[Outcome], now: float) -> None:
        """Count what a step computed, append the chosen tokens, end what is complete.

        Args:
            step: the one that is out.
            outcomes: one per item, in order.
            now: when the step was done; from ``scheduled_at`` on, all of it counts as the step's cost.
        """
        self._back(step, len(outcomes))
        self._now = now
        size = self.settings.page_size
        for item, outcome in zip(step.items, outcomes, strict=True):
            sequence = item.sequence
            sequence.in_step = False
            if sequence.ended:  # during the step
                self.cache.detach(sequence)
                continue
            if isinstance(outcome, RunFailed):
                self._fail(sequence, outcome.code)
                continue
            sequence.computed = item.start + item.count
            if sequence.computed // size > sequence.cached_blocks:
                self.cache.publish(sequence)
            if item.samples:
                self._append(sequence, outcome)
        counts = self.counts
        counts.steps += 1
        counts.prompt_rows += step.load.prompt_rows
        counts.decode_rows += step.load.decodes
        seconds = now - step.scheduled_at
        self._budget.observe(step.load, step.predicted_s, seconds)

    def abandon(self, step: Step, code: str) -> None:
        """The run of a step went wrong as a whole: its sequences fail, what it wrote is not kept."""
        self._back(step, len(step.items))
        self.counts.steps += 1
        for item in step.items:
            item.sequence.in_step = False
            if item.sequence.ended:
                self.cache.detach(item.sequence, keep=False)
            else:
                self._fail(item.sequence, code)

    def verify(self) -> None:
        """Check that the books balance: all of ``audit`` at once, at any time.

        Raises:
            IntegrityError: they do not.
        """
        for _ in self.audit():
            pass

    def audit(self) -> Iterator[None]:
        """Check that the books balance, in parts, for when the engine is idle.

        Between two parts nobody has to wait; but if anything changes then, the rest means nothing and the
        audit is to be begun anew.

        Raises:
            IntegrityError: they do not.
        """
        ended = (
            [] if self._out is None else [item.sequence for item in self._out.items if item.sequence.ended]
        )
        yield from self.cache.audit([*self.running, *ended])
        if any(sequence.pages for sequence in self.waiting):
            raise IntegrityError("a waiting sequence holds pages")
        if len(self.running) + len(self.waiting) != len(self._by_id):
            raise IntegrityError("a sequence is lost")

    def _check(self, sequence: Sequence, now: float) -> None:
        if sequence.id in self._by_id:
            raise Refusal("duplicate_request", sequence.id)
        if not _sound(sequence):
            raise Refusal("invalid_parameter", "no tokens, or a priority or weight out of range")
        needed = self.pool.blocks(sequence.capacity)
        if needed > self.pool.usable:
            raise Refusal("context_length_exceeded", f"{needed} pages needed, there are {self.pool.usable}")
        places = self.settings.max_waiting - len(self.waiting)
        if self.waiting.of(sequence.owner.tenant) >= places:
            wait = self._admission.next_place_s()
            raise Refusal("engine_overloaded", f"{len(self.waiting)} requests are waiting", wait)
        self._admission.check(sequence, self.running, self.waiting, now)

    def _plan_decodes(self, items: list[Scheduled], reading: list[Sequence]) -> int:
        """Plan a row for every decoding sequence; the positions they attend to. The others are reading."""
        running, size = self.running, self.settings.page_size
        cached = place = 0
        while place < len(running):
            sequence = running[place]
            start = sequence.computed
            if len(sequence.tokens) - start != 1:
                reading.append(sequence)
            else:
                if start == len(sequence.pages) * size and not self._grow(sequence):
                    break  # it was the last in rank and has given up its own pages
                items.append(Scheduled(sequence, start, 1, True))
                cached += start + 1
            place += 1
        return cached

    def _grow(self, sequence: Sequence) -> bool:
        """Give a running sequence a page, at the cost of those behind it; whether it still runs itself."""
        while not self.cache.extend(sequence, 1, last_resort=len(self.running) == 1):
            victim = self.running[-1]
            if len(self.running) == 1:
                raise IntegrityError(f"{victim} runs alone and finds no page")
            self._preempt(victim)
            if victim is sequence:
                return False
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self.cache.detach(sequence)
        sequence.state = State.WAITING
        sequence.preemptions += 1
        self.counts.preemptions += 1
        self.waiting.add(sequence)

    def _plan_prompts(self, items: list[Scheduled], reading: list[Sequence], room: Room, now: float) -> None:
        """Plan pieces of prompts, started ones before new ones unless a new one is more urgent."""
        left = sum(sequence.pending for sequence in reading)
        for sequence in self._prompts(reading, room, now):
            pending = sequence.pending
            left = max(0, left - pending)
            rows = room.take(sequence.computed, pending, left + self._startable)
            if rows == 0:
                return
            items.append(Scheduled(sequence, sequence.computed, rows, rows == pending))

    @property
    def _startable(self) -> int:
        """Tokens of waiting prompts that could start, as far as one knows before trying."""
        if self._short or self._blocked or len(self.running) >= self.settings.max_running:
            return 0
        return self.waiting.pending

    def _prompts(self, reading: list[Sequence], room: Room, now: float) -> Iterator[Sequence]:
        urgency = self.waiting.urgency
        if len(reading) > 1:
            reading.sort(key=lambda each: (-urgency(each, now), each.rank))
        for sequence in reading:
            yield from self._new_prompts(now, room, above=urgency(sequence, now))
            yield sequence
        yield from self._new_prompts(now, room, above=None)

    def _new_prompts(self, now: float, room: Room, *, above: int | None) -> Iterator[Sequence]:
        """Start waiting sequences, the most urgent first, while there is room, a place and pages.

        None overtakes one that finds no pages, or the large would wait for ever on the small.
        """
        while not self._short and room.open and len(self.running) < self.settings.max_running:
            sequence = self.waiting.best(now)
            if sequence is None or (above is not None and self.waiting.urgency(sequence, now) <= above):
                return
            if not self._start(sequence, now):
                self._blocked = True
                return
            self._blocked = False
            yield sequence

    def _start(self, sequence: Sequence, now: float) -> bool:
        """Move a waiting sequence to the running if there are pages for all its tokens."""
        cache = self.cache
        cache.attach(sequence)
        lacking = self.pool.blocks(len(sequence.tokens)) - len(sequence.pages)
        # A page more for each running sequence, or the newcomer would be the first to give its own up again.
        reserve = len(self.running)
        if not cache.extend(sequence, lacking, reserve=reserve, last_resort=reserve == 0):
            cache.detach(sequence)
            return False
        cache.count(sequence)
        self.waiting.remove(sequence)
        sequence.state = State.RUNNING
        if sequence.preemptions == 0:  # being run again is no service
            sequence.reused = sequence.computed
            self._counters.charge(sequence.owner.tenant, PROMPT_TOKEN * sequence.pending)
            sequence.started = now
        insort(self.running, sequence, key=lambda each: each.rank)
        return True

    def _append(self, sequence: Sequence, outcome: Outcome) -> None:
        if not isinstance(outcome, Sampled):
            raise TypeError("an item that samples has no token")
        sequence.tokens.append(outcome.token_id)
        self._counters.charge(sequence.owner.tenant, GENERATED_TOKEN)
        if outcome.end_code is not None:
            self._end(sequence, State.FINISHED, outcome.end_code)
        elif sequence.generated >= sequence.max_tokens:
            self._end(sequence, State.FINISHED, "length")

    def _fail(self, sequence: Sequence, code: str) -> None:
        self.cache.detach(sequence, keep=False)
        self._end(sequence, State.FAILED, code)

    def _end(self, sequence: Sequence, state: State, code: str) -> None:
        if sequence.state is State.WAITING:
            self.waiting.remove(sequence)
        else:
            self.running.remove(sequence)
            self._admission.left(self._now - sequence.started)
            if not sequence.in_step:
                self.cache.detach(sequence)
        sequence.state, sequence.end_code = state, code
        del self._by_id[sequence.id]
        self._ended.append(sequence)
        self.counts.count_end(state)

    def _expire(self, now: float) -> None:
        deadlines = self._deadlines
        while deadlines and deadlines[0][0] <= now:
            _, order, sequence_id = heapq.heappop(deadlines)
            sequence = self._by_id.get(sequence_id)
            if sequence is not None and sequence.order == order:
                self._end(sequence, State.FAILED, "deadline_exceeded")

    def _back(self, step: Step, outcomes: int) -> None:
        if step is not self._out:
            raise RuntimeError("this step is not out")
        if outcomes != len(step.items):
            raise ValueError(f"{outcomes} outcomes for {len(step.items)} items")
        self._out = None


def _sound(sequence: Sequence) -> bool:
    return (
        sequence.prompt_tokens >= 1
        and sequence.max_tokens >= 1
        and abs(sequence.priority) <= HIGHEST_PRIORITY
        and 0 < sequence.weight < math.inf
    )
