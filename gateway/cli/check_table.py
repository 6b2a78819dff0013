"""The rows of a verdict as a tree: each check, what was expected, what came, how long it stays valid."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import MAXYEAR, UTC, datetime, timedelta

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from attest.checks import Check, Outcome
from gateway.cli.output import Output

_STYLES = {Outcome.PASSED: "good", Outcome.REFUSED: "bad", Outcome.NOTED: "note"}
_LONG = 26
"""Digests longer than this are shown by both ends: enough to compare by eye, and the JSON has all of it."""
_WIDE = 120
"""From this many columns on, what was expected has a column; below, it shows where it was not met."""
_LONGEST_NAME = 34
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?\+00:00", re.ASCII)


def render_checks(
    checks: Iterable[Check], output: Output, *, now: datetime, full: bool = False
) -> RenderableType:
    """The rows in order; a refused one is the last, because nothing after it was looked at.

    Args:
        checks: rows of one verdict.
        output: where it will be printed, for width and symbols.
        now: the moment that "valid for" counts from, aware UTC.
        full: everything about every row: its rule, what was expected, and digests uncut.
    """
    rows = list(checks)
    return _stacked(rows, output, now, full) if full or output.narrow else _table(rows, output, now)


def mark(outcome: Outcome, output: Output) -> Text:
    """The symbol in the margin."""
    symbols = output.symbols
    sign = {Outcome.PASSED: symbols.good, Outcome.REFUSED: symbols.bad, Outcome.NOTED: symbols.note}[outcome]
    return Text(sign, style=_STYLES[outcome])


def shorten(text: str) -> str:
    """Cut the middle out of hexadecimal runs too long to read, and the fractions off moments."""
    text = _INSTANT.sub(r"\1 \2Z", text)
    return " ".join(_shorten_word(word) for word in text.split(" "))


def valid_for(expires: datetime | None, now: datetime) -> str:
    """How long a row stays valid, in the largest unit that says something."""
    if expires is None:
        return ""
    left = expires - now
    if left <= timedelta(0):
        return "ended"
    if expires.year == MAXYEAR:  # how a certificate says that it has no end (RFC 5280 section 4.1.2.5)
        return "no end"
    if left >= timedelta(days=2):
        return f"{left.days} d"
    minutes, seconds = divmod(int(left.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


def when(moment: datetime) -> str:
    """A moment for people: UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _table(rows: list[Check], output: Output, now: datetime) -> Table:
    wide = output.stdout.width >= _WIDE
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=False, header_style="faint", show_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("check", overflow="fold", max_width=_LONGEST_NAME)
    if wide:
        table.add_column("expected", overflow="fold", style="faint")
    table.add_column("came", overflow="fold")
    table.add_column("valid for", no_wrap=True, justify="right", style="faint")
    part: tuple[str, ...] = ()
    for row in rows:
        for depth, name in _headings(part, row.part):
            table.add_row("", Text("  " * depth + name, style="heading"))
        part = row.part
        style = "bad" if row.outcome is Outcome.REFUSED else ""
        came = Text(shorten(row.got if wide else _noted(row)), style=style)
        if not wide and row.outcome is Outcome.REFUSED and row.expected:
            came = Text.assemble((f"expected {shorten(row.expected)}\n", "faint"), "came ", came)
        cells = [Text(shorten(row.expected))] if wide else []
        table.add_row(
            mark(row.outcome, output),
            Text("  " * len(row.part) + row.name, style=style),
            *cells,
            came,
            valid_for(row.expires, now),
        )
    return table


def _headings(before: tuple[str, ...], now: tuple[str, ...]) -> list[tuple[int, str]]:
    """The parts that begin with a row: (depth, name) of each, from the outside in."""
    shared = 0
    while shared < min(len(before), len(now)) and before[shared] == now[shared]:
        shared += 1
    return [(depth, now[depth]) for depth in range(shared, len(now))]


def _stacked(rows: list[Check], output: Output, now: datetime, full: bool) -> Group:
    parts: list[RenderableType] = []
    part: tuple[str, ...] = ()
    for row in rows:
        parts.extend(Text("  " * depth + name, style="heading") for depth, name in _headings(part, row.part))
        part = row.part
        style = "bad" if row.outcome is Outcome.REFUSED else ""
        indent = 2 * len(row.part)
        heading = Text.assemble(mark(row.outcome, output), " ", (row.name, style))
        parts.append(Padding(heading, (0, 0, 0, indent)))
        facts = _every_fact(row, now) if full else _facts(row, now)
        parts.extend(
            Padding(Text.assemble((f"{name} ", "faint"), value), (0, 0, 0, indent + 4))
            for name, value in facts
            if value
        )
    return Group(*parts)


def _facts(row: Check, now: datetime) -> list[tuple[str, str]]:
    expected = shorten(row.expected) if row.outcome is Outcome.REFUSED else ""
    end = valid_for(row.expires, now)
    return [("expected", expected), ("came", shorten(_noted(row))), ("valid for", end)]


def _every_fact(row: Check, now: datetime) -> list[tuple[str, str]]:
    end = "" if row.expires is None else f"{valid_for(row.expires, now)} (until {when(row.expires)})"
    return [("rule", row.clause), ("expected", row.expected), ("came", row.got), ("valid for", end)]


def _noted(row: Check) -> str:
    """What came; where nothing was required, with what there is to know about it."""
    if row.outcome is Outcome.NOTED and row.expected:
        return f"{row.got}, {row.expected}" if row.got else row.expected
    return row.got


def _shorten_word(word: str) -> str:
    prefix, colon, digest = word.rpartition(":")
    core = digest.rstrip(",;.)")
    if len(core) <= _LONG or any(character not in "0123456789abcdef" for character in core):
        return word
    return f"{prefix}{colon}{core[:10]}..{core[-6:]}{digest[len(core) :]}"
