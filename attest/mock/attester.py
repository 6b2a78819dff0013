"""A mock machine behind the seam where a runtime expects hardware."""

from __future__ import annotations

from attest.attesters.base import DeviceAnswers
from attest.evidence.cpu import CpuEvidence, CpuKind
from attest.mock.machine import MockMachine


class MockAttester:
    """Answers with genuine-looking evidence under the mock vendors' roots.

    Args:
        machine: the CPU and its devices.
    """

    def __init__(self, machine: MockMachine) -> None:
        self.machine = machine

    def __repr__(self) -> str:
        return f"MockAttester({self.machine!r})"

    @property
    def kind(self) -> CpuKind:
        """The simulated TEE's kind."""
        return self.machine.cpu.kind

    def cpu_evidence(self, report_data: bytes) -> CpuEvidence:
        """A report over ``report_data`` with its whole collateral.

        Raises:
            ValueError: ``report_data`` is not 64 bytes.
        """
        return self.machine.cpu.evidence(report_data)

    def device_answers(self, nonce: bytes) -> DeviceAnswers:
        """A report over ``nonce`` from every device, with all golden values.

        Raises:
            ValueError: ``nonce`` is not 32 bytes.
        """
        return self.machine.device_answers(nonce)
