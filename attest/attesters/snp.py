"""SEV-SNP evidence by way of Linux configfs-tsm (Documentation/ABI/testing/configfs-tsm-report).

One directory is one report: write ``inblob`` (64 bytes), read ``outblob`` (the report) and ``auxblob`` (the
host's certificate table). ``generation`` counts the writes to the directory: if it is not what our own
writes make it, somebody else wrote between them, and what was read may answer another question.
"""

from __future__ import annotations

import errno
import os
import secrets
import time
from pathlib import Path
from typing import Final, Protocol

from attest.attesters.base import AttesterFailure
from attest.evidence.certificate_table import CertificateTable
from attest.evidence.cpu import CpuEvidence, SnpCollateral
from attest.evidence.snp import REPORT_DATA_SIZE, SnpReport
from attest.refusal import Refused

TSM_REPORT_FOLDER: Final = Path("/sys/kernel/config/tsm/report")
_PROVIDER: Final = "sev_guest"
_ATTEMPTS: Final = 5
_PAUSE_SECONDS: Final = 0.05  # a firmware request takes milliseconds; the host may also throttle the guest
# EBUSY: another request is at the firmware. EWOULDBLOCK: the directory changed under us.
_TRY_AGAIN: Final = frozenset({errno.EBUSY, errno.EWOULDBLOCK, errno.EINTR})


class ReportFolder(Protocol):
    """The four file operations that configfs-tsm answers to."""

    def make(self, name: str) -> None:
        """Create the directory of one report; the kernel fills it with attributes."""
        ...

    def write(self, name: str, attribute: str, value: bytes) -> None:
        """Write one attribute in one call."""
        ...

    def read(self, name: str, attribute: str) -> bytes:
        """Read one attribute to its end."""
        ...

    def remove(self, name: str) -> None:
        """Remove the directory."""
        ...


class KernelReportFolder:
    """``ReportFolder`` on the real configfs."""

    def __init__(self, folder: Path = TSM_REPORT_FOLDER) -> None:
        self._folder = folder

    def make(self, name: str) -> None:
        """Create the directory of one report."""
        (self._folder / name).mkdir()

    def write(self, name: str, attribute: str, value: bytes) -> None:
        """Write one attribute; configfs takes a value in one write call or not at all."""
        descriptor = os.open(self._folder / name / attribute, os.O_WRONLY)
        try:
            if os.write(descriptor, value) != len(value):
                raise OSError(errno.EIO, f"short write to {attribute}")
        finally:
            os.close(descriptor)

    def read(self, name: str, attribute: str) -> bytes:
        """Read one attribute to its end."""
        return (self._folder / name / attribute).read_bytes()

    def remove(self, name: str) -> None:
        """Remove the directory."""
        (self._folder / name).rmdir()


class SnpAttester:
    """Asks the machine's own firmware.

    Args:
        folder: where configfs-tsm is.
        privilege_level: VMPL to report as (0 to 3), or ``None`` for the kernel's own.
        collateral: certificates to hand on where the host offers none.
        pause_seconds: how long to wait before asking a busy firmware again.
    """

    kind = "snp"

    def __init__(
        self,
        folder: ReportFolder | None = None,
        *,
        privilege_level: int | None = None,
        collateral: SnpCollateral | None = None,
        pause_seconds: float = _PAUSE_SECONDS,
    ) -> None:
        self._folder = folder or KernelReportFolder()
        self._privilege_level = privilege_level
        self._collateral = collateral
        self._pause_seconds = pause_seconds

    def cpu_evidence(self, report_data: bytes) -> CpuEvidence:
        """A report over ``report_data`` and the certificates that the host offers for it.

        Raises:
            AttesterFailure: no SEV-SNP here, the firmware stayed busy, or no certificate is to be had.
            ValueError: ``report_data`` is not 64 bytes.
        """
        if len(report_data) != REPORT_DATA_SIZE:
            raise ValueError(f"report_data takes {REPORT_DATA_SIZE} bytes, not {len(report_data)}")
        for _ in range(_ATTEMPTS):
            try:
                report, table = self._ask_once(report_data)
            except OSError as error:
                if error.errno not in _TRY_AGAIN:
                    raise AttesterFailure(f"configfs-tsm: {error.strerror}") from error
                time.sleep(self._pause_seconds)
                continue
            return self._evidence(report_data, report, table)
        raise AttesterFailure(f"configfs-tsm: busy after {_ATTEMPTS} attempts")

    def _ask_once(self, report_data: bytes) -> tuple[bytes, bytes]:
        name = f"sealgate-{secrets.token_hex(8)}"
        self._folder.make(name)
        try:
            provider = self._folder.read(name, "provider").decode("ascii", "replace").strip()
            if provider != _PROVIDER:
                raise AttesterFailure(f"configfs-tsm: provider is {provider!r}, not {_PROVIDER!r}")
            before = self._generation(name)
            writes = 1
            if self._privilege_level is not None:
                self._folder.write(name, "privlevel", str(self._privilege_level).encode())
                writes += 1
            self._folder.write(name, "inblob", report_data)
            report, table = self._folder.read(name, "outblob"), self._folder.read(name, "auxblob")
            if self._generation(name) != before + writes:
                raise OSError(errno.EWOULDBLOCK, "the report directory changed")
            return report, table
        finally:
            self._folder.remove(name)

    def _generation(self, name: str) -> int:
        text = self._folder.read(name, "generation")
        try:
            return int(text)
        except ValueError as error:
            raise AttesterFailure("configfs-tsm: generation is not a number") from error

    def _evidence(self, report_data: bytes, report: bytes, table: bytes) -> CpuEvidence:
        try:
            parsed = SnpReport.parse(report)
            certificates = CertificateTable.parse(table)
        except Refused as refusal:
            raise AttesterFailure(f"firmware or host answered nonsense: {refusal}") from refusal
        if parsed.report_data != report_data:
            raise AttesterFailure("firmware answered another question")
        leaf = certificates.vlek if parsed.signing_key == "vlek" else certificates.vcek
        if leaf is not None:
            # The ARK is left out: a verifier has it pinned, and only a mock's travels with the evidence.
            collateral = SnpCollateral(leaf, certificates.ask, None, certificates.crl)
        elif self._collateral is not None:
            collateral = self._collateral
        else:
            raise AttesterFailure("the host offers no certificate for this chip, and none is configured")
        return CpuEvidence("snp", report, collateral)
