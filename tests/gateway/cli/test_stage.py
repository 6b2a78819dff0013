"""How the demo prints: streamed words whole, nothing under --json, a ledger that cannot be empty."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gateway.cli.demo.stage import Stage
from gateway.cli.output import THEME, Output


def stage(width: int = 40, *, as_json: bool = False) -> tuple[Stage, io.StringIO]:
    text = io.StringIO()
    console = Console(file=text, width=width, theme=THEME, no_color=True)
    return Stage(Output(as_json=as_json, stdout=console, stderr=console)), text


def streamed(pieces: list[str], width: int = 40) -> str:
    on, text = stage(width)
    with on.streaming():
        for piece in pieces:
            on.piece(piece)
    return text.getvalue()


def test_a_word_in_pieces_is_not_broken() -> None:
    words = ["one two three four five six sev", "en", " eight nine ", "te", "n eleven"]
    lines = streamed(words).splitlines()
    assert " ".join(" ".join(lines).split()) == "one two three four five six seven eight nine ten eleven"
    assert all(len(line) <= 40 and line.startswith("   ") for line in lines)


@given(
    st.lists(st.text(st.characters(codec="ascii", categories=["L", "N", "Z"]) | st.just("\n"), max_size=12))
)
def test_no_word_is_lost_or_joined(pieces: list[str]) -> None:
    """However a text is cut into pieces, the same words come out in the same order."""
    assert streamed(pieces).split() == "".join(pieces).split()


def test_streamed_text_cannot_drive_the_terminal() -> None:
    assert "\x1b" not in streamed(["a\x1b[2Jb"])


def test_a_claim_that_fell_says_so() -> None:
    on, text = stage()
    on.claim("the sky is green", held=False)
    on.curtain(1.0)
    assert "DID NOT HOLD: the sky is green" in text.getvalue()
    assert "1 of 1 claims did not hold" in text.getvalue()
    assert not on.all_held


def test_no_claim_is_no_success() -> None:
    on, _ = stage()
    assert not on.all_held
    on.claim("one", held=True)
    assert on.all_held


@pytest.mark.parametrize("detail", ["short", "a detail that is far too long for the rest of one line"])
def test_a_detail_is_kept_whole(detail: str) -> None:
    on, text = stage(60)
    on.claim("[bold]markup[/] is text", held=True, detail=detail)
    assert "[bold]markup[/] is text" in text.getvalue()
    assert "".join(detail.split()) in "".join(text.getvalue().split())


def test_nothing_is_printed_for_programs() -> None:
    on, text = stage(as_json=True)
    on.title()
    on.act("one")
    on.said("prompt")
    with on.streaming():
        on.piece("text ")
    on.claim("it holds", held=True)
    assert text.getvalue() == ""
    assert on.claims == [("it holds", True)]
