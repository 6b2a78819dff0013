"""Whose turn it is: order within a step, tenants, priorities, deadlines, and who is not taken on."""

from __future__ import annotations

import dataclasses
import random

import pytest

from runtime.engine.schedule.budget import BudgetSettings
from runtime.engine.schedule.fairness import GENERATED_TOKEN, PROMPT_TOKEN, TokenCounters
from runtime.engine.schedule.queue import WaitingQueue
from runtime.engine.schedule.scheduler import Scheduler
from runtime.engine.schedule.sequence import Owner, Sequence, State
from runtime.engine.schedule.settings import SchedulerSettings
from runtime.engine.schedule.step import Refusal, RunFailed, Sampled
from tests.simulators.scheduled_world import KEY, World

SETTINGS = SchedulerSettings(
    pages=400,
    page_size=4,
    max_running=4,
    max_waiting=64,
    budget=BudgetSettings(step_rows=32, multiple=4),
)
A, B, C = Owner("a"), Owner("b"), Owner("c")


def world(**changes: object) -> World:
    """A world of few places."""
    return World(dataclasses.replace(SETTINGS, **changes))  # type: ignore[arg-type]  # by name


def prompt(length: int, token: int = 1) -> list[int]:
    """A prompt of one token."""
    return [token] * length


def test_decoding_goes_before_started_before_new() -> None:
    """A step's items come in that order."""
    busy = world()
    decoding = busy.add(A, prompt(4), 40)
    busy.step()
    started = busy.add(A, prompt(100, 2), 4)
    busy.step()
    new = busy.add(A, prompt(3, 3), 4)
    for _ in range(30):
        step = busy.step()
        assert step is not None
        if any(item.sequence is new for item in step.items):
            break
    assert [item.sequence for item in step.items] == [decoding, started, new]
    assert step.decodes == 1


def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    """It is read beside it, though the long one came first."""
    busy = world()
    busy.add(A, prompt(4), 400)
    busy.step()
    long = busy.add(A, prompt(300, 2), 4)
    busy.step()
    short = busy.add(B, prompt(8, 3), 1)
    while short is not None and not short.ended:
        busy.step()
    assert long is not None
    assert long.pending > 200


def test_urgent_prompts_go_first() -> None:
    """A new prompt of higher priority goes before a started one; one of the same does not."""
    busy = world(budget=BudgetSettings(step_rows=5, multiple=1))
    long = busy.add(A, prompt(100), 1)
    busy.step()
    same = busy.add(B, prompt(20, 2), 1)
    urgent = busy.add(C, prompt(20, 3), 1, priority=1)
    step = busy.step()
    assert step is not None
    assert step.items[0].sequence is urgent
    while urgent is not None and not urgent.ended:
        busy.step()
    assert long is not None
    assert same is not None
    assert not long.ended
    assert not same.ended


def test_waiting_makes_urgent() -> None:
    """A stream of urgent requests cannot keep one of low priority out for ever."""
    busy = world(max_running=1, aging_s=0.5)
    patient = busy.add(A, prompt(4), 2, priority=-2)
    assert patient is not None
    while not patient.ended and busy.now < 6:
        busy.add(B, prompt(4, 2), 2, priority=2)
        busy.step(seconds=0.01)
    assert patient.state is State.FINISHED
    assert 0.5 < busy.now < 5.9


@pytest.mark.parametrize(("weight", "share"), [(1.0, 0.5), (3.0, 0.75)])
def test_two_tenants_with_work_get_their_shares(weight: float, share: float) -> None:
    """Neither is ever further ahead than half the bound of the virtual token counter: both begin at 0."""
    busy = world()
    chance = random.Random(3)  # noqa: S311 a test's dice
    longest, most = 40, 12
    served = {"a": 0.0, "b": 0.0}
    weights = {"a": weight, "b": 1.0}
    at_once = SETTINGS.max_running * (longest + most)
    bound = max(longest * PROMPT_TOKEN, at_once * GENERATED_TOKEN)
    charged: set[str] = set()
    for _ in range(1500):
        for owner in (A, B):
            while busy.scheduler.waiting.of(owner.tenant) < 6:  # more than one step can start
                # One sends few long prompts, the other many short ones.
                length = chance.randrange(20, longest) if owner is A else chance.randrange(1, 6)
                tokens = [chance.randrange(5) for _ in range(length)]
                busy.add(owner, tokens, chance.randrange(1, most), weight=weights[owner.tenant])
        step = busy.step()
        assert step is not None
        for item in step.items:
            tenant = item.sequence.owner.tenant
            if item.sequence.id not in charged:
                charged.add(item.sequence.id)
                served[tenant] += PROMPT_TOKEN * (item.sequence.prompt_tokens - item.sequence.reused)
            served[tenant] += GENERATED_TOKEN * item.samples
        assert abs(served["a"] / weights["a"] - served["b"]) <= bound
    assert served["a"] / (served["a"] + served["b"]) == pytest.approx(share, abs=0.02)


def test_idling_earns_no_credit() -> None:
    """A tenant that comes back is lifted to those who waited, and who used much is not let off by leaving."""
    counters = TokenCounters()
    queue = WaitingQueue(counters, 10)
    for name in ("a", "b"):
        queue.add(Sequence(name, Owner(name), [1], 1))
    counters.charge("a", 1000)
    counters.charge("b", 900)
    queue.add(Sequence("c", C, [1], 1))
    assert counters.work("c") == 900
    counters.charge("c", 5000)
    for each in list(queue):
        queue.remove(each)
    queue.add(Sequence("c2", C, [1], 1))
    assert counters.work("c") == 5900
    queue.add(Sequence("d", Owner("d"), [1], 1))
    assert counters.work("d") == 5900


def test_the_counters_do_not_grow_for_ever() -> None:
    """Of very many tenants those who would be lifted anyway are forgotten."""
    counters = TokenCounters()
    for number in range(20_000):
        counters.arrive(f"t{number}", 1.0, [])
        counters.charge(f"t{number}", number)
        counters.leave(f"t{number}")
    assert len(counters._work) <= 4097


def test_past_its_deadline_a_request_ends() -> None:
    """Waiting or running, it ends with a code, and its pages are free."""
    busy = world(max_running=1)
    running = busy.add(A, prompt(4), 100, deadline_in=0.05)
    waiting = busy.add(A, prompt(4), 100, deadline_in=0.03)
    for _ in range(10):
        busy.step(seconds=0.01)
    for sequence in (running, waiting):
        assert sequence is not None
        assert sequence.state is State.FAILED
        assert sequence.end_code == "deadline_exceeded"
        assert not sequence.pages
    assert running is not None
    assert 3 <= running.generated <= 6
    busy.finish()


def measured(**changes: object) -> World:
    """A world that has measured steps of 10 ms for some 30 rows each, and has nothing to do."""
    busy = world(**changes)
    chance = random.Random(4)  # noqa: S311 a test's dice
    for _ in range(6):
        busy.add(A, [chance.randrange(5) for _ in range(100)], 1)
        busy.finish()
    return busy


def refused(busy: World, owner: Owner, length: int, **options: object) -> Refusal:
    """Why a request is not taken on."""
    deadline_in = options.pop("deadline_in", None)
    deadline = None if deadline_in is None else busy.now + deadline_in  # type: ignore[operator]
    sequence = Sequence("new", owner, prompt(length), 1, deadline=deadline, **options)  # type: ignore[arg-type]
    with pytest.raises(Refusal) as caught:
        busy.scheduler.add(sequence, busy.now)
    assert busy.scheduler.get("new") is None
    return caught.value


def test_a_deadline_that_cannot_be_kept_is_refused_at_once() -> None:
    """For ever if not even alone, and until the queue is shorter if it is the queue."""
    busy = measured()
    assert refused(busy, A, 1000, deadline_in=0.05).retry_after is None
    assert refused(busy, A, 1000, deadline_in=0.0).code == "deadline_exceeded"
    assert busy.add(B, prompt(20), 1, deadline_in=2.0) is not None
    for token in range(2, 5):
        busy.add(A, prompt(300, token), 2)
        busy.add(B, prompt(300, token), 2)
    refusal = refused(busy, A, 100, deadline_in=0.1)
    assert refusal.code == "engine_overloaded"
    assert refusal.retry_after is not None
    assert 0.1 <= refusal.retry_after < 5


def test_too_long_a_wait_is_refused_at_once() -> None:
    """With a bound on waiting, who would wait longer is told after how long to come again; and then may."""
    busy = measured(max_wait_s=0.2)
    for token in range(1, 20):
        busy.add(A, prompt(100, token), 1)
    assert len(busy.living) < 19
    refusal = refused(busy, A, 10)
    assert refusal.code == "engine_overloaded"
    assert refusal.retry_after is not None
    until = busy.now + refusal.retry_after
    while busy.now < until and busy.living:
        busy.step()
    assert busy.add(A, prompt(10), 1) is not None
    busy.finish()


def test_one_tenants_queue_does_not_refuse_another() -> None:
    """Neither its predicted wait nor its number of requests: each is judged by its own turn."""
    busy = measured(max_wait_s=1.0)
    for token in range(40):
        busy.add(A, prompt(300, token), 1)
    refused(busy, A, 100)
    assert busy.add(B, prompt(100), 1) is not None
    crowded = world()
    while crowded.add(A, prompt(4), 1) is not None:
        pass
    assert crowded.scheduler.waiting.of("a") == 32  # half of the queue
    refusal = refused(crowded, A, 4)
    assert (refusal.code, refusal.retry_after is not None) == ("engine_overloaded", True)
    assert crowded.add(B, prompt(4), 1) is not None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"prompt": []}, "invalid_parameter"),
        ({"max_tokens": 0}, "invalid_parameter"),
        ({"priority": 9}, "invalid_parameter"),
        ({"priority": -9}, "invalid_parameter"),
        ({"weight": 0.0}, "invalid_parameter"),
        ({"weight": float("inf")}, "invalid_parameter"),
        ({"max_tokens": 10_000}, "context_length_exceeded"),
        ({"sequence_id": "here"}, "duplicate_request"),
    ],
    ids=repr,
)
def test_what_cannot_run_is_refused(change: dict[str, object], code: str) -> None:
    """With a code and without a time after which it could, and nothing is held."""
    scheduler = Scheduler(SETTINGS, KEY)
    scheduler.add(Sequence("here", A, [1], 1), 0.0)
    fields = {"sequence_id": "new", "owner": A, "prompt": [1], "max_tokens": 1, **change}
    with pytest.raises(Refusal) as caught:
        scheduler.add(Sequence(**fields), 0.0)  # type: ignore[arg-type]  # by name
    assert (caught.value.code, caught.value.retry_after) == (code, None)
    assert len(scheduler.waiting) == 1
    assert scheduler.counts.refused == 1
    scheduler.verify()


def test_a_request_as_large_as_all_pages_runs() -> None:
    """Alone, though others share its wait and hold cached pages."""
    busy = world(pages=26)
    busy.add(B, prompt(40, 2), 2)
    large = busy.add(A, prompt(60), 41)
    busy.add(B, prompt(30, 3), 2)
    busy.finish()
    assert large is not None
    assert large.state is State.FINISHED


def test_one_step_is_out_at_a_time() -> None:
    """A second plan, a strange step and too few outcomes are errors of the caller."""
    scheduler = Scheduler(SETTINGS, KEY)
    scheduler.add(Sequence("s", A, [1, 2], 4), 0.0)
    step = scheduler.schedule(0.0)
    assert step is not None
    with pytest.raises(RuntimeError, match="is out"):
        scheduler.schedule(0.0)
    with pytest.raises(ValueError, match="outcomes"):
        scheduler.collect(step, [], 1.0)
    scheduler.collect(step, [Sampled(3)], 1.0)
    with pytest.raises(RuntimeError, match="not out"):
        scheduler.collect(step, [Sampled(3)], 1.0)
    step = scheduler.schedule(1.0)
    assert step is not None
    with pytest.raises(TypeError, match="no token"):
        scheduler.collect(step, [None], 1.0)


def test_how_sequences_end() -> None:
    """By a stop token, by length, by a failed row, by a failed step, by their consumer."""
    scheduler = Scheduler(SETTINGS, KEY)
    ends = ["stop", "length", "engine_failed", "cancelled"]
    for name in ends:
        scheduler.add(Sequence(name, A, [len(name)], 1), 0.0)
    step = scheduler.schedule(0.0)
    assert step is not None
    assert scheduler.cancel("cancelled")
    assert not scheduler.cancel("cancelled")
    outcomes = {"stop": Sampled(1, "stop"), "engine_failed": RunFailed()}
    scheduler.collect(step, [outcomes.get(item.sequence.id, Sampled(1)) for item in step.items], 0.1)
    assert {each.id: each.end_code for each in scheduler.take_ended()} == {name: name for name in ends}
    assert scheduler.take_ended() == []
    counts = scheduler.counts
    assert (counts.finished, counts.failed, counts.cancelled) == (2, 1, 1)
    scheduler.add(Sequence("last", A, [1], 1), 1.0)
    step = scheduler.schedule(1.0)
    assert step is not None
    scheduler.abandon(step, "engine_failed")
    assert [each.end_code for each in scheduler.take_ended()] == ["engine_failed"]
    assert scheduler.idle
    assert scheduler.schedule(2.0) is None


def test_nothing_shows_its_tokens() -> None:
    """What may be logged has numbers and names only."""
    scheduler = Scheduler(SETTINGS, KEY)
    sequence = Sequence("name", Owner("tenant", "label"), [4711] * 3, 4)
    scheduler.add(sequence, 0.0)
    step = scheduler.schedule(0.0)
    shown = f"{sequence!r} {step!r} {scheduler!r} {step.items if step else None!r}"
    assert "4711" not in shown
    assert "label" not in shown


def test_settings_that_leave_no_room_for_prompts_are_refused() -> None:
    """A step holds every decoding sequence and a row of a prompt."""
    with pytest.raises(ValueError, match="room"):
        SchedulerSettings(pages=10, max_running=8, budget=BudgetSettings(step_rows=8))
