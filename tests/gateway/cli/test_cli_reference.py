"""docs/reference/cli.md says what --help says."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import typer.main

from gateway.cli.commands import app

GENERATOR = Path(__file__).parents[3] / "docs" / "reference" / "generate_cli.py"
HANDED_ON = {"runtime", "model"}  # the enclave's program documents itself


@pytest.fixture(scope="module")
def generator() -> dict[str, Any]:
    return runpy.run_path(str(GENERATOR))


def test_the_reference_is_what_help_says(generator: dict[str, Any]) -> None:
    assert generator["DOCUMENT"].read_text() == generator["document"]()


def test_the_reference_has_every_command(generator: dict[str, Any]) -> None:
    def leaves(command: Any, path: str = "") -> set[str]:
        if not hasattr(command, "commands"):
            return {path}
        return set().union(*(leaves(sub, f"{path} {name}".strip()) for name, sub in command.commands.items()))

    assert leaves(typer.main.get_command(app)) - HANDED_ON == set(generator["COMMANDS"]) - {""}
