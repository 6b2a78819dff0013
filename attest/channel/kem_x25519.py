"""DHKEM(X25519, HKDF-SHA256) (RFC 9180 section 4.1), for peers that speak RFC 9180 only."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar, Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from attest.channel.kdf import HKDF_SHA256, labeled_expand, labeled_extract
from attest.channel.kem import KemKeyPair, decapsulation_failed, exact_private_key, public_key_refused

_X25519_BYTES: Final = 32


@dataclass(frozen=True, repr=False)
class _X25519KeyPair:
    private_key: X25519PrivateKey
    public_key: bytes

    def __repr__(self) -> str:
        return f"X25519KeyPair(public {hashlib.sha256(self.public_key).hexdigest()[:8]})"

    def private_bytes(self) -> bytes:
        return self.private_key.private_bytes_raw()

    def decapsulate(self, enc: bytes) -> bytes:
        try:  # raises ValueError on a wrong length and on the all-zero result of RFC 7748 section 6.1
            dh = self.private_key.exchange(X25519PublicKey.from_public_bytes(enc))
        except ValueError as error:
            raise decapsulation_failed("X25519") from error
        return _dhkem_secret(dh, enc, self.public_key)


def _dhkem_secret(dh: bytes, enc: bytes, public_key: bytes) -> bytes:
    """RFC 9180 section 4.1, ExtractAndExpand."""
    suite = b"KEM" + KEM_X25519.id.to_bytes(2, "big")
    eae_prk = labeled_extract(HKDF_SHA256, suite, b"", b"eae_prk", dh)
    return labeled_expand(HKDF_SHA256, suite, eae_prk, b"shared_secret", enc + public_key, length=32)


@dataclass(frozen=True)
class DhKemX25519:
    """DHKEM(X25519, HKDF-SHA256), RFC 9180 section 4.1."""

    id: ClassVar[int] = 0x0020
    n_secret: ClassVar[int] = 32
    n_enc: ClassVar[int] = _X25519_BYTES
    n_pk: ClassVar[int] = _X25519_BYTES
    n_sk: ClassVar[int] = _X25519_BYTES

    def generate_key_pair(self) -> KemKeyPair:
        """A fresh key pair."""
        return _x25519_pair(X25519PrivateKey.generate())

    def load_key_pair(self, private_key: bytes) -> KemKeyPair:
        """The key pair of a 32-byte scalar."""
        return _x25519_pair(X25519PrivateKey.from_private_bytes(exact_private_key(private_key, self.n_sk)))

    def encapsulate(self, public_key: bytes, *, ephemeral: bytes | None = None) -> tuple[bytes, bytes]:
        """RFC 9180 section 4.1, Encap."""
        try:
            sender = _ephemeral_x25519(ephemeral)
            dh = sender.exchange(X25519PublicKey.from_public_bytes(public_key))
        except ValueError as error:
            raise public_key_refused("X25519", len(public_key)) from error
        enc = sender.public_key().public_bytes_raw()
        return _dhkem_secret(dh, enc, public_key), enc


def _ephemeral_x25519(ephemeral: bytes | None) -> X25519PrivateKey:
    if ephemeral is None:
        return X25519PrivateKey.generate()
    return X25519PrivateKey.from_private_bytes(exact_private_key(ephemeral, _X25519_BYTES))


def _x25519_pair(private_key: X25519PrivateKey) -> _X25519KeyPair:
    return _X25519KeyPair(private_key, private_key.public_key().public_bytes_raw())


KEM_X25519: Final = DhKemX25519()
