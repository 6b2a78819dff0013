"""The mock vendor behind the seam where a runtime expects hardware."""

from __future__ import annotations

from attest.evidence.cpu import CpuEvidence
from attest.mock.snp_report import MockLaunch
from attest.mock.vendor import MockVendor


class MockAttester:
    """Answers with genuine-looking SEV-SNP evidence under the mock vendor's root.

    Args:
        vendor: signs.
        launch: what the reports say of the guest.
    """

    kind = "snp"

    def __init__(self, vendor: MockVendor, launch: MockLaunch) -> None:
        self.vendor = vendor
        self.launch = launch

    def __repr__(self) -> str:
        return f"MockAttester({self.vendor!r})"

    def cpu_evidence(self, report_data: bytes) -> CpuEvidence:
        """A report over ``report_data`` with its whole chain.

        Raises:
            ValueError: ``report_data`` is not 64 bytes.
        """
        report = self.vendor.report(report_data, self.launch)
        return CpuEvidence("snp", report, self.vendor.collateral(self.launch.tcb))
