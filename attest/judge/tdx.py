"""Is this genuine TDX guest one that we accept? (Intel TDX Module ABI; Intel PCS API v4)

Debugging, migration, service TDs and unprotected page faults never come this far: ``attest.verify.tdx``
refuses them.
"""

from __future__ import annotations

from typing import Final

from attest.accepted.tdx import TdxReference
from attest.checks import CheckList
from attest.judge.one_of import one_of
from attest.verify.rtmr import CLAUSE as LOG_CLAUSE
from attest.verify.rtmr import require_rtmrs
from attest.verify.tdx import VerifiedTdx

_REPORT: Final = "Intel TDX Module ABI, TDINFO"
_ATTRIBUTES: Final = "Intel TDX Module ABI, ATTRIBUTES"
_TCB: Final = "Intel PCS API v4, TCB status"


def judge_tdx(tdx: VerifiedTdx, event_log: bytes | None, accepted: TdxReference, checks: CheckList) -> None:
    """Judge a trust domain and the platform under it.

    Args:
        tdx: the quote.
        event_log: the firmware's, or None; one that came along must explain the registers.
        accepted: what the reference values say.
        checks: gets the rows.

    Raises:
        Refused: ``tdx-*``; ``Unsupported`` or ``Malformed`` for the event log.
    """
    _judge_attributes(tdx, accepted, checks)
    _judge_measurements(tdx, accepted, checks)
    _judge_registers(tdx, event_log, accepted, checks)
    _judge_tcb(tdx, accepted, checks)


def _judge_attributes(tdx: VerifiedTdx, accepted: TdxReference, checks: CheckList) -> None:
    attributes = tdx.quote.report.attributes
    rules = (
        (
            not attributes.perfmon or accepted.allow_perfmon,
            "tdx-perfmon",
            "no performance counters",
            "bit 63 is 0",
        ),
        (
            not tdx.paravisor or accepted.allow_azure_paravisor,
            "tdx-paravisor",
            "attributes other than a paravisor's",
            "not all zero",
        ),
    )
    for holds, code, name, expected in rules:
        checks.require(holds, code, name, _ATTRIBUTES, expected=expected, got=f"{attributes.raw:#x}")


def _judge_measurements(tdx: VerifiedTdx, accepted: TdxReference, checks: CheckList) -> None:
    report = tdx.quote.report
    values = (
        ("tdx-mrtd-not-accepted", "MRTD", report.mrtd, accepted.mrtds),
        ("tdx-mrseam-not-accepted", "MRSEAM", report.mrseam, accepted.mrseams),
        ("tdx-mrconfigid-not-accepted", "MRCONFIGID", report.mrconfigid, accepted.mrconfigids),
        ("tdx-mrowner-not-accepted", "MROWNER", report.mrowner, accepted.mrowners),
        ("tdx-mrownerconfig-not-accepted", "MROWNERCONFIG", report.mrownerconfig, accepted.mrownerconfigs),
        ("tdx-xfam-not-accepted", "XFAM", report.xfam.to_bytes(8, "big"), accepted.xfams),
    )
    for code, name, value, listed in values:
        if listed:
            one_of(checks, code, name, value.hex(), listed, clause=_REPORT)


def _judge_registers(
    tdx: VerifiedTdx, event_log: bytes | None, accepted: TdxReference, checks: CheckList
) -> None:
    for index, (value, listed) in enumerate(zip(tdx.quote.report.rtmrs, accepted.rtmrs, strict=True)):
        if listed:
            one_of(checks, "tdx-rtmr-not-accepted", f"RTMR{index}", value.hex(), listed, clause=_REPORT)
    if event_log is not None:
        require_rtmrs(tdx, event_log, checks=checks)
    elif accepted.require_event_log:
        checks.require(
            False, "tdx-event-log-missing", "TDX event log", LOG_CLAUSE, expected="an event log", got="none"
        )


def _judge_tcb(tdx: VerifiedTdx, accepted: TdxReference, checks: CheckList) -> None:
    one_of(
        checks, "tdx-tcb-status", "platform status", str(tdx.tcb_status), accepted.tcb_statuses, clause=_TCB
    )
    # Up to date with advisories is Intel's way to say that they are mended: nothing is left to excuse.
    unexcused = set() if tdx.tcb_status == "UpToDate" else set(tdx.advisory_ids) - accepted.advisory_ids
    checks.require(
        not unexcused,
        "tdx-advisory",
        "advisories behind the status",
        _TCB,
        expected=", ".join(sorted(accepted.advisory_ids)) or "none",
        got=", ".join(tdx.advisory_ids) or "none",
    )
    checks.require(
        tdx.tcb_evaluation_data_number >= accepted.min_tcb_evaluation_data_number,
        "tdx-tcb-evaluation",
        "Intel's TCB evaluation",
        _TCB,
        expected=f"number {accepted.min_tcb_evaluation_data_number} or later",
        got=str(tdx.tcb_evaluation_data_number),
    )
