"""How the demo looks: acts, lines that appear as things happen, and a ledger of what held."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gateway.cli.chat import printable
from gateway.cli.demo.liars import Meeting
from gateway.cli.output import Output

_INDENT = 3


@dataclass
class Stage:
    """The terminal, and the ledger.

    Args:
        output: where to print; under ``--json`` only the ledger is kept.
        claims: each claim and whether it held, in order.
    """

    output: Output
    claims: list[tuple[str, bool]] = field(default_factory=list)
    _act: int = 0
    _column: int = 0
    _pending: str = ""

    @property
    def quiet(self) -> bool:
        """Whether a program is reading."""
        return self.output.as_json

    @property
    def all_held(self) -> bool:
        """Whether there were claims and every one held."""
        return bool(self.claims) and all(held for _, held in self.claims)

    def title(self) -> None:
        """The opening lines."""
        self._print()
        self._print("[brand]Sealgate[/]  no prompt leaves before the runtime has proved what it is", indent=1)
        self._print(
            "[mock] MOCK [/]  [faint]a software TEE stands in for hardware; all else is real[/]", indent=1
        )

    def act(self, title: str) -> None:
        """Begin the next act."""
        self._act += 1
        if not self.quiet:
            self._print()
            self.output.stdout.rule(f"[head]{self._act}  {escape(title)}[/]", align="left", style="faint")

    def line(self, markup: str) -> None:
        """Print one line of an act."""
        self._print(markup)

    def claim(self, text: str, held: bool, detail: str = "") -> None:
        """Enter one claim into the ledger and show it.

        Args:
            text: the claim, worded so that it is true if ``held``.
            held: whether it held.
            detail: figures, shown dim behind it.
        """
        self.claims.append((text, held))
        symbols = self.output.symbols
        sign = f"[good]{symbols.good}[/]" if held else f"[bad]{symbols.bad}[/]"
        said = Text.assemble((text if held else f"DID NOT HOLD: {text}", "" if held else "bad"))
        if detail:
            room = self.output.stdout.width - _INDENT - len(symbols.good) - 1
            fits = "\n" not in detail and len(text) + len(detail) + 2 <= room
            said.append("  " if fits else "\n")
            said.append(detail, style="faint")
        self._hang(sign, said)

    def _hang(self, sign: str, text: Text) -> None:
        """A sign in the margin and text whose further lines stay right of it."""
        grid = Table.grid(padding=(0, 1))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        grid.add_row(sign, text)
        self.show(grid)

    def show(self, renderable: Any) -> None:
        """Print something larger."""
        if not self.quiet:
            self.output.stdout.print(Padding(renderable, (0, 0, 0, _INDENT)))

    def said(self, prompt: str) -> None:
        """Show what was asked."""
        self._hang("[head]>[/]", Text(printable(prompt)))
        self.line("")

    def met(self, meeting: Meeting) -> None:
        """Enter one liar into the ledger and show what came of it, in two lines."""
        name, refusal = meeting.fault.name, meeting.asked.refusal or meeting.asked.code
        if meeting.sealed_requests:
            sent = f"sealed bytes only: {meeting.recorded:,} recorded, the prompt is not in them"
        else:
            sent = f"nothing sent: {meeting.recorded:,} bytes recorded, all of them questions for evidence"
        self.claim(f"{name}: {meeting.fault.title}", meeting.held, f"refused: {refusal}\n{sent}")
        for reason in meeting.why_not:
            self._print(f"  [bad]{escape(reason)}[/]")

    def curtain(self, seconds: float) -> None:
        """The closing lines."""
        symbols = self.output.symbols
        held = sum(held for _, held in self.claims)
        self._print()
        if self.all_held:
            self._print(
                f"[good]{symbols.good} all {held} claims held[/]  [faint]in {seconds:.0f} s[/]", indent=1
            )
            self._print("[faint]next: sealgate up[/]", indent=1)
        else:
            self._print(
                f"[bad]{symbols.bad} {len(self.claims) - held} of {len(self.claims)} claims did not hold[/]",
                indent=1,
            )

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """A spinner while something takes a while; nothing is left of it on a terminal."""
        with self.output.working(what):
            yield

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """Print pieces of text as they come, between ``piece`` calls, wrapped and indented."""
        self._column, self._pending = 0, ""
        yield
        if not self.quiet:
            self._place(self._pending)
            if self._column:
                self.output.stdout.print()

    def piece(self, text: str) -> None:
        """One piece of streamed text. The word that it ends in waits for its rest, so that none is broken."""
        if self.quiet:
            return
        words = list(_words(self._pending + printable(text)))
        self._pending = words.pop() if words and words[-1] != "\n" else ""
        for word in words:
            self._place(word)

    def _place(self, word: str) -> None:
        console = self.output.stdout
        width = max(20, min(console.width, 100) - _INDENT - 1)
        if word == "\n" or self._column + len(word.rstrip()) > width:
            console.print()
            self._column = 0
        if self._column == 0:
            word = word.lstrip()
        if word:
            margin = " " * _INDENT if self._column == 0 else ""
            console.print(Text(margin + word, style="brand"), end="", soft_wrap=True)
            self._column += len(word)

    def _print(self, markup: str = "", *, indent: int = _INDENT) -> None:
        if not self.quiet:
            self.output.stdout.print(Padding(markup, (0, 0, 0, indent)) if markup else "")


def _words(text: str) -> Iterator[str]:
    """``text`` in words with their leading spaces, and line ends apart."""
    word = ""
    for character in text:
        if character == "\n":
            if word:
                yield word
            yield "\n"
            word = ""
        elif character == " " and word.strip():
            yield word
            word = " "
        else:
            word += character
    if word:
        yield word
