"""ECDSA with P-256 and SHA-256: the one signature of Intel's chain, on certificates, lists and documents.

As with AMD's (``attest.verify.rsa_pss``), the algorithm is never chosen by what is verified.
"""

from __future__ import annotations

from typing import Final, TypeGuard

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from attest.refusal import Malformed, Refused

_ECDSA_SHA256: Final = bytes.fromhex("300a06082a8648ce3d040302")  # RFC 5758 section 3.2: no parameters
_ALGORITHM: Final = ec.ECDSA(hashes.SHA256())


def verify_p256(
    der: bytes, signed: bytes, signature: bytes, issuer: x509.Certificate, *, prefix: str, role: str
) -> None:
    """Require that ``issuer``'s key signed a certificate or list (a ``SignatureScheme``).

    Raises:
        Refused: ``{prefix}-key``, ``{prefix}-algorithm``, ``{prefix}-signature``.
    """
    key = issuer.public_key()
    if not _is_p256(key):
        raise Refused(f"{prefix}-key", "Intel PCS", expected="P-256", got="an issuer with another key")
    # The whole document is: header, signed part, this algorithm, signature. Its length fits one byte; the
    # tail that is made here of a longer one is not the document's.
    tail = signed + _ECDSA_SHA256 + bytes([0x03, (len(signature) + 1) & 0x7F, 0x00]) + signature
    if not der.endswith(tail):
        raise Refused(
            f"{prefix}-algorithm",
            "RFC 5758 section 3.2",
            expected="ECDSA with SHA-256",
            got=f"another algorithm on the {role}",
        )
    try:
        key.verify(signature, signed, _ALGORITHM)
    except InvalidSignature as error:
        raise Refused(
            f"{prefix}-signature",
            "FIPS 186-5 section 6.4.2",
            expected=f"{role} signed by its issuer",
            got="a signature that does not verify",
        ) from error


def key_of(certificate: x509.Certificate, *, role: str) -> ec.EllipticCurvePublicKey:
    """The certificate's key.

    Raises:
        Refused: ``certificate-key`` if it is not P-256.
    """
    key = certificate.public_key()
    if not _is_p256(key):
        raise Refused("certificate-key", "Intel PCS", expected="P-256", got=f"another key in the {role}")
    return key


def point(raw: bytes) -> ec.EllipticCurvePublicKey:
    """The public key with coordinates x and y, 32 bytes each, big endian.

    Raises:
        Malformed: ``tdx-attestation-key`` if that is no point of the curve.
    """
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + raw)
    except ValueError as error:
        raise Malformed("tdx-attestation-key", "not a point of P-256") from error


def require_p256_signature(
    key: ec.EllipticCurvePublicKey, signature: bytes, signed: bytes, code: str, *, clause: str, what: str
) -> None:
    """Require that ``key`` made ``signature`` (64 bytes: r and s, big endian).

    Raises:
        Refused: ``code``.
    """
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        key.verify(encode_dss_signature(r, s), signed, _ALGORITHM)
    except InvalidSignature as error:
        raise Refused(
            code, clause, expected=f"{what} signed by its key", got="a signature that does not verify"
        ) from error


def _is_p256(key: object) -> TypeGuard[ec.EllipticCurvePublicKey]:
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
