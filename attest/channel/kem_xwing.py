"""X-Wing (draft-connolly-cfrg-xwing-kem), MLKEM768-X25519 in draft-ietf-hpke-pq: the default.

ML-KEM-768 and X25519, combined by SHA3-256: a recording made today stays closed when either one falls.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Final

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from attest.channel.kem import KemKeyPair, decapsulation_failed, exact_private_key, public_key_refused
from attest.refusal import Unsupported

_X25519_BYTES: Final = 32
_MLKEM768_PUBLIC_BYTES: Final = 1184
_MLKEM768_CIPHERTEXT_BYTES: Final = 1088
_MLKEM768_SEED_BYTES: Final = 64
_XWING_LABEL: Final = rb"\.//^" + b"\\"  # section 5.3: 5c 2e 2f 2f 5e 5c


@dataclass(frozen=True, repr=False)
class _XWingKeyPair:
    seed: bytes
    mlkem: MLKEM768PrivateKey
    x25519: X25519PrivateKey
    x25519_public: bytes
    public_key: bytes

    def __repr__(self) -> str:
        return f"XWingKeyPair(public {hashlib.sha256(self.public_key).hexdigest()[:8]})"

    def private_bytes(self) -> bytes:
        return self.seed

    def decapsulate(self, enc: bytes) -> bytes:
        if len(enc) != KEM_MLKEM768_X25519.n_enc:
            raise decapsulation_failed("MLKEM768-X25519")
        enc_mlkem, enc_x25519 = enc[:_MLKEM768_CIPHERTEXT_BYTES], enc[_MLKEM768_CIPHERTEXT_BYTES:]
        try:
            secret_mlkem = self.mlkem.decapsulate(enc_mlkem)
            secret_x25519 = self.x25519.exchange(X25519PublicKey.from_public_bytes(enc_x25519))
        except ValueError as error:
            raise decapsulation_failed("MLKEM768-X25519") from error
        return _xwing_combine(secret_mlkem, secret_x25519, enc_x25519, self.x25519_public)


def _xwing_combine(mlkem: bytes, x25519: bytes, enc_x25519: bytes, public_x25519: bytes) -> bytes:
    """X-Wing section 5.3, Combiner. The ML-KEM ciphertext is bound by ML-KEM itself."""
    return hashlib.sha3_256(mlkem + x25519 + enc_x25519 + public_x25519 + _XWING_LABEL).digest()


@lru_cache(maxsize=64)
def _xwing_public(public_key: bytes) -> tuple[MLKEM768PublicKey, X25519PublicKey]:
    # Parsing expands the ML-KEM matrix, and a gateway seals thousands of requests to the same key.
    if len(public_key) != KEM_MLKEM768_X25519.n_pk:
        raise public_key_refused("MLKEM768-X25519", len(public_key))
    try:
        return (
            MLKEM768PublicKey.from_public_bytes(public_key[:_MLKEM768_PUBLIC_BYTES]),
            X25519PublicKey.from_public_bytes(public_key[_MLKEM768_PUBLIC_BYTES:]),
        )
    except ValueError as error:  # FIPS 203 section 7.2, the modulus check
        raise public_key_refused("MLKEM768-X25519", len(public_key)) from error


@dataclass(frozen=True)
class XWing:
    """X-Wing: ML-KEM-768 and X25519 combined by SHA3-256; closed while either half stands."""

    id: ClassVar[int] = 0x647A
    n_secret: ClassVar[int] = 32
    n_enc: ClassVar[int] = _MLKEM768_CIPHERTEXT_BYTES + _X25519_BYTES
    n_pk: ClassVar[int] = _MLKEM768_PUBLIC_BYTES + _X25519_BYTES
    n_sk: ClassVar[int] = 32

    def generate_key_pair(self) -> KemKeyPair:
        """A fresh key pair."""
        return self.load_key_pair(secrets.token_bytes(self.n_sk))

    def load_key_pair(self, private_key: bytes) -> KemKeyPair:
        """The key pair of a 32-byte seed (X-Wing section 5.2, expandDecapsulationKey)."""
        expanded = hashlib.shake_256(exact_private_key(private_key, self.n_sk)).digest(
            _MLKEM768_SEED_BYTES + 32
        )
        mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:_MLKEM768_SEED_BYTES])
        x25519 = X25519PrivateKey.from_private_bytes(expanded[_MLKEM768_SEED_BYTES:])
        x25519_public = x25519.public_key().public_bytes_raw()
        public_key = mlkem.public_key().public_bytes_raw() + x25519_public
        return _XWingKeyPair(private_key, mlkem, x25519, x25519_public, public_key)

    def encapsulate(self, public_key: bytes, *, ephemeral: bytes | None = None) -> tuple[bytes, bytes]:
        """X-Wing section 5.4, Encapsulate.

        Raises:
            Unsupported: ``hpke-ephemeral`` if ``ephemeral`` is given: the library beneath offers no
                derandomised ML-KEM encapsulation, and a half-fixed one would prove nothing.
        """
        if ephemeral is not None:
            raise Unsupported("hpke-ephemeral", "X-Wing section 5.4.1", expected="no ephemeral key")
        mlkem, x25519 = _xwing_public(public_key)
        secret_mlkem, enc_mlkem = mlkem.encapsulate()
        sender = X25519PrivateKey.generate()
        try:
            secret_x25519 = sender.exchange(x25519)
        except ValueError as error:  # a low-order point
            raise public_key_refused("MLKEM768-X25519", len(public_key)) from error
        enc_x25519 = sender.public_key().public_bytes_raw()
        secret = _xwing_combine(secret_mlkem, secret_x25519, enc_x25519, public_key[_MLKEM768_PUBLIC_BYTES:])
        return secret, enc_mlkem + enc_x25519


KEM_MLKEM768_X25519: Final = XWing()
