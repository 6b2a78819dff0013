"""Is the genuine thing one that we accept? Verified evidence against reference values, claim by claim.

Nothing here accepts by default, and some rules have no switch: a debug guest is readable by its host, and a
migration agent may move the guest's memory to another machine, so both are refused whatever a file says.
What each part must be is judged by ``attest.judge``, in one order: who vouches, the CPU, every device, what
is stated, the keys, second verdicts, and time.

The result, ``AttestedRuntime``, is made here only. Code that sends data takes that type, so unverified data
does not type-check, and asks ``require_live`` before every use: a verdict that ended is not used "one last
time".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import InitVar, dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from attest import ear
from attest.accepted.forms import CLAUSE
from attest.checks import Check, CheckList
from attest.evidence.cpu import CpuKind
from attest.judge.azure import judge_vtpm
from attest.judge.gpu import judge_count, judge_gpus
from attest.judge.one_of import one_of
from attest.judge.runtime import judge_keyset, judge_statement
from attest.judge.snp import judge_snp
from attest.judge.tdx import judge_tdx
from attest.keyset import Keyset
from attest.reference import ReferenceValues, Vendor
from attest.refusal import Refused
from attest.statement import Statement
from attest.trust import TrustRoots
from attest.verify.azure import VerifiedAzureSnp
from attest.verify.bundle import VerifiedEvidence
from attest.verify.nvidia import VerifiedGpu
from attest.verify.quorum import TokenKeys, require_quorum
from attest.verify.snp import VerifiedSnp
from attest.verify.tdx import VerifiedTdx

MAX_STEP_BACK: Final = timedelta(seconds=5)
"""How far the clock may step back (NTP) before a verdict counts as one from the future."""

_APPRAISER: Final = object()
"""Held by this module alone: what makes an ``AttestedRuntime`` mean that ``appraise`` returned it."""

_VERDICT: Final = "docs/reference/reference-values.md#when-a-verdict-ends"
_P8: Final = "promise P8: the mock cannot pass for hardware"
_NO_KEYS: Final = TokenKeys()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AttestedRuntime:
    """One runtime that was verified and accepted. Made by ``appraise`` only.

    Args:
        statement: what the runtime states about itself.
        statement_digest: its name in receipts and logs.
        keyset: the keys to seal to and to check receipts with.
        keyset_digest: their name; the audience of request tokens.
        bundle_digest: the evidence's name in an archive.
        vendor: who made the CPU: ``amd``, ``intel`` or ``mock``.
        tee: ``snp``, ``tdx`` or ``azure-snp``.
        product: the CPU, for people.
        measurement: what was launched: launch digest (on Azure the paravisor's) or MRTD, 96 hex digits.
        devices: the GPUs and switches beside it, in the statement's order.
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
    tee: CpuKind
    product: str
    measurement: str
    devices: tuple[VerifiedGpu, ...]
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
        what = f"{self.vendor} {self.tee}, {len(self.devices)} devices"
        return f"AttestedRuntime({what}, {self.statement_digest}, until {self.valid_until.isoformat()})"

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
        """The verdict as an EAT Attestation Result (draft-ietf-rats-ear) in JSON claims, for signing."""
        software = {"sealgate.statement": self.statement_digest, "sealgate.keyset": self.keyset_digest}
        cpu = {"sealgate.tee": self.tee, "sealgate.measurement": self.measurement}
        parts = {
            "runtime": ear.Submodule(self.claims, software | self._made_by_vendor(self.vendor) | cpu),
            "cpu": ear.Submodule(self.claims, self._made_by_vendor(self.vendor) | cpu),
        }
        device_claims = ear.MOCK_DEVICE_CLAIMS if self.is_mock else ear.DEVICE_CLAIMS
        for named, device in zip(self.statement.devices, self.devices, strict=True):
            facts = {"sealgate.device": device.ueid, "sealgate.evidence": named.evidence_sha256}
            made = self._made_by_vendor(device.vendor)
            parts[f"{named.kind}-{named.index}"] = ear.Submodule(device_claims, made | facts)
        return ear.attestation_result(
            parts,
            issued_at=self.verified_at,
            expires=self.valid_until,
            nonce=self.nonce,
            policy_id=self.reference_digest,
        )

    @staticmethod
    def _made_by_vendor(vendor: str) -> dict[str, str]:
        return {"sealgate.vendor": "MOCK" if vendor == "mock" else vendor}


def appraise(
    verified: VerifiedEvidence, reference: ReferenceValues, *, now: datetime, keys: TokenKeys = _NO_KEYS
) -> AttestedRuntime:
    """Judge genuine evidence.

    Args:
        verified: what ``verify_bundle`` returned.
        reference: what is accepted.
        now: the time of the judgement, aware.
        keys: key sets of the services whose second verdicts the reference values ask for.

    Raises:
        Refused: a claim is not one that the reference values accept. Carries ``.checks``.
    """
    checks = CheckList(verified.checks)
    with checks.explaining(), checks.under("appraisal"):
        with checks.under("vendor"):
            _judge_vendor(verified, reference, checks)
        with checks.under("CPU"):
            _judge_cpu(verified, reference, checks)
        with checks.under("devices"):
            _judge_devices(verified, reference, checks)
        with checks.under("statement"):
            judge_statement(verified.statement, reference.runtime, checks)
            judge_keyset(verified.keyset, now, checks)
        with checks.under("second verdicts"):
            quorum_end = _judge_quorum(verified, reference, keys, now, checks)
        with checks.under("time"):
            valid_until = _judge_time(verified, reference, quorum_end, now, checks)
        return AttestedRuntime(
            statement=verified.statement,
            statement_digest=verified.statement_digest,
            keyset=verified.keyset,
            keyset_digest=verified.keyset_digest,
            bundle_digest=verified.bundle_digest,
            vendor=verified.cpu.vendor,
            tee=verified.cpu.kind,
            product=verified.cpu.product,
            measurement=verified.cpu.measurement,
            devices=verified.devices,
            nonce=verified.nonce,
            reference_name=reference.name,
            reference_digest=reference.digest,
            claims=ear.MOCK_CLAIMS if verified.cpu.vendor == "mock" else ear.HARDWARE_CLAIMS,
            verified_at=verified.verified_at,
            valid_until=valid_until,
            checks=checks.rows,
            made_by=_APPRAISER,
        )


def _judge_vendor(verified: VerifiedEvidence, reference: ReferenceValues, checks: CheckList) -> None:
    """P8: trust file and reference values name the same mock roots, or there is no mock, nor half of one."""
    vendor = verified.cpu.vendor
    one_of(checks, "vendor-not-accepted", "vendor", vendor, reference.vendors)
    mocks = [(device.vendor == "mock") for device in verified.devices]
    is_mock = vendor == "mock"
    checks.require(
        all(each is is_mock for each in mocks),
        "mock-mixed",
        "all parts are of one kind",
        _P8,
        expected="all mock" if is_mock else "all hardware",
        got=f"{sum(mocks)} mock devices of {len(mocks)}",
    )
    if is_mock:
        checks.require(
            verified.roots.mock is not None and verified.roots.mock == reference.mock,
            "mock-root-not-accepted",
            "mock roots named by trust file and reference values",
            _P8,
            expected=_named(reference),
            got=_named(verified.roots),
        )
        checks.noted("MOCK: no hardware protects this runtime", _P8, expected="development only", got="MOCK")


def _named(file: ReferenceValues | TrustRoots) -> str:
    values = {} if file.mock is None else file.mock.values()
    return ", ".join(f"{name} {value[:16]}" for name, value in values.items()) or "none"


def _judge_cpu(verified: VerifiedEvidence, reference: ReferenceValues, checks: CheckList) -> None:
    detail = verified.cpu.detail
    on_snp = "snp" if reference.azure is None else "azure-snp"
    accepted = {on_snp: reference.snp, "tdx": reference.tdx}
    kinds = [kind for kind, part in accepted.items() if part is not None]
    one_of(checks, "tee-not-accepted", "kind of TEE", verified.cpu.kind, kinds)
    if isinstance(detail, VerifiedAzureSnp) and reference.snp is not None and reference.azure is not None:
        judge_snp(detail.snp, reference.snp, checks)
        judge_vtpm(detail.vtpm, reference.azure, checks)
    elif isinstance(detail, VerifiedSnp) and reference.snp is not None:
        judge_snp(detail, reference.snp, checks)
    elif isinstance(detail, VerifiedTdx) and reference.tdx is not None:
        judge_tdx(detail, verified.cpu.event_log, reference.tdx, checks)
    else:
        raise Refused("tee-not-accepted", CLAUSE, expected=", ".join(kinds), got=verified.cpu.kind)


def _judge_devices(verified: VerifiedEvidence, reference: ReferenceValues, checks: CheckList) -> None:
    if reference.gpu is None:
        judge_count(len(verified.devices), 0, "devices", checks)
    else:
        judge_gpus(verified.devices, reference.gpu, checks)


def _judge_quorum(
    verified: VerifiedEvidence,
    reference: ReferenceValues,
    keys: TokenKeys,
    now: datetime,
    checks: CheckList,
) -> datetime | None:
    """When the first of the second verdicts ends; None if none is asked for."""
    if reference.quorum is None:
        came = ", ".join(token.kind for token in verified.tokens)
        checks.noted("second verdicts", CLAUSE, expected="none asked for", got=came or "none")
        return None
    return require_quorum(verified, reference.quorum, keys, now=now, checks=checks)


def _judge_time(
    verified: VerifiedEvidence,
    reference: ReferenceValues,
    quorum_end: datetime | None,
    now: datetime,
    checks: CheckList,
) -> datetime:
    """The verdict ends with the first of the things it rests on."""
    collateral = min([verified.cpu.not_after, *(device.not_after for device in verified.devices)])
    ends = {
        "evidence": verified.verified_at + reference.max_evidence_age,
        "certificates": collateral,
        "reference": reference.not_after,
        **({} if quorum_end is None else {"second-verdict": quorum_end}),
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
