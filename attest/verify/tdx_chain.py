"""Intel's certificates under a TDX quote: from the platform and from Intel's signing key to one root.

The steps of ``attest.verify.tdx`` that are about certificates and revocation lists (Intel, "SGX PCK
Certificate and CRL Profile").
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, Literal

from cryptography import x509

from attest.collateral.tdx import INTEL_ROOT_SHA256, TdxRoots, intel_root
from attest.evidence.tdx_evidence import TdxCollateral
from attest.evidence.tdx_signature import pem_certificates
from attest.refusal import Refused
from attest.verify.crl import require_not_revoked, verify_crl
from attest.verify.p256 import verify_p256
from attest.verify.x509 import (
    common_name,
    load_certificate,
    require_current,
    require_window,
    verify_issued,
)

Vendor = Literal["intel", "mock"]

CHAIN_CLAUSE: Final = "Intel SGX PCK Certificate and CRL Profile"
ROOT_NAME: Final = "Intel SGX Root CA"
PCK_NAME: Final = "Intel SGX PCK Certificate"
PCK_AUTHORITIES: Final = frozenset({"Intel SGX PCK Platform CA", "Intel SGX PCK Processor CA"})
SIGNING_NAME: Final = "Intel SGX TCB Signing"
_PCK_CHAIN: Final = ("PCK certificate", "PCK authority", "root")
_CHAIN_OF_TWO: Final = 2


@dataclass(frozen=True, slots=True)
class Chain:
    """Certificates that hold each other up, leaf first, root last."""

    certificates: tuple[x509.Certificate, ...]
    names: tuple[str, ...]

    @property
    def leaf(self) -> x509.Certificate:
        """The end of the chain."""
        return self.certificates[0]

    @property
    def authority(self) -> x509.Certificate:
        """Who issued the leaf."""
        return self.certificates[1]

    @property
    def root(self) -> x509.Certificate:
        """Where the chain begins."""
        return self.certificates[-1]

    def require_current(self, now: datetime) -> datetime:
        """Require that every certificate is valid; returns when the first one ends.

        Raises:
            Refused: ``certificate-not-yet-valid`` or ``certificate-expired``.
        """
        return min(
            require_current(certificate, now, role=name)
            for certificate, name in zip(self.certificates, self.names, strict=True)
        )


def choose_root(pck_chain: tuple[bytes, ...], roots: TdxRoots) -> tuple[Vendor, bytes]:
    """The vendor and its root, DER: the one that ends the quote's own chain, if the caller named it.

    Raises:
        Refused: ``tdx-root-not-trusted``, ``tdx-chain-incomplete``, ``pinned-root-altered``.
    """
    if len(pck_chain) != len(_PCK_CHAIN):
        raise Refused(
            "tdx-chain-incomplete",
            CHAIN_CLAUSE,
            expected=", ".join(_PCK_CHAIN),
            got=f"{len(pck_chain)} certificates",
        )
    got = hashlib.sha256(pck_chain[-1]).hexdigest()
    if roots.intel and got == INTEL_ROOT_SHA256:
        return "intel", intel_root()
    pinned = roots.mock_root_sha256
    # Intel's own root is never a mock: evidence must not be able to choose under which name it is shown.
    if pinned is None or pinned == INTEL_ROOT_SHA256 or not hmac.compare_digest(got, pinned):
        expected = " or ".join(([INTEL_ROOT_SHA256] if roots.intel else []) + ([pinned] if pinned else []))
        raise Refused("tdx-root-not-trusted", "trust file", expected=expected or "no root", got=got)
    return "mock", pck_chain[-1]


def platform_chain(certificates: tuple[bytes, ...], root: bytes) -> Chain:
    """The platform's chain under ``root``.

    Raises:
        Refused: ``tdx-chain-names``, ``certificate-*``.
        Malformed: ``certificate-malformed``.
    """
    chain = verified_chain((*certificates[:-1], root))
    names = chain.names
    if names[0] != PCK_NAME or names[1] not in PCK_AUTHORITIES or names[2] != ROOT_NAME:
        raise _other_names(names)
    return chain


def signing_chain(pem: str, root: bytes, *, role: str) -> Chain:
    """The chain of Intel's key for documents, under ``root``.

    Raises:
        Refused: ``tdx-chain-names``, ``tdx-collateral-chain``, ``certificate-*``.
        Malformed: ``tdx-pck-pem``, ``certificate-malformed``.
    """
    chain = _chain_of_two(pem, root, role=role)
    # Whoever else may sign under this root, platforms above all, may not say what is up to date.
    if chain.names != (SIGNING_NAME, ROOT_NAME):
        raise _other_names(chain.names)
    return chain


def require_unrevoked(
    collateral: TdxCollateral, platform: Chain, signers: tuple[Chain, ...], root: bytes, *, now: datetime
) -> datetime:
    """Require that no certificate is on its authority's list; returns when the first list ends.

    Raises:
        Refused: ``certificate-revoked``, ``crl-*``, ``tdx-pck-crl-issuer``, ``tdx-collateral-chain``.
        Malformed: ``crl-malformed``.
    """
    stated = _chain_of_two(collateral.pck_crl_issuer_chain, root, role="PCK CRL issuer")
    if not _is_same(stated.leaf, platform.authority):
        raise Refused(
            "tdx-pck-crl-issuer",
            CHAIN_CLAUSE,
            expected="the authority that issued the PCK certificate",
            got=f"{stated.names[0]}, or another key of that name",
        )
    root_list = verify_crl(collateral.root_ca_crl, platform.root, now, scheme=verify_p256)
    pck_list = verify_crl(collateral.pck_crl, platform.authority, now, scheme=verify_p256)
    require_not_revoked(platform.authority, root_list, role="PCK authority")
    for signer in signers:
        require_not_revoked(signer.leaf, root_list, role="TCB signing certificate")
    require_not_revoked(platform.leaf, pck_list, role="PCK certificate")
    return min(_last_moment(root_list, now), _last_moment(pck_list, now))


def _last_moment(revocations: x509.CertificateRevocationList, now: datetime) -> datetime:
    """A list ends with the second before its next update: that is how the second verifier counts."""
    last = (revocations.next_update_utc or revocations.last_update_utc) - timedelta(seconds=1)
    require_window(revocations.last_update_utc, last, now, prefix="crl", role="revocation list")
    return last


def _chain_of_two(pem: str, root: bytes, *, role: str) -> Chain:
    certificates = pem_certificates(pem.encode())
    if len(certificates) != _CHAIN_OF_TWO or certificates[1] != root:
        raise Refused(
            "tdx-collateral-chain",
            CHAIN_CLAUSE,
            expected="one certificate and the root of the quote's chain",
            got=f"{role}: {len(certificates)} certificates, or another root",
        )
    return verified_chain(certificates)


# Successes only are kept (an exception is not cached), and the result is a pure function of the bytes: a
# cached chain is exactly what would be verified again. Bounded, since the bytes may be an attacker's.
@lru_cache(maxsize=64)
def verified_chain(certificates: tuple[bytes, ...]) -> Chain:
    """Require that each certificate was issued by the next, and the last by itself.

    Raises:
        Refused: ``certificate-*``.
        Malformed: ``certificate-malformed``.
    """
    loaded = tuple(load_certificate(der, role=f"certificate {i}") for i, der in enumerate(certificates))
    for index, der in enumerate(certificates):
        issuer = loaded[min(index + 1, len(loaded) - 1)]
        verify_issued(loaded[index], der, issuer, role=f"certificate {index}", scheme=verify_p256)
    return Chain(
        loaded, tuple(common_name(each.subject, role=f"certificate {i}") for i, each in enumerate(loaded))
    )


def _is_same(one: x509.Certificate, other: x509.Certificate) -> bool:
    """Whether both are of one authority: name and key. A certificate may be issued anew."""
    return one == other or (one.subject == other.subject and one.public_key() == other.public_key())


def _other_names(names: tuple[str, ...]) -> Refused:
    return Refused(
        "tdx-chain-names",
        CHAIN_CLAUSE,
        expected=f"{PCK_NAME} or {SIGNING_NAME}, up to {ROOT_NAME}",
        got=" under ".join(names),
    )
