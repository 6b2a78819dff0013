"""Is this genuine SEV-SNP guest one that we accept? (AMD 56860)"""

from __future__ import annotations

from typing import Final

from attest.accepted.snp import SnpReference
from attest.checks import CheckList
from attest.evidence.snp_flags import GuestPolicy, PlatformInfo
from attest.judge.one_of import one_of
from attest.verify.snp import VerifiedSnp

_GUEST_POLICY: Final = "AMD 56860 GUEST_POLICY"
_PLATFORM_INFO: Final = "AMD 56860 PLATFORM_INFO"
_REPORT: Final = "AMD 56860 ATTESTATION_REPORT"


def judge_snp(snp: VerifiedSnp, accepted: SnpReference, checks: CheckList) -> None:
    """Judge a guest and the firmware under it.

    Raises:
        Refused: ``snp-*``.
    """
    _judge_policy(snp, checks)
    _judge_guest(snp, accepted, checks)
    _judge_bits(snp, accepted, checks)
    _judge_signer(snp, accepted, checks)
    _judge_firmware(snp, accepted, checks)


def _judge_policy(snp: VerifiedSnp, checks: CheckList) -> None:
    """No file can allow these: the host would read the guest's memory, or have it moved to where it can."""
    report = snp.report
    checks.require(
        not report.policy.debug_allowed,
        "snp-debug",
        "debugging is off",
        _GUEST_POLICY,
        expected="bit 19 is 0",
        got=f"{report.policy.raw:#x}",
    )
    checks.require(
        not report.policy.migration_agent_allowed and not report.has_migration_agent,
        "snp-migration-agent",
        "no migration agent",
        _GUEST_POLICY,
        expected="bit 18 is 0, REPORT_ID_MA is unset",
        got=f"{report.policy.raw:#x}, {'set' if report.has_migration_agent else 'unset'}",
    )


def _judge_guest(snp: VerifiedSnp, accepted: SnpReference, checks: CheckList) -> None:
    report = snp.report
    one_of(checks, "snp-vmpl-not-accepted", "privilege level", report.vmpl, accepted.vmpls, clause=_REPORT)
    values = (
        ("snp-measurement-not-accepted", "launch measurement", report.measurement, accepted.measurements),
        ("snp-host-data-not-accepted", "host data", report.host_data, accepted.host_data),
        ("snp-id-key-not-accepted", "ID key", report.id_key_digest, accepted.id_key_digests),
    )
    for code, name, value, listed in values:
        if listed:
            one_of(checks, code, name, value.hex(), listed, clause=_REPORT)
    checks.require(
        report.guest_svn >= accepted.min_guest_svn,
        "snp-guest-svn",
        "guest security version",
        _REPORT,
        expected=f"at least {accepted.min_guest_svn}",
        got=str(report.guest_svn),
    )


def _judge_bits(snp: VerifiedSnp, accepted: SnpReference, checks: CheckList) -> None:
    policy, platform = snp.report.policy, snp.report.platform_info
    rules: tuple[tuple[str, GuestPolicy | PlatformInfo, frozenset[str], frozenset[str], str], ...] = (
        (
            "snp-policy-bit",
            policy,
            frozenset(accepted.policy_set),
            frozenset(accepted.policy_clear),
            _GUEST_POLICY,
        ),
        (
            "snp-platform-bit",
            platform,
            frozenset(accepted.platform_set),
            frozenset(accepted.platform_clear),
            _PLATFORM_INFO,
        ),
    )
    for code, bits, to_be_set, to_be_clear, clause in rules:
        for name in sorted(to_be_set | to_be_clear):
            wanted, got = name in to_be_set, getattr(bits, name)
            checks.require(
                got is wanted,
                code,
                name.replace("_", " "),
                clause,
                expected=str(int(wanted)),
                got=str(int(got)),
            )


def _judge_signer(snp: VerifiedSnp, accepted: SnpReference, checks: CheckList) -> None:
    one_of(checks, "snp-product-not-accepted", "product", snp.product, accepted.products)
    one_of(checks, "snp-signing-key-not-accepted", "signing key", snp.signing_key, accepted.signing_keys)
    if snp.csp_id is not None:
        one_of(checks, "snp-csp-not-accepted", "cloud provider", snp.csp_id, accepted.csp_ids)
    checks.require(
        snp.revocation_checked or not accepted.require_revocation_list,
        "snp-revocation-unchecked",
        "revocation list",
        "AMD 57230",
        expected="a current list" if accepted.require_revocation_list else "a current list, or none",
        got="current" if snp.revocation_checked else "none",
    )


def _judge_firmware(snp: VerifiedSnp, accepted: SnpReference, checks: CheckList) -> None:
    """REPORTED is what the signing key stands for; LAUNCH is what measured the guest.

    Either may have been rolled back without the other.
    """
    floor = accepted.min_tcb[snp.product]
    for name, tcb in (("reported", snp.reported_tcb), ("launch", snp.launch_tcb)):
        checks.require(
            tcb.covers(floor),
            f"snp-{name}-tcb",
            f"{name} firmware versions",
            "AMD 56860 TCB_VERSION",
            expected=f"each at least {floor}",
            got=str(tcb),
        )
