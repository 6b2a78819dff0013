"""The anti-replay window against a plain model of its rule."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest.refusal import Refused
from runtime.api.tenants import WINDOW, SequenceWindow, Tenants


def outcome(window: SequenceWindow, sequence: int) -> str:
    try:
        window.claim(sequence)
    except Refused as refusal:
        return refusal.code
    return "taken"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 3 * WINDOW) | st.integers(1, 20), max_size=80))
def test_a_number_is_good_once_and_only_within_the_window(sequences: list[int]) -> None:
    window, used = SequenceWindow(), set[int]()
    for sequence in sequences:
        highest = max(used, default=0)
        if sequence <= highest - WINDOW:
            expected = "sequence-too-old"
        elif sequence in used:
            expected = "sequence-replayed"
        else:
            expected = "taken"
            used.add(sequence)
        assert outcome(window, sequence) == expected


def test_a_huge_jump_costs_nothing_and_forgets_nothing_wrongly() -> None:
    window = SequenceWindow()
    assert outcome(window, 1) == "taken"
    assert outcome(window, 2**53 - 1) == "taken"
    assert outcome(window, 2**53 - 1) == "sequence-replayed"
    assert outcome(window, 2**53 - WINDOW) == "taken"
    assert outcome(window, 2**53 - 1 - WINDOW) == "sequence-too-old"


def test_a_jump_of_exactly_the_window() -> None:
    window = SequenceWindow()
    assert [outcome(window, number) for number in (1, 1 + WINDOW, 2, 1)] == [
        "taken",
        "taken",
        "taken",
        "sequence-too-old",
    ]


def test_tenants_are_bounded() -> None:
    tenants = Tenants(2)
    tenants.claim("a", 1)
    tenants.claim("b", 1)
    with pytest.raises(Refused) as caught:
        tenants.claim("c", 1)
    assert caught.value.code == "tenant-store-full"
    tenants.claim("a", 2)
    assert len(tenants) == 2
