"""What people and programs read."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from attest.checks import Check, CheckList, Outcome
from attest.refusal import Malformed, Refused, Unsupported
from gateway.cli.check_table import render_checks, shorten, valid_for
from gateway.cli.failure import Failure
from gateway.cli.main import explain
from gateway.cli.output import THEME, Output

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DIGEST = "0123456789abcdef" * 6


def output_of(width: int, *, encoding: str = "utf-8") -> tuple[Output, io.BytesIO]:
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding=encoding), width=width, theme=THEME, no_color=True)
    return Output(stdout=console, stderr=console), raw


def render(width: int, *, encoding: str = "utf-8") -> str:
    checks = CheckList()
    checks.passed(
        "signature chain",
        "AMD 57230",
        expected="ARK, ASK, VCEK",
        got="all three",
        expires=NOW + timedelta(days=9),
    )
    checks.append(Check("launch measurement", "AMD 56860", DIGEST, "f" * 96, Outcome.REFUSED))
    output, raw = output_of(width, encoding=encoding)
    output.stdout.print(render_checks(checks, output, now=NOW))
    output.stdout.file.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [30, 60, 80, 140])
def test_a_table_fits_the_terminal_and_says_it_all(width: int) -> None:
    """No width cuts off a name, what came or how long it holds, and no line is wider than the terminal."""
    text = render(width)
    assert all(len(line) <= width for line in text.splitlines())
    words = text.split()
    for word in ("signature", "chain", "measurement", "9", "0123456789..abcdef", "ffffffffff..ffffff"):
        assert word in words


@pytest.mark.parametrize("width", [40, 80, 140])
def test_a_noted_row_says_what_there_is_to_know(width: int) -> None:
    output, raw = output_of(width)
    row = Check("nonce", "", "freshness unproved", "none", Outcome.NOTED)
    output.stdout.print(render_checks([row], output, now=NOW))
    output.stdout.file.flush()
    assert "freshness" in raw.getvalue().decode()


def test_a_fact_to_be_copied_stays_in_one_line() -> None:
    output, raw = output_of(40)
    output.line("head", "7:sha256:" + "ab" * 32)
    output.stdout.file.flush()
    assert raw.getvalue().decode() == f"head  7:sha256:{'ab' * 32}\n"


def test_a_terminal_without_unicode_gets_ascii() -> None:
    text = render(60, encoding="ascii")
    assert "ok signature chain" in text
    assert "XX launch measurement" in text


def test_long_hexadecimal_and_moments_are_shortened() -> None:
    assert shorten(f"sha256:{DIGEST}, or more") == "sha256:0123456789..abcdef, or more"
    assert (
        shorten("the quick brown fox jumps over the lazy dog")
        == "the quick brown fox jumps over the lazy dog"
    )
    assert shorten("deadbeef") == "deadbeef"
    assert shorten("before 2026-03-01T12:00:00.25+00:00") == "before 2026-03-01 12:00:00Z"


@pytest.mark.parametrize(
    ("left", "text"),
    [
        (timedelta(days=400), "400 d"),
        (timedelta(hours=30), "30 h 00 min"),
        (timedelta(minutes=5, seconds=9), "5 min"),
        (timedelta(seconds=9), "9 s"),
        (timedelta(0), "ended"),
    ],
)
def test_how_long_a_row_holds(left: timedelta, text: str) -> None:
    assert valid_for(NOW + left, NOW) == text
    assert valid_for(None, NOW) == ""
    assert valid_for(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), NOW) == "no end"


def test_errors_are_an_error_line_and_hint_lines() -> None:
    output, raw = output_of(200)
    output.failure(Failure("no gateway answers", "start one", "or look at the log", detail="last line"))
    output.stderr.file.flush()
    assert raw.getvalue().decode().splitlines() == [
        "last line",
        "error: no gateway answers",
        "hint: start one",
        "hint: or look at the log",
    ]


def test_markup_in_a_message_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    """A refusal quotes what came, and what came must not style the terminal."""
    Output().failure(Failure("got [bold]x[/] and [/nothing]"))
    assert "got [bold]x[/] and [/nothing]" in capsys.readouterr().err


def test_json_errors_go_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=True).failure(Failure("it broke", "mend it", code="broken", exit_code=20))
    document = json.loads(capsys.readouterr().out)
    assert document == {
        "ok": False,
        "error": {
            "code": "broken",
            "message": "it broke",
            "hint": ["mend it"],
            "detail": None,
            "exit_code": 20,
        },
    }


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Refused("snp-debug"), 10),
        (Unsupported("gpu-evidence"), 20),
        (Malformed("bundle-not-json"), 30),
        (FileNotFoundError(2, "No such file", "trust.toml"), 1),
        (RuntimeError("boom"), 1),
    ],
)
def test_every_exception_has_its_exit_code(error: Exception, code: int) -> None:
    assert explain(error).exit_code == code


def test_an_unforeseen_exception_is_not_quoted() -> None:
    """Its text may hold what it choked on."""
    assert "canary" not in json.dumps(explain(ValueError("canary")).as_dict())
