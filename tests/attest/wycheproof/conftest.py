"""Where the vectors are."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def wycheproof(shared: Path) -> Path:
    """The folder of Wycheproof's files."""
    return shared / "vectors" / "wycheproof"
