"""How a command ends: the exit codes, and the one exception that carries a message and a hint.

    0   done, and everything asked about held
    1   our fault, or the other side could not be reached: nothing was decided about it
    2   the command was used wrongly
    10  refused: understood, and must not be accepted
    20  unsupported: genuine perhaps, but of a kind that this version cannot judge
    30  malformed: not an instance of the format

10, 20 and 30 are the ``exit_code`` of the refusal classes in ``attest/refusal.py``. *Refused* is never
*unreachable*: a runtime that does not answer gives 1.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any


class Exit(IntEnum):
    """The documented exit codes; docs/reference/cli.md lists them."""

    OK = 0
    FAULT = 1
    USAGE = 2
    REFUSED = 10
    UNSUPPORTED = 20
    MALFORMED = 30
    INTERRUPTED = 130  # 128 + SIGINT, as shells report it


class Failure(Exception):
    """A command cannot do what was asked.

    Args:
        message: what happened, one line; never content, keys or tokens.
        hint: what to do about it, one line each.
        code: stable identifier for ``--json``, snake_case or a refusal's kebab-case.
        exit_code: how the process ends.
        detail: lines that help to understand, e.g. the end of a child's log.
    """

    def __init__(
        self,
        message: str,
        *hint: str,
        code: str = "failed",
        exit_code: int = Exit.FAULT,
        detail: str = "",
    ) -> None:
        self.message = message
        self.hint = hint
        self.code = code
        self.exit_code = int(exit_code)
        self.detail = detail
        super().__init__(message)

    def as_dict(self) -> dict[str, Any]:
        """The document that ``--json`` prints."""
        return {
            "ok": False,
            "error": {
                "code": self.code,
                "message": self.message,
                "hint": list(self.hint),
                "detail": self.detail or None,
                "exit_code": self.exit_code,
            },
        }
