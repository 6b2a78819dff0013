"""The token inside each sealed request: which tenant asks, for what, in which order.

A compact JWS (RFC 7515) signed with the gateway's Ed25519 key (RFC 8037). The key travels in the header and
its RFC 7638 thumbprint *is* the tenant, so the enclave keeps no account database: whoever holds the key is
the tenant, and nobody else can be. The token is good for one body, one route, one keyset and one minute.

    header   {"alg": "EdDSA", "typ": "sealgate-request+jwt", "jwk": {"kty": "OKP", "crv": "Ed25519", "x"}}
    claims   {"iss", "sub", "aud", "iat", "exp", "seq", "label_id", "statement", "body_sha256",
              "method", "path"}

``statement`` names the statement that the gateway verified before it sealed; the receipt repeats it. The
runtime need not know it: a statement that another keyset made names another keyset digest than the receipt.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from attest import digest, strict_json
from attest.refusal import Malformed, Refused

TYPE: Final = "sealgate-request+jwt"
MAX_TOKEN_BYTES: Final = 4096
"""A token with the longest route is about 1 kB."""

LIFETIME: Final = timedelta(seconds=60)
CLOCK_SKEW: Final = timedelta(seconds=30)
"""How far the two clocks may lie apart; the enclave's clock is the host's to set, so no more rests on it."""

MAX_SEQUENCE: Final = 2**53 - 1
"""RFC 8785 numbers are exact up to here."""

CLAUSE: Final = "docs/reference/request-token.md"

_HEADER_MEMBERS = frozenset({"alg", "typ", "jwk"})
_JWK_MEMBERS = frozenset({"kty", "crv", "x"})
_CLAIMS = frozenset(
    {"iss", "sub", "aud", "iat", "exp", "seq", "label_id", "statement", "body_sha256", "method", "path"}
)
_KEY_BYTES = 32
_SIGNATURE_BYTES = 64


@lru_cache(maxsize=1024)
def thumbprint(public_key: bytes) -> str:
    """The RFC 7638 thumbprint of a raw Ed25519 public key, base64url: the tenant's name."""
    return strict_json.b64url_encode(hashlib.sha256(strict_json.canonical(_jwk(public_key))).digest())


@dataclass(frozen=True, slots=True)
class TenantClaims:
    """A verified token; only ``verify_request_token`` makes one from bytes.

    Args:
        tenant: thumbprint of the signing key.
        sequence: the tenant's number of this request, from 1.
        label_id: ``sha256:`` id of the label of the data in the request.
        statement_digest: the statement that the tenant relied on.
        body_sha256: hex digest of the request's body.
        issued_at: aware.
        expires_at: aware.
    """

    tenant: str
    sequence: int
    label_id: str
    statement_digest: str
    body_sha256: str
    issued_at: datetime
    expires_at: datetime


class RequestSigner:
    """A tenant's key.

    Args:
        key: the private key; it stays in here.
    """

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        public_key = key.public_key().public_bytes_raw()
        self.thumbprint = thumbprint(public_key)
        header = {"alg": "EdDSA", "typ": TYPE, "jwk": _jwk(public_key)}
        self._header = strict_json.b64url_encode(strict_json.canonical(header))

    def __repr__(self) -> str:
        return f"RequestSigner({self.thumbprint})"

    def sign(self, claims: dict[str, Any]) -> str:
        """The compact JWS over ``claims``."""
        payload = json.dumps(claims, separators=(",", ":")).encode()
        signed = f"{self._header}.{strict_json.b64url_encode(payload)}"
        return f"{signed}.{strict_json.b64url_encode(self._key.sign(signed.encode()))}"


def sign_request_token(
    signer: RequestSigner,
    *,
    audience: str,
    statement_digest: str,
    sequence: int,
    label_id: str,
    body_sha256: str,
    method: str,
    path: str,
    now: datetime,
) -> str:
    """The token for one request.

    Args:
        signer: the gateway's key.
        audience: digest of the keyset that the request is sealed to.
        statement_digest: of the verified statement that names this keyset.
        sequence: from the audit log, at least 1, never used before.
        label_id: ``sha256:...``.
        body_sha256: hex digest of the body as sent.
        method: of the inner request.
        path: of the inner request, with its query if it has one.
        now: aware.
    """
    issued_at = int(now.timestamp())
    return signer.sign(
        {
            "iss": signer.thumbprint,
            "sub": signer.thumbprint,
            "aud": audience,
            "iat": issued_at,
            "exp": issued_at + int(LIFETIME.total_seconds()),
            "seq": sequence,
            "label_id": label_id,
            "statement": statement_digest,
            "body_sha256": body_sha256,
            "method": method,
            "path": path,
        }
    )


def verify_request_token(
    token: str, *, audience: str, body_sha256: str, method: str, path: str, now: datetime
) -> TenantClaims:
    """Who asks, if the token is theirs and is for exactly this request.

    Whether its sequence number was used before is for the caller, who alone remembers.

    Raises:
        Malformed: ``token-*``: not a token of this form.
        Refused: ``token-algorithm``, ``token-type``, ``token-signature``, ``token-subject``,
            ``token-audience``, ``token-lifetime``, ``token-not-yet-valid``, ``token-expired``,
            ``token-body``, ``token-method``, ``token-path``.
    """
    # 1. Three parts, bounded before anything is decoded.
    if len(token) > MAX_TOKEN_BYTES:
        raise Malformed("token-too-large", f"{len(token)} characters", clause=CLAUSE)
    if not token.isascii():  # the claims are decoded only after the signature, which is over these characters
        raise Malformed("token-base64", "not ASCII", clause="RFC 7515 section 7.1")
    parts = token.split(".")
    if len(parts) != 3:  # noqa: PLR2004 - RFC 7515 section 7.1
        raise Malformed("token-parts", f"{len(parts)} parts", clause="RFC 7515 section 7.1")
    header_part, claims_part, signature_part = parts
    # 2. The header names one algorithm and carries the key; there is nothing to choose.
    public_key = _key_of(_json_part(header_part))
    # 3. The signature, before any claim is read.
    signature = strict_json.b64url_decode(signature_part, name="token", max_bytes=_SIGNATURE_BYTES)
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(
            signature, f"{header_part}.{claims_part}".encode("ascii")
        )
    except InvalidSignature as error:
        raise Refused("token-signature", "RFC 8037 section 3.1") from error
    # 4. The claims: every one present, none unknown, each what it must be.
    claims = strict_json.members_exactly(_json_part(claims_part), _CLAIMS, name="token")
    tenant = thumbprint(public_key)
    _require_equal("token-subject", (claims["iss"], claims["sub"]), (tenant, tenant))
    _require_equal("token-audience", claims["aud"], audience)
    issued_at, expires_at = _times(claims, now)
    _require_equal("token-body", claims["body_sha256"], body_sha256)
    _require_equal("token-method", claims["method"], method)
    _require_equal("token-path", claims["path"], path)
    return TenantClaims(
        tenant=tenant,
        sequence=_sequence(claims["seq"]),
        label_id=digest.checked(claims["label_id"], code="token-label", field="label_id"),
        statement_digest=digest.checked(claims["statement"], code="token-statement", field="statement"),
        body_sha256=body_sha256,
        issued_at=issued_at,
        expires_at=expires_at,
    )


def _jwk(public_key: bytes) -> dict[str, str]:
    return {"kty": "OKP", "crv": "Ed25519", "x": strict_json.b64url_encode(public_key)}


def _json_part(part: str) -> Any:
    data = strict_json.b64url_decode(part, name="token", max_bytes=MAX_TOKEN_BYTES)
    return strict_json.loads(data, name="token", max_bytes=MAX_TOKEN_BYTES)


def _key_of(header: Any) -> bytes:
    members = strict_json.members_exactly(header, _HEADER_MEMBERS, name="token")
    if members["alg"] != "EdDSA":
        raise Refused("token-algorithm", CLAUSE, expected="EdDSA", got="another")
    if members["typ"] != TYPE:
        raise Refused("token-type", "RFC 8725 section 3.11", expected=TYPE, got="another")
    jwk = strict_json.members_exactly(members["jwk"], _JWK_MEMBERS, name="token")
    if jwk["kty"] != "OKP" or jwk["crv"] != "Ed25519":
        raise Refused("token-algorithm", "RFC 8037 section 2", expected="OKP Ed25519", got="another")
    key = strict_json.b64url_decode(jwk["x"], name="token", max_bytes=_KEY_BYTES)
    if len(key) != _KEY_BYTES:
        raise Malformed("token-key", f"{len(key)} bytes", clause="RFC 8037 section 2")
    return key


def _require_equal(code: str, got: object, expected: object) -> None:
    """Refuse without saying what came: a claim of a stranger's token is nobody's business."""
    if got != expected:
        raise Refused(code, CLAUSE)


def _times(claims: dict[str, Any], now: datetime) -> tuple[datetime, datetime]:
    issued_at, expires_at = _moment(claims["iat"]), _moment(claims["exp"])
    if not timedelta(0) < expires_at - issued_at <= LIFETIME:
        raise Refused("token-lifetime", CLAUSE, expected=f"at most {LIFETIME.seconds} s")
    if issued_at > now + CLOCK_SKEW:
        raise Refused("token-not-yet-valid", CLAUSE, got=f"{(issued_at - now).seconds} s ahead of this clock")
    if now >= expires_at + CLOCK_SKEW:
        raise Refused("token-expired", CLAUSE, got=f"{int((now - expires_at).total_seconds())} s ago")
    return issued_at, expires_at


def _moment(value: Any) -> datetime:
    if type(value) is not int or not 0 <= value <= MAX_SEQUENCE:
        raise Malformed("token-times", "not seconds since 1970", clause="RFC 7519 section 2")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise Malformed("token-times", "out of range", clause="RFC 7519 section 2") from error


def _sequence(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= MAX_SEQUENCE:
        raise Malformed("token-sequence", "not an integer from 1 on", clause=CLAUSE)
    return value
