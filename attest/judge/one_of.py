"""The commonest rule: what came is one of what is listed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from attest.accepted.forms import CLAUSE
from attest.checks import CheckList

_SHOWN: Final = 3
"""How many accepted values a row shows."""


def one_of(
    checks: CheckList,
    code: str,
    name: str,
    got: str | int,
    accepted: Collection[str | int],
    *,
    clause: str = CLAUSE,
) -> None:
    """Require that ``got`` is among ``accepted``.

    Raises:
        Refused: ``code``.
    """
    listed = ", ".join(map(str, sorted(accepted, key=str)[:_SHOWN]))
    more = f" or {len(accepted) - _SHOWN} more" if len(accepted) > _SHOWN else ""
    checks.require(got in accepted, code, name, clause, expected=listed + more, got=str(got))
