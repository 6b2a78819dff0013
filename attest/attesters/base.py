"""The seam between a runtime and whatever TEE it stands in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from attest.evidence.cpu import CpuEvidence, CpuKind
from attest.evidence.device import DeviceEvidence, NvidiaCollateral


class AttesterFailure(RuntimeError):
    """The TEE gave no evidence: absent, busy, or in a state that this attester does not know.

    Never a verdict: the runtime answers "try later", and a verifier sees nothing at all.
    """


@dataclass(frozen=True, slots=True)
class DeviceAnswers:
    """What the devices beside the CPU answered to one nonce.

    Args:
        devices: ordered by kind and index.
        collateral: what the enclave knows towards judging them; as a rule nothing, and the verifier looks
            golden values and revocation answers up.
    """

    devices: tuple[DeviceEvidence, ...] = ()
    collateral: NvidiaCollateral | None = None


NO_DEVICES: Final = DeviceAnswers()


class CpuAttester(Protocol):
    """Makes evidence about the guest that calls it."""

    @property
    def kind(self) -> CpuKind:
        """The TEE's kind as evidence names it."""
        ...

    def cpu_evidence(self, report_data: bytes) -> CpuEvidence:
        """A fresh report over ``report_data`` (64 bytes, chosen by the caller and signed by the hardware).

        May block for tens of milliseconds: call it off the event loop.

        Raises:
            AttesterFailure: no evidence could be made.
            ValueError: ``report_data`` is not 64 bytes.
        """
        ...


class DeviceAttester(Protocol):
    """Makes evidence about the devices of the guest that calls it."""

    def device_answers(self, nonce: bytes) -> DeviceAnswers:
        """A fresh report over ``nonce`` (32 bytes) from every device.

        May block for hundreds of milliseconds for each device: call it off the event loop.

        Raises:
            AttesterFailure: a device gave no evidence; then there is none of any.
            ValueError: ``nonce`` is not 32 bytes.
        """
        ...


class Attester(CpuAttester, DeviceAttester, Protocol):
    """Makes all of a runtime's evidence."""


class ComposedAttester:
    """A CPU's attester and, where the guest has devices, theirs.

    Args:
        cpu: of the TEE.
        devices: of its accelerators; None for a guest without any.
    """

    def __init__(self, cpu: CpuAttester, devices: DeviceAttester | None = None) -> None:
        self._cpu = cpu
        self._devices = devices

    def __repr__(self) -> str:
        return f"ComposedAttester({self._cpu!r}, {self._devices!r})"

    @property
    def kind(self) -> CpuKind:
        """The TEE's kind as evidence names it."""
        return self._cpu.kind

    def cpu_evidence(self, report_data: bytes) -> CpuEvidence:
        """As ``CpuAttester.cpu_evidence``."""
        return self._cpu.cpu_evidence(report_data)

    def device_answers(self, nonce: bytes) -> DeviceAnswers:
        """As ``DeviceAttester.device_answers``; none for a guest without devices."""
        return NO_DEVICES if self._devices is None else self._devices.device_answers(nonce)
