"""Keys of a token service by their ids (RFC 7517, RFC 7518 section 6).

Only the entry that a token names is read, so a key of a kind unknown today does not take the others with it.
Where an entry has both a key and a certificate, both must be the same key: whoever reads the one must not
trust another than who reads the other.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attest import strict_json
from attest.evidence.tokens import JwkSetCollateral
from attest.refusal import Malformed, Refused
from attest.verify.x509 import UNREADABLE

MAX_JWKS_BYTES: Final = 1024 * 1024
MAX_KEYS: Final = 256
MAX_CHAIN: Final = 8
MAX_CERTIFICATE_BYTES: Final = 32 * 1024
"""Azure's certify a key by a whole TEE quote in an extension."""

EXPONENT: Final = 65537
_P384_BYTES: Final = 48
_RSA_BITS: Final = range(2048, 8193)
_MAX_RSA_BYTES: Final = 1024

_ALGORITHM: Final = {"EC": "ES384", "RSA": "RS256"}
"""The one algorithm of each kind of key that services sign with."""

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

# As in attest.verify.x509: what the library tolerates with a warning is judged by checks.
warnings.filterwarnings("ignore", module=r"attest\.verify\.jwk_set\Z")


@dataclass(frozen=True, slots=True, repr=False)
class SigningKey:
    """One key of a set.

    Args:
        key_id: its ``kid``.
        public_key: P-384 or RSA.
        chain: the certificates of ``x5c`` as they came, DER, the key's own first; may be empty.
        certificates: the same, read.
    """

    key_id: str
    public_key: PublicKey
    chain: tuple[bytes, ...] = ()
    certificates: tuple[x509.Certificate, ...] = field(default=())

    def __repr__(self) -> str:
        return f"SigningKey({len(self.chain)} certificates)"


def require_usable(keys: JwkSetCollateral, now: datetime) -> None:
    """Require that a key set may still be used at ``now`` (aware).

    Raises:
        Refused: ``jwks-expired``.
    """
    if keys.not_after is not None and now > keys.not_after:
        raise Refused(
            "jwks-expired",
            "RFC 7517 section 5",
            expected=f"a key set to be used until {keys.not_after.isoformat()}",
            got=now.isoformat(),
        )


# Successes only are kept (an exception is not cached), and the result is a pure function of the bytes.
@lru_cache(maxsize=16)
def signing_key(jwks: bytes, key_id: str) -> SigningKey:
    """The key that a token names.

    Raises:
        Malformed: ``jwks-*``: the document, or this entry, is not of its form.
        Refused: ``jwks-key-unknown`` if the set has no such key; ``jwks-key-kind`` if it is not for
            signatures of the kinds used here; ``jwks-certificate-mismatch``.
    """
    entry = _entries(jwks).get(key_id)
    if entry is None:
        raise Refused("jwks-key-unknown", "RFC 7515 section 4.1.4", expected="a key of the issuer's set")
    _require_purpose(entry)
    chain = _chain(entry.get("x5c", []))
    certificates = tuple(_certificate(der) for der in chain)
    certified = certificates[0].public_key() if certificates else None
    public_key = _public_key(entry, certified)
    return SigningKey(key_id, public_key, chain, certificates)


def _require_purpose(entry: dict[str, Any]) -> None:
    """A key that says what it is for may be for nothing else: RFC 7517 sections 4.2 to 4.4."""
    if entry.get("use", "sig") != "sig":
        raise Refused("jwks-key-kind", "RFC 7517 section 4.2", expected="use sig", got="another use")
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise Refused("jwks-key-kind", "RFC 7517 section 4.3", expected="key_ops verify", got="others")
    kind = entry.get("kty")
    algorithm = _ALGORITHM.get(kind, "") if isinstance(kind, str) else ""
    if entry.get("alg", algorithm) != algorithm:
        raise Refused("jwks-key-kind", "RFC 7517 section 4.4", expected=f"alg {algorithm}", got="another")


@lru_cache(maxsize=8)
def _entries(jwks: bytes) -> dict[str, dict[str, Any]]:
    document = strict_json.loads(jwks, name="jwks", max_bytes=MAX_JWKS_BYTES)
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list) or not 0 < len(keys) <= MAX_KEYS:
        raise Malformed("jwks-form", "no list of keys, or too long a one", clause="RFC 7517 section 5")
    entries: dict[str, dict[str, Any]] = {}
    for entry in keys:
        if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str):
            raise Malformed("jwks-form", "a key without an id", clause="RFC 7517 section 4.5")
        if entry["kid"] in entries:
            raise Malformed("jwks-duplicate-key", "two keys of one id", clause="RFC 7517 section 4.5")
        entries[entry["kid"]] = entry
    return entries


def _chain(x5c: Any) -> tuple[bytes, ...]:
    if not isinstance(x5c, list) or len(x5c) > MAX_CHAIN:
        raise Malformed("jwks-form", "x5c is not a short list", clause="RFC 7517 section 4.7")
    return tuple(strict_json.b64decode(text, name="jwks", max_bytes=MAX_CERTIFICATE_BYTES) for text in x5c)


def _certificate(der: bytes) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(der)
        _ = certificate.extensions, certificate.subject, certificate.issuer, certificate.public_key()
    except UNREADABLE as error:
        raise Malformed("jwks-certificate", clause="RFC 5280") from error
    return certificate


def _public_key(entry: dict[str, Any], certified: object) -> PublicKey:
    stated: PublicKey | None
    match entry.get("kty"):
        case "EC":
            stated, usable = _ec_key(entry), _usable_ec
        case "RSA":
            stated, usable = _rsa_key(entry), _usable_rsa
        case _:
            raise Refused("jwks-key-kind", "RFC 7518 section 6.1", expected="EC or RSA", got="another kind")
    if stated is not None and certified is not None and _spki(stated) != _spki(certified):
        raise Refused(
            "jwks-certificate-mismatch",
            "RFC 7517 section 4.7",
            expected="the key that the first certificate certifies",
            got="another key",
        )
    key = usable(stated if stated is not None else certified)
    if key is None:
        raise Refused(
            "jwks-key-kind",
            "RFC 7518 section 6",
            expected=f"P-384, or RSA of {_RSA_BITS.start} bits and more with exponent {EXPONENT}",
            got="another key",
        )
    return key


def _usable_ec(key: object) -> PublicKey | None:
    return key if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1) else None


def _usable_rsa(key: object) -> PublicKey | None:
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size not in _RSA_BITS:
        return None
    return key if key.public_numbers().e == EXPONENT else None


def _ec_key(entry: dict[str, Any]) -> ec.EllipticCurvePublicKey | None:
    if not {"crv", "x", "y"} & entry.keys():
        return None
    if entry.get("crv") != "P-384":
        raise Refused("jwks-key-kind", "RFC 7518 section 6.2.1.1", expected="P-384", got="another curve")
    x, y = (
        strict_json.b64url_decode(entry.get(name), name="jwks", max_bytes=_P384_BYTES) for name in ("x", "y")
    )
    try:  # neither is longer than 48 bytes, so a shorter one leaves too few for a point
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), b"\x04" + x + y)
    except ValueError as error:
        raise Malformed(
            "jwks-coordinate", "no point of the curve", clause="RFC 7518 section 6.2.1"
        ) from error


def _rsa_key(entry: dict[str, Any]) -> rsa.RSAPublicKey | None:
    return rsa_public_key(entry) if {"n", "e"} & entry.keys() else None


def rsa_public_key(entry: dict[str, Any]) -> rsa.RSAPublicKey:
    """The key of the members ``n`` and ``e`` of a JWK.

    Raises:
        Malformed: ``jwks-base64``, ``jwks-too-large``, ``jwks-modulus``.
        Refused: ``jwks-key-kind`` for another exponent than 65537 or another size than 2048 to 8192 bits.
    """
    n, e = (
        int.from_bytes(strict_json.b64url_decode(entry.get(name), name="jwks", max_bytes=_MAX_RSA_BYTES))
        for name in ("n", "e")
    )
    if e != EXPONENT or n.bit_length() not in _RSA_BITS:
        raise Refused(
            "jwks-key-kind",
            "RFC 7518 section 6.3.1",
            expected=f"{_RSA_BITS.start} bits and more, exponent {EXPONENT}",
            got=f"{n.bit_length()} bits",
        )
    if n % 2 == 0:  # the library would take it
        raise Malformed("jwks-modulus", "an even number", clause="RFC 7518 section 6.3.1")
    return rsa.RSAPublicNumbers(e, n).public_key()


def _spki(key: Any) -> bytes:
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded
