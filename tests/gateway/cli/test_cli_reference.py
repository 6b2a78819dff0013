"""docs/reference/cli.md says what --help says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer.main

from docs.reference import generate_cli
from gateway.cli.commands import app

HANDED_ON = {"runtime", "model"}  # the enclave's program documents itself


def test_the_reference_is_what_help_says() -> None:
    assert generate_cli.DOCUMENT.read_text() == generate_cli.document()


def test_the_reference_has_every_command() -> None:
    def leaves(command: Any, path: str = "") -> set[str]:
        if not hasattr(command, "commands"):
            return {path}
        return set().union(*(leaves(sub, f"{path} {name}".strip()) for name, sub in command.commands.items()))

    assert leaves(typer.main.get_command(app)) - HANDED_ON == set(generate_cli.COMMANDS) - {""}


TUTORIAL = Path(__file__).parents[3] / "docs" / "tutorial" / "first-answer.md"
TYPED = re.compile(r"^\$ .*?\bsealgate (?:--home \S+ )?(?P<words>[a-z][a-z ]*[a-z])", re.MULTILINE)


def test_the_tutorial_types_commands_that_exist() -> None:
    root = typer.main.get_command(app)
    typed = [match["words"].split() for match in TYPED.finditer(TUTORIAL.read_text())]
    assert len(typed) >= 10
    for words in typed:
        assert words[0] in root.commands, words  # type: ignore[attr-defined]  # the root is a group
        group = root.commands[words[0]]  # type: ignore[attr-defined]
        if hasattr(group, "commands"):
            assert words[1] in group.commands, words


def test_the_tutorials_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", TUTORIAL.read_text())
    assert links
    assert [link for link in links if not (TUTORIAL.parent / link).is_file()] == []
