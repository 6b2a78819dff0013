"""Fixtures that every test folder may use."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How fast a shared machine makes examples is not what a property says.
settings.register_profile("sealgate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sealgate")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared evidence and vectors beside the checkout; skips where it is absent."""
    folder = ROOT.parent / "shared"
    if not (folder / "vectors" / "manifest.json").is_file():
        pytest.skip("the shared evidence and vectors are not beside this checkout")
    return folder
