"""What reference values ask of a TDX guest, claim by claim."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attest.accepted.tdx import TdxReference
from attest.checks import CheckList
from attest.collateral.tdx_documents import TcbStatus
from attest.judge.tdx import judge_tdx
from attest.mock.tdx_event_log import event_log
from attest.mock.world import MockWorld
from attest.refusal import Refused
from attest.verify.bundle import verify_bundle
from attest.verify.tdx import VerifiedTdx
from tests.simulators.mock_runtime import NONCE, NOW

OTHER = frozenset({"ab" * 48})


@pytest.fixture(scope="module")
def verified(td_world: MockWorld) -> VerifiedTdx:
    """The honest guest."""
    detail = verify_bundle(td_world.answer(NONCE), nonce=NONCE, roots=td_world.trust(), now=NOW).cpu.detail
    assert isinstance(detail, VerifiedTdx)
    return detail


@pytest.fixture(scope="module")
def accepted(td_world: MockWorld) -> TdxReference:
    """Values that accept exactly it."""
    reference = td_world.machine.cpu.reference()
    assert isinstance(reference, TdxReference)
    return reference


def _code(verified: VerifiedTdx, accepted: TdxReference, event_log: bytes | None = None) -> str | None:
    try:
        judge_tdx(verified, event_log, accepted, CheckList())
    except Refused as refusal:
        return refusal.code
    return None


def test_the_honest_guest_is_accepted(verified: VerifiedTdx, accepted: TdxReference) -> None:
    """And the values that were left free are shown by no row."""
    checks = CheckList()
    judge_tdx(verified, None, accepted, checks)
    names = [row.name for row in checks]
    assert {"MRTD", "RTMR0", "RTMR3", "MRCONFIGID", "MROWNER", "MROWNERCONFIG"} <= set(names)
    assert not {"MRSEAM", "XFAM"} & set(names)


def test_the_rows_of_an_honest_guest(verified: VerifiedTdx, accepted: TdxReference) -> None:
    """Every rule has its row, in its words and under its clause."""
    checks = CheckList()
    asked = replace(
        accepted,
        mrseams=frozenset({verified.quote.report.mrseam.hex()}),
        xfams=frozenset({"00000000000618e7"}),
    )
    judge_tdx(verified, None, asked, checks)
    attributes, report = "Intel TDX Module ABI, ATTRIBUTES", "Intel TDX Module ABI, TDINFO"
    status = "Intel PCS API v4, TCB status"
    assert [(row.name, row.clause) for row in checks] == [
        ("no performance counters", attributes),
        ("attributes other than a paravisor's", attributes),
        *((name, report) for name in ("MRTD", "MRSEAM", "MRCONFIGID", "MROWNER", "MROWNERCONFIG", "XFAM")),
        *((f"RTMR{index}", report) for index in range(4)),
        ("platform status", status),
        ("advisories behind the status", status),
        ("Intel's TCB evaluation", status),
    ]
    assert [row.expected for row in checks][:2] == ["bit 63 is 0", "not all zero"]


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("tdx-mrtd-not-accepted", {"mrtds": OTHER}),
        ("tdx-mrseam-not-accepted", {"mrseams": OTHER}),
        ("tdx-mrconfigid-not-accepted", {"mrconfigids": OTHER}),
        ("tdx-mrowner-not-accepted", {"mrowners": OTHER}),
        ("tdx-mrownerconfig-not-accepted", {"mrownerconfigs": OTHER}),
        ("tdx-xfam-not-accepted", {"xfams": frozenset({"0000000000000001"})}),
        ("tdx-tcb-evaluation", {"min_tcb_evaluation_data_number": 19}),
        ("tdx-event-log-missing", {"require_event_log": True}),
        *(
            ("tdx-rtmr-not-accepted", {"rtmrs": tuple(OTHER if i == n else frozenset() for i in range(4))})
            for n in range(4)
        ),
    ],
)
def test_values_that_want_something_else(
    verified: VerifiedTdx, accepted: TdxReference, code: str, change: dict[str, Any]
) -> None:
    """The same genuine quote under other values."""
    assert _code(verified, replace(accepted, **change)) == code


def test_xfam_is_written_as_it_is_read(verified: VerifiedTdx, accepted: TdxReference) -> None:
    """Most significant digit first."""
    assert _code(verified, replace(accepted, xfams=frozenset({"00000000000618e7"}))) is None


@pytest.mark.parametrize("status", list(TcbStatus))
def test_only_up_to_date_unless_named(
    verified: VerifiedTdx, accepted: TdxReference, status: TcbStatus
) -> None:
    """A platform that Intel would have mended first is accepted by name only; a revoked one by none."""
    platform = replace(verified, tcb_status=status)
    assert _code(platform, accepted) == (None if status is TcbStatus.UP_TO_DATE else "tdx-tcb-status")
    if status is not TcbStatus.REVOKED:
        named = replace(accepted, tcb_statuses=frozenset({str(status)}))
        assert _code(platform, named) is None


def test_advisories_of_a_lesser_status_are_named_one_by_one(
    verified: VerifiedTdx, accepted: TdxReference
) -> None:
    """A status excuses only what was looked at: tomorrow's advisory under the same word refuses."""
    platform = replace(
        verified,
        tcb_status=TcbStatus.SW_HARDENING_NEEDED,
        advisory_ids=("INTEL-SA-00001", "INTEL-SA-00002"),
    )
    named = replace(accepted, tcb_statuses=frozenset({"SWHardeningNeeded"}))
    assert _code(platform, named) == "tdx-advisory"
    assert _code(platform, replace(named, advisory_ids=frozenset({"INTEL-SA-00001"}))) == "tdx-advisory"
    both = frozenset({"INTEL-SA-00001", "INTEL-SA-00002", "INTEL-SA-00003"})
    assert _code(platform, replace(named, advisory_ids=both)) is None
    mended = replace(platform, tcb_status=TcbStatus.UP_TO_DATE)
    assert _code(mended, accepted) is None


def test_an_event_log_must_explain_the_registers(verified: VerifiedTdx, accepted: TdxReference) -> None:
    """Whether it was asked for or not."""
    honest, other = event_log([]), event_log([(1, b"event")])
    for values in (accepted, replace(accepted, require_event_log=True)):
        assert _code(verified, values, honest) is None
        assert _code(verified, values, other) == "tdx-rtmr-mismatch"


@pytest.mark.parametrize(
    ("bits", "code", "allowed"),
    [
        (1 << 28 | 1 << 63, "tdx-perfmon", {"allow_perfmon": True}),
        (0, "tdx-paravisor", {"allow_azure_paravisor": True}),
    ],
)
def test_attributes(
    td_world: MockWorld, accepted: TdxReference, bits: int, code: str, allowed: dict[str, bool]
) -> None:
    """Counters and Azure's paravisor are allowed by name."""
    cpu = replace(td_world.machine.cpu, launch=replace(td_world.machine.cpu.launch, attributes=bits))
    world = replace(td_world, machine=replace(td_world.machine, cpu=cpu))
    detail = verify_bundle(world.answer(NONCE), nonce=NONCE, roots=world.trust(), now=NOW).cpu.detail
    assert isinstance(detail, VerifiedTdx)
    assert _code(detail, accepted) == code
    assert _code(detail, replace(accepted, **allowed)) is None
