"""One piece of raw evidence on its way through verification and appraisal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from attest.checks import CheckList
from attest.reference import ReferenceValues
from attest.trust import MockRoots, TrustRoots
from gateway.cli.verify.raw_options import RawFiles

Facts = dict[str, str]
"""What a piece of evidence says, for people: name to value."""


@dataclass(frozen=True)
class Found:
    """Genuine evidence: what it says, and whose root says so.

    Args:
        vendors: of its parts, e.g. ``amd`` or ``mock``.
        facts: for people.
    """

    vendors: frozenset[str]
    facts: Facts

    @property
    def is_mock(self) -> bool:
        """Whether no hardware stands behind a part of it."""
        return "mock" in self.vendors


_NO_MOCK: Final = MockRoots(ark_sha256="0" * 64)
"""Roots that no certificate has: where a trust file names no mock."""
_CLAUSE: Final = "docs/reference/reference-values.md"


@dataclass(frozen=True)
class Task:
    """What is judged, by whose roots, as of when.

    Args:
        files: what was named.
        roots: who may vouch.
        reference: what is accepted; None asks only whether the evidence is genuine.
        now: time of verification, aware.
        checks: gets the rows.
    """

    files: RawFiles
    roots: TrustRoots
    reference: ReferenceValues | None
    now: datetime
    checks: CheckList

    @property
    def mock(self) -> MockRoots:
        """The mock's roots, or roots that nothing ends in."""
        return self.roots.mock or _NO_MOCK

    def appraise(self, table: str, judge: Callable[[Any], None]) -> None:
        """Hold genuine evidence against the reference values' table of its kind, if there are values.

        Args:
            table: name of the table.
            judge: takes the table's values; raises what it refuses.

        Raises:
            Refused: ``tee-not-accepted``, ``reference-expired``, and what ``judge`` raises.
        """
        if self.reference is None:
            return
        with self.checks.under("appraisal"):
            accepted = getattr(self.reference, table)
            self.checks.require(
                accepted is not None,
                "tee-not-accepted",
                f"the policy has a table [{table}]",
                _CLAUSE,
                expected="one",
                got="none" if accepted is None else "a table",
            )
            judge(accepted)
            self.checks.require(
                self.now < self.reference.not_after,
                "reference-expired",
                "reference in date",
                _CLAUSE,
                expected=f"before {self.reference.not_after.isoformat()}",
                got=self.now.isoformat(),
                expires=self.reference.not_after,
            )
