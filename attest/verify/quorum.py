"""Do independently written verdicts on the same evidence agree with ours?

A service's token is never enough and never replaces a check of ours: it can only add a refusal. It must be
genuine, about this very evidence (the same report data, the same devices and nonce), and say the same of it.
Key sets come from the caller, who fetched them from the services' own addresses, never from the bundle.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from attest.accepted.forms import CLAUSE
from attest.accepted.quorum import QuorumReference, Service
from attest.checks import CheckList
from attest.collateral.tokens import JwkSetCollateral, MaaRoots, NrasRoots
from attest.evidence.cpu import CpuKind
from attest.evidence.maa_claims import MaaSnp, MaaTdx
from attest.refusal import Refused
from attest.statement import gpu_nonce
from attest.verify.azure import VerifiedAzureSnp
from attest.verify.bundle import VerifiedEvidence
from attest.verify.cpu import VerifiedCpu
from attest.verify.maa import MaaPolicy, verify_maa
from attest.verify.nras import verify_nras
from attest.verify.snp import VerifiedSnp
from attest.verify.tdx import VerifiedTdx

_MAA_TEE: Final[dict[CpuKind, Literal["sevsnpvm", "tdxvm"]]] = {
    "snp": "sevsnpvm",
    "tdx": "tdxvm",
    "azure-snp": "sevsnpvm",
}


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """The services' key sets, as fetched from their own addresses; None where there is none.

    Args:
        nras: of NVIDIA's attestation service.
        maa: of the instance of Azure Attestation that the reference values name.
    """

    nras: JwkSetCollateral | None = None
    maa: JwkSetCollateral | None = None


def require_quorum(
    verified: VerifiedEvidence,
    quorum: QuorumReference,
    keys: TokenKeys,
    *,
    now: datetime,
    checks: CheckList,
) -> datetime:
    """Require that every named service agrees; returns when the first of their verdicts ends.

    Raises:
        Refused: ``quorum-token-missing``, ``quorum-keys-missing``, ``quorum-disagreement``, and what the
            tokens' verifiers raise.
    """
    ends = []
    for service in sorted(quorum.services):
        with checks.under(service.upper()):
            token = next((each.token for each in verified.tokens if each.kind == service), None)
            key_set = getattr(keys, service)
            _require_present(
                service, token is not None, "quorum-token-missing", "the service's token", checks
            )
            _require_present(
                service, key_set is not None, "quorum-keys-missing", "the service's keys", checks
            )
            judge = _nras if service == "nras" else _maa
            ends.append(judge(_Case(verified, quorum, token or b"", key_set, now), checks))
    return min(ends)


def _require_present(service: Service, present: bool, code: str, what: str, checks: CheckList) -> None:
    checks.require(
        present, code, f"{what} is here", CLAUSE, expected=service, got=service if present else "none"
    )


@dataclass(frozen=True, slots=True)
class _Case:
    """One service's verdict beside ours."""

    verified: VerifiedEvidence
    quorum: QuorumReference
    token: bytes
    keys: JwkSetCollateral
    now: datetime


def _nras(case: _Case, checks: CheckList) -> datetime:
    verified = case.verified
    if verified.statement.nonce is None or not verified.devices:
        raise Refused("quorum-disagreement", CLAUSE, expected="devices that answer a nonce", got="none")
    nonce = gpu_nonce(verified.statement.nonce, verified.keyset_digest)
    mock = verified.roots.mock
    roots = NrasRoots(verified.roots.nvidia, None if mock is None else mock.nras_jwks_sha256)
    theirs = verify_nras(case.token, case.keys, roots, nonce=nonce, now=case.now, checks=checks)
    _require_same("being a mock", verified.devices[0].vendor == "mock", theirs.vendor == "mock", checks)
    _require_same(
        "devices",
        sorted((each.kind, each.ueid, each.driver_version, each.vbios_version) for each in verified.devices),
        sorted((each.kind, each.ueid, each.driver_version, each.vbios_version) for each in theirs.devices),
        checks,
    )
    return theirs.not_after


def _policy(verified: VerifiedEvidence, quorum: QuorumReference) -> MaaPolicy:
    """A verdict on the same evidence, by the instance and under the policies that the operator named."""
    tee = _MAA_TEE[verified.cpu.kind]
    return MaaPolicy(
        issuer=quorum.maa_issuer or "",
        kind="azurevm" if verified.cpu.kind == "azure-snp" else tee,
        tee=tee,
        policy_hashes=quorum.maa_policy_hashes,
    )


def _maa(case: _Case, checks: CheckList) -> datetime:
    verified = case.verified
    mock = verified.roots.mock
    roots = MaaRoots(verified.roots.azure, None if mock is None else mock.maa_jwks_sha256)
    # Its freshness is that of the report it judged: the comparison of report data below ties it to our nonce.
    # Azure's hardware report was made at boot; there the token itself must answer what the vTPM's quote did.
    nonce = verified.cpu.carried if verified.cpu.kind == "azure-snp" else None
    policy = _policy(verified, case.quorum)
    theirs = verify_maa(case.token, case.keys, policy, roots, nonce=nonce, now=case.now, checks=checks)
    _require_same("being a mock", verified.cpu.vendor == "mock", theirs.vendor == "mock", checks)
    ours, said = _cpu_words(verified.cpu, theirs.tee)
    for name, value in ours.items():
        _require_same(name, value, said[name], checks)
    return theirs.not_after


def _cpu_words(cpu: VerifiedCpu, theirs: MaaSnp | MaaTdx) -> tuple[dict[str, Any], dict[str, Any]]:
    """Ours and theirs, fact by fact, under the same names."""
    detail = cpu.detail.snp if isinstance(cpu.detail, VerifiedAzureSnp) else cpu.detail
    if isinstance(detail, VerifiedSnp) and isinstance(theirs, MaaSnp):
        return _snp_words(detail), {
            "report data": theirs.report_data.hex(),
            "launch measurement": theirs.measurement.hex(),
            "host data": theirs.host_data.hex(),
            "ID key": theirs.id_key_digest.hex(),
            "privilege level": theirs.vmpl,
            "guest security version": theirs.guest_svn,
            "firmware": [theirs.bootloader_svn, theirs.tee_svn, theirs.snp_svn, theirs.microcode_svn],
        }
    if isinstance(detail, VerifiedTdx) and isinstance(theirs, MaaTdx):
        report = detail.quote.report
        ours = {
            "report data": report.report_data.hex(),
            "MRTD": report.mrtd.hex(),
            "RTMRs": [each.hex() for each in report.rtmrs],
            "MRCONFIGID": report.mrconfigid.hex(),
            "platform status": str(detail.tcb_status),
        }
        return ours, {
            "report data": theirs.report_data.hex(),
            "MRTD": theirs.mrtd.hex(),
            "RTMRs": [each.hex() for each in theirs.rtmrs],
            "MRCONFIGID": theirs.mr_config_id.hex(),
            "platform status": theirs.tcb_status,
        }
    raise Refused("quorum-disagreement", CLAUSE, expected=cpu.kind, got="a verdict on another TEE")


def _snp_words(snp: VerifiedSnp) -> dict[str, Any]:
    report, tcb = snp.report, snp.reported_tcb
    return {
        "report data": report.report_data.hex(),
        "launch measurement": report.measurement.hex(),
        "host data": report.host_data.hex(),
        "ID key": report.id_key_digest.hex(),
        "privilege level": report.vmpl,
        "guest security version": report.guest_svn,
        "firmware": [tcb.boot_loader, tcb.tee, tcb.snp, tcb.microcode],
    }


def _require_same(name: str, ours: object, theirs: object, checks: CheckList) -> None:
    checks.require(
        ours == theirs,
        "quorum-disagreement",
        f"agrees on {name}",
        CLAUSE,
        expected=f"ours: {ours}",
        got=f"theirs: {theirs}",
    )
