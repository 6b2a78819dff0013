"""The rows of a verdict: every check that was made, in order, as a person may read it.

Verifiers append to a ``CheckList`` that the caller owns, so that the rows up to and including the failing
one survive the exception. A row is an explanation and decides nothing: what decides is that ``Refused``
was or was not raised. A failed check raises at once, so a list holds at most one failing row and it is the
last; what would have come after it was never looked at, and is absent rather than green.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from attest.refusal import Malformed, Refused


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
        expires: until when the row's evidence is valid (aware UTC), if it ends.
        part: of the evidence the row is about, from the outside in, e.g. ``("devices", "nvidia-gpu 0")``.
    """

    name: str
    clause: str
    expected: str
    got: str
    outcome: Outcome
    expires: datetime | None = None
    part: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The row for JSON output; ``expires`` as RFC 3339 text or None."""
        return {
            "part": list(self.part),
            "name": self.name,
            "clause": self.clause,
            "expected": self.expected,
            "got": self.got,
            "outcome": self.outcome.value,
            "expires": None if self.expires is None else self.expires.isoformat(),
        }


class CheckList:
    """The rows so far, in the order in which they were decided."""

    __slots__ = ("_part", "_rows")

    def __init__(self, rows: tuple[Check, ...] = ()) -> None:
        self._rows = list(rows)
        self._part: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"CheckList({len(self._rows)} rows)"

    def __iter__(self) -> Iterator[Check]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> tuple[Check, ...]:
        """The rows so far, as plain data."""
        return tuple(self._rows)

    @property
    def expires(self) -> datetime | None:
        """The earliest moment at which a row stops holding, or None if time ends none of them."""
        return min((row.expires for row in self._rows if row.expires is not None), default=None)

    @contextmanager
    def under(self, part: str) -> Iterator[None]:
        """Mark the rows that are added in the block as being about a part of the evidence. Blocks nest."""
        outer = self._part
        self._part = (*outer, part)
        try:
            yield
        except Refused as refusal:
            # Its row belongs here too, though it is only added further out.
            self._refused(refusal, refusal.code, "")
            raise
        finally:
            self._part = outer

    def append(self, check: Check) -> None:
        """Add one row, under the current part."""
        self._rows.append(replace(check, part=self._part) if self._part else check)

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

    def require(
        self,
        holds: bool,
        code: str,
        name: str,
        clause: str,
        *,
        expected: str = "",
        got: str = "",
        expires: datetime | None = None,
    ) -> None:
        """Add the row of a check, and refuse unless it holds.

        Raises:
            Refused: ``code``.
        """
        if holds is not True:
            self.append(Check(name, clause, expected, got, Outcome.REFUSED))
            raise Refused(code, clause, expected=expected, got=got)
        self.append(Check(name, clause, expected, got, Outcome.PASSED, expires))

    @contextmanager
    def step(self, name: str, clause: str) -> Iterator[None]:
        """Run one check; if it refuses, add its row and let the refusal go on.

        The block itself adds the row of success (``passed``), because only it knows what came. Where
        blocks are nested, the innermost that sees the refusal names the row.

        Args:
            name: the row's name if the block refuses.
            clause: the row's clause if the refusal names none.
        """
        try:
            yield
        except Refused as refusal:
            self._refused(refusal, name, clause)
            raise

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Make a refusal that leaves the block carry the rows up to its own as ``.checks``.

        For the outermost verifier: ``verify_bundle`` and ``appraise``.
        """
        try:
            yield
        except Refused as refusal:
            self._refused(refusal, refusal.code, "")
            refusal.checks = self.rows
            raise

    def _refused(self, refusal: Refused, name: str, clause: str) -> None:
        if self._rows and self._rows[-1].outcome is Outcome.REFUSED:
            return
        got = str(refusal) if isinstance(refusal, Malformed) else refusal.got
        self.append(Check(name, refusal.clause or clause, refusal.expected, got, Outcome.REFUSED))
