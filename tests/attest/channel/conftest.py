"""Counts of the standard vectors that were run, printed at the end of the run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

_COUNTS: dict[str, tuple[int, int, str]] = {}


@pytest.fixture
def vector_count() -> Callable[[str, int, int, str], None]:
    """Record (file, vectors run, vectors there, remark) for the summary."""

    def record(file: str, run: int, there: int, remark: str) -> None:
        _COUNTS[file] = (run, there, remark)

    return record


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one line per vector file."""
    if _COUNTS:
        terminalreporter.section("channel vectors")
        for file, (run, there, remark) in sorted(_COUNTS.items()):
            terminalreporter.write_line(f"{file}: {run} of {there} ({remark})")
