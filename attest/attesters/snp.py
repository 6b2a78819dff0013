"""SEV-SNP evidence by way of Linux configfs-tsm: the report, and the host's certificate table beside it."""

from __future__ import annotations

from typing import Final

from attest.attesters.base import AttesterFailure
from attest.attesters.tsm import PAUSE_SECONDS, KernelReportFolder, ReportFolder, TsmReports
from attest.evidence.certificate_table import CertificateTable
from attest.evidence.cpu import CpuKind, SnpCollateral, SnpEvidence
from attest.evidence.snp import SnpReport
from attest.refusal import Refused

_PROVIDER: Final = "sev_guest"


class SnpAttester:
    """Asks the machine's own firmware.

    Args:
        folder: where configfs-tsm is.
        privilege_level: VMPL to report as (0 to 3), or ``None`` for the kernel's own.
        collateral: certificates to hand on where the host offers none.
        pause_seconds: how long to wait before asking a busy firmware again.
    """

    kind: Final[CpuKind] = "snp"

    def __init__(
        self,
        folder: ReportFolder | None = None,
        *,
        privilege_level: int | None = None,
        collateral: SnpCollateral | None = None,
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        self._reports = TsmReports(
            folder or KernelReportFolder(),
            provider=_PROVIDER,
            answers=("outblob", "auxblob"),
            pause_seconds=pause_seconds,
        )
        self._privilege_level = privilege_level
        self._collateral = collateral

    def cpu_evidence(self, report_data: bytes) -> SnpEvidence:
        """A report over ``report_data`` and the certificates that the host offers for it.

        Raises:
            AttesterFailure: no SEV-SNP here, the firmware stayed busy, or no certificate is to be had.
            ValueError: ``report_data`` is not 64 bytes.
        """
        report, table = self._reports.ask(report_data, privilege_level=self._privilege_level)
        return self._evidence(report_data, report, table)

    def _evidence(self, report_data: bytes, report: bytes, table: bytes) -> SnpEvidence:
        try:
            parsed = SnpReport.parse(report)
            certificates = CertificateTable.parse(table)
        except Refused as refusal:
            raise AttesterFailure(f"firmware or host answered nonsense: {refusal}") from refusal
        if parsed.report_data != report_data:
            raise AttesterFailure("firmware answered another question")
        leaf = certificates.vlek if parsed.signing_key == "vlek" else certificates.vcek
        if leaf is None and self._collateral is not None:
            return SnpEvidence(report, self._collateral)
        # The ARK is left out: a verifier has it pinned, and only a mock's travels with the evidence. A leaf
        # that the host does not offer is looked up by the verifier, who knows the chip from the report.
        return SnpEvidence(report, SnpCollateral(leaf, certificates.ask, None, certificates.crl))
