"""From a SEV-SNP leaf up to a root that the caller named (AMD 57230, "certificate chain").

The steps of ``attest.verify.snp`` that are about certificates: which family the leaf claims, which root it
may end in, that the chain holds, and that nothing on it was revoked.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final, Literal

from cryptography import x509

from attest.checks import CheckList
from attest.collateral.snp import AMD_ARK_SHA256, LeafKind, SnpRoots, amd_ark, amd_intermediate
from attest.evidence.cpu import SnpCollateral
from attest.evidence.snp import SnpReport
from attest.evidence.snp_tcb import Product
from attest.refusal import Refused
from attest.verify.crl import require_not_revoked, verify_crl
from attest.verify.x509 import common_name, load_certificate, verify_issued

Vendor = Literal["amd", "mock"]

CHAIN_CLAUSE: Final = "AMD 57230, certificate chain"
_ISSUERS: Final[dict[str, tuple[Product, LeafKind]]] = {
    "SEV-Milan": ("Milan", "vcek"),
    "SEV-Genoa": ("Genoa", "vcek"),
    "SEV-Turin": ("Turin", "vcek"),
    "SEV-VLEK-Milan": ("Milan", "vlek"),
    "SEV-VLEK-Genoa": ("Genoa", "vlek"),
    "SEV-VLEK-Turin": ("Turin", "vlek"),
}
_LEAF_NAMES: Final[dict[LeafKind, str]] = {"vcek": "SEV-VCEK", "vlek": "SEV-VLEK"}


@dataclass(frozen=True, slots=True)
class Chain:
    """A root and the intermediate it signed. A pure function of their bytes, so it may be cached."""

    ark: x509.Certificate
    intermediate: x509.Certificate


def require_same_family(report: SnpReport, leaf: x509.Certificate, signing_key: LeafKind) -> Product:
    """The product line that report and leaf agree on. The leaf's names are not proved yet.

    Raises:
        Refused: ``snp-leaf-issuer``, ``snp-leaf-kind``, ``snp-product-mismatch``.
    """
    issuer = common_name(leaf.issuer, role="leaf")
    if issuer not in _ISSUERS:
        raise Refused("snp-leaf-issuer", CHAIN_CLAUSE, expected=", ".join(_ISSUERS), got=issuer)
    product, kind = _ISSUERS[issuer]
    name = common_name(leaf.subject, role="leaf")
    if kind != signing_key or name != _LEAF_NAMES[signing_key]:
        raise Refused(
            "snp-leaf-kind",
            "AMD 56860 ATTESTATION_REPORT",
            expected=_LEAF_NAMES[signing_key],
            got=f"{name} under {issuer}",
        )
    if report.product not in {None, product}:  # version 2 has no CPUID: there the chain alone says
        raise Refused(
            "snp-product-mismatch", "AMD 56860 ATTESTATION_REPORT", expected=str(report.product), got=product
        )
    return product


def choose_root(
    collateral: SnpCollateral, roots: SnpRoots, product: Product, kind: LeafKind
) -> tuple[Vendor, bytes, bytes]:
    """The vendor, its root and the intermediate to be proved under it, DER.

    Raises:
        Refused: ``snp-root-not-trusted``, ``snp-chain-incomplete``, ``pinned-root-altered``.
    """
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
        raise Refused("snp-chain-incomplete", CHAIN_CLAUSE, expected="ASK", got="a mock root without one")
    return "mock", collateral.ark, collateral.intermediate


# Successes only are kept (an exception is not cached), and the result is a pure function of the arguments:
# a cached chain is exactly what would be verified again. Bounded, since the bytes may be an attacker's.
@lru_cache(maxsize=16)
def verified_chain(ark_der: bytes, intermediate_der: bytes, product: Product, kind: LeafKind) -> Chain:
    """Require that the root signed itself and the intermediate, and that both bear the product's names.

    Raises:
        Refused: ``snp-chain-product``, ``certificate-*``.
    """
    ark = load_certificate(ark_der, role="ARK")
    intermediate = load_certificate(intermediate_der, role="ASK")
    names = (common_name(ark.subject, role="ARK"), common_name(intermediate.subject, role="ASK"))
    expected = (f"ARK-{product}", f"SEV-{product}" if kind == "vcek" else f"SEV-VLEK-{product}")
    if names != expected:
        raise Refused(
            "snp-chain-product", CHAIN_CLAUSE, expected=" over ".join(expected), got=" over ".join(names)
        )
    verify_issued(ark, ark_der, ark, role="ARK")
    verify_issued(intermediate, intermediate_der, ark, role="ASK")
    return Chain(ark, intermediate)


def require_unrevoked(
    crl_der: bytes | None, chain: Chain, leaf: x509.Certificate, *, now: datetime, checks: CheckList
) -> datetime | None:
    """When the list ends; ``None`` if there was none, which the appraisal decides about.

    Raises:
        Refused: ``certificate-revoked``, ``crl-*``.
    """
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
