"""How up to date is the platform under a TDX quote? (Intel PCS API v4, "Get TDX TCB Info"; TDX Module ABI)

Three parts are judged, each by the first level that it reaches: the platform (CPU microcode, SEAM loader,
provisioning enclave), the TDX module, and the quoting enclave. The worst of the three is the answer. Only
what can never be right refuses here: no level reached, another family, another signer, or revoked. Whether
``OutOfDate`` is good enough is the appraisal's question.
"""

from __future__ import annotations

from typing import Final

from attest.collateral.tdx_documents import (
    EnclaveLevel,
    Judgement,
    ModuleIdentity,
    QeIdentity,
    TcbInfo,
    TcbStatus,
)
from attest.evidence.pck import PckPlatform
from attest.evidence.tdx import TdReport
from attest.evidence.tdx_signature import QeReport
from attest.refusal import Refused

CLAUSE: Final = "Intel PCS API v4, TDX TCB info"
QE_CLAUSE: Final = "Intel PCS API v4, TD QE identity"

_STALE: Final = {
    TcbStatus.UP_TO_DATE: TcbStatus.OUT_OF_DATE,
    TcbStatus.SW_HARDENING_NEEDED: TcbStatus.OUT_OF_DATE,
    TcbStatus.CONFIGURATION_NEEDED: TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
    TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED: TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
}
_ORDER: Final = list(TcbStatus)


def judge_tcb(
    report: TdReport, platform: PckPlatform, qe: QeReport, tcb_info: TcbInfo, identity: QeIdentity
) -> Judgement:
    """Platform, module and quoting enclave together.

    Raises:
        Refused: ``tdx-fmspc``, ``tdx-pceid``, ``tdx-tcb-not-supported``, ``tdx-module-identity``,
            ``tdx-qe-tcb-not-supported``, ``tdx-tcb-revoked``.
    """
    parts = [judge_platform(report, platform, tcb_info), judge_qe(qe, identity)]
    module = judge_module(report, tcb_info)
    if module is not None:
        parts.insert(1, module)
    total = parts[0]
    for part in parts[1:]:
        total = combine(total, part)
    if total.status is TcbStatus.REVOKED:
        raise Refused("tdx-tcb-revoked", CLAUSE, expected="a level that is not revoked", got=total.status)
    return total


def judge_platform(report: TdReport, platform: PckPlatform, tcb_info: TcbInfo) -> Judgement:
    """The first level that the platform reaches.

    Raises:
        Refused: ``tdx-fmspc``, ``tdx-pceid``, ``tdx-tcb-not-supported``.
    """
    if platform.fmspc != tcb_info.fmspc:
        raise Refused("tdx-fmspc", CLAUSE, expected=platform.fmspc.hex(), got=tcb_info.fmspc.hex())
    if platform.pceid != tcb_info.pceid:
        raise Refused("tdx-pceid", CLAUSE, expected=platform.pceid.hex(), got=tcb_info.pceid.hex())
    # From major version 1 on, [0] and [1] number the module in its own line, which judge_module compares.
    skipped = 2 if report.module_major else 0
    for level in tcb_info.levels:
        if (
            _reaches(platform.components, level.sgx)
            and platform.pcesvn >= level.pcesvn
            and _reaches(tuple(report.tee_tcb_svn[skipped:]), level.tdx[skipped:])
        ):
            return level.judgement
    raise Refused(
        "tdx-tcb-not-supported",
        CLAUSE,
        expected=f"one of {len(tcb_info.levels)} levels",
        got=f"TEE_TCB_SVN {report.tee_tcb_svn.hex()}, PCESVN {platform.pcesvn}",
    )


def judge_module(report: TdReport, tcb_info: TcbInfo) -> Judgement | None:
    """The TDX module's level; ``None`` for the first line, which has no levels of its own.

    Raises:
        Refused: ``tdx-module-identity``, ``tdx-module-not-supported``.
    """
    major = report.module_major
    identity = tcb_info.module
    if major:
        named = tcb_info.modules.get(f"TDX_{major:02X}")
        if named is None:
            raise Refused(
                "tdx-module-identity",
                CLAUSE,
                expected=", ".join(tcb_info.modules) or "no module",
                got=f"TDX_{major:02X}",
            )
        identity = named
    _require_intels_module(report, identity)
    if not major:
        return None
    return _reached_level(report.module_svn, identity.levels, "tdx-module-not-supported", clause=CLAUSE)


def judge_qe(report: QeReport, identity: QeIdentity) -> Judgement:
    """The quoting enclave's level, once it is known to be Intel's.

    Raises:
        Refused: ``tdx-qe-identity``, ``tdx-qe-tcb-not-supported``.
    """
    same = (
        report.mrsigner == identity.mrsigner
        and report.isvprodid == identity.isvprodid
        and _masked(report.miscselect, identity.miscselect_mask)
        == _masked(identity.miscselect, identity.miscselect_mask)
        and _masked(report.attributes, identity.attributes_mask)
        == _masked(identity.attributes, identity.attributes_mask)
    )
    if not same:
        raise Refused(
            "tdx-qe-identity",
            QE_CLAUSE,
            expected=f"signer {identity.mrsigner.hex()}, product {identity.isvprodid}",
            got=f"signer {report.mrsigner.hex()}, product {report.isvprodid}, or other attributes",
        )
    return _reached_level(report.isvsvn, identity.levels, "tdx-qe-tcb-not-supported", clause=QE_CLAUSE)


def combine(total: Judgement, part: Judgement) -> Judgement:
    """The worse of two, with the advisories of both.

    A part that is out of date makes the whole so, and does not hide that the platform needs configuration.
    """
    advisories = tuple(dict.fromkeys(total.advisory_ids + part.advisory_ids))
    if part.status is TcbStatus.OUT_OF_DATE:
        return Judgement(_STALE.get(total.status, total.status), advisories)
    return Judgement(max(total.status, part.status, key=_ORDER.index), advisories)


def _require_intels_module(report: TdReport, identity: ModuleIdentity) -> None:
    mask = identity.attributes_mask
    # Bits outside the mask must be zero: Intel's text says nothing of them.
    if report.mrsignerseam != identity.mrsigner or report.seam_attributes != _masked(
        identity.attributes, mask
    ):
        raise Refused(
            "tdx-module-identity",
            CLAUSE,
            expected=f"signer {identity.mrsigner.hex()}, attributes {identity.attributes.hex()}",
            got=f"signer {report.mrsignerseam.hex()}, attributes {report.seam_attributes.hex()}",
        )


def _reached_level(isvsvn: int, levels: tuple[EnclaveLevel, ...], code: str, *, clause: str) -> Judgement:
    for level in levels:
        if isvsvn >= level.isvsvn:
            return level.judgement
    raise Refused(code, clause, expected=f"one of {len(levels)} levels", got=f"ISVSVN {isvsvn}")


def _reaches(versions: tuple[int, ...], level: tuple[int, ...]) -> bool:
    return all(have >= want for have, want in zip(versions, level, strict=True))


def _masked(value: bytes, mask: bytes) -> bytes:
    return bytes(have & keep for have, keep in zip(value, mask, strict=True))
