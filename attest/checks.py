"""What was checked, row by row: the material of the verdict table and of every refusal's explanation.

Verifiers append to one ``CheckList`` as they go. A failed check raises at once, so a list holds at most
one failing row and it is the last; rows that would have come after it were never looked at, and are
absent rather than green.

    checks = CheckList()
    with checks.on_refusal():                       # in the outermost verifier only
        checks.require(report.vmpl == 0, "report-vmpl", "guest runs at VMPL 0",
                       clause="AMD 56860 Table 23", expected="0", got=str(report.vmpl))
        checks.passed("chain is signed", clause="AMD 57230 section 3", got="VCEK <- ASK <- ARK", expires=not_after)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from attest.refusal import Malformed, Refused

Outcome = Literal["pass", "fail", "note"]
"""``note`` marks what was deliberately not checked, e.g. no nonce when a saved file is judged."""


@dataclass(frozen=True, slots=True)
class Check:
    """One row.

    Args:
        name: what was checked, for a person; for a failing row that no ``require`` named, its refusal code.
        clause: where the rule comes from, e.g. ``"AMD 56860 Table 23"``.
        expected: what is accepted; digests, numbers, names and sizes only.
        got: what came; never content or keys.
        outcome: ``pass``, ``fail`` or ``note``.
        expires: when this row stops holding (aware UTC), or None if time cannot end it.
    """

    name: str
    clause: str
    expected: str
    got: str
    outcome: Outcome
    expires: datetime | None = None

    def as_dict(self) -> dict[str, Any]:
        """The row for JSON output; ``expires`` as RFC 3339 text or None."""
        return {
            "name": self.name,
            "clause": self.clause,
            "expected": self.expected,
            "got": self.got,
            "outcome": self.outcome,
            "expires": None if self.expires is None else self.expires.isoformat(),
        }


class CheckList:
    """The rows of one verification, in the order in which they were established."""

    __slots__ = ("_rows",)

    def __init__(self, rows: tuple[Check, ...] = ()) -> None:
        self._rows = list(rows)

    def __repr__(self) -> str:
        return f"CheckList({len(self._rows)} rows)"

    @property
    def rows(self) -> tuple[Check, ...]:
        """All rows so far."""
        return tuple(self._rows)

    @property
    def expires(self) -> datetime | None:
        """The earliest moment at which a row stops holding, or None if none ever does."""
        return min((row.expires for row in self._rows if row.expires is not None), default=None)

    def passed(
        self,
        name: str,
        *,
        clause: str = "",
        expected: str = "",
        got: str = "",
        expires: datetime | None = None,
    ) -> None:
        """Record a check that held (the caller has raised already if it did not)."""
        self._rows.append(Check(name, clause, expected, got, "pass", expires))

    def note(self, name: str, *, clause: str = "", expected: str = "", got: str = "") -> None:
        """Record what was deliberately not checked."""
        self._rows.append(Check(name, clause, expected, got, "note"))

    def require(
        self,
        holds: bool,
        code: str,
        name: str,
        *,
        clause: str = "",
        expected: str = "",
        got: str = "",
        expires: datetime | None = None,
    ) -> None:
        """Record the row, and refuse unless it holds.

        Args:
            holds: the check's result; must be a real boolean.
            code: refusal code if it does not hold.
            name: what is checked, for a person.
            clause: where the rule comes from.
            expected: what is accepted.
            got: what came.
            expires: when a passing row stops holding.

        Raises:
            Refused: ``code``.
        """
        if holds is True:
            self._rows.append(Check(name, clause, expected, got, "pass", expires))
            return
        self._rows.append(Check(name, clause, expected, got, "fail"))
        raise Refused(code, clause, expected=expected, got=got)

    @contextmanager
    def on_refusal(self) -> Iterator[None]:
        """Make every ``Refused`` that leaves the block end this list and carry it as ``.checks``."""
        try:
            yield
        except Refused as refusal:
            if not self._rows or self._rows[-1].outcome != "fail":
                got = str(refusal) if isinstance(refusal, Malformed) else refusal.got
                self._rows.append(Check(refusal.code, refusal.clause, refusal.expected, got, "fail"))
            refusal.checks = self.rows
            raise
