"""The cost model finds what steps cost, noise or not, and the budget keeps the time it is given."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from runtime.engine.schedule.budget import Budget, BudgetSettings
from runtime.engine.schedule.cost import CostModel, StepCost
from runtime.engine.schedule.step import StepLoad

TRUE = StepCost(fixed=20e-3, prompt_row=7e-5, decode=2e-4, cached=3e-7, pair=2e-8)


def loads(seed: int, count: int) -> list[StepLoad]:
    """Steps of all kinds."""
    chance = random.Random(seed)  # noqa: S311 a test's dice
    found = []
    for _ in range(count):
        rows = chance.choice([0, 0, chance.randrange(1, 512)])
        decodes = chance.randrange(1, 65)
        pairs = rows * chance.randrange(1, 4000)
        found.append(StepLoad(rows, decodes, decodes * chance.randrange(100, 3000), pairs))
    return found


@pytest.mark.parametrize("factor", [0.02, 1, 50])
def test_the_model_learns_from_noisy_steps(factor: float) -> None:
    """From a guess wrong by fifty either way, with hiccups, predictions come within a tenth."""
    guess = StepCost(*(factor * part for part in (20e-3, 7e-5, 2e-4, 3e-7, 2e-8)))
    model = CostModel(guess)
    chance = random.Random(5)  # noqa: S311 a test's dice
    for load in loads(1, 400):
        hiccup = 4 if chance.random() < 0.03 else 1
        model.observe(load, TRUE.of(load) * chance.lognormvariate(0, 0.08) * hiccup)
    errors = [abs(model.cost.of(load) / TRUE.of(load) - 1) for load in loads(2, 100)]
    assert statistics.median(errors) < 0.1


@pytest.mark.parametrize("factor", [0.02, 50])
def test_a_wrong_guess_is_soon_mended(factor: float) -> None:
    """Twenty steps of a machine fifty times slower or faster than guessed tell its order of size."""
    guess = StepCost(*(factor * part for part in (20e-3, 7e-5, 2e-4, 3e-7, 2e-8)))
    model = CostModel(guess)
    for load in loads(6, 20):
        model.observe(load, TRUE.of(load))
    ratios = [model.cost.of(load) / TRUE.of(load) for load in loads(7, 100)]
    assert 0.7 < statistics.median(ratios) < 1.4


def test_what_is_not_seen_is_not_forgotten() -> None:
    """A thousand steps without a prompt leave the price of a prompt's row as it was."""
    model = CostModel()
    for load in loads(1, 400):
        model.observe(load, TRUE.of(load))
    before = model.cost.prompt_row
    for load in loads(3, 1000):
        decoding = StepLoad(0, load.decodes, load.cached, 0)
        model.observe(decoding, TRUE.of(decoding))
    assert model.cost.prompt_row == pytest.approx(before, rel=0.05)
    assert model.cost.prompt_row == pytest.approx(TRUE.prompt_row, rel=0.3)


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_a_clock_that_stands_still_teaches_nothing(seconds: float) -> None:
    """Times that cannot be are ignored."""
    model = CostModel()
    model.observe(StepLoad(1, 1, 1, 1), seconds)
    assert model.observed == 0


def known(settings: BudgetSettings) -> Budget:
    """A budget that knows the cost."""
    return Budget(settings, CostModel(TRUE))


@pytest.mark.parametrize("start", [0, 500, 20_000])
def test_a_step_keeps_its_time(start: int) -> None:
    """With what it takes for prompts a step is predicted to last as stated, wherever in a prompt it is."""
    budget = known(BudgetSettings(between_tokens_s=0.040, stretch=10, step_rows=4096, multiple=1))
    room = budget.room(16, 16_000, 1 << 20)
    rows = room.take(start, 1 << 20)
    assert rows > 16
    load = StepLoad(rows, 16, 16_000, room.pairs)
    assert TRUE.of(load) == pytest.approx(0.040, rel=0.02)


def test_nobody_decodes_nobody_waits() -> None:
    """Alone, prompts fill the step."""
    room = known(BudgetSettings(between_tokens_s=1e-6, step_rows=300)).room(0, 0, 10_000)
    assert room.take(0, 10_000) == 296  # a multiple of 8
    assert room.take(0, 4) == 4
    assert room.take(0, 4) == 0


def test_prompts_always_get_on() -> None:
    """Where the time is up before the first row, there are still a few."""
    room = known(BudgetSettings(between_tokens_s=1e-6)).room(16, 16_000, 10_000)
    assert room.take(0, 10_000) == 4
    assert not room.open
    assert room.take(0, 10_000) == 0


def test_half_of_the_room_is_left_to_others() -> None:
    """A long prompt leaves half to those behind it, or as little as they need."""
    settings = BudgetSettings(step_rows=1024)
    assert known(settings).room(0, 0, 10_000).take(0, 8_000, others=2_000) == 512
    assert known(settings).room(0, 0, 10_000).take(0, 8_000, others=24) == 1000


def test_without_a_stretch_there_is_no_budget() -> None:
    """An infinite stretch turns it off."""
    assert known(BudgetSettings(step_rows=9000, stretch=math.inf)).room(8, 8_000, 8192).take(0, 8192) == 8192


def run(budget: Budget, steps: int, backlog: int) -> int:
    """The room after so many steps beside a backlog."""
    for _ in range(steps):
        room = budget.room(8, 8_000, backlog)
        load = StepLoad(room.take(0, backlog), 8, 8_000, room.pairs)
        budget.observe(load, TRUE.of(load), TRUE.of(load))
    return budget.room(8, 8_000, backlog).take(0, 1 << 20)


def test_the_budget_follows_load_slowly() -> None:
    """One step beside a long queue changes little, a minute of it leads to the bound, and calm back again."""
    budget = known(BudgetSettings(stretch=1.2, most_stretch=3, multiple=1, adapt_s=10))
    calm = run(budget, 1, 10)
    assert run(budget, 1, 100_000) < 1.2 * calm
    pressed = run(budget, 1000, 100_000)
    assert pressed > 4 * calm
    assert run(budget, 1000, 10) == pytest.approx(calm, rel=0.05)


def test_predicting_a_wait_changes_nothing() -> None:
    """Admission may ask for the pace between a plan and its end."""
    asked, unasked = (known(BudgetSettings(adapt_s=1)) for _ in range(2))
    for budget in (asked, unasked):
        for _ in range(20):
            budget.room(8, 8_000, 1_000_000)
            if budget is asked:
                assert budget.rows_per_second(4, 400) > 0
                assert budget.rows_per_second(0, 0) > 0
            budget.observe(StepLoad(16, 8, 8_000, 100), 0.03, 0.03)
    rooms = {budget.room(8, 8_000, 1 << 20).take(0, 1 << 20) for budget in (asked, unasked)}
    assert len(rooms) == 1


def test_the_stated_time_is_never_planned_past() -> None:
    """Pressure leads to the stated time between tokens and no further."""
    budget = known(BudgetSettings(between_tokens_s=0.030, multiple=1, adapt_s=1))
    rows = run(budget, 1000, 1 << 20)
    assert TRUE.of(StepLoad(rows, 8, 8_000, rows * rows // 2)) <= 0.0301


def test_steps_that_overrun_shrink_the_next() -> None:
    """Where many steps take longer than predicted, less is planned, so that most keep the time."""
    budget = known(BudgetSettings(between_tokens_s=0.040, stretch=10, multiple=1))
    before = budget.room(8, 8_000, 1000).take(0, 1 << 20)
    for _ in range(100):
        budget.observe(StepLoad(0, 8, 8_000, 0), 0.02, 0.03)
    budget._model.cost = TRUE  # what remains is the margin
    assert budget.room(8, 8_000, 1000).take(0, 1 << 20) < 0.7 * before
