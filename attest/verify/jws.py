"""One signature over one token, by one algorithm that the caller pins, and the token's times.

PyJWT's algorithms check signatures. They are handed a key and what is signed, never the token: its header
chooses nothing, and ``attest.evidence.tokens`` has read it more strictly than the library's own reader, which
looks at every character in Python and takes half as long again as the signature.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from attest.evidence.tokens import CompactToken
from attest.refusal import Malformed, Refused
from attest.verify.jwk_set import SigningKey

Algorithm = Literal["ES384", "RS256"]

CLOCK_SKEW: Final = timedelta(seconds=60)
"""How far the issuer's clock may be ahead of ours. None is granted at a token's end."""

_MAX_TIME: Final = 2**53 - 1
_ES384: Final = ECAlgorithm(ECAlgorithm.SHA384)
_RS256: Final = RSAAlgorithm(RSAAlgorithm.SHA256)


@dataclass(frozen=True, slots=True)
class TokenTimes:
    """When a token was made and how long it holds; aware.

    Args:
        issued_at: ``iat``.
        expires_at: ``exp``.
    """

    issued_at: datetime
    expires_at: datetime


def verified_claims(
    token: CompactToken, key: SigningKey, algorithm: Algorithm, *, name: str
) -> dict[str, Any]:
    """The claims of a token that ``key`` signed.

    Raises:
        Refused: ``{name}-algorithm``, ``{name}-signature``.
        Malformed: ``{name}-*`` if the claims are not of the form.
    """
    if token.algorithm != algorithm:
        raise Refused(
            f"{name}-algorithm", "RFC 8725 section 3.1", expected=algorithm, got="another algorithm"
        )
    match algorithm, key.public_key:
        case "ES384", ec.EllipticCurvePublicKey() as ec_key:
            holds = _ES384.verify(token.signed, ec_key, token.signature)
        case "RS256", rsa.RSAPublicKey() as rsa_key:
            holds = _RS256.verify(token.signed, rsa_key, token.signature)
        case _:
            raise Refused(f"{name}-algorithm", "RFC 8725 section 3.1", expected=algorithm, got="another key")
    if not holds:
        raise Refused(
            f"{name}-signature",
            "RFC 7515 section 5.2",
            expected="a signature by the issuer's key",
            got="a signature that does not verify",
        )
    return token.claims(name=name)


def require_issuer(claims: dict[str, Any], issuer: str, *, name: str) -> None:
    """Require that the token says who its key's owner is, to the letter.

    Raises:
        Refused: ``{name}-issuer``.
    """
    if claims.get("iss") != issuer:
        raise Refused(
            f"{name}-issuer", "RFC 7519 section 4.1.1", expected=issuer, got=shown(claims.get("iss"))
        )


def require_times(claims: dict[str, Any], now: datetime, *, name: str, lifetime: timedelta) -> TokenTimes:
    """Require that the token is in force.

    Args:
        claims: with ``iat``, ``nbf`` and ``exp``.
        now: aware.
        name: prefix of the refusal codes.
        lifetime: the longest that the issuer gives.

    Raises:
        Malformed: ``{name}-times``.
        Refused: ``{name}-lifetime``, ``{name}-not-yet-valid``, ``{name}-expired``.
        ValueError: ``now`` has no zone.
    """
    if now.tzinfo is None:
        raise ValueError("the time of verification must carry its zone")
    issued_at, not_before, expires_at = (
        _moment(claims.get(claim), name=name) for claim in ("iat", "nbf", "exp")
    )
    clause = "RFC 7519 section 4.1"
    if not timedelta(0) < expires_at - issued_at <= lifetime:
        raise Refused(
            f"{name}-lifetime",
            clause,
            expected=f"at most {int(lifetime.total_seconds())} s",
            got=f"{int((expires_at - issued_at).total_seconds())} s",
        )
    start = max(issued_at, not_before)
    if now < start - CLOCK_SKEW:
        raise Refused(
            f"{name}-not-yet-valid", clause, expected=f"from {start.isoformat()}", got=now.isoformat()
        )
    if now >= expires_at:
        raise Refused(
            f"{name}-expired", clause, expected=f"before {expires_at.isoformat()}", got=now.isoformat()
        )
    return TokenTimes(issued_at, expires_at)


def shown(value: object) -> str:
    """A claim for a person's terminal: bounded, and printable whatever an attacker wrote."""
    if not isinstance(value, str):
        return "no text"
    return "".join(character if character.isprintable() else "?" for character in value[:80])


def _moment(value: object, *, name: str) -> datetime:
    if type(value) is not int or not 0 <= value <= _MAX_TIME:
        raise Malformed(f"{name}-times", "not seconds since 1970", clause="RFC 7519 section 2")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise Malformed(f"{name}-times", "out of range", clause="RFC 7519 section 2") from error
