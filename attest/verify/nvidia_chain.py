"""From a device's key, or from the signer of golden values, up to a root that the caller named.

NVIDIA's two hierarchies have the same shape: P-384 and SHA-384 throughout, signer first, the root last or
left out. The root that stands at the end is always ours: one that came along must be the very same bytes.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final, Literal

from cryptography import x509

from attest.collateral.nvidia import (
    NVIDIA_DEVICE_ROOT_SHA256,
    NVIDIA_RIM_ROOT_SHA256,
    NvidiaRoots,
    nvidia_device_root,
    nvidia_rim_root,
)
from attest.refusal import Malformed, Refused
from attest.verify.ocsp import Issued
from attest.verify.p384 import verify_p384
from attest.verify.x509 import load_certificate, require_current, shown, verify_issued

Vendor = Literal["nvidia", "mock"]
Hierarchy = Literal["gpu", "rim"]

CLAUSE: Final = "NVIDIA PKI, certificate chain"
MAX_CERTIFICATES: Final = 6
_NVIDIA: Final = frozenset({NVIDIA_DEVICE_ROOT_SHA256, NVIDIA_RIM_ROOT_SHA256})
_WORDS: Final[dict[Hierarchy, str]] = {"gpu": "device", "rim": "RIM"}


@dataclass(frozen=True, slots=True)
class NvidiaChain:
    """A chain whose every signature holds. Its dates are judged each time it is used.

    Args:
        vendor: whose root it ends in.
        certificates: signer first, without the root.
        root: the root.
        root_sha256: its digest, lower-case hex.
    """

    vendor: Vendor
    certificates: tuple[x509.Certificate, ...]
    root: x509.Certificate
    root_sha256: str

    @property
    def signer(self) -> x509.Certificate:
        """The certificate at the chain's end."""
        return self.certificates[0]

    def issued(self, hierarchy: Hierarchy) -> tuple[Issued, ...]:
        """Every certificate with its issuer, signer first."""
        issuers = (*self.certificates[1:], self.root)
        return tuple(
            Issued(certificate, issuer, _role(hierarchy, place))
            for place, (certificate, issuer) in enumerate(zip(self.certificates, issuers, strict=True))
        )

    def require_current(self, hierarchy: Hierarchy, now: datetime) -> datetime:
        """Require that all of it is valid at ``now``; returns the earliest end.

        Raises:
            Refused: ``certificate-not-yet-valid``, ``certificate-expired``.
        """
        return min(
            require_current(certificate, now, role=_role(hierarchy, place))
            for place, certificate in enumerate((*self.certificates, self.root))
        )


def verify_chain(ders: tuple[bytes, ...], roots: NvidiaRoots, hierarchy: Hierarchy) -> NvidiaChain:
    """Require that a chain ends in a root that the caller named, signature by signature.

    Args:
        ders: DER certificates, signer first, with or without the root.
        roots: what it may end in.
        hierarchy: devices or golden values; each has its own root.

    Raises:
        Malformed: ``certificate-malformed``, ``{hierarchy}-chain-length``.
        Refused: ``{hierarchy}-root-not-trusted``, ``certificate-*``, ``pinned-root-altered``.
    """
    if not 0 < len(ders) <= MAX_CERTIFICATES:
        raise Malformed(f"{hierarchy}-chain-length", f"{len(ders)} certificates", clause=CLAUSE)
    last = _loaded(ders[-1], _role(hierarchy, len(ders) - 1))
    sent_root = ders[-1] if last.issuer == last.subject else None
    vendor, root_der = _choose_root(sent_root, roots, hierarchy)
    below = ders[:-1] if sent_root is not None else ders
    if not below:
        raise Malformed(f"{hierarchy}-chain-length", "a root alone", clause=CLAUSE)
    certificates = _verify_signatures(below, root_der, hierarchy)
    root = _loaded(root_der, _role(hierarchy, len(below)))
    _require_signer(certificates[0], hierarchy)
    return NvidiaChain(vendor, certificates, root, hashlib.sha256(root_der).hexdigest())


def _choose_root(sent: bytes | None, roots: NvidiaRoots, hierarchy: Hierarchy) -> tuple[Vendor, bytes]:
    """The vendor and its root. A mock's root has no pinned copy, so it must come along."""
    device = hierarchy == "gpu"
    mock = roots.mock_device_root_sha256 if device else roots.mock_rim_root_sha256
    got = None if sent is None else hashlib.sha256(sent).hexdigest()
    # NVIDIA's own roots are never a mock: evidence must not choose under which name it is shown.
    is_mock = mock is not None and mock not in _NVIDIA and hmac.compare_digest(got or "", mock)
    if sent is not None and is_mock:
        return "mock", sent
    pinned = NVIDIA_DEVICE_ROOT_SHA256 if device else NVIDIA_RIM_ROOT_SHA256
    if roots.nvidia and (got is None or hmac.compare_digest(got, pinned)):
        return "nvidia", nvidia_device_root() if device else nvidia_rim_root()
    raise Refused(
        f"{hierarchy}-root-not-trusted",
        "trust file",
        expected=pinned if roots.nvidia else mock or "a root named in the trust file",
        got=got or "a chain without its root",
    )


def _verify_signatures(
    ders: tuple[bytes, ...], root_der: bytes, hierarchy: Hierarchy
) -> tuple[x509.Certificate, ...]:
    issuers = (*ders[1:], root_der)
    for place, (der, issuer) in enumerate(zip(ders, issuers, strict=True)):
        _verify_step(der, issuer, _role(hierarchy, place), _role(hierarchy, place + 1), place)
    return tuple(_loaded(der, _role(hierarchy, place)) for place, der in enumerate(ders))


@lru_cache(maxsize=128)
def _loaded(der: bytes, role: str) -> x509.Certificate:
    """A certificate, parsed once."""
    return load_certificate(der, role=role)


# Successes only are kept, and the result is a pure function of the bytes. The GPUs of one board share all
# but the last two certificates. Bounded, since the bytes may be an attacker's.
@lru_cache(maxsize=128)
def _verify_step(der: bytes, issuer_der: bytes, role: str, issuer_role: str, authorities_below: int) -> None:
    """Require that one certificate issued another, with ``authorities_below`` more beneath the issuer."""
    issuer = _loaded(issuer_der, issuer_role)
    verify_issued(_loaded(der, role), der, issuer, role=role, scheme=verify_p384)
    limit = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    if limit is not None and limit < authorities_below:
        raise Refused(
            "certificate-path-length",
            "RFC 5280 section 4.2.1.9",
            expected=f"at most {limit} authorities under {shown(issuer.subject)}",
            got=str(authorities_below),
        )


def _require_signer(certificate: x509.Certificate, hierarchy: Hierarchy) -> None:
    """The signer's key signs, and signs no certificates."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        allowed = usage.digital_signature and not usage.key_cert_sign
    except x509.ExtensionNotFound:
        allowed = False
    if not allowed:
        raise Refused(
            "certificate-usage",
            "RFC 5280 section 4.2.1.3",
            expected="a key for signatures and not for certificates",
            got=_role(hierarchy, 0),
        )


def _role(hierarchy: Hierarchy, place: int) -> str:
    return f"{_WORDS[hierarchy]} signer" if place == 0 else f"{_WORDS[hierarchy]} authority {place}"
