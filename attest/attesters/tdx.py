"""Intel TDX evidence by way of Linux configfs-tsm: the quote, and the firmware's event log beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from attest.attesters.base import AttesterFailure
from attest.attesters.tsm import PAUSE_SECONDS, KernelReportFolder, ReportFolder, TsmReports
from attest.evidence.cpu import CpuKind
from attest.evidence.tdx import TdxQuote
from attest.evidence.tdx_evidence import MAX_EVENT_LOG_BYTES, TdxCollateral, TdxEvidence
from attest.refusal import Refused

CCEL_FILE: Final = Path("/sys/firmware/acpi/tables/data/CCEL")
_PROVIDER: Final = "tdx_guest"


class TdxAttester:
    """Asks the machine's own TDX module, and through it the host's quoting enclave.

    Args:
        folder: where configfs-tsm is.
        collateral: to hand on with each quote; ``None`` leaves it to the verifier.
        event_log_file: where the firmware's log is.
        pause_seconds: how long to wait before asking a busy host again.
    """

    kind: Final[CpuKind] = "tdx"

    def __init__(
        self,
        folder: ReportFolder | None = None,
        *,
        collateral: TdxCollateral | None = None,
        event_log_file: Path = CCEL_FILE,
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        self._reports = TsmReports(
            folder or KernelReportFolder(), provider=_PROVIDER, pause_seconds=pause_seconds
        )
        self._collateral = collateral
        self._event_log_file = event_log_file

    def cpu_evidence(self, report_data: bytes) -> TdxEvidence:
        """A quote over ``report_data`` and the event log, if the firmware keeps one.

        May block for a second: the host makes the quote, and some hosts make them slowly.

        Raises:
            AttesterFailure: no TDX here, the host stayed busy, or it answered something else.
            ValueError: ``report_data`` is not 64 bytes.
        """
        (quote,) = self._reports.ask(report_data)
        try:
            parsed = TdxQuote.parse(quote)
        except Refused as refusal:
            raise AttesterFailure(f"module or host answered nonsense: {refusal}") from refusal
        if parsed.report.report_data != report_data:
            raise AttesterFailure("module or host answered another question")
        # Without the padding that some hosts add: whoever hashes the evidence must hash one form of it.
        return TdxEvidence(parsed.trimmed, self._collateral, self._event_log())

    def _event_log(self) -> bytes | None:
        try:
            with self._event_log_file.open("rb") as file:
                log = file.read(MAX_EVENT_LOG_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise AttesterFailure(f"event log: {error.strerror}") from error
        if len(log) > MAX_EVENT_LOG_BYTES:
            raise AttesterFailure(f"event log: more than {MAX_EVENT_LOG_BYTES} bytes")
        return log
