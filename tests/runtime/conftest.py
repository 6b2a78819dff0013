"""The embedded model, loaded once for all tests that need it."""

from __future__ import annotations

from pathlib import Path

import pytest

from attest.refusal import Refused
from runtime import settings
from runtime.model.loaded import OpenModel, open_model
from runtime.model.store import stored_model


@pytest.fixture(scope="session")
def smollm2_file() -> Path:
    """The pulled weights; skips where they have not been pulled."""
    try:
        return stored_model(settings.home(), "smollm2").weights
    except Refused:
        pytest.skip("smollm2 is not pulled (make model)")


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The pulled embedding model; skips where it was not pulled."""
    try:
        return stored_model(settings.home(), "minilm").folder
    except Refused:
        pytest.skip("minilm is not pulled (make test pulls it)")


@pytest.fixture(scope="session")
def smollm2(smollm2_file: Path) -> OpenModel:
    """The embedded model, its weights still to be laid out."""
    return open_model("smollm2")
