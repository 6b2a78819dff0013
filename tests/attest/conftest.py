"""Fixtures of the attestation tests. RSA-4096 keys are made once per session: they cost a second."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from attest.mock.azure import MockAzureCvm
from attest.mock.machine import MockAzureCpu, MockBoard, MockMachine, MockSnpCpu, MockTdxCpu
from attest.mock.nvidia import MockGpuVendor
from attest.mock.nvidia_board import devices_of
from attest.mock.tdx import MockTdxVendor
from attest.mock.tdx_quote import MockTdLaunch
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
    """An honest runtime on a SEV-SNP machine without devices."""
    return honest_world(mock_keys)


@pytest.fixture(scope="session")
def one_gpu_world(mock_keys: MockKeys, gpu_vendor: MockGpuVendor) -> MockWorld:
    """An honest runtime on a SEV-SNP machine with one GPU."""
    world = honest_world(mock_keys)
    machine = replace(world.machine, board=MockBoard(gpu_vendor, devices_of(1)))
    return replace(world, machine=machine)


@pytest.fixture(scope="session")
def td_world(mock_keys: MockKeys) -> MockWorld:
    """An honest runtime in a TDX guest without devices."""
    vendor = MockTdxVendor.create(now=NOW)
    return honest_world(mock_keys, MockMachine(MockTdxCpu(vendor, MockTdLaunch())))


@pytest.fixture(scope="session")
def azure_world(mock_keys: MockKeys, mock_world: MockWorld) -> MockWorld:
    """An honest runtime in an Azure confidential VM without devices."""
    cpu = mock_world.machine.cpu
    if not isinstance(cpu, MockSnpCpu):
        raise TypeError("an Azure VM stands on SEV-SNP")
    return honest_world(mock_keys, MockMachine(MockAzureCpu(MockAzureCvm(cpu.vendor))))


@pytest.fixture(scope="session")
def board_world(td_world: MockWorld, gpu_vendor: MockGpuVendor) -> MockWorld:
    """An honest runtime in a TDX guest with eight GPUs and four switches."""
    machine = replace(td_world.machine, board=MockBoard(gpu_vendor, devices_of(8)))
    return replace(td_world, machine=machine)
