"""Is the genuine thing one that we accept? Verified evidence against reference values, claim by claim.

Nothing here accepts by default, and some rules have no switch: a debug guest is readable by its host, and a
migration agent may move the guest's memory to another machine, so both are refused whatever a file says.

The result, ``AttestedRuntime``, is made here only. Code that sends data takes that type, so unverified data
does not type-check, and asks ``require_live`` before every use: a verdict that ended is not used "one last
time".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import InitVar, dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from attest import ear
from attest.checks import Check, CheckList
from attest.keyset import Keyset, KeysetState
from attest.reference import CLAUSE, ReferenceValues, Vendor
from attest.refusal import Refused
from attest.statement import Statement
from attest.verify.bundle import VerifiedEvidence
from attest.verify.snp import VerifiedSnp

MAX_STEP_BACK: Final = timedelta(seconds=5)
"""How far the clock may step back (NTP) before a verdict counts as one from the future."""

_APPRAISER: Final = object()
"""Held by this module alone: what makes an ``AttestedRuntime`` mean that ``appraise`` returned it."""

_SHOWN: Final = 3
"""How many accepted values a row shows."""

_VERDICT: Final = "docs/reference/reference-values.md#when-a-verdict-ends"
_P8: Final = "promise P8: the mock cannot pass for hardware"
_GUEST_POLICY: Final = "AMD 56860 GUEST_POLICY"
_REPORT: Final = "AMD 56860 ATTESTATION_REPORT"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AttestedRuntime:
    """One runtime that was verified and accepted. Made by ``appraise`` only.

    Args:
        statement: what the runtime states about itself.
        statement_digest: its name in receipts and logs.
        keyset: the keys to seal to and to check receipts with.
        keyset_digest: their name; the audience of request tokens.
        bundle_digest: the evidence's name in an archive.
        vendor: ``amd`` or ``mock``.
        product: AMD product line.
        measurement: launch digest, 96 hex digits.
        nonce: the nonce that was answered; None makes the verdict one about a saved file.
        reference_name: the appraisal policy, for people.
        reference_digest: the appraisal policy's digest.
        claims: the trustworthiness vector (AR4SI), claim by claim.
        verified_at: when the evidence was verified.
        valid_until: first moment at which the verdict no longer holds.
        checks: every row of verification and appraisal.
    """

    statement: Statement
    statement_digest: str
    keyset: Keyset
    keyset_digest: str
    bundle_digest: str
    vendor: Vendor
    product: str
    measurement: str
    nonce: str | None
    reference_name: str
    reference_digest: str
    claims: Mapping[str, int]
    verified_at: datetime
    valid_until: datetime
    checks: tuple[Check, ...]
    made_by: InitVar[object]

    def __post_init__(self, made_by: object) -> None:
        if made_by is not _APPRAISER:
            raise TypeError("AttestedRuntime is made by appraise only")

    def __repr__(self) -> str:
        return (
            f"AttestedRuntime({self.vendor}, {self.statement_digest}, until {self.valid_until.isoformat()})"
        )

    @property
    def is_mock(self) -> bool:
        """Whether no hardware stands behind this verdict."""
        return self.vendor == "mock"

    def require_live(self, now: datetime) -> None:
        """Refuse unless this verdict may carry data at ``now``. Cheap: called before every request.

        Raises:
            Refused: ``verdict-expired`` at or after ``valid_until``; ``verdict-not-fresh`` if no nonce was
                answered; ``verdict-clock`` if ``now`` lies before the verification.
        """
        if now >= self.valid_until:
            raise Refused(
                "verdict-expired",
                _VERDICT,
                expected=f"before {self.valid_until.isoformat()}",
                got=now.isoformat(),
            )
        if self.nonce is None:
            raise Refused("verdict-not-fresh", _VERDICT, expected="an answered nonce", got="a saved bundle")
        if now < self.verified_at - MAX_STEP_BACK:
            raise Refused(
                "verdict-clock",
                _VERDICT,
                expected=f"not before {self.verified_at.isoformat()}",
                got=now.isoformat(),
            )

    def ear(self) -> dict[str, Any]:
        """The verdict as an EAT Attestation Result (draft-ietf-rats-ear) in JSON claims, unsigned."""
        return ear.attestation_result(
            self.claims,
            issued_at=self.verified_at,
            expires=self.valid_until,
            nonce=self.nonce,
            policy_id=self.reference_digest,
            extra={
                "sealgate.statement": self.statement_digest,
                "sealgate.keyset": self.keyset_digest,
                "sealgate.vendor": "MOCK" if self.is_mock else self.vendor,
                "sealgate.measurement": self.measurement,
            },
        )


def appraise(verified: VerifiedEvidence, reference: ReferenceValues, *, now: datetime) -> AttestedRuntime:
    """Judge genuine evidence.

    Args:
        verified: what ``verify_bundle`` returned.
        reference: what is accepted.
        now: the time of the judgement, aware.

    Raises:
        Refused: a claim is not one that the reference values accept. Carries ``.checks``.
    """
    checks = CheckList(verified.checks)
    with checks.explaining():
        _judge_vendor(verified, reference, checks)
        _judge_guest(verified.snp, reference, checks)
        _judge_firmware(verified.snp, reference, checks)
        _judge_statement(verified.statement, reference, checks)
        _judge_keyset(verified.keyset, now, checks)
        valid_until = _judge_time(verified, reference, now, checks)
        return AttestedRuntime(
            statement=verified.statement,
            statement_digest=verified.statement_digest,
            keyset=verified.keyset,
            keyset_digest=verified.keyset_digest,
            bundle_digest=verified.bundle_digest,
            vendor=verified.snp.vendor,
            product=verified.snp.product,
            measurement=verified.snp.report.measurement.hex(),
            nonce=verified.nonce,
            reference_name=reference.name,
            reference_digest=reference.digest,
            claims=ear.MOCK_CLAIMS if verified.snp.vendor == "mock" else ear.HARDWARE_CLAIMS,
            verified_at=verified.verified_at,
            valid_until=valid_until,
            checks=checks.rows,
            made_by=_APPRAISER,
        )


def _judge_vendor(verified: VerifiedEvidence, reference: ReferenceValues, checks: CheckList) -> None:
    """P8: trust file and reference values must name the same mock root, or there is no mock."""
    vendor = verified.snp.vendor
    _one_of(checks, "vendor-not-accepted", "vendor", vendor, reference.vendors)
    if vendor == "mock":
        checks.require(
            verified.roots.mock_ark_sha256 is not None
            and verified.roots.mock_ark_sha256 == reference.mock_ark_sha256,
            "mock-root-not-accepted",
            "mock root named by trust file and reference values",
            _P8,
            expected=reference.mock_ark_sha256 or "none",
            got=verified.roots.mock_ark_sha256 or "none",
        )
        checks.noted("MOCK: no hardware protects this runtime", _P8, expected="development only", got="MOCK")


def _judge_guest(snp: VerifiedSnp, reference: ReferenceValues, checks: CheckList) -> None:
    report, accepted = snp.report, reference.snp
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
    _one_of(checks, "snp-vmpl-not-accepted", "privilege level", report.vmpl, accepted.vmpls, clause=_REPORT)
    _one_of(
        checks,
        "snp-measurement-not-accepted",
        "launch measurement",
        report.measurement.hex(),
        accepted.measurements,
        clause=_REPORT,
    )
    checks.require(
        report.guest_svn >= accepted.min_guest_svn,
        "snp-guest-svn",
        "guest security version",
        _REPORT,
        expected=f"at least {accepted.min_guest_svn}",
        got=str(report.guest_svn),
    )


def _judge_firmware(snp: VerifiedSnp, reference: ReferenceValues, checks: CheckList) -> None:
    accepted = reference.snp
    _one_of(checks, "snp-product-not-accepted", "product", snp.product, accepted.products)
    _one_of(checks, "snp-signing-key-not-accepted", "signing key", snp.signing_key, accepted.signing_keys)
    if snp.csp_id is not None:
        _one_of(checks, "snp-csp-not-accepted", "cloud provider", snp.csp_id, accepted.csp_ids)
    checks.require(
        snp.revocation_checked or not accepted.require_revocation_list,
        "snp-revocation-unchecked",
        "revocation list",
        "AMD 57230",
        expected="a current list" if accepted.require_revocation_list else "a current list, or none",
        got="current" if snp.revocation_checked else "none",
    )
    floor = accepted.min_tcb[snp.product]
    # REPORTED is what the signing key stands for; LAUNCH is what measured the guest. Either may have been
    # rolled back without the other.
    for name, tcb in (("reported", snp.reported_tcb), ("launch", snp.launch_tcb)):
        checks.require(
            tcb.covers(floor),
            f"snp-{name}-tcb",
            f"{name} firmware versions",
            "AMD 56860 TCB_VERSION",
            expected=f"each at least {floor}",
            got=str(tcb),
        )


def _judge_statement(statement: Statement, reference: ReferenceValues, checks: CheckList) -> None:
    accepted = reference.runtime
    _one_of(checks, "role-not-accepted", "role", statement.role, accepted.roles)
    if statement.contract_digest is not None:
        _one_of(
            checks, "contract-not-accepted", "contract", statement.contract_digest, accepted.contract_digests
        )
    _one_of(checks, "region-not-accepted", "region", statement.region, accepted.regions)
    _one_of(checks, "image-not-accepted", "runtime image", statement.runtime_image, accepted.images)
    _one_of(checks, "policy-not-accepted", "policy bundle", statement.policy_digest, accepted.policy_digests)
    _one_of(
        checks, "model-not-accepted", "base model", statement.base_model_digest, accepted.base_model_digests
    )
    _one_of(
        checks, "tokenizer-not-accepted", "tokenizer", statement.tokenizer_digest, accepted.tokenizer_digests
    )
    checks.require(
        len(statement.devices) == accepted.gpus,
        "device-count",
        "number of GPUs",
        CLAUSE,
        expected=str(accepted.gpus),
        got=str(len(statement.devices)),
    )


def _judge_keyset(keyset: Keyset, now: datetime, checks: CheckList) -> None:
    state = keyset.state(now)
    checks.require(
        state is KeysetState.ACTIVE,
        "keyset-pending" if state is KeysetState.PENDING else "keyset-stale",
        "keys are in use",
        "docs/reference/statement.md#keyset",
        expected=f"{keyset.not_before.isoformat()} to {keyset.not_after.isoformat()}",
        got=now.isoformat(),
        expires=keyset.not_after,
    )


def _judge_time(
    verified: VerifiedEvidence, reference: ReferenceValues, now: datetime, checks: CheckList
) -> datetime:
    """The verdict ends with the first of the things it rests on."""
    ends = {
        "evidence": verified.verified_at + reference.max_evidence_age,
        "certificates": verified.snp.not_after,
        "reference": reference.not_after,
    }
    for name, end in ends.items():
        checks.require(
            now < end,
            f"{name}-expired",
            f"{name} in date",
            CLAUSE if name == "reference" else _VERDICT,
            expected=f"before {end.isoformat()}",
            got=now.isoformat(),
            expires=end,
        )
    return min(verified.keyset.not_after, *ends.values())


def _one_of(
    checks: CheckList,
    code: str,
    name: str,
    got: str | int,
    accepted: Collection[str | int],
    *,
    clause: str = CLAUSE,
) -> None:
    listed = ", ".join(map(str, sorted(accepted, key=str)[:_SHOWN]))
    more = f" or {len(accepted) - _SHOWN} more" if len(accepted) > _SHOWN else ""
    checks.require(got in accepted, code, name, clause, expected=listed + more, got=str(got))
