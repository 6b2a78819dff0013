"""A management library as a machine with GPUs has it: NVML's names and structures, the mock vendor inside."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from attest.mock.nvidia import MockGpuVendor
from attest.mock.nvidia_report import MockGpu

REPORT_ARRAY = 8192
CHAIN_ARRAY = 5120


class SimulatedNvmlError(Exception):
    """NVML's exception."""


class SimulatedNvml:
    """NVML over the devices of a mock vendor."""

    NVMLError = SimulatedNvmlError

    def __init__(self, vendor: MockGpuVendor, gpus: list[MockGpu]) -> None:
        self.vendor = vendor
        self.gpus = gpus
        self.state = SimpleNamespace(ccFeature=1, devToolsMode=0, environment=2)
        self.generation: int | None = None
        self.report_size: int | None = None
        self.opened = 0
        self.fails_at = ""

    def _called(self, name: str) -> None:
        if name == self.fails_at:
            raise SimulatedNvmlError(f"{name}: Unknown Error")
        if not self.opened and name != "nvmlInit":
            raise SimulatedNvmlError("Uninitialized")

    def nvmlInit(self) -> None:  # noqa: N802  NVML's own name
        """Open."""
        self._called("nvmlInit")
        self.opened += 1

    def nvmlShutdown(self) -> None:  # noqa: N802  NVML's own name
        """Close."""
        self.opened -= 1

    def nvmlSystemGetConfComputeState(self) -> Any:  # noqa: N802  NVML's own name
        """State of the whole guest."""
        self._called("nvmlSystemGetConfComputeState")
        return self.state

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802  NVML's own name
        """How many."""
        self._called("nvmlDeviceGetCount")
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> MockGpu:  # noqa: N802  NVML's own name
        """One of them."""
        self._called("nvmlDeviceGetHandleByIndex")
        return self.gpus[index]

    def nvmlDeviceGetArchitecture(self, handle: MockGpu) -> int:  # noqa: N802  NVML's own name
        """NVML_DEVICE_ARCH_*."""
        self._called("nvmlDeviceGetArchitecture")
        return self.generation or {"HOPPER": 9, "BLACKWELL": 10}[handle.arch]

    def nvmlDeviceGetConfComputeGpuAttestationReport(self, handle: MockGpu, nonce: bytes) -> Any:  # noqa: N802
        """The report in a fixed array."""
        self._called("nvmlDeviceGetConfComputeGpuAttestationReport")
        report = self.vendor.evidence(nonce, gpu=handle).report
        return SimpleNamespace(
            attestationReport=report.ljust(REPORT_ARRAY, b"\x00"),
            attestationReportSize=len(report) if self.report_size is None else self.report_size,
        )

    def nvmlDeviceGetConfComputeGpuCertificate(self, handle: MockGpu) -> Any:  # noqa: N802  NVML's own name
        """The chain in a fixed array."""
        self._called("nvmlDeviceGetConfComputeGpuCertificate")
        chain = self.vendor.evidence(bytes(32), gpu=handle).certificate_chain
        return SimpleNamespace(
            attestationCertChain=chain.ljust(CHAIN_ARRAY, b"\x00"), attestationCertChainSize=len(chain)
        )
