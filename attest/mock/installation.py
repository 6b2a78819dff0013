"""The mock machine of one installation: vendors whose keys lie in its home, measuring the sources that run.

The development runtime stands on it, and the development pair of trust file and reference values accepts it:
both ask here, each for itself, so the one does not take the other's word.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from attest.evidence.cpu import CpuKind
from attest.mock.azure import IMAGE_PCR, MockAzureCvm, default_pcrs
from attest.mock.machine import MockAzureCpu, MockBoard, MockCpu, MockMachine, MockSnpCpu, MockTdxCpu
from attest.mock.measure import measure_sources
from attest.mock.nvidia import MockGpuVendor
from attest.mock.nvidia_board import devices_of
from attest.mock.snp_report import MockLaunch
from attest.mock.tdx import MockTdxVendor
from attest.mock.tdx_quote import MockTdLaunch
from attest.mock.vendor import MockVendor

VENDOR_FOLDER: Final = "mock-tee"


def installed_machine(home: Path, tee: CpuKind = "snp", gpus: int = 0) -> MockMachine:
    """The machine of this installation; its vendors are made and saved where there are none.

    Args:
        home: Sealgate's home.
        tee: of its CPU.
        gpus: how many, 0 to 8; four or eight stand on a board with switches.

    Raises:
        ValueError: a number of GPUs that no machine has, or a vendor's file that is not one.
    """
    folder = home / VENDOR_FOLDER
    board = None
    if gpus:
        board = MockBoard(MockGpuVendor.load_or_create(folder), devices_of(gpus))
    return MockMachine(_cpu(folder, tee), board)


def _cpu(folder: Path, tee: CpuKind) -> MockCpu:
    if tee == "snp":
        return MockSnpCpu(MockVendor.load_or_create(folder), MockLaunch(measurement=measure_sources()))
    if tee == "azure-snp":
        return MockAzureCpu(MockAzureCvm(MockVendor.load_or_create(folder), pcrs=_booted()))
    return MockTdxCpu(MockTdxVendor.load_or_create(folder), MockTdLaunch(mrtd=measure_sources()))


def _booted() -> tuple[bytes, ...]:
    """A boot whose image is the sources that run: on Azure the hardware measures the paravisor alone."""
    pcrs = default_pcrs()
    image = hashlib.sha256(measure_sources()).digest()
    return (*pcrs[:IMAGE_PCR], image, *pcrs[IMAGE_PCR + 1 :])
