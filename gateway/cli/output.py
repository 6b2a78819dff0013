"""What a command prints: for people by rich, for programs as one JSON document.

Standard output holds the answer and nothing else; progress, banners and errors go to standard error, so that
a pipe gets only what was asked for. Colour follows NO_COLOR, FORCE_COLOR and whether a terminal is there;
symbols follow the encoding.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from gateway.cli.failure import Failure

THEME = Theme(
    {
        "good": "green",
        "bad": "bold red",
        "note": "cyan",
        "faint": "dim",
        "heading": "bold",
        "mock": "bold black on yellow",
        "head": "bold",
        "brand": "bold cyan",
    }
)
NARROW = 72
"""Below this many columns a table of several long columns is unreadable, so rows are stacked."""


@dataclass(frozen=True)
class Symbols:
    """Marks in the margin."""

    good: str
    bad: str
    note: str
    arrow: str
    dash: str


_UNICODE = Symbols("\N{CHECK MARK}", "\N{BALLOT X}", "\N{MIDDLE DOT}", "\N{RIGHTWARDS ARROW}", "\N{EM DASH}")
_ASCII = Symbols("ok", "XX", "--", "->", "-")


class Output:
    """Where one command prints.

    Args:
        as_json: print one JSON document to standard output and no decoration.
        stdout: console for answers.
        stderr: console for everything else.
    """

    def __init__(
        self, *, as_json: bool = False, stdout: Console | None = None, stderr: Console | None = None
    ) -> None:
        self.as_json = as_json
        self.stdout = stdout or Console(theme=THEME, highlight=False)
        self.stderr = stderr or Console(theme=THEME, highlight=False, stderr=True)

    @property
    def symbols(self) -> Symbols:
        """Marks that the terminal's encoding can show."""
        return _UNICODE if self.stdout.encoding.lower().startswith("utf") else _ASCII

    @property
    def narrow(self) -> bool:
        """Whether the terminal is too narrow for wide tables."""
        return self.stdout.width < NARROW

    def document(self, value: dict[str, Any]) -> None:
        """Print the answer as JSON; only under ``--json``."""
        sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
        sys.stdout.flush()

    def say(self, markup: str = "") -> None:
        """Print a line of the answer."""
        self.stdout.print(markup)

    def tell(self, markup: str = "") -> None:
        """Print a line beside the answer, unless a program is reading."""
        if not self.as_json:
            self.stderr.print(markup)

    def facts(self, rows: list[tuple[str, str]], *, title: str = "") -> None:
        """Print names and values, values folded rather than cut."""
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="faint", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in rows:
            grid.add_row(name, value)
        if title:
            self.stdout.print(f"[head]{escape(title)}[/]")
        self.stdout.print(grid)

    def line(self, name: str, value: str) -> None:
        """Print one fact in one line however long, so that it can be copied whole."""
        self.stdout.print(Text.assemble((name, "faint"), "  ", value), soft_wrap=True)

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Show a spinner on a terminal, one plain line elsewhere, nothing under ``--json``."""
        if self.as_json:
            yield
        elif self.stderr.is_terminal:
            with self.stderr.status(f"[faint]{escape(what)}[/]"):
                yield
        else:
            self.stderr.print(f"[faint]{escape(what)}...[/]")
            yield

    def failure(self, failure: Failure) -> None:
        """Say why the command failed: ``error:``, then ``hint:`` lines."""
        if self.as_json:
            self.document(failure.as_dict())
            return
        if failure.detail:
            self.stderr.print(Text(failure.detail, style="faint"), soft_wrap=True)
        self.stderr.print(Text.assemble(("error: ", "bold red"), failure.message), soft_wrap=True)
        for hint in failure.hint:
            self.stderr.print(Text.assemble(("hint: ", "bold cyan"), hint), soft_wrap=True)
