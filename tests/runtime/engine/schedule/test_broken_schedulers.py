"""The checks that the scheduler passes notice a scheduler that is broken: each variant here must fail."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from runtime.engine.schedule.budget import BudgetSettings, Room
from runtime.engine.schedule.digests import PrefixDigest
from runtime.engine.schedule.idle import IdlePages
from runtime.engine.schedule.pages import IntegrityError, PagePool
from runtime.engine.schedule.prefix import PrefixCache
from runtime.engine.schedule.queue import WaitingQueue
from runtime.engine.schedule.scheduler import Scheduler
from runtime.engine.schedule.sequence import Owner, Sequence, State
from runtime.engine.schedule.settings import SchedulerSettings
from tests.simulators.scheduled_world import World

OWNERS = [Owner("a"), Owner("b"), Owner("a", "secret"), Owner("a", "", "sha256:1"), Owner("b", "secret")]
SETTINGS = SchedulerSettings(
    pages=24,
    page_size=4,
    max_running=5,
    max_waiting=16,
    budget=BudgetSettings(step_rows=24, between_tokens_s=0.1, least_rows=4, multiple=4),
)


def drive(seed: int) -> World:
    """A busy while with everything in it, then run to the end."""
    chance = random.Random(seed)  # noqa: S311 a test's dice
    world = World(SETTINGS)
    for _ in range(60):
        if chance.random() < 0.6:
            stem = [chance.randrange(2)] * chance.randrange(24)
            tail = [chance.randrange(5) for _ in range(chance.randrange(1, 6))]
            world.add(
                chance.choice(OWNERS), stem + tail, chance.randrange(1, 20), priority=chance.randrange(-1, 2)
            )
        living = sorted(world.living)
        if living and chance.random() < 0.1:
            world.step(cancel={chance.choice(living)})
        elif living and chance.random() < 0.1:
            world.cancel(chance.choice(living))
        else:
            world.step()
    world.finish()
    return world


def test_the_drive_reaches_what_it_is_to_test() -> None:
    """Hits, drops, preemptions and cancellations happen, so that the variants below have where to fail."""
    worlds = [drive(seed) for seed in range(20)]
    assert sum(world.scheduler.cache.counts.found for world in worlds) > 100
    assert sum(world.scheduler.cache.counts.dropped for world in worlds) > 100
    assert sum(world.scheduler.counts.preemptions for world in worlds) > 20
    assert sum(world.scheduler.counts.cancelled for world in worlds) > 50
    resumed = [each for world in worlds for each in world.done if each.preemptions]
    assert any(each.state is State.FINISHED for each in resumed)


def owners_named_alike(patch: pytest.MonkeyPatch) -> None:
    """The owner is left out of the names of blocks."""
    real = PrefixDigest.owner
    patch.setattr(PrefixDigest, "owner", lambda self, _owner: real(self, Owner("")))


def labels_named_alike(patch: pytest.MonkeyPatch) -> None:
    """The label domain is left out of the names of blocks."""
    real = PrefixDigest.owner
    patch.setattr(PrefixDigest, "owner", lambda self, owner: real(self, owner._replace(label_domain="")))


def adapters_named_alike(patch: pytest.MonkeyPatch) -> None:
    """The adapter is left out of the names of blocks."""
    real = PrefixDigest.owner
    patch.setattr(PrefixDigest, "owner", lambda self, owner: real(self, owner._replace(adapter_digest=None)))


def chain_broken(patch: pytest.MonkeyPatch) -> None:
    """A block is named by its own tokens only."""
    real = PrefixDigest.block
    patch.setattr(PrefixDigest, "block", lambda self, _parent, tokens: real(self, bytes(32), tokens))


def unfinished_blocks_published(patch: pytest.MonkeyPatch) -> None:
    """A block is offered before it is whole."""
    real = PrefixCache.publish

    def publish(self: PrefixCache, sequence: Sequence) -> None:
        computed = sequence.computed
        sequence.computed = min(len(sequence.tokens), computed + self.pool.page_size)
        real(self, sequence)
        sequence.computed = computed

    patch.setattr(PrefixCache, "publish", publish)


def last_token_not_run(patch: pytest.MonkeyPatch) -> None:
    """A prompt may be found in the cache to its last token."""
    real = Scheduler._start

    def start_with_all(self: Scheduler, sequence: Sequence, now: float) -> bool:
        started = real(self, sequence, now)
        sequence.computed = len(sequence.tokens)
        return started

    patch.setattr(Scheduler, "_start", start_with_all)


def pages_kept_after_the_end(patch: pytest.MonkeyPatch) -> None:
    """Pages of a cancelled sequence are forgotten."""
    real = Scheduler._end

    def end(self: Scheduler, sequence: Sequence, state: State, code: str) -> None:
        sequence.in_step = sequence.in_step or state is State.CANCELLED
        real(self, sequence, state, code)

    patch.setattr(Scheduler, "_end", end)


def pages_freed_under_a_step(patch: pytest.MonkeyPatch) -> None:
    """Pages are let go of twice: at the cancellation and after the step."""
    real = Scheduler.cancel

    def cancel(self: Scheduler, sequence_id: str) -> bool:
        sequence = self.get(sequence_id)
        if sequence is not None:
            for page in sequence.pages:
                self.pool.release(page)
        return real(self, sequence_id)

    patch.setattr(Scheduler, "cancel", cancel)


def budget_ignored(patch: pytest.MonkeyPatch) -> None:
    """Prompts are read whole."""
    real = Room.take

    def take(self: Room, start: int, pending: int) -> int:
        real(self, start, pending)
        self.taken += pending
        return pending

    patch.setattr(Room, "take", take)


def prompts_before_decodes(patch: pytest.MonkeyPatch) -> None:
    """Decoding sequences wait while a prompt is read."""
    real = Scheduler._plan_decodes

    def plan(self: Scheduler, items: list[object], reading: list[Sequence]) -> int:
        cached = real(self, items, reading)  # type: ignore[arg-type]  # items of any kind
        if reading:
            items.clear()
        return cached

    patch.setattr(Scheduler, "_plan_decodes", plan)


def generated_forgotten_when_preempted(patch: pytest.MonkeyPatch) -> None:
    """A preempted sequence begins again from its prompt."""
    real = Scheduler._preempt

    def preempt(self: Scheduler, sequence: Sequence) -> None:
        del sequence.tokens[sequence.prompt_tokens :]
        real(self, sequence)

    patch.setattr(Scheduler, "_preempt", preempt)


def first_preempted(patch: pytest.MonkeyPatch) -> None:
    """The sequence that should be last to lose its pages is the first."""
    real = Scheduler._preempt

    def preempt(self: Scheduler, _sequence: Sequence) -> None:
        real(self, self.running[0])

    patch.setattr(Scheduler, "_preempt", preempt)


def latest_served_first(patch: pytest.MonkeyPatch) -> None:
    """Whoever waits is overtaken by whoever comes, for ever; nobody else starts."""
    patch.setattr(WaitingQueue, "best", lambda self, _now: None if len(self) < 2 else next(iter(self)))


def idle_pages_dropped_in_use(patch: pytest.MonkeyPatch) -> None:
    """A page found again stays in line to be dropped."""
    patch.setattr(IdlePages, "remove", lambda _self, _tenant, _page: None)


def parents_dropped_first(patch: pytest.MonkeyPatch) -> None:
    """A page is freed although somebody holds it."""
    real = PagePool.release

    def release(self: PagePool, page: int) -> int:
        left = real(self, page)
        return real(self, page) if left == 2 else left

    patch.setattr(PagePool, "release", release)


BROKEN = [
    owners_named_alike,
    labels_named_alike,
    adapters_named_alike,
    chain_broken,
    unfinished_blocks_published,
    last_token_not_run,
    pages_kept_after_the_end,
    pages_freed_under_a_step,
    budget_ignored,
    prompts_before_decodes,
    generated_forgotten_when_preempted,
    first_preempted,
    latest_served_first,
    idle_pages_dropped_in_use,
    parents_dropped_first,
]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_scheduler_is_noticed(
    broken: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least one of many drives fails its checks."""
    broken(monkeypatch)
    for seed in range(150):
        try:
            drive(seed)
        except (AssertionError, IntegrityError, LookupError, ValueError, TypeError):
            return
    pytest.fail("nothing noticed it")
