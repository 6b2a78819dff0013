"""Is this TDX quote genuine? (Intel DCAP Quoting Library API; PCS API v4; TDX Module ABI)

``verify_tdx`` says that a platform of the named vendor quoted the trust domain, in nine numbered steps. It
refuses what can never be right (a debugger, a service TD, memory that the host may take away unnoticed). What
it leaves to the appraisal: the TCB status, measurements, and the meaning of REPORTDATA.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from attest.checks import CheckList
from attest.collateral.tdx import TdxRoots
from attest.collateral.tdx_documents import (
    QeIdentity,
    TcbInfo,
    TcbStatus,
    Window,
    parse_qe_identity,
    parse_tcb_info,
)
from attest.evidence.pck import PckPlatform
from attest.evidence.tdx import CLAUSE as QUOTE_CLAUSE
from attest.evidence.tdx import TdReport, TdxQuote
from attest.evidence.tdx_evidence import TdxCollateral
from attest.evidence.tdx_signature import QuoteSignature
from attest.refusal import Refused
from attest.verify.dcap import CLAUSE as SECOND_CLAUSE
from attest.verify.dcap import require_second_opinion
from attest.verify.p256 import key_of, point, require_p256_signature
from attest.verify.tdx_chain import (
    CHAIN_CLAUSE,
    Chain,
    Vendor,
    choose_root,
    platform_chain,
    require_unrevoked,
    signing_chain,
)
from attest.verify.tdx_tcb import CLAUSE as TCB_CLAUSE
from attest.verify.tdx_tcb import judge_tcb
from attest.verify.x509 import require_window

_SIGNATURE_CLAUSE: Final = "Intel DCAP Quoting Library API, ECDSA quote signature data"
_DOCUMENT_CLAUSE: Final = "Intel PCS API v4"
_TD_CLAUSE: Final = "Intel TDX Module ABI, ATTRIBUTES"


@dataclass(frozen=True, slots=True)
class VerifiedTdx:
    """A genuine quote. Made by ``verify_tdx`` only.

    Args:
        quote: the facts, now trusted as far as the vendor is.
        vendor: whose root the chain ends in.
        tcb_status: how up to date the platform is; only ``UpToDate`` is good without a named exception.
        advisory_ids: Intel's advisories that explain the status.
        tcb_evaluation_data_number: which of Intel's evaluations it rests on, the older of the two documents'.
        fmspc: the platform's family, 6 bytes.
        paravisor: the TD's attributes are all zero, which was allowed for the sake of a paravisor.
        not_after: the earliest end of a certificate, list or document.
    """

    quote: TdxQuote = field(repr=False)
    vendor: Vendor
    tcb_status: TcbStatus
    advisory_ids: tuple[str, ...]
    tcb_evaluation_data_number: int
    fmspc: bytes
    paravisor: bool
    not_after: datetime


def verify_tdx(
    quote: bytes,
    collateral: TdxCollateral,
    roots: TdxRoots,
    *,
    now: datetime,
    checks: CheckList,
    azure_paravisor: bool = False,
) -> VerifiedTdx:
    """Judge whether a quote is genuine.

    Args:
        quote: as the quoting enclave wrote it; zeros may follow.
        collateral: nothing in it is trusted.
        roots: what the chains may end in.
        now: time of verification, aware.
        checks: gets one row per step, up to and including one that refuses.
        azure_paravisor: accept a TD whose attributes are all zero, as Azure launches them under a paravisor
            of its own. The appraisal must then pin that paravisor's measurement.

    Raises:
        Unsupported: a version, algorithm or kind that is not judged here.
        Malformed: quote or collateral is not an instance of its format.
        Refused: the quote is not genuine under ``roots`` at ``now``; see the codes of each step.
    """
    # 1. The quote is well formed.
    with checks.step("TDX quote format", QUOTE_CLAUSE):
        parsed = TdxQuote.parse(quote)
        signature = parsed.signature
        checks.passed(
            "TDX quote format",
            QUOTE_CLAUSE,
            expected="version 4 or 5, ECDSA P-256",
            got=f"version {parsed.version}",
        )

    # 2. The quote's own chain ends in a root that the caller named.
    with checks.step("TDX root", CHAIN_CLAUSE):
        vendor, root = choose_root(signature.pck_chain, roots)
        checks.passed(
            "TDX root",
            CHAIN_CLAUSE,
            expected="a root named in the trust file",
            got=f"{vendor}, {hashlib.sha256(root).hexdigest()}",
        )

    # 3. The chains of the platform and of Intel's signing key hold, are valid now, and were not revoked.
    with checks.step("TDX certificate chains", CHAIN_CLAUSE):
        platform = platform_chain(signature.pck_chain, root)
        tcb_signer = signing_chain(collateral.tcb_info_issuer_chain, root, role="TCB info issuer")
        qe_signer = signing_chain(collateral.qe_identity_issuer_chain, root, role="QE identity issuer")
        not_after = min(chain.require_current(now) for chain in (platform, tcb_signer, qe_signer))
        lists_end = require_unrevoked(collateral, platform, (tcb_signer, qe_signer), root, now=now)
        checks.passed(
            "TDX certificate chains",
            CHAIN_CLAUSE,
            expected="signed in turn, valid, on no revocation list",
            got="PCK and TCB signing certificates",
            expires=min(not_after, lists_end),
        )

    # 4. Intel signed TCB info and QE identity, and both are current.
    with checks.step("TDX TCB info and QE identity", _DOCUMENT_CLAUSE):
        tcb_info, identity = _documents(collateral, tcb_signer, qe_signer)
        documents_end = min(
            _current(tcb_info.window, now, "TCB info"), _current(identity.window, now, "QE identity")
        )
        number = min(tcb_info.evaluation_number, identity.evaluation_number)
        checks.passed(
            "TDX TCB info and QE identity",
            _DOCUMENT_CLAUSE,
            expected="signed and current",
            got=f"evaluation {number}",
            expires=documents_end,
        )

    # 5. The platform vouches for the quoting enclave, and the enclave for the attestation key.
    with checks.step("TDX quoting enclave", _SIGNATURE_CLAUSE):
        _require_vouched(signature, platform)
        checks.passed(
            "TDX quoting enclave",
            _SIGNATURE_CLAUSE,
            expected="QE report signed by the PCK key, over the attestation key",
            got=f"MRSIGNER {signature.qe_report.mrsigner.hex()}",
        )

    # 6. The attestation key signed the quote.
    with checks.step("TDX quote signature", _SIGNATURE_CLAUSE):
        require_p256_signature(
            point(signature.attestation_key),
            signature.quote_signature,
            parsed.signed,
            "tdx-quote-signature",
            clause=_SIGNATURE_CLAUSE,
            what="quote",
        )
        checks.passed(
            "TDX quote signature",
            _SIGNATURE_CLAUSE,
            expected="ECDSA P-256 over header and body",
            got="signed by the attestation key",
        )

    # 7. Platform, TDX module and quoting enclave reach a level that Intel knows. Which, is appraised later.
    with checks.step("TDX TCB level", TCB_CLAUSE):
        facts = PckPlatform.parse(platform.leaf)
        judgement = judge_tcb(parsed.report, facts, signature.qe_report, tcb_info, identity)
        checks.passed(
            "TDX TCB level",
            TCB_CLAUSE,
            expected="a level that is not revoked",
            got=" ".join((judgement.status, *judgement.advisory_ids)),
        )

    # 8. The TD keeps its host out.
    with checks.step("TDX TD attributes", _TD_CLAUSE):
        paravisor = azure_paravisor and parsed.report.attributes.raw == 0
        _require_closed(parsed.report, paravisor=paravisor)
        checks.passed(
            "TDX TD attributes",
            _TD_CLAUSE,
            expected="none, under a paravisor"
            if paravisor
            else "no debugger, no service TD, SEPT_VE_DISABLE",
            got=f"{parsed.report.attributes.raw:#x}",
        )

    # 9. Another verifier says the same. It knows no paravisor, whose quotes rest on steps 1 to 8 alone.
    status = judgement.status
    with checks.step("TDX second opinion", SECOND_CLAUSE):
        if paravisor:
            checks.noted("TDX second opinion", SECOND_CLAUSE, expected="agreement", got="not asked")
        else:
            status = require_second_opinion(parsed.trimmed, collateral, root, judgement, now=now)
            checks.passed("TDX second opinion", SECOND_CLAUSE, expected="agreement", got=status)

    return VerifiedTdx(
        quote=parsed,
        vendor=vendor,
        tcb_status=status,
        advisory_ids=judgement.advisory_ids,
        tcb_evaluation_data_number=number,
        fmspc=facts.fmspc,
        paravisor=paravisor,
        not_after=min(not_after, lists_end, documents_end),
    )


def _documents(collateral: TdxCollateral, tcb_signer: Chain, qe_signer: Chain) -> tuple[TcbInfo, QeIdentity]:
    """TCB info and QE identity, once their signatures hold: unsigned text is not even parsed."""
    require_p256_signature(
        key_of(tcb_signer.leaf, role="TCB signing certificate"),
        collateral.tcb_info_signature,
        collateral.tcb_info.encode(),
        "tdx-tcb-info-signature",
        clause=_DOCUMENT_CLAUSE,
        what="TCB info",
    )
    require_p256_signature(
        key_of(qe_signer.leaf, role="TCB signing certificate"),
        collateral.qe_identity_signature,
        collateral.qe_identity.encode(),
        "tdx-qe-identity-signature",
        clause=_DOCUMENT_CLAUSE,
        what="QE identity",
    )
    return parse_tcb_info(collateral.tcb_info), parse_qe_identity(collateral.qe_identity)


def _current(window: Window, now: datetime, role: str) -> datetime:
    require_window(window.issued, window.next_update, now, prefix="tdx-collateral", role=role)
    return window.next_update


def _require_vouched(signature: QuoteSignature, platform: Chain) -> None:
    require_p256_signature(
        key_of(platform.leaf, role="PCK certificate"),
        signature.qe_report_signature,
        signature.qe_report_signed,
        "tdx-qe-report-signature",
        clause=_SIGNATURE_CLAUSE,
        what="QE report",
    )
    named = hashlib.sha256(signature.attestation_key + signature.qe_authentication).digest() + bytes(32)
    if not hmac.compare_digest(named, signature.qe_report.report_data):
        raise Refused(
            "tdx-attestation-key",
            _SIGNATURE_CLAUSE,
            expected="the key that the quoting enclave names",
            got="another attestation key",
        )


def _require_closed(report: TdReport, *, paravisor: bool) -> None:
    attributes = report.attributes
    got = f"{attributes.raw:#x}"
    if attributes.debug:
        raise Refused("tdx-debug", _TD_CLAUSE, expected="DEBUG 0", got=got)
    if attributes.migratable:
        raise Refused("tdx-migratable", _TD_CLAUSE, expected="MIGRATABLE 0", got=got)
    if report.has_service_td:
        raise Refused("tdx-service-td", "Intel TDX Module ABI, MRSERVICETD", expected="none", got="one bound")
    if not attributes.sept_ve_disable and not paravisor:
        raise Refused("tdx-sept-ve", _TD_CLAUSE, expected="SEPT_VE_DISABLE 1", got=got)
