"""The embedded model, loaded once for all tests that need it."""

from __future__ import annotations

from pathlib import Path

import pytest

from attest.refusal import Refused
from runtime import settings
from runtime.model.loaded import LoadedModel, load_model
from runtime.model.store import stored_model


@pytest.fixture(scope="session")
def smollm2_file() -> Path:
    """The pulled weights; skips where they have not been pulled."""
    try:
        return stored_model(settings.home(), "smollm2").weights
    except Refused:
        pytest.skip("smollm2 is not pulled (make model)")


@pytest.fixture(scope="session")
def smollm2(smollm2_file: Path) -> LoadedModel:
    """The embedded model in float32, the reference's number format."""
    return load_model("smollm2", dtype="float32")
