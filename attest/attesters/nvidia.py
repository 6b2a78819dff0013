"""GPU evidence by way of NVIDIA's management library (NVML, confidential computing calls).

NVSwitches answer through another library (NSCQ), which has no Python binding: evidence of switches comes
from whoever can ask them, in the same form.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

from attest.attesters.base import AttesterFailure, DeviceAnswers
from attest.evidence.device import DeviceEvidence
from attest.evidence.gpu import NONCE_SIZE, Architecture, GpuEvidence

# NVML_DEVICE_ARCH_*; other generations have no attestation.
_ARCHITECTURES: Final[dict[int, Architecture]] = {9: "HOPPER", 10: "BLACKWELL"}
_ENABLED: Final = 1
MAX_GPUS: Final = 16


class NvmlLibrary(Protocol):
    """The calls of ``pynvml`` (package nvidia-ml-py) that evidence takes."""

    NVMLError: type[Exception]

    def nvmlInit(self) -> None:  # noqa: N802  NVML's own name
        """Open the library."""
        ...

    def nvmlShutdown(self) -> None:  # noqa: N802  NVML's own name
        """Close the library."""
        ...

    def nvmlSystemGetConfComputeState(self) -> Any:  # noqa: N802  NVML's own name
        """``ccFeature``, ``devToolsMode``, ``environment``."""
        ...

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802  NVML's own name
        """How many GPUs this guest has."""
        ...

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:  # noqa: N802  NVML's own name
        """One GPU."""
        ...

    def nvmlDeviceGetArchitecture(self, handle: Any) -> int:  # noqa: N802  NVML's own name
        """Its generation."""
        ...

    def nvmlDeviceGetConfComputeGpuAttestationReport(self, handle: Any, nonce: bytes) -> Any:  # noqa: N802
        """``attestationReport`` (a fixed array) and ``attestationReportSize``."""
        ...

    def nvmlDeviceGetConfComputeGpuCertificate(self, handle: Any) -> Any:  # noqa: N802  NVML's own name
        """``attestationCertChain`` (a fixed array) and ``attestationCertChainSize``."""
        ...


class NvidiaAttester:
    """Asks every GPU of this guest.

    Args:
        library: the management library; default is ``pynvml`` (extra ``nvidia``).
    """

    def __init__(self, library: NvmlLibrary | None = None) -> None:
        self._library = library if library is not None else _pynvml()

    def device_answers(self, nonce: bytes) -> DeviceAnswers:
        """As ``gpu_evidence``, in the form of a bundle. Golden values are left to whoever verifies.

        Raises:
            AttesterFailure, ValueError: as ``gpu_evidence``.
        """
        answers = enumerate(self.gpu_evidence(nonce))
        return DeviceAnswers(tuple(DeviceEvidence.of(index, evidence) for index, evidence in answers))

    def gpu_evidence(self, nonce: bytes) -> tuple[GpuEvidence, ...]:
        """A fresh report over ``nonce`` from each GPU, in NVML's order.

        May block for some hundred milliseconds for each GPU: call it off the event loop.

        Raises:
            AttesterFailure: no GPU, one that cannot attest, or confidential computing is off.
            ValueError: ``nonce`` is not 32 bytes.
        """
        if len(nonce) != NONCE_SIZE:
            raise ValueError(f"a nonce has {NONCE_SIZE} bytes, not {len(nonce)}")
        try:
            with self._open():
                self._require_confidential()
                return tuple(self._one(index, nonce) for index in range(self._count()))
        except self._library.NVMLError as error:
            raise AttesterFailure(f"NVML: {error}") from error

    @contextmanager
    def _open(self) -> Iterator[None]:
        self._library.nvmlInit()
        try:
            yield
        finally:
            self._library.nvmlShutdown()

    def _require_confidential(self) -> None:
        """A hint for whoever runs the machine. The verifier does not rely on it: it compares measurements."""
        state = self._library.nvmlSystemGetConfComputeState()
        if state.ccFeature != _ENABLED:
            raise AttesterFailure("NVML: confidential computing is off on these GPUs")
        if state.devToolsMode:
            raise AttesterFailure("NVML: these GPUs are in developer mode, which protects nothing")

    def _count(self) -> int:
        count = self._library.nvmlDeviceGetCount()
        if not 0 < count <= MAX_GPUS:
            raise AttesterFailure(f"NVML: {count} GPUs")
        return count

    def _one(self, index: int, nonce: bytes) -> GpuEvidence:
        handle = self._library.nvmlDeviceGetHandleByIndex(index)
        generation = self._library.nvmlDeviceGetArchitecture(handle)
        if generation not in _ARCHITECTURES:
            raise AttesterFailure(f"NVML: GPU {index} is of generation {generation}, which cannot attest")
        report = self._library.nvmlDeviceGetConfComputeGpuAttestationReport(handle, nonce)
        chain = self._library.nvmlDeviceGetConfComputeGpuCertificate(handle)
        return GpuEvidence(
            _ARCHITECTURES[generation],
            _used(report.attestationReport, report.attestationReportSize, index),
            _used(chain.attestationCertChain, chain.attestationCertChainSize, index),
        )


def _used(array: Sequence[int], size: int, index: int) -> bytes:
    """What the driver wrote into a fixed array."""
    if not 0 < size <= len(array):
        raise AttesterFailure(f"NVML: GPU {index} answered {size} bytes")
    return bytes(array[:size])


def _pynvml() -> NvmlLibrary:
    try:
        import pynvml  # noqa: PLC0415  only machines with GPUs have it
    except ImportError as error:
        raise AttesterFailure("GPU evidence needs nvidia-ml-py: install sealgate[nvidia]") from error
    library: NvmlLibrary = pynvml
    return library
