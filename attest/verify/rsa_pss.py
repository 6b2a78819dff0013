"""RSASSA-PSS with RSA-4096, SHA-384, MGF1-SHA-384 and salt 48: the one signature on AMD's certificates.

The algorithm is never chosen by what is verified: what a certificate states must be this one, in one of the
spellings that RFC 4055 allows, and this one is what is run.
"""

from __future__ import annotations

from itertools import product
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from attest.refusal import Refused

_RSA_BITS: Final = 4096
_PSS: Final = padding.PSS(padding.MGF1(hashes.SHA384()), 48)


def _spellings_of_pss() -> tuple[bytes, ...]:
    """Every DER spelling of RSASSA-PSS with SHA-384, MGF1-SHA-384 and a salt of 48 bytes.

    RFC 4055 section 2.1 lets a hash's NULL parameters be left out, and AMD writes the trailer field although
    it is the default. A signer's choice among these is signed; nothing else is the algorithm.
    """

    def sequence(tag: int, *parts: bytes) -> bytes:
        body = b"".join(parts)
        return bytes([tag, len(body)]) + body

    oid_sha384 = bytes.fromhex("0609608648016503040202")
    oid_mgf1 = bytes.fromhex("06092a864886f70d010108")
    oid_pss = bytes.fromhex("06092a864886f70d01010a")
    salt = bytes.fromhex("a203020130")
    null = bytes.fromhex("0500")
    trailer = bytes.fromhex("a303020101")
    return tuple(
        sequence(
            0x30,
            oid_pss,
            sequence(
                0x30,
                sequence(0xA0, sequence(0x30, oid_sha384, hash_null)),
                sequence(0xA1, sequence(0x30, oid_mgf1, sequence(0x30, oid_sha384, mask_null))),
                salt,
                end,
            ),
        )
        for hash_null, mask_null, end in product((null, b""), (null, b""), (b"", trailer))
    )


_BIT_STRING_512: Final = bytes.fromhex("0382020100")  # tag, length 513, no unused bits
_SIGNED_TAILS: Final = tuple(spelling + _BIT_STRING_512 for spelling in _spellings_of_pss())


def verify_pss(
    der: bytes, signed: bytes, signature: bytes, issuer: x509.Certificate, *, prefix: str, role: str
) -> None:
    """Require that ``issuer``'s key signed a certificate or list.

    Args:
        der: the whole: signed part, algorithm, signature.
        signed: the signed part.
        signature: 512 bytes.
        issuer: whose key.
        prefix: of the refusal codes, ``"certificate"`` or ``"crl"``.
        role: for the refusal's text.

    Raises:
        Refused: ``{prefix}-key``, ``{prefix}-algorithm``, ``{prefix}-signature``.
    """
    key = issuer.public_key()
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size != _RSA_BITS:
        raise Refused(f"{prefix}-key", "AMD 57230", expected="RSA-4096", got="an issuer with another key")
    if not _is_pss(_after(der, signed)):
        raise Refused(
            f"{prefix}-algorithm",
            "AMD 57230, RFC 4055",
            expected="RSASSA-PSS, SHA-384, MGF1-SHA-384, salt 48",
            got=f"another algorithm on the {role}",
        )
    try:
        key.verify(signature, signed, _PSS, hashes.SHA384())
    except InvalidSignature as error:
        raise Refused(
            f"{prefix}-signature",
            "RFC 8017 section 8.1.2",
            expected=f"{role} signed by its issuer",
            got="a signature that does not verify",
        ) from error


def _after(der: bytes, signed: bytes) -> bytes:
    """What follows the signed part: algorithm and signature.

    ``der`` was parsed, so its header is sound. Only a header of the long form leaves room for a signature of
    512 bytes; with another, nothing follows that could be taken for one.
    """
    length_bytes = der[1] & 0x7F
    return der[2 + length_bytes + len(signed) :]


def _is_pss(tail: bytes) -> bool:
    return any(tail.startswith(start) and len(tail) == len(start) + _RSA_BITS // 8 for start in _SIGNED_TAILS)
