"""Whose kernels compute."""

from __future__ import annotations

import pytest

from runtime.engine.run.native.library import available
from runtime.engine.run.runner import Kernels


@pytest.fixture(scope="module")
def native() -> None:
    """Skips where Sealgate's kernels cannot run."""
    if not available():
        pytest.skip("the kernels are not built here, or this processor has no AVX2")


@pytest.fixture(scope="module", params=["native", "torch"])
def kernels(request: pytest.FixtureRequest) -> Kernels:
    """Sealgate's own, and torch's."""
    chosen: Kernels = request.param
    if chosen == "native":
        request.getfixturevalue("native")
    return chosen
