"""How a check says no.

    Refused            the input was understood and must not be accepted        exit 10
    ├── Unsupported    genuine perhaps, but of a kind this version cannot judge exit 20
    └── Malformed      not an instance of the format at all                     exit 30

Every refusal carries a stable ``code`` (kebab-case, listed in docs/reference/refusal-codes.md) that
programs may match on; the other fields are for people. Neither holds content, keys or tokens:
``expected`` and ``got`` are digests, numbers, names and sizes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:  # the rows know how to refuse, so at run time the arrow points the other way only
    from attest.checks import Check


class Refused(Exception):
    """A check failed. The default answer to anything unknown.

    Args:
        code: stable identifier of the check, kebab-case.
        clause: where the rule comes from, e.g. ``"AMD 56860 Table 23"`` or ``"RFC 9458 section 4.3"``.
        expected: what would have been accepted, for a person.
        got: what came instead, for a person; never content or keys.

    ``checks`` holds the rows established up to and including this one, once the refusal has left
    ``verify_bundle`` or ``appraise``; before that it is empty.
    """

    exit_code: ClassVar[int] = 10
    checks: tuple[Check, ...] = ()

    def __init__(self, code: str, clause: str = "", *, expected: str = "", got: str = "") -> None:
        self.code = code
        self.clause = clause
        self.expected = expected
        self.got = got
        super().__init__(code)

    def __str__(self) -> str:
        parts = [self.code]
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.got:
            parts.append(f"got {self.got}")
        text = ", ".join(parts)
        return f"{text} ({self.clause})" if self.clause else text


class Unsupported(Refused):
    """The evidence is of a kind, version or algorithm that this verifier does not judge."""

    exit_code = 20


class Malformed(Refused):
    """The bytes are not an instance of the format.

    Args:
        code: stable identifier, kebab-case.
        reason: what is wrong, for a person; sizes and names only.
        offset: where in the input, in bytes, if known.
        clause: where the rule comes from.
    """

    exit_code = 30

    def __init__(self, code: str, reason: str = "", *, offset: int | None = None, clause: str = "") -> None:
        self.reason = reason
        self.offset = offset
        super().__init__(code, clause)

    def __str__(self) -> str:
        where = "" if self.offset is None else f" at byte {self.offset}"
        reason = f": {self.reason}" if self.reason else ""
        clause = f" ({self.clause})" if self.clause else ""
        return f"{self.code}{where}{reason}{clause}"
