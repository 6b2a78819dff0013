"""Fixtures of the attestation tests. RSA-4096 keys are made once per session: they cost a second."""

from __future__ import annotations

from pathlib import Path

import pytest

from attest.mock.nvidia import MockGpuVendor
from attest.mock.vendor import MockKeys
from attest.mock.world import MockWorld
from tests.simulators.gpu_world import NOW, GpuWorld
from tests.simulators.mock_runtime import honest_world
from tests.simulators.snp_world import SnpWorld


@pytest.fixture(scope="session")
def mock_keys() -> MockKeys:
    """A mock vendor's keys."""
    return MockKeys.generate()


@pytest.fixture(scope="session")
def other_keys() -> MockKeys:
    """Another mock vendor's keys."""
    return MockKeys.generate()


@pytest.fixture(scope="session")
def world(mock_keys: MockKeys) -> SnpWorld:
    """A Genoa world with a VCEK."""
    return SnpWorld(mock_keys)


@pytest.fixture(scope="session")
def gpu_vendor() -> MockGpuVendor:
    """A mock vendor of GPUs."""
    return MockGpuVendor.create(now=NOW)


@pytest.fixture(scope="session")
def gpu_world(gpu_vendor: MockGpuVendor) -> GpuWorld:
    """A world with its GPUs and switches."""
    return GpuWorld(gpu_vendor)


@pytest.fixture(scope="session")
def nvidia_vectors(shared: Path) -> Path:
    """The folder of genuine NVIDIA evidence."""
    return shared / "vectors" / "nvidia"


@pytest.fixture(scope="session")
def sev_snp(shared: Path) -> Path:
    """The folder of genuine SEV-SNP evidence."""
    return shared / "vectors" / "sev-snp"


@pytest.fixture(scope="session")
def mock_world(mock_keys: MockKeys) -> MockWorld:
    """An honest runtime on the mock vendor."""
    return honest_world(mock_keys)
