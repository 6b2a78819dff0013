"""The commonest rule, and the row that it leaves."""

from __future__ import annotations

import pytest

from attest.checks import CheckList, Outcome
from attest.judge.one_of import one_of
from attest.refusal import Refused


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ({"b"}, "b"),
        ({"c", "b", "a"}, "a, b, c"),
        ({"d", "c", "b", "a"}, "a, b, c or 1 more"),
        ({10, 9, 2}, "10, 2, 9"),
    ],
)
def test_what_is_shown_of_what_is_accepted(accepted: set[str | int], expected: str) -> None:
    """The first three, and how many more."""
    checks = CheckList()
    with pytest.raises(Refused) as refusal:
        one_of(checks, "some-code", "thing", "z", accepted, clause="RFC 1")
    assert (refusal.value.code, refusal.value.clause) == ("some-code", "RFC 1")
    assert (refusal.value.expected, refusal.value.got) == (expected, "z")
    (row,) = checks
    assert (row.name, row.outcome) == ("thing", Outcome.REFUSED)


def test_one_of_what_is_accepted() -> None:
    """Text is not taken for a number, nor a number for text."""
    checks = CheckList()
    one_of(checks, "some-code", "thing", 2, {1, 2})
    assert [(row.name, row.got, row.outcome) for row in checks] == [("thing", "2", Outcome.PASSED)]
    with pytest.raises(Refused, match="some-code"):
        one_of(checks, "some-code", "thing", "2", {1, 2})
