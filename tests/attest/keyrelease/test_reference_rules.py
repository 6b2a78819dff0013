"""Release policies and reference values: what goes over, what is left out, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest.evidence.maa_claims import AttestationKind, TeeKind
from attest.evidence.snp_flags import PolicyBit
from attest.keyrelease.reference_rules import Imported, export_rules, import_rule
from attest.keyrelease.release_policy import (
    Number,
    ReleaseRule,
    export_policy,
    parse_policy,
    rule_for_guest,
)
from attest.refusal import Refused
from tests.attest.test_trust_and_reference import REFERENCE as EVERYTHING

REFERENCE = replace(EVERYTHING, azure=None)
ISSUER = "https://sharedweu.weu.attest.azure.net"
HASHES = frozenset({"A" * 43, "B" * 43})
TEES: tuple[TeeKind, ...] = ("sevsnpvm", "tdxvm")
SAYABLE: tuple[PolicyBit, ...] = (
    "smt_allowed",
    "single_socket_required",
    "cxl_allowed",
    "aes_256_xts_required",
    "page_swap_disabled",
)


@pytest.mark.parametrize("kind", ["raw", "azurevm"])
def test_round_trip(kind: str) -> None:
    """Measurements, issuer and policies come back, through the document that a key store keeps."""
    exported = export_rules(REFERENCE, ISSUER, HASHES, kind=kind)
    rules = parse_policy(export_policy(exported.rules))
    snp, tdx = map(import_rule, rules)
    assert REFERENCE.snp is not None
    assert REFERENCE.tdx is not None
    wanted: AttestationKind | None = "azurevm" if kind == "azurevm" else None
    assert snp == Imported(
        ISSUER,
        HASHES,
        wanted or "sevsnpvm",
        "sevsnpvm",
        REFERENCE.snp.measurements,
        {
            "vmpls": REFERENCE.snp.vmpls,
            "host_data": REFERENCE.snp.host_data,
            "id_key_digests": REFERENCE.snp.id_key_digests,
            "policy_set": REFERENCE.snp.policy_set,
            "policy_clear": REFERENCE.snp.policy_clear,
        },
        ("products", "signing_keys", "require_revocation_list", "min_guest_svn", "min_tcb"),
    )
    rtmrs = {f"rtmr{index}": accepted for index, accepted in enumerate(REFERENCE.tdx.rtmrs)}
    rest = ("mrseams", "mrconfigids", "mrowners", "mrownerconfigs", "allow_perfmon")
    assert tdx == Imported(
        ISSUER,
        HASHES,
        wanted or "tdxvm",
        "tdxvm",
        REFERENCE.tdx.mrtds,
        rtmrs | {name: getattr(REFERENCE.tdx, name) for name in rest},
        ("min_tcb_evaluation_data_number",),
    )


def test_what_a_policy_cannot_say_is_said() -> None:
    """Floors, bits, devices and life: a person must know that the key store does not ask for them."""
    exported = export_rules(REFERENCE, ISSUER, HASHES)
    assert set(exported.unsaid) == {
        *("vendors", "max_evidence_age_seconds", "not_after", "runtime", "gpu"),
        *("snp.products", "snp.signing_keys", "snp.csp_ids", "snp.min_tcb", "snp.min_guest_svn"),
        *("snp.platform_set", "snp.platform_clear", "snp.require_revocation_list"),
        *("tdx.xfams", "tdx.tcb_statuses", "tdx.advisory_ids", "tdx.min_tcb_evaluation_data_number"),
        *("tdx.allow_azure_paravisor", "tdx.require_event_log"),
    }
    assert REFERENCE.tdx is not None
    tdx = replace(REFERENCE.tdx, tcb_statuses=frozenset({"UpToDate"}), advisory_ids=frozenset())
    strict = replace(
        REFERENCE, tdx=tdx, snp=None, gpu=None, quorum=None, vendors=frozenset({"intel"}), mock=None
    )
    exported = export_rules(strict, ISSUER, HASHES)
    assert len(exported.rules) == 1
    assert "tdx.tcb_statuses" not in exported.unsaid
    assert not [name for name in exported.unsaid if name.startswith("snp") or name == "gpu"]


def test_what_is_accepted_through_a_vtpm_is_not_released_to_a_raw_report() -> None:
    """The paravisor's measurement alone would do then, whatever the VM booted; and PCRs no rule can say."""
    exported = export_rules(EVERYTHING, ISSUER, HASHES, kind="raw")
    assert exported.rules[0].claims["x-ms-attestation-type"] == frozenset({"azurevm"})
    assert exported.rules[1].claims["x-ms-attestation-type"] == frozenset({"tdxvm"})
    assert "azure" in exported.unsaid


def test_a_bit_that_tokens_do_not_carry_is_not_said() -> None:
    """Then the whole list counts as unsaid, though its other bits are in the rule."""
    assert REFERENCE.snp is not None
    snp = replace(REFERENCE.snp, policy_set=frozenset({"aes_256_xts_required", "rapl_disabled_required"}))
    exported = export_rules(replace(REFERENCE, snp=snp), ISSUER, HASHES)
    assert "snp.policy_set" in exported.unsaid
    assert exported.rules[0].claims["x-ms-sevsnpvm-mem-aes256-xts-required"] == frozenset({True})


def test_what_a_rule_leaves_open_is_said() -> None:
    """A rule of a measurement alone must not be taken for values that fix the rest."""
    for kind in TEES:
        bare = rule_for_guest(ISSUER, kind, kind, policy_hashes=HASHES, measurements=frozenset({bytes(48)}))
        imported = import_rule(bare)
        assert imported.values == ({} if kind == "sevsnpvm" else {"allow_perfmon": True})
        assert imported.unsaid[0] == ("products" if kind == "sevsnpvm" else "mrconfigids")
        assert ("vmpls" in imported.unsaid) == (kind == "sevsnpvm")


def digests(size: int = 48) -> st.SearchStrategy[frozenset[str]]:
    """Lists of digests, hex."""
    return st.frozensets(st.binary(min_size=size, max_size=size).map(bytes.hex), min_size=1, max_size=3)


@settings(max_examples=40, deadline=None)
@given(
    measurements=digests(),
    host_data=st.just(frozenset[str]()) | digests(32),
    id_keys=st.just(frozenset[str]()) | digests(),
    vmpls=st.frozensets(st.integers(0, 3), min_size=1),
    bits=st.lists(st.sampled_from(SAYABLE), unique=True),
    wanted=st.lists(st.booleans(), min_size=len(SAYABLE), max_size=len(SAYABLE)),
    kind=st.sampled_from(["raw", "azurevm"]),
)
def test_any_snp_values_come_back(  # noqa: PLR0917 - what varies
    measurements: frozenset[str],
    host_data: frozenset[str],
    id_keys: frozenset[str],
    vmpls: frozenset[int],
    bits: list[PolicyBit],
    wanted: list[bool],
    kind: str,
) -> None:
    """Whatever a rule can say is what the reference values said, and what it said not is named."""
    assert REFERENCE.snp is not None
    states = dict(zip(bits, wanted, strict=False))
    snp = replace(
        REFERENCE.snp,
        measurements=measurements,
        host_data=host_data,
        id_key_digests=id_keys,
        vmpls=vmpls,
        policy_set=frozenset(bit for bit in bits if states[bit]),
        policy_clear=frozenset(bit for bit in bits if not states[bit]),
    )
    exported = export_rules(replace(REFERENCE, snp=snp), ISSUER, HASHES, kind=kind)
    imported = import_rule(parse_policy(export_policy(exported.rules))[0])
    assert imported.measurements == measurements
    table = snp.values()
    unsaid = {name.removeprefix("snp.") for name in exported.unsaid if name.startswith("snp.")}
    assert table.keys() - unsaid - {"measurements"} == imported.values.keys()
    for key, value in imported.values.items():
        assert isinstance(value, frozenset)
        assert sorted(value) == table[key]


RULE = export_rules(REFERENCE, ISSUER, HASHES).rules[0]


@pytest.mark.parametrize(
    "change",
    [
        {"x-ms-sevsnpvm-is-debuggable": frozenset({True})},
        {"x-ms-sevsnpvm-is-debuggable": None},
        {"x-ms-sevsnpvm-migration-allowed": None},
        {"x-ms-sevsnpvm-vmpl": frozenset({"0"})},
        {"x-ms-sevsnpvm-vmpl": frozenset({False})},
        {"x-ms-sevsnpvm-vmpl": frozenset({Number(4)})},
        {"x-ms-sevsnpvm-vmpl": frozenset({Number(0), "0"})},
        {"x-ms-sevsnpvm-is-debuggable": frozenset({Number(0)})},
        {"x-ms-sevsnpvm-smt-allowed": frozenset({True, False})},
        {"x-ms-sevsnpvm-hostdata": frozenset({"0A" * 32})},
        {"x-ms-sevsnpvm-hostdata": frozenset({"0a" * 48})},
        {"x-ms-sevsnpvm-idkeydigest": frozenset({"0b" * 48, True})},
        {"x-ms-isolation-tee.x-ms-sevsnpvm-vmpl": frozenset({Number(0)})},
        {"tdx_mrseam": frozenset({"1b" * 48})},
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


@pytest.mark.parametrize("value", [frozenset({True}), frozenset({Number(0)})])
def test_a_tdx_rule_with_another_perfmon_is_refused(value: frozenset[Any]) -> None:
    """To demand performance counters, or a number, is not what reference values say."""
    rule = export_rules(REFERENCE, ISSUER, HASHES).rules[1]
    with pytest.raises(Refused) as refusal:
        import_rule(ReleaseRule(ISSUER, rule.claims | {"tdx_td_attributes_perfmon": value}))
    assert refusal.value.code == "release-policy-claim"


def test_a_td_without_counters_is_said() -> None:
    """Unless they are allowed, the rule forbids them, and is read back so."""
    assert REFERENCE.tdx is not None
    values = replace(REFERENCE, tdx=replace(REFERENCE.tdx, allow_perfmon=False))
    rule = export_rules(values, ISSUER, HASHES).rules[1]
    assert rule.claims["tdx_td_attributes_perfmon"] == frozenset({False})
    assert import_rule(rule).values["allow_perfmon"] is False
