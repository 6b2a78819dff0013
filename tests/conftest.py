"""Fixtures that every test folder may use."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared evidence and vectors beside the checkout; skips where it is absent."""
    folder = ROOT.parent / "shared"
    if not (folder / "vectors" / "manifest.json").is_file():
        pytest.skip("the shared evidence and vectors are not beside this checkout")
    return folder
