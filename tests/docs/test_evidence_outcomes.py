"""The table of genuine evidence is what the verifiers say now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.shared
def test_the_table_is_what_comes_out(shared: Path) -> None:
    assert (shared / "vectors" / "manifest.json").is_file()
    done = subprocess.run(
        [sys.executable, "-m", "docs.reference.generate_evidence_outcomes", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
