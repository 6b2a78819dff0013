"""Sampling: the distribution that was asked for, repeatable by seed, exact at the edges."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from runtime.engine.base import EngineRefusal, SamplingParams
from runtime.engine.run import sampler as sampler_module
from runtime.engine.run.sampler import Choice, Sampler, choose


def params(**changes: Any) -> SamplingParams:
    return SamplingParams(**{"max_tokens": 10, "seed": 1, **changes})


def logits_of(*probabilities: float) -> Tensor:
    return torch.tensor(probabilities).log()


def one(sampler: Sampler, logits: Tensor) -> Choice:
    [choice] = choose(logits.clone().unsqueeze(0), [sampler])
    assert choice is not None
    return choice


def drawn(logits: Tensor, count: int, **changes: Any) -> Counter[int]:
    sampler = Sampler(params(**changes))
    return Counter(one(sampler, logits).token_id for _ in range(count))


def wide(seed: int = 0, size: int = 5000, spread: float = 2.0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)) * spread


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_tempered_distribution(temperature: float) -> None:
    """Pearson's chi-squared over 20,000 draws, seven degrees of freedom: 24.3 is the 0.1 % point."""
    logits = logits_of(0.3, 0.2, 0.2, 0.1, 0.1, 0.05, 0.03, 0.02)
    count = 20_000
    expected = torch.softmax(logits.double() / temperature, 0) * count
    seen = drawn(logits, count, temperature=temperature)
    chi_squared = sum((seen[i] - float(expected[i])) ** 2 / float(expected[i]) for i in range(8))
    assert chi_squared < 24.3


def test_a_filtered_draw_keeps_the_proportions() -> None:
    seen = drawn(logits_of(0.1, 0.4, 0.2, 0.3), 20_000, top_k=3)
    assert seen[0] == 0
    assert seen[1] / 20_000 == pytest.approx(4 / 9, abs=0.02)
    assert seen[2] / 20_000 == pytest.approx(2 / 9, abs=0.02)


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"top_k": 1}, {3}),
        ({"top_k": 2}, {3, 1}),
        ({"top_p": 0.4}, {3}),
        ({"top_p": 0.41}, {3, 1}),
        ({"top_p": 0.71}, {3, 1, 2}),
        ({"top_p": 1e-9}, {3}),
        ({"min_p": 0.6}, {3, 1}),
        ({"min_p": 1.0}, {3}),
        ({"top_k": 2, "top_p": 0.5}, {3}),  # of the two kept, 4/7 is the first's
        ({"top_k": 99}, {0, 1, 2, 3}),
        ({}, {0, 1, 2, 3}),
    ],
)
def test_filters_keep_what_their_definition_says(changes: dict[str, Any], kept: set[int]) -> None:
    assert drawn(logits_of(0.1, 0.3, 0.2, 0.4), 2000, **changes).keys() == kept


@pytest.mark.parametrize(
    "changes",
    [{"top_p": 0.9}, {"top_p": 0.9999}, {"min_p": 0.001}, {"top_k": 50}, {"top_k": 3000, "top_p": 0.95}],
)
@pytest.mark.parametrize("spread", [0.1, 2.0])
def test_the_quick_head_equals_a_full_sort(changes: dict[str, Any], spread: float) -> None:
    """Flat distributions need more than the likeliest 1024 tokens."""
    logits = wide(spread=spread)
    sampling = params(**changes)
    ordered, order = torch.sort(torch.softmax(logits.double(), 0), descending=True)
    size = len(ordered)
    if sampling.top_k:
        size = sampling.top_k
    if sampling.top_p < 1:
        mass = ordered[:size].sum() if sampling.top_k else 1.0
        size = int((ordered[:size].cumsum(0) - ordered[:size] < sampling.top_p * mass).sum())
    if sampling.min_p:
        size = int((ordered[:size] >= sampling.min_p * ordered[0]).sum())
    probabilities = torch.softmax(logits.double(), 0)
    head, ids = torch.topk(probabilities, 1024)
    if not sampler_module._enough(head, probabilities.unsqueeze(0), Sampler(sampling)):
        head, ids = ordered, order
    [kept] = sampler_module._kept(head.unsqueeze(0), [Sampler(sampling)])
    assert set(ids[kept > 0].tolist()) == set(order[:size].tolist())
    torch.testing.assert_close(kept[kept > 0], ordered[:size])


def test_a_seed_repeats_its_draws_and_another_does_not() -> None:
    logits = wide()

    def run(seed: int | None) -> list[int]:
        sampler = Sampler(params(seed=seed))
        return [one(sampler, logits).token_id for _ in range(20)]

    assert run(7) == run(7)
    assert run(7) != run(8)
    assert run(None) != run(None)
    assert run(-1) == run(-1)  # the API takes any integer
    assert run(1 << 80) == run(1 << 80)


def test_greedy_takes_the_first_of_equals() -> None:
    assert one(Sampler(params(temperature=0)), torch.tensor([1.0, 3.0, 3.0, 2.0])).token_id == 1


def test_a_tiny_temperature_is_nearly_greedy_and_does_not_overflow() -> None:
    assert drawn(wide(), 50, temperature=1e-300).keys() == {int(wide().argmax())}


def test_penalties_lower_what_was_generated() -> None:
    logits = torch.tensor([2.0, 1.5, 0.0])
    sampler = Sampler(params(temperature=0, presence_penalty=1.0))
    assert [one(sampler, logits).token_id for _ in range(4)] == [0, 1, 0, 0]
    sampler = Sampler(params(temperature=0, frequency_penalty=0.3))
    assert [one(sampler, logits).token_id for _ in range(6)] == [0, 0, 1, 0, 1, 0]
    sampler = Sampler(params(temperature=0, frequency_penalty=-2.0))
    assert [one(sampler, logits).token_id for _ in range(3)] == [0, 0, 0]


def test_log_probabilities_are_of_the_model_not_of_the_filters() -> None:
    logits = logits_of(0.5, 0.25, 0.25)
    sampler = Sampler(params(temperature=0.1, top_k=1, presence_penalty=2.0, logprobs=2))
    one(sampler, logits)
    choice = one(sampler, logits)
    top = choice.top_logprobs
    assert top is not None
    assert choice.logprob == pytest.approx(math.log(0.5 if choice.token_id == 0 else 0.25))
    assert top[0] == (0, pytest.approx(math.log(0.5)))
    assert top[1][1] == pytest.approx(math.log(0.25))
    assert len(top) == 2


def test_log_probabilities_are_reported_only_when_asked_for() -> None:
    choice = one(Sampler(params()), wide())
    assert (choice.logprob, choice.top_logprobs) == (None, None)
    choice = one(Sampler(params(logprobs=0)), wide())
    assert choice.logprob is not None
    assert choice.top_logprobs == ()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_broken_distribution_is_no_token_and_its_own_row_only(bad: float) -> None:
    rows = torch.tensor([[0.0, bad, 1.0], [0.0, 1.0, 0.5]])
    broken, sound = choose(rows, [Sampler(params()), Sampler(params(temperature=0))])
    assert broken is None
    assert sound is not None
    assert sound.token_id == 1


def test_a_batch_draws_what_each_would_alone() -> None:
    """Parameters of all kinds side by side, for twenty tokens, beside a neighbour that is never the same."""
    kinds: list[dict[str, Any]] = [
        {"temperature": 0},
        {"temperature": 0.7},
        {"top_k": 40, "logprobs": 2},
        {"top_p": 0.9, "temperature": 1.5},
        {"min_p": 0.05, "frequency_penalty": 0.5},
        {"top_p": 0.9999, "presence_penalty": 1.0},
    ]
    rows = torch.stack([wide(seed, spread=1.0) for seed in range(len(kinds))])
    alone = [Sampler(params(seed=5, **kind)) for kind in kinds]
    expected = [
        [one(sampler, row).token_id for _ in range(20)] for sampler, row in zip(alone, rows, strict=True)
    ]
    together = [Sampler(params(seed=5, **kind)) for kind in kinds]
    found: list[list[int]] = [[] for _ in kinds]
    for step in range(20):
        stranger = Sampler(params(seed=step, top_k=step))
        chosen = choose(torch.cat((wide(step + 50).unsqueeze(0), rows)), [stranger, *together])
        for tokens, choice in zip(found, chosen[1:], strict=True):
            assert choice is not None
            tokens.append(choice.token_id)
    assert found == expected


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.floats(-30, 30), min_size=1, max_size=40),
    st.fixed_dictionaries(
        {
            "temperature": st.floats(0.01, 5),
            "top_p": st.floats(0.001, 1),
            "top_k": st.integers(0, 50),
            "min_p": st.floats(0, 1),
            "seed": st.integers(),
        }
    ),
)
def test_any_choice_is_a_token_that_the_filters_allow(values: list[float], filters: dict[str, Any]) -> None:
    logits = torch.tensor(values)
    sampling = params(**filters)
    chosen = one(Sampler(sampling), logits).token_id
    rank = int((logits > logits[chosen]).sum())
    assert 0 <= chosen < len(values)
    assert sampling.top_k == 0 or rank < sampling.top_k
    ratio = math.exp(min(0.0, float(logits[chosen] - logits.max())) / sampling.temperature)
    assert ratio >= sampling.min_p * (1 - 1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"max_tokens": 0},
        {"temperature": -0.1},
        {"temperature": math.inf},
        {"temperature": math.nan},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"min_p": 1.1},
        {"min_p": math.nan},
        {"presence_penalty": 2.1},
        {"frequency_penalty": -2.1},
        {"logprobs": 21},
        {"logprobs": -1},
        {"prompt_logprobs": 21},
        {"prompt_logprobs_from": 0},
    ],
)
def test_parameters_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(EngineRefusal) as refusal:
        params(**changes)
    assert refusal.value.code == "invalid_parameter"
    assert refusal.value.detail in changes


@pytest.mark.parametrize("temperature", [5e-324, 1e-310, 1e-30])
@pytest.mark.parametrize("filters", [{}, {"top_p": 0.9}, {"min_p": 0.1, "top_k": 5}])
def test_next_to_no_temperature_takes_the_likeliest(temperature: float, filters: dict[str, Any]) -> None:
    """However small: logits divided by it would be infinities, and their differences no numbers."""
    logits = logits_of(0.2, 0.5, 0.3)
    assert drawn(logits * 10, 20, temperature=temperature, **filters) == {1: 20}


@pytest.mark.parametrize("filters", [{}, {"top_p": 0.9}, {"min_p": 0.1, "top_k": 5}])
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_row_that_is_not_finite_leaves_its_neighbours_alone(filters: dict[str, Any], broken: float) -> None:
    """Whatever filters its request asked for."""
    rows = torch.stack([wide(1), wide(2), wide(3)])
    expected = [one(Sampler(params(**filters)), rows[row]) for row in (0, 2)]
    rows[1, 7:] = broken
    found = choose(rows, [Sampler(params(**filters)) for _ in range(3)])
    assert found[1] is None
    assert [each.token_id for each in (found[0], found[2]) if each] == [each.token_id for each in expected]
