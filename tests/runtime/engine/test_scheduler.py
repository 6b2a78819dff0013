"""The scheduler alone: who goes when, how many tokens, and that nothing is lost or kept."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.engine.base import EngineRefusal, GenerateRequest, SamplingParams
from runtime.engine.scheduler import Limits, Scheduled, Scheduler
from runtime.engine.sequence import Sequence, State

LIMITS = Limits(max_batch=3, max_waiting=4, prompt_rows=100, prompt_rows_shared=10)


def sequence(name: str, prompt: int, tokens: int = 5) -> Sequence:
    request = GenerateRequest(name, "tenant", tuple(range(prompt)), SamplingParams(tokens))
    return Sequence(request, lambda _output: None)


def advance(step: list[Scheduled]) -> None:
    """What the engine does with a step, without a model."""
    for scheduled in step:
        scheduled.sequence.computed += scheduled.rows
        if scheduled.sequence.pending == 0:
            scheduled.sequence.tokens.append(0)


def rows(step: list[Scheduled]) -> list[tuple[str, int]]:
    return [(each.sequence.request.request_id, each.rows) for each in step]


def test_a_long_prompt_does_not_hold_up_who_decodes() -> None:
    scheduler = Scheduler(LIMITS)
    scheduler.add(sequence("a", 4))
    step = scheduler.schedule()
    assert rows(step) == [("a", 4)]
    advance(step)
    scheduler.add(sequence("b", 250))
    for _ in range(3):
        step = scheduler.schedule()
        assert rows(step) == [("a", 1), ("b", 10)]
        advance(step)


def test_prompts_share_a_budget_in_the_order_they_came() -> None:
    scheduler = Scheduler(LIMITS)
    for name, size in (("a", 60), ("b", 60), ("c", 60)):
        scheduler.add(sequence(name, size))
    assert rows(scheduler.schedule()) == [("a", 60), ("b", 40)]


def test_the_batch_is_bounded_and_refilled_in_order() -> None:
    scheduler = Scheduler(LIMITS)
    made = [sequence(name, 2) for name in "abcd"]
    for each in made:
        scheduler.add(each)
    advance(scheduler.schedule())
    assert [each.request.request_id for each in scheduler.running] == ["a", "b", "c"]
    scheduler.remove(made[1], State.FINISHED)
    scheduler.schedule()
    assert [each.request.request_id for each in scheduler.running] == ["a", "c", "d"]


def test_a_full_queue_refuses() -> None:
    scheduler = Scheduler(LIMITS)
    for index in range(LIMITS.max_waiting):
        scheduler.add(sequence(str(index), 2))
    with pytest.raises(EngineRefusal) as refusal:
        scheduler.add(sequence("one more", 2))
    assert refusal.value.code == "engine_overloaded"


def test_a_request_id_that_is_running_or_waiting_refuses() -> None:
    scheduler = Scheduler(LIMITS)
    scheduler.add(sequence("a", 2))
    for _ in range(2):
        with pytest.raises(EngineRefusal) as refusal:
            scheduler.add(sequence("a", 2))
        assert refusal.value.code == "duplicate_request"
        scheduler.schedule()


def test_an_ended_sequence_ends_once_and_keeps_no_cache() -> None:
    scheduler = Scheduler(LIMITS)
    each = sequence("a", 2)
    scheduler.add(each)
    scheduler.schedule()
    assert scheduler.remove(each, State.CANCELLED)
    assert not scheduler.remove(each, State.FINISHED)
    assert each.state is State.CANCELLED
    assert each.cache is None
    assert scheduler.schedule() == []


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(1, 20)), min_size=1, max_size=12),
    st.integers(1, 5),
    st.integers(1, 64),
)
def test_every_sequence_gets_all_its_tokens(work: list[tuple[int, int]], max_batch: int, shared: int) -> None:
    """And no step exceeds its budget; a sequence that decodes is in every step until it ends."""
    scheduler = Scheduler(Limits(max_batch, 99, 64, shared))
    made = [sequence(str(index), prompt, tokens) for index, (prompt, tokens) in enumerate(work)]
    for each in made:
        scheduler.add(each)
    while step := scheduler.schedule():
        decoding = [each for each in scheduler.running if each.pending == 1]
        assert [each.sequence for each in step if each.rows == 1][: len(decoding)] == decoding
        assert len(step) <= max_batch
        prompt_rows = sum(each.rows for each in step if each.sequence not in decoding)
        assert prompt_rows <= (shared if decoding else 64)
        advance(step)
        for each in list(scheduler.running):
            if each.generated == each.request.params.max_tokens:
                assert each.computed == each.capacity
                scheduler.remove(each, State.FINISHED)
    assert all(each.state is State.FINISHED for each in made)
