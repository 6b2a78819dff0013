"""Is this SEV-SNP report genuine? (AMD 56860 and 57230)

``verify_snp`` says that a chip of the named vendor signed the report, in eight numbered steps. It does not
say that the report is acceptable: debug, privilege level, firmware floors, measurement and the meaning of
REPORT_DATA are judged by ``attest.appraise``, which takes the ``VerifiedSnp`` made here.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from attest.checks import CheckList
from attest.collateral.snp import LeafKind, SnpRoots
from attest.evidence.cpu import SnpCollateral
from attest.evidence.snp import CHIP_ID_SIZE, SnpReport
from attest.evidence.snp_leaf import SnpLeaf
from attest.evidence.snp_tcb import Product, TcbVersion
from attest.refusal import Refused
from attest.verify.snp_chain import (
    CHAIN_CLAUSE,
    Vendor,
    choose_root,
    require_same_family,
    require_unrevoked,
    verified_chain,
)
from attest.verify.x509 import load_certificate, require_current, verify_issued

_STEPPING: Final = re.compile(r"-[A-Z][0-9]")
_REPORT_CLAUSE: Final = "AMD 56860 ATTESTATION_REPORT"


@dataclass(frozen=True, slots=True)
class VerifiedSnp:
    """A genuine report. Made by ``verify_snp`` only.

    Args:
        report: the facts, now trusted as far as the vendor is.
        vendor: whose root the chain ends in.
        product: product line, agreed by CPUID, issuer and leaf.
        signing_key: ``vcek`` (this chip) or ``vlek`` (a provider's chips).
        csp_id: the provider whose VLEK it is, to be appraised; ``None`` for a VCEK.
        reported_tcb: what the signing key was derived for.
        committed_tcb: what the platform cannot go back behind.
        current_tcb: what runs.
        launch_tcb: what ran at launch.
        revocation_checked: whether a current revocation list was among the collateral.
        not_after: the earliest end of a certificate of the chain or of the revocation list.
    """

    report: SnpReport = field(repr=False)
    vendor: Vendor
    product: Product
    signing_key: LeafKind
    csp_id: str | None
    reported_tcb: TcbVersion
    committed_tcb: TcbVersion
    current_tcb: TcbVersion
    launch_tcb: TcbVersion
    revocation_checked: bool
    not_after: datetime


def verify_snp(
    report: bytes, collateral: SnpCollateral, roots: SnpRoots, *, now: datetime, checks: CheckList
) -> VerifiedSnp:
    """Judge whether a report is genuine.

    Args:
        report: the 1184 bytes.
        collateral: leaf, and what else came along; nothing in it is trusted.
        roots: what the chain may end in.
        now: time of verification, aware.
        checks: gets one row per step, up to and including one that refuses.

    Raises:
        Unsupported: a version, algorithm or product that is not judged here.
        Malformed: report or collateral is not an instance of its format.
        Refused: the report is not genuine under ``roots`` at ``now``; see the codes of each step.
    """
    # 1. The report is well formed, and signed at all.
    with checks.step("SNP report format", _REPORT_CLAUSE):
        parsed = SnpReport.parse(report)
        signing_key = _require_signed(parsed)
        checks.passed(
            "SNP report format",
            _REPORT_CLAUSE,
            expected="version 2, 3 or 5, ECDSA P-384",
            got=f"version {parsed.version}",
        )

    # 2. The leaf is of the kind and product that the report says. Words only, until steps 4 and 7 prove them.
    with checks.step("SNP leaf certificate", CHAIN_CLAUSE):
        if collateral.leaf is None:
            raise Refused(
                "snp-leaf-missing", "AMD 57230", expected=f"the chip's {signing_key.upper()}", got="none"
            )
        leaf = load_certificate(collateral.leaf, role=signing_key.upper())
        product = require_same_family(parsed, leaf, signing_key)

    # 3. The chain ends in a root that the caller named.
    with checks.step("SNP root", CHAIN_CLAUSE):
        vendor, ark_der, intermediate_der = choose_root(collateral, roots, product, signing_key)
        checks.passed(
            "SNP root",
            CHAIN_CLAUSE,
            expected="a root named in the trust file",
            got=f"{vendor}, {hashlib.sha256(ark_der).hexdigest()}",
        )

    # 4. The root signed the intermediate, the intermediate the leaf, and all three are valid now.
    with checks.step("SNP certificate chain", CHAIN_CLAUSE):
        chain = verified_chain(ark_der, intermediate_der, product, signing_key)
        verify_issued(leaf, collateral.leaf, chain.intermediate, role=signing_key.upper())
        not_after = min(
            require_current(chain.ark, now, role="ARK"),
            require_current(chain.intermediate, now, role="ASK"),
            require_current(leaf, now, role=signing_key.upper()),
        )
        checks.passed(
            "SNP certificate chain",
            CHAIN_CLAUSE,
            expected="ARK, ASK and leaf signed in turn and valid",
            got=f"{product} {signing_key.upper()}",
            expires=not_after,
        )

    # 5. The root has revoked neither intermediate nor leaf.
    with checks.step("SNP revocation", "RFC 5280 section 6.3"):
        crl_end = require_unrevoked(collateral.crl, chain, leaf, now=now, checks=checks)
    not_after = min(not_after, crl_end or not_after)

    # 6. The leaf stands for this product, this firmware and this chip. A VLEK names no chip but a provider:
    #    whether that provider is accepted is the appraisal's question.
    with checks.step("SNP leaf matches report", "AMD 57230, certificate extensions"):
        facts = SnpLeaf.parse(leaf, kind=signing_key, product=product)
        reported = TcbVersion.parse(parsed.reported_tcb, product)
        _require_leaf_matches(facts, parsed, product, reported)
        checks.passed(
            "SNP leaf matches report",
            "AMD 57230, certificate extensions",
            expected=f"REPORTED_TCB {reported}",
            got=f"{facts.product_name}, {facts.tcb}",
        )

    # 7. The leaf's key signed the report.
    with checks.step("SNP report signature", "AMD 56860, SIGNATURE"):
        _verify_signature(parsed, leaf)
        checks.passed(
            "SNP report signature",
            "AMD 56860, SIGNATURE",
            expected="ECDSA P-384 over bytes 0 to 671",
            got=f"signed by the {signing_key.upper()}",
        )

    # 8. No firmware component is reported beyond what is committed, or committed beyond what runs.
    with checks.step("SNP firmware order", "AMD 56860 SNP_CONFIG"):
        committed = TcbVersion.parse(parsed.committed_tcb, product)
        current = TcbVersion.parse(parsed.current_tcb, product)
        launch = TcbVersion.parse(parsed.launch_tcb, product)
        _require_order(reported, committed, current)
        checks.passed(
            "SNP firmware order",
            "AMD 56860 SNP_CONFIG",
            expected="reported <= committed <= current",
            got=f"current {current}",
        )

    return VerifiedSnp(
        report=parsed,
        vendor=vendor,
        product=product,
        signing_key=signing_key,
        csp_id=facts.csp_id,
        reported_tcb=reported,
        committed_tcb=committed,
        current_tcb=current,
        launch_tcb=launch,
        revocation_checked=crl_end is not None,
        not_after=not_after,
    )


def _require_signed(report: SnpReport) -> LeafKind:
    if report.signing_key == "none":
        raise Refused("snp-report-unsigned", _REPORT_CLAUSE, expected="VCEK or VLEK", got="no signing key")
    return report.signing_key


def _require_leaf_matches(leaf: SnpLeaf, report: SnpReport, product: Product, reported: TcbVersion) -> None:
    clause = "AMD 57230, certificate extensions"
    line, stepping = leaf.product_name[: len(product)], leaf.product_name[len(product) :]
    if line != product or (stepping and not _STEPPING.fullmatch(stepping)):
        raise Refused("snp-leaf-product", clause, expected=product, got=leaf.product_name)
    if leaf.tcb != reported:
        raise Refused(
            "snp-leaf-tcb",
            clause,
            expected=f"the leaf of REPORTED_TCB {reported}",
            got=f"a leaf of {leaf.tcb}",
        )
    if leaf.hwid is not None and report.chip_id != leaf.hwid.ljust(CHIP_ID_SIZE, b"\x00"):
        raise Refused(
            "snp-chip-id",
            clause,
            expected=f"chip {leaf.hwid[:8].hex()}",
            got=f"chip {report.chip_id[:8].hex()}",
        )


def _verify_signature(report: SnpReport, leaf: x509.Certificate) -> None:
    key = leaf.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise Refused("snp-leaf-key", "AMD 57230", expected="P-384", got="another kind of key")
    signature = encode_dss_signature(report.signature_r, report.signature_s)
    try:
        key.verify(signature, report.signed, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature as error:
        raise Refused(
            "snp-report-signature",
            "AMD 56860, SIGNATURE",
            expected="a signature by the leaf's key",
            got="a signature that does not verify",
        ) from error


def _require_order(reported: TcbVersion, committed: TcbVersion, current: TcbVersion) -> None:
    if not (committed.covers(reported) and current.covers(committed)):
        raise Refused(
            "snp-tcb-order",
            "AMD 56860 SNP_CONFIG",
            expected="reported <= committed <= current in every component",
            got=f"reported ({reported}), committed ({committed}), current ({current})",
        )
