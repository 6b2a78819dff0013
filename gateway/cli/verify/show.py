"""A verdict for people and for programs: what ended well, what did not, and what ends first."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from rich.markup import escape

from attest.checks import Check
from attest.refusal import Malformed, Refused
from gateway.cli.check_table import valid_for, when
from gateway.cli.output import Output


def first_to_end(checks: Iterable[Check]) -> Check | None:
    """The row that stops holding first; None if time ends none of them."""
    return min(
        (check for check in checks if check.expires is not None),
        key=lambda check: check.expires,  # type: ignore[arg-type,return-value]  # None was left out above
        default=None,
    )


def end_fact(checks: Iterable[Check], now: datetime) -> list[tuple[str, str]]:
    """How long the verdict holds, and which row ends it; empty if time does not."""
    first = first_to_end(checks)
    if first is None or first.expires is None:
        return []
    where = ", ".join((first.name, *first.part[-1:]))
    return [
        ("valid for", f"{valid_for(first.expires, now)} (until {when(first.expires)})"),
        ("ends first", escape(where)),
    ]


def show_refusal(refusal: Refused, output: Output) -> None:
    """Print why nothing may be sent."""
    output.say(f"[bad]{output.symbols.bad} refused: {escape(refusal.code)}[/]")
    facts = [("expected", refusal.expected), ("came", refusal.got), ("rule", refusal.clause)]
    if isinstance(refusal, Malformed):
        facts.insert(0, ("because", refusal.reason))
    output.facts([(name, escape(value)) for name, value in facts if value])
    output.say("[faint]nothing after the failed check was looked at, and nothing may be sent[/]")


def refusal_document(refusal: Refused) -> dict[str, Any]:
    """The JSON form of a refusal."""
    return {
        "code": refusal.code,
        "clause": refusal.clause,
        "expected": refusal.expected,
        "got": refusal.got,
        "message": str(refusal),
        "exit_code": refusal.exit_code,
    }


def end_document(checks: Iterable[Check]) -> dict[str, Any] | None:
    """The JSON form of what ends first."""
    first = first_to_end(checks)
    if first is None or first.expires is None:
        return None
    return {"name": first.name, "part": list(first.part), "expires": first.expires.isoformat()}
