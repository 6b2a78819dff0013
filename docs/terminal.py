"""What ``sealgate`` prints in a plain terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from docs.generated import ROOT

_DECORATION = {"FORCE_COLOR", "TTY_COMPATIBLE"}


def sealgate(
    arguments: Sequence[str], *, columns: int, environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run a command.

    Args:
        arguments: of ``sealgate``.
        columns: of the terminal.
        environment: further variables.

    Returns:
        Exit code and standard output, without spaces at the ends of lines.
    """
    plain = {"COLUMNS": str(columns), "TERM": "dumb", "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}
    kept = {name: value for name, value in os.environ.items() if name not in _DECORATION}
    done = subprocess.run(  # noqa: S603 - our own interpreter, arguments from the generators
        [sys.executable, "-m", "gateway.cli.main", *arguments],
        capture_output=True,
        text=True,
        check=False,  # a refusal is an answer
        cwd=ROOT,
        env={**kept, **plain, **(environment or {})},
    )
    return done.returncode, "\n".join(line.rstrip() for line in done.stdout.strip("\n").splitlines()) + "\n"
