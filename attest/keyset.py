"""The keys that a statement vouches for: those that open requests, and the one that signs receipts.

A keyset is RFC 8785 JSON and has a digest; the statement holds the digest, the CPU report binds the
statement. A relay that offers keys of its own therefore offers a keyset that no report names.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from attest import digest, strict_json
from attest.refusal import Malformed

MAX_KEYSET_BYTES = 128 * 1024
MAX_OHTTP_KEYS_BYTES = 64 * 1024
"""A configuration with an ML-KEM-768+X25519 key is about 1.2 kB; this is room for fifty."""

RECEIPT_KEY_BYTES = 32
CLAUSE = "docs/reference/statement.md#keyset"

_LAST_UNIX_SECOND = 253_402_300_799
"""9999-12-31T23:59:59Z, the last second that ``datetime`` can hold."""

_MEMBERS = frozenset({"ohttp_keys", "receipt_key", "not_before", "not_after"})
_JWK_MEMBERS = frozenset({"kty", "crv", "x"})


class KeysetState(StrEnum):
    """Where a moment lies in a keyset's life."""

    PENDING = "pending"
    ACTIVE = "active"
    STALE = "stale"


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyset:
    """Public keys and their life; every instance satisfies the format's rules.

    Args:
        ohttp_keys: an ``application/ohttp-keys`` document (RFC 9458 section 3.2).
        receipt_key: raw Ed25519 public key, 32 bytes.
        not_before: first moment of use, aware, whole seconds.
        not_after: first moment after use, aware, whole seconds.

    Raises:
        Malformed: ``keyset-ohttp-keys``, ``keyset-receipt-key`` or ``keyset-times``.
    """

    ohttp_keys: bytes
    receipt_key: bytes
    not_before: datetime
    not_after: datetime

    def __post_init__(self) -> None:
        if not 0 < len(self.ohttp_keys) <= MAX_OHTTP_KEYS_BYTES:
            raise Malformed("keyset-ohttp-keys", f"{len(self.ohttp_keys)} bytes", clause=CLAUSE)
        if len(self.receipt_key) != RECEIPT_KEY_BYTES:
            raise Malformed("keyset-receipt-key", f"{len(self.receipt_key)} bytes", clause=CLAUSE)
        if _unix(self.not_before) >= _unix(self.not_after):
            raise Malformed("keyset-times", "not_after does not follow not_before", clause=CLAUSE)

    def canonical(self) -> bytes:
        """RFC 8785 JSON: the bytes that ``digest`` names."""
        return strict_json.canonical(
            {
                "ohttp_keys": strict_json.b64encode(self.ohttp_keys),
                "receipt_key": {
                    "kty": "OKP",
                    "crv": "Ed25519",
                    "x": strict_json.b64url_encode(self.receipt_key),
                },
                "not_before": _unix(self.not_before),
                "not_after": _unix(self.not_after),
            }
        )

    @property
    def digest(self) -> str:
        """``sha256:`` of the canonical bytes."""
        return digest.sha256_digest(self.canonical())

    def state(self, now: datetime) -> KeysetState:
        """Pending, active or stale at ``now``; active from ``not_before`` until just before ``not_after``."""
        if now < self.not_before:
            return KeysetState.PENDING
        return KeysetState.ACTIVE if now < self.not_after else KeysetState.STALE

    @classmethod
    def parse(cls, data: bytes) -> Keyset:
        """Read canonical bytes, and nothing else.

        Raises:
            Malformed: ``keyset-*`` for anything that ``canonical`` would not have written.
        """
        value = strict_json.loads(data, name="keyset", max_bytes=MAX_KEYSET_BYTES)
        members = strict_json.members_exactly(value, _MEMBERS, name="keyset")
        keyset = cls(
            ohttp_keys=strict_json.b64decode(
                members["ohttp_keys"], name="keyset", max_bytes=MAX_OHTTP_KEYS_BYTES
            ),
            receipt_key=_parse_receipt_key(members["receipt_key"]),
            not_before=_moment(members["not_before"]),
            not_after=_moment(members["not_after"]),
        )
        if keyset.canonical() != data:
            raise Malformed("keyset-not-canonical", "not RFC 8785 JSON", clause="RFC 8785")
        return keyset


def _parse_receipt_key(value: Any) -> bytes:
    """An Ed25519 public key as JWK (RFC 8037 section 2), with no other member."""
    jwk = strict_json.members_exactly(value, _JWK_MEMBERS, name="keyset")
    if jwk["kty"] != "OKP" or jwk["crv"] != "Ed25519":
        raise Malformed("keyset-receipt-key", "not an Ed25519 key", clause="RFC 8037 section 2")
    return strict_json.b64url_decode(jwk["x"], name="keyset", max_bytes=RECEIPT_KEY_BYTES)


def _unix(moment: datetime) -> int:
    if moment.tzinfo is None or moment.microsecond:
        raise Malformed("keyset-times", "not an aware time of whole seconds", clause=CLAUSE)
    seconds = int(moment.timestamp())
    if not 0 <= seconds <= _LAST_UNIX_SECOND:
        raise Malformed("keyset-times", "out of range", clause=CLAUSE)
    return seconds


def _moment(value: Any) -> datetime:
    if type(value) is not int or not 0 <= value <= _LAST_UNIX_SECOND:
        raise Malformed("keyset-times", "not a number of seconds since 1970", clause=CLAUSE)
    return datetime.fromtimestamp(value, UTC)
