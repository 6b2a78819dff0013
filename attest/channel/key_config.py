"""The key configuration of an OHTTP gateway, as published (RFC 9458 section 3)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from attest.channel.hpke import SuiteId, kem_by_id
from attest.evidence.reader import Reader
from attest.refusal import Malformed, Unsupported

MAX_KEY_CONFIGS_BYTES: Final = 64 * 1024  # a list of a dozen post-quantum keys is 15 kB
_KDF_AEAD_BYTES: Final = 4
_CLAUSE: Final = "RFC 9458 section 3"


@dataclass(frozen=True)
class KeyConfig:
    """One public key and the symmetric algorithms it may be used with (RFC 9458 section 3.1).

    Attributes:
        key_id: chooses the key at the receiver, 0..255.
        kem_id: HPKE KEM code point.
        public_key: serialised as that KEM does.
        symmetric: ``(kdf_id, aead_id)`` pairs, the receiver's favourite first.
    """

    key_id: int
    kem_id: int
    public_key: bytes
    symmetric: tuple[tuple[int, int], ...]

    def __repr__(self) -> str:
        digest = hashlib.sha256(self.public_key).hexdigest()[:8]
        return f"KeyConfig({self.key_id}, kem {self.kem_id:#06x}, public {digest})"

    @property
    def suites(self) -> tuple[SuiteId, ...]:
        """The suites that this configuration offers, in the receiver's order."""
        return tuple(SuiteId(self.kem_id, kdf, aead) for kdf, aead in self.symmetric)

    @classmethod
    def parse(cls, data: bytes) -> KeyConfig:
        """Read one configuration that fills ``data``.

        Raises:
            Malformed: ``ohttp-keys-truncated``, ``ohttp-keys-trailing-bytes``, ``ohttp-keys-symmetric``.
            Unsupported: ``hpke-kem`` (its public key has no length that we know).
        """
        reader = Reader(data, "ohttp-keys")
        key_id, kem_id = reader.uint_be(1), reader.uint_be(2)
        public_key = reader.take(kem_by_id(kem_id).n_pk)
        size = reader.uint_be(2)
        if size == 0 or size % _KDF_AEAD_BYTES:
            raise Malformed("ohttp-keys-symmetric", f"{size} bytes of algorithms", clause=_CLAUSE)
        pairs = [(reader.uint_be(2), reader.uint_be(2)) for _ in range(size // _KDF_AEAD_BYTES)]
        reader.end()
        return cls(key_id, kem_id, public_key, tuple(pairs))

    def serialise(self) -> bytes:
        """The configuration in its wire form."""
        pairs = b"".join(kdf.to_bytes(2, "big") + aead.to_bytes(2, "big") for kdf, aead in self.symmetric)
        head = self.key_id.to_bytes(1, "big") + self.kem_id.to_bytes(2, "big")
        return head + self.public_key + len(pairs).to_bytes(2, "big") + pairs


def parse_key_configs(data: bytes) -> tuple[KeyConfig, ...]:
    """Read ``application/ohttp-keys``: configurations, each after its 16-bit length.

    A configuration whose KEM we do not know is left out, as RFC 9458 intends. Anything else that is wrong
    spoils the whole list: a list that is half-right was tampered with or is not a list.

    Raises:
        Malformed: ``ohttp-keys-too-large``, ``ohttp-keys-truncated``, ``ohttp-keys-trailing-bytes``,
            ``ohttp-keys-symmetric``, ``ohttp-keys-duplicate-id``.
        Unsupported: ``ohttp-keys-none-usable`` if no configuration has a KEM that we know.
    """
    if len(data) > MAX_KEY_CONFIGS_BYTES:
        raise Malformed("ohttp-keys-too-large", f"{len(data)} bytes, at most {MAX_KEY_CONFIGS_BYTES}")
    reader = Reader(data, "ohttp-keys")
    configs = []
    while reader.remaining:
        entry = reader.take(reader.uint_be(2))
        try:
            configs.append(KeyConfig.parse(entry))
        except Unsupported:
            continue
    if not configs:
        raise Unsupported("ohttp-keys-none-usable", _CLAUSE)
    if len({config.key_id for config in configs}) != len(configs):
        raise Malformed("ohttp-keys-duplicate-id", "two keys share an identifier", clause=_CLAUSE)
    return tuple(configs)


def serialise_key_configs(configs: Iterable[KeyConfig]) -> bytes:
    """Write ``application/ohttp-keys`` (RFC 9458 section 3.2)."""
    entries = [config.serialise() for config in configs]
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)
