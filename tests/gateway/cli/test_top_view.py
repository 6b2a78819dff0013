"""The frame of ``runtime top``: it fits any terminal, in any encoding, and nothing in it is obeyed."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from gateway.cli.output import THEME
from gateway.cli.top.figures import Figures, figures
from gateway.cli.top.page import Page
from gateway.cli.top.view import Frame
from tests.simulators.runtime_pages import WatchedRuntime

URL = "http://runtime.example:8443"
BUSY = WatchedRuntime(
    up_s=7384,
    tokens=5120,
    refusals={"engine_overloaded": 12, "deadline_exceeded": 1},
    adapters={f"sha256:{index:064x}": 5 for index in range(16)},
    waiting=9,
)


def of(runtime: WatchedRuntime) -> Figures:
    return figures(Page(runtime.page()))


def draw(now: Figures | None, width: int, *, encoding: str = "utf-8", trouble: str = "") -> str:
    """The frame as bytes would show it; an encoding that lacks a character fails."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, errors="strict")
    console = Console(file=file, width=width, theme=THEME, no_color=True, highlight=False)
    console.print(Frame(URL, now, trouble=trouble, keys="q ends"))
    file.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("width", [40, 80, 160])
def test_a_frame_fits_and_says_it_all(width: int, encoding: str) -> None:
    text = draw(of(BUSY), width, encoding=encoding)
    assert all(len(line) <= width for line in text.splitlines())
    words = text.split()
    for word in (
        *("sealgate", "bf16,", "h", "min,", "generated", "tok/s", "3", "9", "preemptions", "step"),
        *("hits", "25%", "budget", "512", "300", "used,", "1000", "engine_overloaded", "12", "passed"),
        *("12%", "loads", "registered,", "other", "ends"),
    ):
        assert word in words, word
    assert text.count("ms") == 6
    assert ("\N{FULL BLOCK}" in text) == (encoding == "utf-8")
    assert (" ####" in text) == (encoding == "ascii")


def test_bars_are_as_long_as_what_they_show() -> None:
    """Of 24 marks: 7 pages in use (30 %), 5 kept (20 %), the rest free; half of the budget."""
    lines = draw(of(BUSY), 80, encoding="ascii").splitlines()
    bars = {line.split()[0]: line.split()[1] for line in lines if "#" in line}
    assert bars == {"budget": "#" * 12 + "." * 12, "pages": "#" * 7 + "+" * 5 + "." * 12}


def test_side_by_side_where_there_is_room() -> None:
    assert any("generated" in line and "first token" in line for line in draw(of(BUSY), 80).splitlines())
    assert not any("generated" in line and "first token" in line for line in draw(of(BUSY), 40).splitlines())


def test_what_there_is_not_is_left_out() -> None:
    text = draw(of(WatchedRuntime(plain=True, backend="vllm 0.32.0", up_s=61)), 80)
    assert "vllm 0.32.0, weights bf16, up 1 min 1 s" in text
    assert "refusals none" in " ".join(text.split())
    for word in ("budget", "pages", "adapter", "self-check", "audit"):
        assert word not in text


def test_a_failed_audit_and_a_missing_answer_are_said() -> None:
    text = draw(of(WatchedRuntime(audits_failed=1)), 80, trouble="no metrics for 7 s: refused")
    assert "FAILED: the engine serves nobody" in text
    assert "no metrics for 7 s: refused" in text
    assert draw(None, 80, trouble="refused").splitlines()[1:] == ["q ends", "refused"]


@pytest.mark.parametrize("name", ["[bold]x[/bold]", "[/x]", "[link=http://evil.example]x[/link]", ":skull:"])
def test_names_are_shown_as_they_are(name: str) -> None:
    """Rich's markup in what came over the network would restyle the frame, or end the command."""
    shown = of(BUSY)
    hostile = replace(
        shown,
        refusals={name: 1},
        adapters={name: 1},
        backend=name,
        busiest=(replace(shown.busiest[0], name=name),),
    )
    assert draw(hostile, 160).count(name) == 4


def test_absurd_figures_draw_a_frame_all_the_same() -> None:
    lines = [
        "sealgate_runtime_uptime_seconds 9007199254740992",
        'sealgate_engine_kv_pages{state="used"} 9007199254740992',
        'sealgate_engine_kv_pages{state="cached"} 9007199254740992',
        "sealgate_engine_step_rows_limit 0.5",
        "sealgate_engine_step_rows_total 9007199254740992",
        "sealgate_engine_step_budget_rows_total 1e-300",
        "sealgate_engine_self_check_seconds 9e15",
        'sealgate_engine_busiest_adapter_loads{adapter=""} 9e15',
    ]
    for width in (1, 10, 40, 200):
        assert draw(figures(Page("\n".join(lines))), width)
