"""Is this SEV-SNP report genuine? (AMD 56860 and 57230)

``verify_snp`` says that a chip of the named vendor signed the report, in eight numbered steps. It does not
say that the report is acceptable: debug, privilege level, firmware floors, measurement and the meaning of
REPORT_DATA are judged by ``attest.appraise``, which takes the ``VerifiedSnp`` made here.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Final, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from attest.checks import CheckList
from attest.collateral.snp import AMD_ARK_SHA256, LeafKind, SnpRoots, amd_ark, amd_intermediate
from attest.evidence.cpu import SnpCollateral
from attest.evidence.snp import CHIP_ID_SIZE, SnpReport
from attest.evidence.snp_leaf import SnpLeaf
from attest.evidence.snp_tcb import Product, TcbVersion
from attest.refusal import Refused
from attest.verify.x509 import (
    common_name,
    load_certificate,
    require_current,
    require_not_revoked,
    verify_crl,
    verify_issued,
)

Vendor = Literal["amd", "mock"]

_ISSUERS: Final[dict[str, tuple[Product, LeafKind]]] = {
    "SEV-Milan": ("Milan", "vcek"),
    "SEV-Genoa": ("Genoa", "vcek"),
    "SEV-Turin": ("Turin", "vcek"),
    "SEV-VLEK-Milan": ("Milan", "vlek"),
    "SEV-VLEK-Genoa": ("Genoa", "vlek"),
    "SEV-VLEK-Turin": ("Turin", "vlek"),
}
_LEAF_NAMES: Final[dict[LeafKind, str]] = {"vcek": "SEV-VCEK", "vlek": "SEV-VLEK"}
_STEPPING: Final = re.compile(r"-[A-Z][0-9]")
_REPORT_CLAUSE: Final = "AMD 56860 ATTESTATION_REPORT"
_CHAIN_CLAUSE: Final = "AMD 57230, certificate chain"


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


@dataclass(frozen=True, slots=True)
class _Chain:
    """A root and the intermediate it signed. A pure function of their bytes, so it may be cached."""

    ark: x509.Certificate
    intermediate: x509.Certificate


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
    with checks.step("SNP leaf certificate", _CHAIN_CLAUSE):
        leaf = load_certificate(collateral.leaf, role=signing_key.upper())
        product = _require_same_family(parsed, leaf, signing_key)

    # 3. The chain ends in a root that the caller named.
    with checks.step("SNP root", _CHAIN_CLAUSE):
        vendor, ark_der, intermediate_der = _choose_root(collateral, roots, product, signing_key)
        checks.passed(
            "SNP root",
            _CHAIN_CLAUSE,
            expected="a root named in the trust file",
            got=f"{vendor}, {hashlib.sha256(ark_der).hexdigest()}",
        )

    # 4. The root signed the intermediate, the intermediate the leaf, and all three are valid now.
    with checks.step("SNP certificate chain", _CHAIN_CLAUSE):
        chain = _verified_chain(ark_der, intermediate_der, product, signing_key)
        verify_issued(leaf, collateral.leaf, chain.intermediate, role=signing_key.upper())
        not_after = min(
            require_current(chain.ark, now, role="ARK"),
            require_current(chain.intermediate, now, role="ASK"),
            require_current(leaf, now, role=signing_key.upper()),
        )
        checks.passed(
            "SNP certificate chain",
            _CHAIN_CLAUSE,
            expected="ARK, ASK and leaf signed in turn and valid",
            got=f"{product} {signing_key.upper()}",
            expires=not_after,
        )

    # 5. The root has revoked neither intermediate nor leaf.
    with checks.step("SNP revocation", "RFC 5280 section 6.3"):
        crl_end = _require_unrevoked(collateral.crl, chain, leaf, now=now, checks=checks)
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


def _require_same_family(report: SnpReport, leaf: x509.Certificate, signing_key: LeafKind) -> Product:
    issuer = common_name(leaf.issuer, role="leaf")
    if issuer not in _ISSUERS:
        raise Refused("snp-leaf-issuer", _CHAIN_CLAUSE, expected=", ".join(_ISSUERS), got=issuer)
    product, kind = _ISSUERS[issuer]
    name = common_name(leaf.subject, role="leaf")
    if kind != signing_key or name != _LEAF_NAMES[signing_key]:
        raise Refused(
            "snp-leaf-kind", _REPORT_CLAUSE, expected=_LEAF_NAMES[signing_key], got=f"{name} under {issuer}"
        )
    if report.product not in {None, product}:  # version 2 has no CPUID: there the chain alone says
        raise Refused("snp-product-mismatch", _REPORT_CLAUSE, expected=str(report.product), got=product)
    return product


def _choose_root(
    collateral: SnpCollateral, roots: SnpRoots, product: Product, kind: LeafKind
) -> tuple[Vendor, bytes, bytes]:
    """The vendor, its root and the intermediate to be proved under it, DER."""
    if collateral.ark is None:
        if not roots.amd:
            raise Refused(
                "snp-root-not-trusted",
                "trust file",
                expected="a root named in the trust file",
                got="AMD evidence",
            )
        return "amd", amd_ark(product), collateral.intermediate or amd_intermediate(product, kind)
    got = hashlib.sha256(collateral.ark).hexdigest()
    pinned = roots.mock_ark_sha256
    # AMD's own root is never a mock: evidence must not be able to choose under which name it is shown.
    if pinned is None or pinned in AMD_ARK_SHA256.values() or not hmac.compare_digest(got, pinned):
        raise Refused(
            "snp-root-not-trusted", "trust file", expected=pinned or "no mock root", got=f"mock root {got}"
        )
    if collateral.intermediate is None:
        raise Refused("snp-chain-incomplete", _CHAIN_CLAUSE, expected="ASK", got="a mock root without one")
    return "mock", collateral.ark, collateral.intermediate


# Successes only are kept (an exception is not cached), and the result is a pure function of the arguments:
# a cached chain is exactly what would be verified again. Bounded, since the bytes may be an attacker's.
@lru_cache(maxsize=16)
def _verified_chain(ark_der: bytes, intermediate_der: bytes, product: Product, kind: LeafKind) -> _Chain:
    """Require that the root signed itself and the intermediate, and that both bear the product's names."""
    ark = load_certificate(ark_der, role="ARK")
    intermediate = load_certificate(intermediate_der, role="ASK")
    names = (common_name(ark.subject, role="ARK"), common_name(intermediate.subject, role="ASK"))
    expected = (f"ARK-{product}", f"SEV-{product}" if kind == "vcek" else f"SEV-VLEK-{product}")
    if names != expected:
        raise Refused(
            "snp-chain-product", _CHAIN_CLAUSE, expected=" over ".join(expected), got=" over ".join(names)
        )
    verify_issued(ark, ark_der, ark, role="ARK")
    verify_issued(intermediate, intermediate_der, ark, role="ASK")
    return _Chain(ark, intermediate)


def _require_unrevoked(
    crl_der: bytes | None, chain: _Chain, leaf: x509.Certificate, *, now: datetime, checks: CheckList
) -> datetime | None:
    """When the list ends; ``None`` if there was none, which the appraisal decides about."""
    clause = "RFC 5280 section 6.3"
    if crl_der is None:
        checks.noted("SNP revocation", clause, expected="a current revocation list", got="none supplied")
        return None
    crl = verify_crl(crl_der, chain.ark, now)
    require_not_revoked(chain.intermediate, crl, role="ASK")
    require_not_revoked(leaf, crl, role="leaf")
    end = crl.next_update_utc
    checks.passed(
        "SNP revocation", clause, expected="neither ASK nor leaf listed", got="not listed", expires=end
    )
    return end


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
