"""Drafted reference values accept exactly the evidence that they were drafted from."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from attest.appraise import appraise
from attest.collateral.tdx_documents import TcbStatus
from attest.draft import Draft, draft_reference
from attest.mock.faults import FAULTS, apply_bundle_fault
from attest.mock.world import MockWorld
from attest.reference import ReferenceValues
from attest.refusal import Refused
from attest.verify.bundle import VerifiedEvidence, verify_bundle
from attest.verify.cpu import VerifiedCpu
from attest.verify.tdx import VerifiedTdx
from tests.simulators.mock_runtime import NONCE, NOW

DRAFT = Draft("drafted", 30)


def _verified(world: MockWorld) -> VerifiedEvidence:
    return verify_bundle(world.answer(NONCE), nonce=NONCE, roots=world.trust(), now=NOW)


@pytest.mark.parametrize("name", ["mock_world", "one_gpu_world", "td_world", "azure_world", "board_world"])
def test_a_draft_accepts_its_own_and_refuses_every_lie(name: str, request: pytest.FixtureRequest) -> None:
    """Whatever is pinned by it: each lie that genuine evidence can tell is refused under the draft."""
    world: MockWorld = request.getfixturevalue(name)
    values = draft_reference(_verified(world), DRAFT, now=NOW)
    assert ReferenceValues.parse(values.toml().encode()) == values
    assert appraise(_verified(world), values, now=NOW).reference_name == "drafted"
    for fault in FAULTS.values():
        if fault.level == "bundle" and fault.fits(world):
            lie = apply_bundle_fault(fault.name, world, NONCE)
            with pytest.raises(Refused):
                appraise(verify_bundle(lie, nonce=NONCE, roots=world.trust(), now=NOW), values, now=NOW)


def test_a_draft_ends(mock_world: MockWorld) -> None:
    """By itself, after the days that were asked for."""
    values = draft_reference(_verified(mock_world), DRAFT, now=NOW)
    assert values.not_after == NOW + timedelta(days=30)


def test_a_draft_pins_what_a_guest_could_have_otherwise(mock_world: MockWorld) -> None:
    """Bits, host data and identity are part of it, where the evidence has them."""
    values = draft_reference(_verified(mock_world), DRAFT, now=NOW)
    assert values.snp is not None
    assert (len(values.snp.policy_set | values.snp.policy_clear), values.snp.host_data) == (7, frozenset())
    assert len(values.snp.platform_set | values.snp.platform_clear) == 7
    cpu = mock_world.machine.cpu
    launched = replace(cpu, launch=replace(cpu.launch, host_data=b"\x01" * 32))
    world = replace(mock_world, machine=replace(mock_world.machine, cpu=launched))
    values = draft_reference(_verified(world), DRAFT, now=NOW)
    assert values.snp is not None
    assert values.snp.host_data == frozenset({"01" * 32})


@pytest.mark.parametrize("status", [TcbStatus.OUT_OF_DATE, TcbStatus.REVOKED])
def test_a_platform_with_a_lesser_status(td_world: MockWorld, status: TcbStatus) -> None:
    """Named with its advisories, for a person to read; a revoked one cannot be accepted by any values."""
    verified = _verified(td_world)
    detail = verified.cpu.detail
    assert isinstance(detail, VerifiedTdx)
    lesser = VerifiedCpu(replace(detail, tcb_status=status, advisory_ids=("INTEL-SA-00001",)))
    object.__setattr__(verified, "cpu", lesser)  # what no constructor allows
    if status is TcbStatus.REVOKED:
        with pytest.raises(Refused, match="draft-revoked-platform"):
            draft_reference(verified, DRAFT, now=NOW)
        return
    values = draft_reference(verified, DRAFT, now=NOW)
    assert values.tdx is not None
    assert (values.tdx.tcb_statuses, values.tdx.advisory_ids) == ({"OutOfDate"}, {"INTEL-SA-00001"})
