"""The rows of a verdict: every check that was made, in order, as a person may read it.

Verifiers append to a ``CheckList`` that the caller owns, so that the rows up to and including the failing
one survive the exception. A row is an explanation and decides nothing: what decides is that ``Refused``
was or was not raised.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from attest.refusal import Refused


class Outcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    REFUSED = "refused"
    NOTED = "noted"  # a fact worth a row on which no rule was asked to decide


@dataclass(frozen=True, slots=True)
class Check:
    """One row.

    Args:
        name: what was checked, in a few words.
        clause: where the rule comes from.
        expected: what would be accepted; never content or keys.
        got: what came.
        outcome: how it ended.
        expires: until when the row's evidence is valid, if it ends.
    """

    name: str
    clause: str
    expected: str
    got: str
    outcome: Outcome
    expires: datetime | None = None


class CheckList:
    """The rows so far, in the order in which they were decided."""

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: list[Check] = []

    def __repr__(self) -> str:
        return f"CheckList({len(self._rows)} rows)"

    def __iter__(self) -> Iterator[Check]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def append(self, check: Check) -> None:
        """Add one row."""
        self._rows.append(check)

    def passed(
        self, name: str, clause: str, *, expected: str = "", got: str = "", expires: datetime | None = None
    ) -> None:
        """Add the row of a check that held."""
        self.append(Check(name, clause, expected, got, Outcome.PASSED, expires))

    def noted(
        self, name: str, clause: str, *, expected: str = "", got: str = "", expires: datetime | None = None
    ) -> None:
        """Add the row of a fact on which no rule decided."""
        self.append(Check(name, clause, expected, got, Outcome.NOTED, expires))

    @contextmanager
    def step(self, name: str, clause: str) -> Iterator[None]:
        """Run one check; if it refuses, add its row and let the refusal go on.

        The block itself adds the row of success (``passed``), because only it knows what came.

        Args:
            name: the row's name if the block refuses.
            clause: the row's clause if the refusal names none.
        """
        try:
            yield
        except Refused as refusal:
            got = refusal.got or str(refusal)
            self.append(Check(name, refusal.clause or clause, refusal.expected, got, Outcome.REFUSED))
            raise
