"""Which files use what a mutant changes outside any function: a constant, or a class's own value."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Final

from tests.mutation.operators import Mutant, names_in, targets_of

ROOT: Final = Path(__file__).resolve().parents[2]


def importers(file: str, mutant: Mutant, files: set[str]) -> list[str]:
    """Files whose tests may see the change although they execute no line of ``file``.

    Args:
        file: the mutant's.
        mutant: a constant of the module, or what hangs at a class.
        files: those to look at.
    """
    name = ".".join(Path(file).relative_to(ROOT).with_suffix("").parts)
    wanted = _assigned(file, mutant.statement_line) if mutant.kind == "module" else set()
    return sorted(
        other
        for other in files - {file}
        if any(module == name and (not wanted or imported in wanted) for module, imported in _imports(other))
    )


def _assigned(file: str, line: int) -> set[str]:
    """The names that the assignment of a module in that line gives values to."""
    for statement in _tree(file).body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.lineno == line:
            return set().union(*map(names_in, targets_of(statement)))
    return set()


@cache
def _imports(file: str) -> frozenset[tuple[str, str]]:
    return frozenset(
        (node.module or "", alias.name)
        for node in ast.walk(_tree(file))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    )


@cache
def _tree(file: str) -> ast.Module:
    return ast.parse(Path(file).read_text())
