"""Appraisal: each claim refuses by itself, a verdict ends when the first of its grounds does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest import appraise as appraise_module
from attest import strict_json
from attest.accepted.gpu import GpuReference
from attest.accepted.runtime import RuntimeReference
from attest.accepted.snp import SnpReference
from attest.accepted.tdx import TdxReference
from attest.appraise import AttestedRuntime, appraise
from attest.checks import Outcome
from attest.digest import sha256_digest
from attest.evidence.bundle import Bundle
from attest.evidence.cpu import SnpEvidence
from attest.evidence.snp_tcb import TcbVersion
from attest.mock.vendor import MockKeys
from attest.mock.world import MockWorld
from attest.reference import ReferenceValues
from attest.refusal import Refused
from attest.statement import report_data
from attest.trust import HARDWARE_ONLY, MockRoots, TrustRoots
from attest.verify import cpu as cpu_module
from attest.verify.bundle import VerifiedEvidence, verify_bundle
from attest.verify.snp import VerifiedSnp, verify_snp
from tests.simulators.mock_runtime import FAR, NONCE, NOW, verdict
from tests.simulators.snp_world import PROVIDER, SnpWorld

OTHER = sha256_digest(b"other")
SECOND = timedelta(seconds=1)


ONE_GPU = GpuReference(
    count=1,
    archs=frozenset({"HOPPER"}),
    modes=frozenset({"spt"}),
    min_driver="550.90.07",
    min_vbios=frozenset({"96.00.9F.00.01"}),
)
ANY_TD = TdxReference(mrtds=frozenset({"ab" * 48}), min_tcb_evaluation_data_number=1)


def _mock_roots(snp: SnpWorld) -> MockRoots:
    return MockRoots(ark_sha256=snp.roots.mock_ark_sha256)


def _verified(world: MockWorld, **changes: Any) -> VerifiedEvidence:
    """Genuine evidence of a world whose launch differs in ``changes``."""
    cpu = replace(world.machine.cpu, launch=replace(world.machine.cpu.launch, **changes))
    changed = replace(world, machine=replace(world.machine, cpu=cpu))
    return verify_bundle(changed.answer(NONCE), nonce=NONCE, roots=world.trust(), now=NOW)


def _reference(world: MockWorld) -> ReferenceValues:
    return world.reference(not_after=FAR)


def _code(verified: VerifiedEvidence, reference: ReferenceValues, now: datetime = NOW) -> str:
    with pytest.raises(Refused) as refusal:
        appraise(verified, reference, now=now)
    assert refusal.value.checks[-1].outcome is Outcome.REFUSED
    assert all(row.outcome is not Outcome.REFUSED for row in refusal.value.checks[:-1])
    return refusal.value.code


@pytest.fixture(scope="module")
def live(mock_world: MockWorld) -> AttestedRuntime:
    """A verdict on the honest runtime."""
    return verdict(mock_world, mock_world.answer(NONCE))


def test_the_honest_runtime_is_attested(mock_world: MockWorld, live: AttestedRuntime) -> None:
    """The verdict carries what code that seals, sends and logs needs."""
    assert live.statement == mock_world.stated(NONCE)
    assert live.statement_digest == mock_world.stated(NONCE).digest
    assert (live.keyset, live.keyset_digest) == (mock_world.keyset, mock_world.keyset.digest)
    assert (live.vendor, live.is_mock, live.product) == ("mock", True, "Genoa")
    assert live.measurement == mock_world.machine.cpu.launch.measurement.hex()
    assert (live.nonce, live.verified_at) == (NONCE, NOW)
    assert live.reference_digest == _reference(mock_world).digest
    assert live.bundle_digest.startswith("sha256:")
    assert {row.outcome for row in live.checks} == {Outcome.PASSED, Outcome.NOTED}
    assert len(live.checks) >= 30
    assert "mock" in repr(live)


def test_the_rows_of_an_appraisal(one_gpu_world: MockWorld) -> None:
    """In one order: who vouches, the CPU, every device, what is stated, second verdicts, and time."""
    verdict_ = verdict(one_gpu_world, one_gpu_world.answer(NONCE))
    rows = [row for row in verdict_.checks if row.part[:1] == ("appraisal",)]
    assert list(dict.fromkeys(row.part[1] for row in rows)) == [
        "vendor",
        "CPU",
        "devices",
        "statement",
        "second verdicts",
        "time",
    ]
    values, mock = "docs/reference/reference-values.md", "promise P8: the mock cannot pass for hardware"
    expected = [
        ("vendor", values),
        ("all parts are of one kind", mock),
        ("mock roots named by trust file and reference values", mock),
        ("MOCK: no hardware protects this runtime", mock),
        ("kind of TEE", values),
        ("number of GPUs", values),
        ("second verdicts", values),
        ("evidence in date", f"{values}#when-a-verdict-ends"),
        ("certificates in date", f"{values}#when-a-verdict-ends"),
        ("reference in date", values),
    ]
    names = {name for name, _ in expected}
    assert [(row.name, row.clause) for row in rows if row.name in names] == expected
    ends = {row.name: row.expires for row in rows if row.part[1] == "time"}
    assert ends == {
        "evidence in date": NOW + timedelta(hours=1),
        "certificates in date": min(verdict_.devices[0].not_after, _verified(one_gpu_world).cpu.not_after),
        "reference in date": FAR,
    }


def test_devices_that_nobody_asked_for(mock_world: MockWorld, one_gpu_world: MockWorld) -> None:
    """Values without GPUs accept none."""
    reference = replace(_reference(one_gpu_world), gpu=None)
    with pytest.raises(Refused) as refusal:
        appraise(_verified(one_gpu_world), reference, now=NOW)
    assert (refusal.value.code, refusal.value.expected) == ("device-count", "0")
    rows = verdict(mock_world, mock_world.answer(NONCE)).checks
    assert [row.name for row in rows if row.part[:2] == ("appraisal", "devices")] == ["number of devices"]


def test_the_export_names_every_part(one_gpu_world: MockWorld) -> None:
    """Runtime, CPU and each device, by vendor, evidence and what is claimed of it."""
    verdict_ = verdict(one_gpu_world, one_gpu_world.answer(NONCE))
    submodules = verdict_.ear()["submods"]
    assert list(submodules) == ["runtime", "cpu", "nvidia-gpu-0"]
    private = {
        part: {name: value for name, value in claims.items() if name.startswith("sealgate.")}
        for part, claims in submodules.items()
    }
    cpu = {"sealgate.vendor": "MOCK", "sealgate.tee": "snp", "sealgate.measurement": verdict_.measurement}
    assert private == {
        "runtime": cpu
        | {"sealgate.statement": verdict_.statement_digest, "sealgate.keyset": verdict_.keyset_digest},
        "cpu": cpu,
        "nvidia-gpu-0": {
            "sealgate.vendor": "MOCK",
            "sealgate.device": verdict_.devices[0].ueid,
            "sealgate.evidence": verdict_.statement.devices[0].evidence_sha256,
        },
    }
    vectors = {part: claims["ear.trustworthiness-vector"] for part, claims in submodules.items()}
    assert vectors["cpu"] == vectors["runtime"] == dict(verdict_.claims)
    assert (vectors["nvidia-gpu-0"]["hardware"], vectors["nvidia-gpu-0"]["executables"]) == (97, 2)


LAUNCHES = [
    ("snp-debug", {"policy": 0x30000 | 1 << 19}),
    ("snp-migration-agent", {"policy": 0x30000 | 1 << 18}),
    ("snp-migration-agent", {"migration_agent": bytes(32)}),
    ("snp-vmpl-not-accepted", {"vmpl": 1}),
    ("snp-vmpl-not-accepted", {"vmpl": 0xFFFFFFFF}),
    ("snp-measurement-not-accepted", {"measurement": bytes(48)}),
    ("snp-guest-svn", {"guest_svn": 0}),
    ("snp-reported-tcb", {"tcb": TcbVersion(boot_loader=9, tee=0, snp=27, microcode=84)}),
    ("snp-reported-tcb", {"tcb": TcbVersion(boot_loader=10, tee=0, snp=26, microcode=255)}),
    ("snp-reported-tcb", {"tcb": TcbVersion(boot_loader=255, tee=255, snp=255, microcode=83)}),
]


@pytest.mark.parametrize(("code", "launch"), LAUNCHES)
def test_a_launch_that_is_not_accepted(mock_world: MockWorld, code: str, launch: dict[str, Any]) -> None:
    """Genuine evidence of another launch than the accepted one."""
    assert _code(_verified(mock_world, **launch), _reference(mock_world)) == code


@pytest.mark.parametrize(
    "launch", [{"guest_svn": 2}, {"tcb": TcbVersion(boot_loader=10, tee=1, snp=28, microcode=85)}]
)
def test_newer_than_the_floor_is_accepted(mock_world: MockWorld, launch: dict[str, Any]) -> None:
    """Floors are floors, not equalities."""
    appraise(_verified(mock_world, **launch), _reference(mock_world), now=NOW)


def test_debug_and_migration_have_no_switch() -> None:
    """No key of the reference file mentions them, so no file can allow them."""
    kinds = (ReferenceValues, SnpReference, TdxReference, GpuReference, RuntimeReference)
    names = {name for kind in kinds for name in kind.__slots__}
    assert not [name for name in names if "debug" in name or "migrat" in name]


STATEMENTS = [
    ("role-not-accepted", {"role": "tune", "contract_digest": OTHER}),
    ("region-not-accepted", {"region": "test-2"}),
    ("image-not-accepted", {"runtime_image": "sealgate/runtime:test2"}),
    ("policy-not-accepted", {"policy_digest": OTHER}),
    ("model-not-accepted", {"base_model_digest": OTHER}),
    ("tokenizer-not-accepted", {"tokenizer_digest": OTHER}),
]


@pytest.mark.parametrize(("code", "statement"), STATEMENTS)
def test_a_statement_that_is_not_accepted(
    mock_world: MockWorld, code: str, statement: dict[str, Any]
) -> None:
    """Genuine evidence of a runtime that states something else."""
    world = replace(mock_world, statement=replace(mock_world.statement, **statement))
    assert _code(_verified(world), _reference(mock_world)) == code
    appraise(_verified(world), _reference(world), now=NOW)


def test_a_self_check_is_shown_and_decides_where_reference_values_ask_for_one(mock_world: MockWorld) -> None:
    """Without a reference value it is a row; with one, another engine's check is refused, and none too."""
    checked = replace(mock_world, statement=replace(mock_world.statement, self_check=OTHER))
    lenient = _reference(mock_world)
    runtime = replace(lenient.runtime, self_checks=frozenset({OTHER}))
    strict = replace(lenient, runtime=runtime)
    rows = appraise(_verified(checked), lenient, now=NOW).checks
    assert [(row.got, row.outcome) for row in rows if row.name == "self-check"] == [(OTHER, Outcome.NOTED)]
    appraise(_verified(checked), strict, now=NOW)
    other = replace(checked, statement=replace(checked.statement, self_check=sha256_digest(b"another")))
    assert _code(_verified(other), strict) == "self-check-not-accepted"
    assert _code(_verified(mock_world), strict) == "self-check-not-accepted"
    assert ReferenceValues.parse(strict.toml().encode()) == strict


def test_an_embedding_model_is_accepted_by_name_or_not_at_all(mock_world: MockWorld) -> None:
    """A runtime without one is accepted whatever is listed; one with another than listed never is."""
    world = replace(mock_world, statement=replace(mock_world.statement, embedding_model_digest=OTHER))
    silent, listing = _reference(mock_world), _reference(world)
    assert listing.runtime.embedding_model_digests == {OTHER}
    appraise(_verified(world), listing, now=NOW)
    appraise(_verified(mock_world), listing, now=NOW)
    assert _code(_verified(world), silent) == "embedding-model-not-accepted"
    another = replace(world, statement=replace(world.statement, embedding_model_digest=sha256_digest(b"x")))
    assert _code(_verified(another), listing) == "embedding-model-not-accepted"
    assert ReferenceValues.parse(listing.toml().encode()) == listing


def test_another_contract(mock_world: MockWorld) -> None:
    """P6: a tuning runtime is accepted for the contracts named, and no others."""
    signed = replace(mock_world, statement=replace(mock_world.statement, role="tune", contract_digest=OTHER))
    third = replace(signed, statement=replace(signed.statement, contract_digest=sha256_digest(b"third")))
    assert _code(_verified(third), _reference(signed)) == "contract-not-accepted"


def _snp(reference: ReferenceValues, **changes: Any) -> ReferenceValues:
    return replace(reference, snp=replace(reference.snp, **changes))


TIGHTER: list[tuple[str, Callable[[ReferenceValues], ReferenceValues]]] = [
    ("vendor-not-accepted", lambda r: replace(r, vendors=frozenset({"amd"}), mock=None)),
    ("mock-root-not-accepted", lambda r: replace(r, mock=MockRoots(ark_sha256="ab" * 32))),
    (
        "snp-product-not-accepted",
        lambda r: _snp(r, products=frozenset({"Milan"}), min_tcb={"Milan": TcbVersion(0, 0, 0, 0)}),
    ),
    (
        "snp-signing-key-not-accepted",
        lambda r: _snp(r, signing_keys=frozenset({"vlek"}), csp_ids=frozenset({PROVIDER})),
    ),
    ("device-count", lambda r: replace(r, gpu=ONE_GPU)),
    ("tee-not-accepted", lambda r: replace(r, snp=None, tdx=ANY_TD)),
]


@pytest.mark.parametrize(("code", "tighten"), TIGHTER)
def test_reference_values_that_want_something_else(
    mock_world: MockWorld, code: str, tighten: Callable[[ReferenceValues], ReferenceValues]
) -> None:
    """The same genuine evidence under other reference values."""
    assert _code(_verified(mock_world), tighten(_reference(mock_world))) == code


def test_what_a_refusal_names(mock_world: MockWorld) -> None:
    """The mock roots of either file by their digests' beginnings; the kinds of TEE that are accepted."""
    verified, reference = _verified(mock_world), _reference(mock_world)
    other = MockRoots(ark_sha256="ab" * 32, tdx_root_sha256="cd" * 32)
    trusted = verified.roots.mock
    assert trusted is not None
    for changed, expected, got in (
        (
            replace(reference, mock=other),
            ", ".join(f"{name} {value[:16]}" for name, value in other.values().items()),
            ", ".join(f"{name} {value[:16]}" for name, value in trusted.values().items()),
        ),
        (replace(reference, snp=None, tdx=ANY_TD), "tdx", "snp"),
    ):
        with pytest.raises(Refused) as refusal:
            appraise(verified, changed, now=NOW)
        assert (refusal.value.expected, refusal.value.got) == (expected, got)


@pytest.mark.parametrize("other", ["mock_world", "azure_world"])
def test_values_for_several_kinds(td_world: MockWorld, other: str, request: pytest.FixtureRequest) -> None:
    """Each kind of TEE is judged by its own table, whatever other tables there are."""
    verified = verify_bundle(td_world.answer(NONCE), nonce=NONCE, roots=td_world.trust(), now=NOW)
    more = _reference(request.getfixturevalue(other))
    reference = replace(_reference(td_world), snp=more.snp, azure=more.azure)
    assert appraise(verified, reference, now=NOW).tee == "tdx"


def test_an_azure_vm_is_judged_by_both_tables(azure_world: MockWorld) -> None:
    """The hardware's values and the boot's; a guest on the hardware itself is another kind."""
    verified = verify_bundle(azure_world.answer(NONCE), nonce=NONCE, roots=azure_world.trust(), now=NOW)
    reference = _reference(azure_world)
    boot = reference.azure
    assert boot is not None
    another = replace(reference, azure=replace(boot, pcrs={4: frozenset({"00" * 32})}))
    other_paravisor = _snp(reference, measurements=frozenset({"00" * 48}))
    runtime = appraise(verified, reference, now=NOW)
    assert (runtime.tee, runtime.measurement) == ("azure-snp", verified.cpu.measurement)
    assert _code(verified, replace(reference, azure=None)) == "tee-not-accepted"
    assert _code(verified, other_paravisor) == "snp-measurement-not-accepted"
    assert _code(verified, another) == "azure-pcr"
    assert appraise(verified, replace(reference, azure=replace(boot, pcrs={4: boot.pcrs[4]})), now=NOW)


def test_the_mock_needs_both_files(mock_world: MockWorld) -> None:
    """P8: the trust file alone is not enough, nor are the reference values alone."""
    trusted = _verified(mock_world)
    amd_only = replace(_reference(mock_world), vendors=frozenset({"amd"}), mock=None)
    assert _code(trusted, amd_only) == "vendor-not-accepted"
    with pytest.raises(Refused, match="snp-root-not-trusted"):
        verify_bundle(mock_world.answer(NONCE), nonce=NONCE, roots=HARDWARE_ONLY, now=NOW)


def test_a_mock_verdict_says_so(live: AttestedRuntime) -> None:
    """P8: in the rows, in the export, in the type."""
    assert live.is_mock
    assert [row.name for row in live.checks if "MOCK" in row.name]
    runtime = live.ear()["submods"]["runtime"]
    assert runtime["sealgate.vendor"] == "MOCK"
    assert runtime["ear.status"] == "contraindicated"
    assert runtime["ear.trustworthiness-vector"]["hardware"] == 97


def test_a_hardware_verdict_says_nothing_of_mock(
    mock_world: MockWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No genuine report of our own statement exists to test with, so only the vendor's name is put in."""

    def as_amd(*args: Any, **kwargs: Any) -> VerifiedSnp:
        return replace(verify_snp(*args, **kwargs), vendor="amd")

    monkeypatch.setattr(cpu_module, "verify_snp", as_amd)
    reference = _reference(mock_world)
    verified = _verified(mock_world)
    assert _code(verified, reference) == "vendor-not-accepted"
    hardware = appraise(verified, replace(reference, vendors=frozenset({"amd"}), mock=None), now=NOW)
    assert (hardware.vendor, hardware.is_mock) == ("amd", False)
    assert not [row for row in hardware.checks if "MOCK" in row.name.upper()]
    runtime = hardware.ear()["submods"]["runtime"]
    assert (runtime["ear.status"], runtime["sealgate.vendor"]) == ("affirming", "amd")


def test_without_a_revocation_list(mock_world: MockWorld) -> None:
    """Left out by whoever sends the bundle, it would hide a revoked chip: accepted only where allowed."""
    honest = mock_world.bundle(NONCE)
    cpu = replace(honest.cpu, collateral=replace(honest.cpu.collateral, crl=None))
    bundle = replace(honest, cpu=cpu).serialise()
    verified = verify_bundle(bundle, nonce=NONCE, roots=mock_world.trust(), now=NOW)
    reference = _reference(mock_world)
    assert _code(verified, reference) == "snp-revocation-unchecked"
    appraise(verified, _snp(reference, require_revocation_list=False), now=NOW)


def _signed_here(world: MockWorld, snp: SnpWorld, edits: dict[int, bytes]) -> VerifiedEvidence:
    """Evidence of another chain or another report than the mock vendor makes."""
    statement = world.stated(NONCE).canonical()
    report = snp.report(edits={0x50: report_data(statement), **edits})
    collateral = snp.collateral(crl=snp.crl())
    bundle = Bundle(statement, world.keyset.canonical(), SnpEvidence(report, collateral))
    roots = TrustRoots(amd=False, intel=False, nvidia=False, mock=_mock_roots(snp))
    return verify_bundle(bundle.serialise(), nonce=NONCE, roots=roots, now=NOW)


def test_firmware_rolled_back_at_launch(mock_world: MockWorld, mock_keys: MockKeys) -> None:
    """Firmware that was updated after the guest's launch measured that launch while it was still old."""
    snp = SnpWorld(mock_keys)
    old = replace(snp.launch.tcb, snp=snp.launch.tcb.snp - 1).serialise("Genoa")
    verified = _signed_here(mock_world, snp, {0x1F0: old})
    reference = _snp(_reference(mock_world), measurements=frozenset({snp.launch.measurement.hex()}))
    reference = replace(reference, mock=_mock_roots(snp))
    assert _code(verified, reference) == "snp-launch-tcb"


def test_a_providers_key(mock_world: MockWorld, mock_keys: MockKeys) -> None:
    """A VLEK is accepted for the providers named, and no others."""
    snp = SnpWorld(mock_keys, kind="vlek")
    verified = _signed_here(mock_world, snp, {})
    reference = replace(_reference(mock_world), mock=_mock_roots(snp))
    reference = _snp(reference, measurements=frozenset({snp.launch.measurement.hex()}))
    assert _code(verified, reference) == "snp-signing-key-not-accepted"
    accepted = _snp(reference, signing_keys=frozenset({"vlek"}), csp_ids=frozenset({PROVIDER}))
    assert "cloud provider" in {row.name for row in appraise(verified, accepted, now=NOW).checks}
    assert _code(verified, _snp(accepted, csp_ids=frozenset({"CN=another"}))) == "snp-csp-not-accepted"


# When a verdict ends


def test_keys_that_are_not_in_use(mock_world: MockWorld) -> None:
    """Pending before not_before, stale at not_after; the moments between are fine."""
    verified, reference = _verified(mock_world), _reference(mock_world)
    reference = replace(reference, max_evidence_age=timedelta(hours=2))
    start, end = mock_world.keyset.not_before, mock_world.keyset.not_after
    assert _code(verified, reference, start - SECOND) == "keyset-pending"
    appraise(verified, reference, now=end - SECOND)
    assert _code(verified, reference, end) == "keyset-stale"


def test_evidence_that_is_too_old(mock_world: MockWorld) -> None:
    """Age counts from verification, and the end does not belong to it."""
    verified = _verified(mock_world)
    reference = replace(_reference(mock_world), max_evidence_age=timedelta(minutes=10))
    appraise(verified, reference, now=NOW + timedelta(minutes=10) - SECOND)
    assert _code(verified, reference, NOW + timedelta(minutes=10)) == "evidence-expired"


def test_reference_values_that_ended(mock_world: MockWorld) -> None:
    """Forgotten reference values stop being used."""
    verified = _verified(mock_world)
    reference = replace(_reference(mock_world), not_after=NOW)
    assert _code(verified, reference) == "reference-expired"
    appraise(verified, replace(reference, not_after=NOW + SECOND), now=NOW)


def test_certificates_that_ended_since(mock_world: MockWorld) -> None:
    """A verdict is not made on collateral that ended between verification and appraisal."""
    late = replace(
        mock_world,
        keyset=replace(mock_world.keyset, not_after=NOW + timedelta(days=60)),
    )
    verified = _verified(late)
    end = verified.cpu.not_after
    assert NOW < end < NOW + timedelta(days=31), "the revocation list is the first to end"
    verified_late = verify_bundle(late.answer(NONCE), nonce=NONCE, roots=late.trust(), now=end - SECOND)
    assert _code(verified_late, _reference(late), end) == "certificates-expired"


@pytest.mark.parametrize(
    ("keyset", "age", "reference", "end"),
    [
        (timedelta(minutes=5), timedelta(hours=1), timedelta(days=1), timedelta(minutes=5)),
        (timedelta(hours=1), timedelta(minutes=5), timedelta(days=1), timedelta(minutes=5)),
        (timedelta(hours=1), timedelta(hours=1), timedelta(minutes=5), timedelta(minutes=5)),
        (timedelta(days=90), timedelta(days=1), timedelta(days=90), timedelta(days=1)),
    ],
)
def test_a_verdict_ends_with_the_first_of_its_grounds(
    mock_world: MockWorld, keyset: timedelta, age: timedelta, reference: timedelta, end: timedelta
) -> None:
    """valid_until is the earliest of keys, evidence age, certificates and reference values."""
    world = replace(mock_world, keyset=replace(mock_world.keyset, not_after=NOW + keyset))
    values = world.reference(not_after=NOW + reference, max_evidence_age=age)
    verdict_ = verdict(world, world.answer(NONCE), values)
    assert verdict_.valid_until == NOW + end
    assert verdict_.valid_until == min(row.expires for row in verdict_.checks if row.expires is not None)


def test_a_verdict_ends_with_its_collateral(mock_world: MockWorld) -> None:
    """The revocation list's end is the verdict's, where it is the first."""
    issued = NOW - timedelta(days=29) + timedelta(minutes=3)  # lists are dated a day back and live 30 days
    verdict_ = verdict(mock_world, replace(mock_world, now=issued).answer(NONCE))
    assert verdict_.valid_until == NOW + timedelta(minutes=3)


def test_require_live(live: AttestedRuntime) -> None:
    """Holds until just before the end, in any zone; refuses at the end and after it."""
    live.require_live(NOW)
    live.require_live(live.valid_until - SECOND)
    live.require_live((live.valid_until - SECOND).astimezone(timezone(timedelta(hours=-7))))
    for late in (timedelta(0), SECOND, timedelta(days=400)):
        with pytest.raises(Refused, match="verdict-expired"):
            live.require_live(live.valid_until + late)


def test_a_clock_that_went_back(live: AttestedRuntime) -> None:
    """Setting the clock back does not lengthen a verdict's life; a correction of seconds is tolerated."""
    live.require_live(NOW - timedelta(seconds=5))
    with pytest.raises(Refused, match="verdict-clock") as refusal:
        live.require_live(NOW - timedelta(seconds=5, microseconds=1))
    assert refusal.value.clause == "docs/reference/reference-values.md#when-a-verdict-ends"


def test_a_verdict_without_a_nonce_carries_nothing(mock_world: MockWorld) -> None:
    """P1: a saved bundle can be judged, and no data leaves on that judgement."""
    verified = verify_bundle(mock_world.answer(NONCE), nonce=None, roots=mock_world.trust(), now=NOW)
    saved = appraise(verified, _reference(mock_world), now=NOW)
    with pytest.raises(Refused, match="verdict-not-fresh"):
        saved.require_live(NOW)
    assert "eat_nonce" not in saved.ear()


@given(st.timedeltas(min_value=timedelta(days=-30), max_value=timedelta(days=30)))
@settings(max_examples=200)
def test_live_exactly_within_its_window(live: AttestedRuntime, offset: timedelta) -> None:
    """At every moment: live if and only if inside the window."""
    now = NOW + offset
    inside = NOW - appraise_module.MAX_STEP_BACK <= now < live.valid_until
    try:
        live.require_live(now)
    except Refused:
        assert not inside
    else:
        assert inside


def test_require_live_is_cheap(live: AttestedRuntime) -> None:
    """Called before every request: at most 50 microseconds."""
    rounds = 2000
    start = time.perf_counter()
    for _ in range(rounds):
        live.require_live(NOW)
    assert (time.perf_counter() - start) / rounds < 50e-6


# What the type means


def test_attested_runtime_is_made_by_appraise_only(live: AttestedRuntime) -> None:
    """Neither a constructor call nor ``replace`` makes a runtime count as attested."""
    with pytest.raises(ValueError, match="made_by"):
        replace(live, valid_until=FAR)  # type: ignore[call-arg]  # the point of the test
    with pytest.raises(TypeError, match="appraise only"):
        replace(live, valid_until=FAR, made_by=object())
    with pytest.raises(AttributeError):
        live.valid_until = FAR  # type: ignore[misc]  # the point of the test


def test_the_export_is_json_with_the_verdicts_facts(live: AttestedRuntime, mock_world: MockWorld) -> None:
    """An EAR-shaped result: profile, times, nonce, policy id, vector."""
    result = live.ear()
    assert json.loads(strict_json.canonical(result)) == result
    assert result["eat_profile"] == "tag:github.com,2023:veraison/ear"
    assert (result["iat"], result["exp"]) == (int(NOW.timestamp()), int(live.valid_until.timestamp()))
    assert result["eat_nonce"] == NONCE
    runtime = result["submods"]["runtime"]
    assert runtime["ear.appraisal-policy-id"] == _reference(mock_world).digest
    assert runtime["ear.trustworthiness-vector"] == dict(live.claims)
    assert runtime["sealgate.statement"] == live.statement_digest


def test_long_lists_are_shown_short(mock_world: MockWorld) -> None:
    """A row stays readable beside hundreds of accepted values."""
    many = frozenset({sha256_digest(bytes([number])) for number in range(100)})
    reference = _reference(mock_world)
    reference = replace(reference, runtime=replace(reference.runtime, policy_digests=many))
    with pytest.raises(Refused) as refusal:
        appraise(_verified(mock_world), reference, now=NOW)
    assert refusal.value.code == "policy-not-accepted"
    assert refusal.value.expected.endswith("or 97 more")


def test_half_a_mock_is_none(one_gpu_world: MockWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """P8: a mock GPU beside a genuine CPU, or the other way round, is neither hardware nor a mock."""
    from attest.verify import devices as devices_module  # noqa: PLC0415 - for this test's pretence alone

    def bare(*args: Any, **kwargs: Any) -> Any:
        return replace(verify_gpu(*args, **kwargs), vendor="nvidia")

    verify_gpu = devices_module.verify_gpu
    monkeypatch.setattr(devices_module, "verify_gpu", bare)
    answer = one_gpu_world.answer(NONCE)
    verified = verify_bundle(answer, nonce=NONCE, roots=one_gpu_world.trust(), now=NOW)
    assert _code(verified, _reference(one_gpu_world)) == "mock-mixed"
