"""What every generator of a document ends with: write it, or check that it says what it should.

python -m docs.reference.generate_cli            write the document
python -m docs.reference.generate_cli --check    exit 1 if the document is out of date
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VECTORS = ROOT.parent / "shared" / "vectors"
"""The evidence that some documents are about. It lies beside the checkout and is no part of it."""


def write_or_check(document: Path, text: Callable[[], str], arguments: Sequence[str] | None = None) -> int:
    """Write ``document`` or, under ``--check``, compare it.

    Args:
        document: the file.
        text: makes what it should say.
        arguments: of the command; by default those that it was given.

    Returns:
        The exit code: 1 if the document is out of date.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true", help=f"whether {document.name} is up to date")
    check = parser.parse_args(arguments).check
    wanted = text()
    if not check:
        document.write_text(wanted)
        return 0
    if document.is_file() and document.read_text() == wanted:
        return 0
    print(f"{document} is out of date: run `make docs` and read the difference", file=sys.stderr)
    return 1


def from_evidence(document: Path, text: Callable[[Path], str]) -> int:
    """As ``write_or_check``; without the evidence nothing is written, and nothing can be out of date.

    Args:
        document: the file.
        text: makes what it should say, from ``VECTORS``.
    """
    if not (VECTORS / "manifest.json").is_file():
        print("the evidence is not beside this checkout: nothing was done", file=sys.stderr)
        return 0
    return write_or_check(document, lambda: text(VECTORS))
