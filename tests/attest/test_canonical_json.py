"""Canonical JSON: the fast way writes what the reference library writes, or refuses as it does."""

from __future__ import annotations

import timeit
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from attest.strict_json import canonical

TEXT = st.text(st.characters(blacklist_categories=()), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=500, deadline=None)
@given(VALUES)
def test_it_is_what_the_reference_writes(value: Any) -> None:
    try:
        expected = rfc8785.dumps(value)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011 - the two encoders have no common message
            canonical(value)
    else:
        assert canonical(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "".join(map(chr, range(0x100))),
        {"b": 1, "a": [{"\u20ac": 2, "\r": 3, "1": 4}], "\U0001f600": 5, "\ufb33": 6},
        [2**53 - 1, -(2**53) + 1, 1.0, 1e21, -0.0, 5e-324],
    ],
)
def test_the_places_where_encoders_differ(value: Any) -> None:
    assert canonical(value) == rfc8785.dumps(value)


@pytest.mark.parametrize("value", [2**53, -(2**53), "\ud800", {"\udfff": 1}, [float("nan")]])
def test_what_has_no_canonical_form(value: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the two encoders have no common message
        canonical(value)


def test_what_is_nested_too_deeply() -> None:
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValueError, match="deep"):
        canonical(value)


def test_it_is_worth_it() -> None:
    value = {"predicate": {f"member_{index}": "x" * 64 for index in range(17)}}
    fast = timeit.timeit(lambda: canonical(value), number=200)
    assert fast < timeit.timeit(lambda: rfc8785.dumps(value), number=200)
