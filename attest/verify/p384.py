"""ECDSA with P-384 and SHA-384: the one signature of NVIDIA's chains, reports, RIMs and OCSP responses.

As with AMD's (``attest.verify.rsa_pss``), the algorithm is never chosen by what is verified.
"""

from __future__ import annotations

from typing import Final, TypeGuard

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from attest.refusal import Refused

SIGNATURE_SIZE: Final = 96

_ECDSA_SHA384: Final = bytes.fromhex("300a06082a8648ce3d040303")  # RFC 5758 section 3.2: no parameters
_ALGORITHM: Final = ec.ECDSA(hashes.SHA384())


def verify_p384(
    der: bytes, signed: bytes, signature: bytes, issuer: x509.Certificate, *, prefix: str, role: str
) -> None:
    """Require that ``issuer``'s key signed a certificate (an ``attest.verify.x509.SignatureScheme``).

    Raises:
        Refused: ``{prefix}-key``, ``{prefix}-algorithm``, ``{prefix}-signature``.
    """
    key = issuer.public_key()
    if not _is_p384(key):
        raise Refused(f"{prefix}-key", "NVIDIA PKI", expected="P-384", got="an issuer with another key")
    # The whole document is: header, signed part, this algorithm, signature. Its length fits one byte; the
    # tail that is made here of a longer one is not the document's.
    tail = signed + _ECDSA_SHA384 + bytes([0x03, (len(signature) + 1) & 0x7F, 0x00]) + signature
    if not der.endswith(tail):
        raise Refused(
            f"{prefix}-algorithm",
            "RFC 5758 section 3.2",
            expected="ECDSA with SHA-384",
            got=f"another algorithm on the {role}",
        )
    require_der_signature(key, signature, signed, f"{prefix}-signature", what=role)


def require_der_signature(
    key: ec.EllipticCurvePublicKey, signature: bytes, signed: bytes, code: str, *, what: str
) -> None:
    """Require that ``key`` made ``signature`` (DER) over ``signed``.

    Raises:
        Refused: ``code``.
    """
    try:
        key.verify(signature, signed, _ALGORITHM)
    except InvalidSignature as error:
        raise Refused(
            code,
            "FIPS 186-5 section 6.4.2",
            expected=f"{what} signed by its issuer",
            got="a signature that does not verify",
        ) from error


def require_signed(
    key: ec.EllipticCurvePublicKey, r: int, s: int, signed: bytes, code: str, *, what: str
) -> None:
    """Require that ``key`` made the signature ``r``, ``s`` over ``signed``.

    Raises:
        Refused: ``code``.
    """
    require_der_signature(key, encode_dss_signature(r, s), signed, code, what=what)


def key_of(certificate: x509.Certificate, *, role: str) -> ec.EllipticCurvePublicKey:
    """The certificate's key.

    Raises:
        Refused: ``certificate-key`` if it is not P-384.
    """
    key = certificate.public_key()
    if not _is_p384(key):
        raise Refused("certificate-key", "NVIDIA PKI", expected="P-384", got=f"another key in the {role}")
    return key


def _is_p384(key: object) -> TypeGuard[ec.EllipticCurvePublicKey]:
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1)
