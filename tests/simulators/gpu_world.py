"""A whole world of GPUs with its own roots, in which a test may change any one thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from attest.checks import CheckList
from attest.collateral.nvidia import NvidiaRoots
from attest.evidence.gpu import GpuCollateral, GpuEvidence
from attest.mock import nvidia_report
from attest.mock.nvidia import MockGpuVendor
from attest.mock.nvidia_board import GPU_PDIS, SWITCH_PDIS
from attest.mock.nvidia_board import board as mock_board
from attest.mock.nvidia_report import MockGpu
from attest.verify.nvidia import VerifiedGpu, verify_gpu

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
NONCE = bytes(range(32))
SWITCH_BIOS = nvidia_report.SWITCH_BIOS_VERSION


class GpuWorld:
    """One mock vendor and what is made by it."""

    def __init__(self, vendor: MockGpuVendor) -> None:
        self.vendor = vendor
        self._collateral: dict[tuple[str, str, str, int], GpuCollateral] = {}

    @property
    def roots(self) -> NvidiaRoots:
        """The vendor's roots and no others."""
        return NvidiaRoots(
            nvidia=False,
            mock_device_root_sha256=self.vendor.device_root_sha256,
            mock_rim_root_sha256=self.vendor.rim_root_sha256,
        )

    def collateral(self, gpu: MockGpu | None = None) -> GpuCollateral:
        """Golden values and good answers, made once for each version and device."""
        gpu = gpu or MockGpu()
        key = (gpu.arch, gpu.driver_version, gpu.vbios_version + gpu.chip, gpu.index)
        if key not in self._collateral:
            self._collateral[key] = self.vendor.collateral(gpu, now=NOW)
        return self._collateral[key]

    def evidence(
        self,
        gpu: MockGpu | None = None,
        *,
        nonce: bytes = NONCE,
        opaque: Mapping[int, bytes | None] | None = None,
        blocks: tuple[bytes, ...] | None = None,
    ) -> GpuEvidence:
        """Signed evidence, with opaque fields replaced (``None`` leaves one out) or with other blocks."""
        gpu = gpu or MockGpu()
        evidence = self.vendor.evidence(nonce, gpu=gpu)
        if opaque is None and blocks is None:
            return evidence
        fields = {**nvidia_report.opaque_data(gpu), **(opaque or {})}
        report = nvidia_report.signed_report(
            nonce,
            nvidia_report.measurements(gpu) if blocks is None else blocks,
            {number: value for number, value in fields.items() if value is not None},
            self.vendor.device(gpu)[0].key,
        )
        return replace(evidence, report=report)

    def verify(
        self,
        gpu: MockGpu | None = None,
        *,
        evidence: GpuEvidence | None = None,
        collateral: GpuCollateral | None = None,
        roots: NvidiaRoots | None = None,
        nonce: bytes | None = NONCE,
        now: datetime = NOW,
        checks: CheckList | None = None,
    ) -> VerifiedGpu:
        """Verify under this world's roots."""
        return verify_gpu(
            evidence or self.evidence(gpu),
            collateral or self.collateral(gpu),
            roots or self.roots,
            nonce=nonce,
            now=now,
            checks=CheckList() if checks is None else checks,
        )


def board(*, gpus: int = 8, switches: int = 4) -> list[MockGpu]:
    """A whole board in protected PCIe mode: every GPU linked to every switch."""
    return list(mock_board(gpus=gpus, switches=switches))


__all__ = ["GPU_PDIS", "NONCE", "NOW", "SWITCH_BIOS", "SWITCH_PDIS", "GpuWorld", "board"]
