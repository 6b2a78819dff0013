"""What reference values ask of an Azure VM's boot, claim by claim."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attest.accepted.azure import AzureReference
from attest.checks import CheckList, Outcome
from attest.judge.azure import judge_vtpm
from attest.mock.world import MockWorld
from attest.refusal import Refused
from attest.verify.azure import VerifiedAzureSnp, VerifiedVtpm
from attest.verify.bundle import verify_bundle
from tests.simulators.mock_runtime import NONCE, NOW


@pytest.fixture(scope="module")
def vtpm(azure_world: MockWorld) -> VerifiedVtpm:
    """The honest VM's."""
    verified = verify_bundle(azure_world.answer(NONCE), nonce=NONCE, roots=azure_world.trust(), now=NOW)
    assert isinstance(verified.cpu.detail, VerifiedAzureSnp)
    return verified.cpu.detail.vtpm


def _accepted(vtpm: VerifiedVtpm, *indices: int) -> AzureReference:
    return AzureReference(pcrs={index: frozenset({vtpm.pcrs[index].hex(), "00" * 32}) for index in indices})


def _code(vtpm: VerifiedVtpm, accepted: AzureReference) -> str | None:
    try:
        judge_vtpm(vtpm, accepted, CheckList())
    except Refused as refusal:
        return refusal.code
    return None


def test_the_rows_of_an_honest_boot(vtpm: VerifiedVtpm) -> None:
    """Two rules, and which PCRs were asked."""
    checks = CheckList()
    judge_vtpm(vtpm, _accepted(vtpm, 7, 4), checks)
    assert [(row.name, row.clause, row.outcome) for row in checks] == [
        ("Secure Boot", "Azure CVM, HCL report", Outcome.PASSED),
        ("vTPM PCRs", "TPM 2.0 part 3, TPM2_Quote", Outcome.PASSED),
    ]
    assert checks.rows[1].expected == "accepted values in PCR 4, 7"


def test_secure_boot(vtpm: VerifiedVtpm) -> None:
    """Off is accepted only where that is said."""
    accepted = _accepted(vtpm, 4)
    off = replace(vtpm, runtime=replace(vtpm.runtime, secure_boot=False))
    assert _code(off, accepted) == "azure-secure-boot"
    assert _code(off, replace(accepted, require_secure_boot=False)) is None
    assert _code(vtpm, replace(accepted, require_secure_boot=False)) is None


@pytest.mark.parametrize("index", [0, 4, 23])
def test_pcrs(vtpm: VerifiedVtpm, index: int) -> None:
    """Each that is named has one of its values and was quoted."""
    accepted = _accepted(vtpm, 4, index)
    assert _code(vtpm, accepted) is None
    another = replace(vtpm, pcrs={**vtpm.pcrs, index: b"\x01" * 32})
    assert _code(another, accepted) == "azure-pcr"
    unquoted = replace(vtpm, pcrs={place: value for place, value in vtpm.pcrs.items() if place != index})
    assert _code(unquoted, accepted) == "azure-pcr-unquoted"
