"""tests/vectors/COVERAGE.md names tests that exist, and every row says how strongly its clause is held."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS / "vectors" / "COVERAGE.md"
ROW = re.compile(
    r"\| (?P<clause>[^|]+) \| (?P<strength>strong|partial|gap) \| (?P<tests>[^|]*) \| (?P<note>[^|]*)\|"
)
NAMED = re.compile(r"`([a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`")


def rows() -> list[re.Match[str]]:
    """The table's rows; a line that is none must be a head or a rule."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    found = [
        ROW.fullmatch(line) for line in lines if not line.startswith(("| Clause", "| Weakness", "| ---"))
    ]
    assert all(found), [line for line in lines if not ROW.fullmatch(line)][:5]
    return [match for match in found if match]


@cache
def defined_in(path: Path) -> frozenset[str]:
    """Names of the tests that a file defines."""
    tree = ast.parse(path.read_text())
    return frozenset(
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["clause"].strip()[:60])
def test_each_clause_names_tests_that_exist(row: re.Match[str]) -> None:
    named = NAMED.findall(row["tests"])
    assert row["tests"].strip() == ", ".join(f"`{file}::{test}`" for file, test in named)
    assert bool(named) is (row["strength"] != "gap")
    missing = [f"{file}::{test}" for file, test in named if test not in defined_in(TESTS / "attest" / file)]
    assert not missing
    assert row["strength"] == "strong" or row["note"].strip()


def test_the_page_speaks_of_every_format() -> None:
    assert len(rows()) > 90
