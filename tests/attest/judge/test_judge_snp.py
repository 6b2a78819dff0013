"""What reference values may further ask of a SEV-SNP guest, bit by bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest

from attest.accepted.snp import SnpReference
from attest.checks import CheckList
from attest.evidence.snp_flags import PlatformBit, PolicyBit
from attest.judge.snp import judge_snp
from attest.mock.world import MockWorld
from attest.refusal import Refused
from attest.verify.bundle import verify_bundle
from attest.verify.snp import VerifiedSnp
from tests.simulators.mock_runtime import NONCE, NOW

POLICY_BITS = dict(zip(get_args(PolicyBit), (16, 20, 21, 22, 23, 24, 25), strict=True))
PLATFORM_BITS = dict(zip(get_args(PlatformBit), (0, 1, 2, 3, 4, 5, 7), strict=True))


def _verified(world: MockWorld, **launch: Any) -> VerifiedSnp:
    cpu = replace(world.machine.cpu, launch=replace(world.machine.cpu.launch, **launch))
    changed = replace(world, machine=replace(world.machine, cpu=cpu))
    verified = verify_bundle(changed.answer(NONCE), nonce=NONCE, roots=world.trust(), now=NOW).cpu.detail
    assert isinstance(verified, VerifiedSnp)
    return verified


def _code(verified: VerifiedSnp, accepted: SnpReference) -> str | None:
    try:
        judge_snp(verified, accepted, CheckList())
    except Refused as refusal:
        return refusal.code
    return None


@pytest.fixture
def accepted(mock_world: MockWorld) -> SnpReference:
    """Values that accept the honest guest."""
    reference = mock_world.machine.cpu.reference()
    assert isinstance(reference, SnpReference)
    return reference


def test_the_rows_of_an_honest_guest(mock_world: MockWorld, accepted: SnpReference) -> None:
    """Every rule has its row, in its words and under its clause."""
    asked = replace(
        accepted,
        host_data=frozenset({"0a" * 32}),
        id_key_digests=frozenset({"0b" * 48}),
        policy_set=frozenset({"smt_allowed"}),
        policy_clear=frozenset(),
        platform_set=frozenset(),
        platform_clear=frozenset({"rapl_disabled"}),
    )
    checks = CheckList()
    judge_snp(_verified(mock_world, host_data=b"\x0a" * 32, id_key_digest=b"\x0b" * 48), asked, checks)
    report, policy = "AMD 56860 ATTESTATION_REPORT", "AMD 56860 GUEST_POLICY"
    files, firmware = "docs/reference/reference-values.md", "AMD 56860 TCB_VERSION"
    assert [(row.name, row.clause) for row in checks] == [
        ("debugging is off", policy),
        ("no migration agent", policy),
        ("privilege level", report),
        ("launch measurement", report),
        ("host data", report),
        ("ID key", report),
        ("guest security version", report),
        ("smt allowed", policy),
        ("rapl disabled", "AMD 56860 PLATFORM_INFO"),
        ("product", files),
        ("signing key", files),
        ("revocation list", "AMD 57230"),
        ("reported firmware versions", firmware),
        ("launch firmware versions", firmware),
    ]


@pytest.mark.parametrize(("name", "bit"), POLICY_BITS.items())
def test_policy_bits_by_name(
    mock_world: MockWorld, accepted: SnpReference, name: PolicyBit, bit: int
) -> None:
    """Each named bit of the guest policy may be required to be set, or to be clear; each is the right one."""
    for is_set in (True, False):
        base = mock_world.machine.cpu.launch.policy & ~(1 << bit)  # type: ignore[union-attr]  # SNP
        verified = _verified(mock_world, policy=base | is_set << bit)
        to_set = replace(accepted, policy_set=frozenset({name}))
        to_clear = replace(accepted, policy_clear=frozenset({name}))
        assert _code(verified, to_set) == (None if is_set else "snp-policy-bit")
        assert _code(verified, to_clear) == ("snp-policy-bit" if is_set else None)


@pytest.mark.parametrize(("name", "bit"), PLATFORM_BITS.items())
def test_platform_bits_by_name(
    mock_world: MockWorld, accepted: SnpReference, name: PlatformBit, bit: int
) -> None:
    """As above, for what the firmware says of the platform."""
    for is_set in (True, False):
        verified = _verified(mock_world, platform_info=is_set << bit)
        to_set = replace(accepted, platform_set=frozenset({name}))
        to_clear = replace(accepted, platform_clear=frozenset({name}))
        assert _code(verified, to_set) == (None if is_set else "snp-platform-bit")
        assert _code(verified, to_clear) == ("snp-platform-bit" if is_set else None)


@pytest.mark.parametrize(
    ("launch", "asked", "code"),
    [
        ({"host_data": b"\x0a" * 32}, {"host_data": frozenset({"0a" * 32})}, "snp-host-data-not-accepted"),
        (
            {"id_key_digest": b"\x0b" * 48},
            {"id_key_digests": frozenset({"0b" * 48})},
            "snp-id-key-not-accepted",
        ),
    ],
)
def test_what_is_only_asked_where_it_is_named(
    mock_world: MockWorld, accepted: SnpReference, launch: dict[str, bytes], asked: dict[str, Any], code: str
) -> None:
    """Host data and ID key are free unless values are named for them."""
    strict = replace(accepted, **asked)
    assert _code(_verified(mock_world), accepted) is None
    assert _code(_verified(mock_world), strict) == code
    assert _code(_verified(mock_world, **launch), strict) is None
