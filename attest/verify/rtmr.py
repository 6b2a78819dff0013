"""Does an event log explain the runtime registers of a verified quote?"""

from __future__ import annotations

import hmac
from typing import Final

from attest.checks import CheckList
from attest.evidence.event_log import EventLog
from attest.refusal import Refused
from attest.verify.tdx import VerifiedTdx

CLAUSE: Final = "UEFI 2.10 section 38.4"


def require_rtmrs(verified: VerifiedTdx, log: bytes, *, checks: CheckList) -> EventLog:
    """Require that replaying the log leads to the quote's four registers; returns its events.

    Only now do the events' digests mean anything. Their data still does not: what an event's data has to do
    with its digest depends on its type.

    Args:
        verified: the quote.
        log: in the form of ACPI CCEL.
        checks: gets one row.

    Raises:
        Unsupported: ``event-log-algorithms``.
        Malformed: ``event-log-*``.
        Refused: ``tdx-rtmr-mismatch`` that names the registers.
    """
    with checks.step("TDX event log", CLAUSE):
        events = EventLog.parse(log)
        quoted, replayed = verified.quote.report.rtmrs, events.replay()
        pairs = list(zip(quoted, replayed, strict=True))
        different = [i for i, (want, have) in enumerate(pairs) if not hmac.compare_digest(want, have)]
        if different:
            raise Refused(
                "tdx-rtmr-mismatch",
                CLAUSE,
                expected=", ".join(f"RTMR{i} {quoted[i].hex()}" for i in different),
                got=", ".join(f"RTMR{i} {replayed[i].hex()}" for i in different),
            )
        checks.passed("TDX event log", CLAUSE, expected="RTMR0 to RTMR3", got=f"{len(events.events)} events")
        return events
