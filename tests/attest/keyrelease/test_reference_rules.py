"""Release policies and reference values: what goes over, what is left out, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attest.keyrelease.reference_rules import Imported, export_rules, import_rule
from attest.keyrelease.release_policy import ReleaseRule, export_policy, parse_policy
from attest.refusal import Refused
from tests.attest.test_trust_and_reference import REFERENCE

ISSUER = "https://sharedweu.weu.attest.azure.net"
HASHES = frozenset({"A" * 43, "B" * 43})


@pytest.mark.parametrize("kind", ["raw", "azurevm"])
def test_round_trip(kind: str) -> None:
    """Measurements, issuer and policies come back, through the document that a key store keeps."""
    exported = export_rules(REFERENCE, ISSUER, HASHES, kind=kind)
    rules = parse_policy(export_policy(exported.rules))
    snp, tdx = map(import_rule, rules)
    assert REFERENCE.snp is not None
    assert REFERENCE.tdx is not None
    wanted = "azurevm" if kind == "azurevm" else None
    assert snp == Imported(ISSUER, HASHES, wanted or "sevsnpvm", "sevsnpvm", REFERENCE.snp.measurements)
    assert tdx == Imported(ISSUER, HASHES, wanted or "tdxvm", "tdxvm", REFERENCE.tdx.mrtds)


def test_what_a_policy_cannot_say_is_said() -> None:
    """Floors, bits, devices and life: a person must know that the key store does not ask for them."""
    unsaid = export_rules(REFERENCE, ISSUER, HASHES).unsaid
    assert {"snp.min_tcb", "snp.vmpls", "snp.policy_set", "tdx.rtmr0", "gpu", "not_after", "runtime"} <= set(
        unsaid
    )
    assert "tdx.tcb_statuses" in unsaid, "a lesser status is accepted by us and not by the policy"
    assert REFERENCE.tdx is not None
    tdx = replace(REFERENCE.tdx, tcb_statuses=frozenset({"UpToDate"}), advisory_ids=frozenset())
    strict = replace(
        REFERENCE, tdx=tdx, snp=None, gpu=None, quorum=None, vendors=frozenset({"intel"}), mock=None
    )
    exported = export_rules(strict, ISSUER, HASHES)
    assert len(exported.rules) == 1
    assert "tdx.tcb_statuses" not in exported.unsaid
    assert not [name for name in exported.unsaid if name.startswith("snp") or name == "gpu"]


RULE = export_rules(REFERENCE, ISSUER, HASHES).rules[0]


@pytest.mark.parametrize(
    "change",
    [
        {"x-ms-sevsnpvm-is-debuggable": frozenset({True})},
        {"x-ms-sevsnpvm-is-debuggable": None},
        {"x-ms-sevsnpvm-migration-allowed": None},
        {"x-ms-sevsnpvm-vmpl": frozenset({"0"})},
        {"x-ms-attestation-type": frozenset({"sgx"})},
        {"x-ms-attestation-type": frozenset({"sevsnpvm", "azurevm"})},
        {"x-ms-sevsnpvm-launchmeasurement": None},
        {"x-ms-sevsnpvm-launchmeasurement": frozenset({"xyz"})},
        {"x-ms-policy-hash": frozenset({"A" * 43, True})},
        {"secureboot": frozenset({True})},
    ],
)
def test_a_rule_that_says_anything_else_is_refused(change: dict[str, Any]) -> None:
    """More, less or otherwise: read in part, it would accept guests that it does not mean."""
    claims = {name: values for name, values in (RULE.claims | change).items() if values is not None}
    with pytest.raises(Refused) as refusal:
        import_rule(ReleaseRule(ISSUER, claims))
    assert refusal.value.code == "release-policy-claim"
