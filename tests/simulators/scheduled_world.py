"""A scheduler with a model of arithmetic under it, that notices every wrong key, page, row and token.

What the model writes for a position is a number made from the owner and all tokens up to it. Before it
runs a row it reads every earlier position through the block table and compares: a page of another owner,
of other tokens, written twice or never, is seen at once. The next token depends on that number too, so
what a sequence generates must equal ``reference`` however it was cut, shared, preempted or batched.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Collection

from runtime.engine.schedule.scheduler import Scheduler
from runtime.engine.schedule.sequence import Owner, Sequence, State
from runtime.engine.schedule.settings import SchedulerSettings
from runtime.engine.schedule.step import Outcome, Refusal, RunFailed, Sampled, Step

KEY = bytes(range(32))
VOCABULARY = 5
_MASK = (1 << 61) - 1


def origin(owner: Owner) -> int:
    """What an owner's sequences start from."""
    return zlib.crc32(repr(owner).encode())


def after(value: int, token: int) -> int:
    """What the model writes for a token after ``value``."""
    return (value * 1_000_003 + token + 7) & _MASK


def reference(owner: Owner, prompt: list[int], count: int) -> list[int]:
    """The ``count`` tokens that follow a prompt."""
    value = origin(owner)
    for token in prompt:
        value = after(value, token)
    generated = []
    for _ in range(count):
        generated.append(value % VOCABULARY)
        value = after(value, generated[-1])
    return generated


class World:
    """The scheduler, the memory its pages stand for, and the checks.

    Args:
        settings: of the scheduler.
        make: the scheduler itself, for tests of broken ones.
    """

    def __init__(
        self,
        settings: SchedulerSettings,
        make: Callable[[SchedulerSettings, bytes], Scheduler] = Scheduler,
    ) -> None:
        self.scheduler = make(settings, KEY)
        self.settings = settings
        self.now = 0.0
        self.living: dict[str, Sequence] = {}
        self.done: list[Sequence] = []
        self.memory: dict[int, int] = {}
        self.served: defaultdict[str, float] = defaultdict(float)
        self.sampled: defaultdict[str, list[int]] = defaultdict(list)
        self._added = 0

    def add(
        self, owner: Owner, prompt: list[int], max_tokens: int, *, priority: int = 0, weight: float = 1.0,
        deadline_in: float | None = None, prefix_limit: int | None = None,
    ) -> Sequence | None:  # fmt: skip
        """A request arrives; None if it was refused."""
        self._added += 1
        sequence = Sequence(
            f"r{self._added}", owner, prompt, max_tokens, priority=priority, weight=weight,
            deadline=None if deadline_in is None else self.now + deadline_in, prefix_limit=prefix_limit,
        )  # fmt: skip
        try:
            self.scheduler.add(sequence, self.now)
        except Refusal:
            return None
        self.living[sequence.id] = sequence
        return sequence

    def cancel(self, sequence_id: str) -> None:
        """A consumer gives up."""
        assert self.scheduler.cancel(sequence_id) == (sequence_id in self.living)
        self._take_ended()
        assert sequence_id not in self.living
        self.scheduler.verify()

    def step(
        self, *, cancel: Collection[str] = (), fail: Collection[str] = (), seconds: float = 0.01,
        abandon: bool = False,
    ) -> Step | None:  # fmt: skip
        """Plan, check, run and collect one step.

        Args:
            cancel: who gives up while the step runs.
            fail: whose logits are not finite.
            seconds: how long it takes.
            abandon: the run fails as a whole.
        """
        decoding = [each for each in self.scheduler.running if each.pending == 1]
        step = self.scheduler.schedule(self.now)
        self._take_ended()
        self.scheduler.verify()
        if step is None:
            return None
        self.check_plan(step, decoding)
        outcomes = [self._run(item, fail) for item in step.items]
        for sequence_id in cancel:
            self.scheduler.cancel(sequence_id)
            self.scheduler.verify()
        self.now += seconds
        if abandon:
            self.scheduler.abandon(step, "engine_failed")
        else:
            self.scheduler.collect(step, outcomes, self.now)
        self._take_ended()
        self.scheduler.verify()
        self.check_sharing()
        return step

    def finish(self) -> int:
        """Run until nobody is left, within the stated bound; how many steps it took."""
        bound = self.bound()
        steps = 0
        while self.living:
            steps += 1
            assert steps <= bound, f"{len(self.living)} of the admitted starve"
            assert self.step() is not None or not self.living, "work waits and none is planned"
        assert self.scheduler.idle
        scheduler = self.scheduler
        assert scheduler.pool.free + scheduler.cache.idle == scheduler.pool.usable, "pages are lost"
        return steps

    def bound(self) -> int:
        """Steps in which everyone here ends, if nobody else comes.

        The highest-ranked running sequence advances in every step by a row, or by a piece of its prompt,
        and a sequence is run again at most as often as another of higher rank starts.
        """
        least = self.settings.budget.least_rows
        alone = sum(
            -(-sequence.capacity // least) + sequence.max_tokens + 1 for sequence in self.living.values()
        )
        return alone * (1 + len(self.living)) + 1

    def check_plan(self, step: Step, decoding: list[Sequence]) -> None:
        """The step keeps its budget, and of those decoding only who lost its pages is left out of it."""
        rows = sum(item.count for item in step.items)
        assert rows == step.rows <= step.budget <= self.settings.budget.step_rows
        assert len({item.sequence.id for item in step.items}) == len(step.items)
        assert all(item.count >= 1 and item.start == item.sequence.computed for item in step.items)
        assert all(
            item.samples == (item.start + item.count == len(item.sequence.tokens)) for item in step.items
        )
        running = self.scheduler.running
        assert len(running) <= self.settings.max_running
        planned = [item.sequence for item in step.items[: step.decodes]]
        assert all(item.count == 1 for item in step.items[: step.decodes])
        assert all(any(each is other for other in planned) for each in decoding if each in running), (
            "a decode is delayed"
        )

    def check_sharing(self) -> None:
        """A page is used by sequences of one owner only."""
        owners: dict[int, Owner] = {}
        for sequence in self.scheduler.running:
            for page in sequence.pages:
                assert owners.setdefault(page, sequence.owner) == sequence.owner, "two owners share a page"

    def _run(self, item: tuple[Sequence, int, int, bool], fail: Collection[str]) -> Outcome:
        sequence, start, count, samples = item
        size = self.settings.page_size
        value = origin(sequence.owner)
        for position in range(start + count):
            slot = sequence.pages[position // size] * size + position % size
            value = after(value, sequence.tokens[position])
            if position >= start:
                self.memory[slot] = value
            assert self.memory.get(slot) == value, f"position {position} is not what was computed"
        self.served[sequence.owner.tenant] += count
        if not samples:
            return None
        if sequence.id in fail:
            return RunFailed()
        self.sampled[sequence.id].append(value % VOCABULARY)
        return Sampled(value % VOCABULARY)

    def _take_ended(self) -> None:
        for sequence in self.scheduler.take_ended():
            assert sequence.ended
            del self.living[sequence.id]
            self.done.append(sequence)
            prompt = sequence.tokens[: sequence.prompt_tokens]
            expected = reference(sequence.owner, prompt, sequence.generated)
            assert sequence.tokens[sequence.prompt_tokens :] == expected, "a token is wrong"
            if sequence.state is State.FINISHED:
                assert sequence.end_code == "length"
                assert sequence.generated == sequence.max_tokens
                assert self.sampled[sequence.id] == expected, "a token is chosen twice"
