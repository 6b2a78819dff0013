"""An attestation result as a signed token (draft-ietf-rats-ear section 5; RFC 7519, RFC 8037).

The gateway signs with its own Ed25519 key, so that whoever keeps the token can show later what this verifier
said. Whoever reads one pins the key and the algorithm: the token's header chooses nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from attest import strict_json
from attest.digest import sha256_digest
from attest.ear import PROFILE
from attest.evidence.tokens import CompactToken
from attest.refusal import Malformed, Refused

TYPE: Final = "eat+jwt"
CLAUSE: Final = "draft-ietf-rats-ear section 5"


def sign_ear(result: dict[str, Any], key: Ed25519PrivateKey) -> str:
    """A compact JWS over the claims, canonical JSON.

    Args:
        result: what ``AttestedRuntime.ear`` returned.
        key: the verifier's.
    """
    head, body = (
        strict_json.b64url_encode(strict_json.canonical(part))
        for part in ({"alg": "EdDSA", "kid": key_id(key.public_key()), "typ": TYPE}, result)
    )
    signature = key.sign(f"{head}.{body}".encode())
    return f"{head}.{body}.{strict_json.b64url_encode(signature)}"


def key_id(key: Ed25519PublicKey) -> str:
    """By which name a reader finds the key: ``sha256:`` of its 32 bytes. It proves nothing."""
    return sha256_digest(key.public_bytes_raw())


def read_ear(token: str, key: Ed25519PublicKey, *, now: datetime) -> dict[str, Any]:
    """The claims of a result that ``key`` signed and that holds at ``now``.

    Raises:
        Malformed: ``ear-*``: not a token, or without the claims that every result has.
        Refused: ``ear-algorithm``, ``ear-signature``, ``ear-profile``, ``ear-expired``,
            ``ear-not-yet-valid``.
    """
    parsed = CompactToken.parse(token, name="ear")
    if parsed.algorithm != "EdDSA":
        raise Refused("ear-algorithm", "RFC 8725 section 3.1", expected="EdDSA", got="another algorithm")
    try:
        key.verify(parsed.signature, parsed.signed)
    except InvalidSignature:
        expected = f"a signature by {key_id(key)}"
        raise Refused("ear-signature", "RFC 8037", expected=expected, got="another") from None
    claims = parsed.claims(name="ear")
    if claims.get("eat_profile") != PROFILE:
        raise Refused("ear-profile", CLAUSE, expected=PROFILE, got="another profile")
    issued, expires = claims.get("iat"), claims.get("exp")
    if type(issued) is not int or type(expires) is not int or not isinstance(claims.get("submods"), dict):
        raise Malformed("ear-claims", "iat, exp or submods", clause=CLAUSE)
    moment = int(now.timestamp())
    if moment < issued:
        raise Refused("ear-not-yet-valid", CLAUSE, expected=f"from {issued}", got=str(moment))
    if moment >= expires:
        raise Refused("ear-expired", CLAUSE, expected=f"before {expires}", got=str(moment))
    return claims
