"""How the values of a reference file are spelt, and the rules that all of its tables share."""

from __future__ import annotations

import re
from typing import Any, Final, get_args

from attest.refusal import Malformed

CLAUSE: Final = "docs/reference/reference-values.md"

MEASUREMENT: Final = re.compile(r"[0-9a-f]{96}", re.ASCII)
DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
TEXT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+=-]{0,255}", re.ASCII)
HEX: Final = re.compile(r"(?:[0-9a-f]{2}){1,64}", re.ASCII)


def one_of(literal: Any) -> re.Pattern[str]:
    """The pattern of a ``Literal``'s values."""
    return re.compile("|".join(map(re.escape, get_args(literal))), re.ASCII)


def optional(key: str, values: frozenset[str]) -> dict[str, list[str]]:
    """The member of a table that is left out where it is empty."""
    return {key: sorted(values)} if values else {}


def require_some(reference: object, *names: str) -> None:
    """Refuse empty lists: one would accept nothing today and be "fixed" into a wildcard tomorrow.

    Raises:
        Malformed: ``reference-empty``.
    """
    for name in names:
        if not getattr(reference, name):
            raise Malformed("reference-empty", name, clause=CLAUSE)
