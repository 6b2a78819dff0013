"""Key encapsulation: the two KEMs that the channel offers (RFC 9180 section 4).

``KEM_MLKEM768_X25519`` is X-Wing (draft-connolly-cfrg-xwing-kem, MLKEM768-X25519 in draft-ietf-hpke-pq):
a recording made today stays closed when X25519 falls. ``KEM_X25519`` is DHKEM(X25519, HKDF-SHA256), for
peers that speak RFC 9180 only.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Final, Protocol

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from attest.channel.kdf import HKDF_SHA256, labeled_expand, labeled_extract
from attest.refusal import Malformed, Refused, Unsupported

_X25519_BYTES: Final = 32
_MLKEM768_PUBLIC_BYTES: Final = 1184
_MLKEM768_CIPHERTEXT_BYTES: Final = 1088
_MLKEM768_SEED_BYTES: Final = 64
_XWING_LABEL: Final = rb"\.//^" + b"\\"  # draft-connolly-cfrg-xwing-kem section 5.3: 5c 2e 2f 2f 5e 5c


class KemKeyPair(Protocol):
    """A receiver's key pair. Its ``repr`` never shows the private half."""

    @property
    def public_key(self) -> bytes:
        """The serialised public key, ``n_pk`` bytes."""
        ...

    def private_bytes(self) -> bytes:
        """The serialised private key, ``n_sk`` bytes. For storage inside the TEE only."""
        ...

    def decapsulate(self, enc: bytes) -> bytes:
        """The shared secret that ``enc`` carries.

        Raises:
            Refused: ``hpke-decapsulation-failed`` if ``enc`` is not a valid encapsulation.
        """
        ...


class Kem(Protocol):
    """A KEM as RFC 9180 section 4 describes it; lengths are in bytes."""

    @property
    def id(self) -> int:
        """The code point in the IANA HPKE KEM registry."""
        ...

    @property
    def n_secret(self) -> int:
        """Length of the shared secret."""
        ...

    @property
    def n_enc(self) -> int:
        """Length of an encapsulation."""
        ...

    @property
    def n_pk(self) -> int:
        """Length of a serialised public key."""
        ...

    @property
    def n_sk(self) -> int:
        """Length of a serialised private key."""
        ...

    def generate_key_pair(self) -> KemKeyPair:
        """A fresh key pair from the system's randomness."""
        ...

    def load_key_pair(self, private_key: bytes) -> KemKeyPair:
        """The key pair whose serialised private half is ``private_key``.

        Raises:
            Malformed: ``hpke-private-key`` on a wrong length.
        """
        ...

    def encapsulate(self, public_key: bytes, *, ephemeral: bytes | None = None) -> tuple[bytes, bytes]:
        """A fresh shared secret and its encapsulation to ``public_key``.

        Args:
            public_key: the receiver's serialised public key.
            ephemeral: the serialised ephemeral private key, **for known-answer tests only**: using one
                twice makes two messages share their keys.

        Returns:
            ``(shared_secret, enc)``.

        Raises:
            Malformed: ``hpke-public-key`` if the key is not one of this KEM.
        """
        ...


def _decapsulation_failed(kem: str) -> Refused:
    return Refused("hpke-decapsulation-failed", "RFC 9180 section 4", expected=f"an encapsulation for {kem}")


def _public_key_refused(kem: str, size: int) -> Malformed:
    return Malformed("hpke-public-key", f"{size} bytes are no {kem} key", clause="RFC 9180 section 7.1.4")


def _exact(private_key: bytes, size: int) -> bytes:
    if len(private_key) != size:
        raise Malformed(
            "hpke-private-key", f"{len(private_key)} bytes, not {size}", clause="RFC 9180 section 7.1.2"
        )
    return private_key


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
            raise _decapsulation_failed("X25519") from error
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
        return _x25519_pair(X25519PrivateKey.from_private_bytes(_exact(private_key, self.n_sk)))

    def encapsulate(self, public_key: bytes, *, ephemeral: bytes | None = None) -> tuple[bytes, bytes]:
        """RFC 9180 section 4.1, Encap."""
        try:
            sender = _ephemeral_x25519(ephemeral)
            dh = sender.exchange(X25519PublicKey.from_public_bytes(public_key))
        except ValueError as error:
            raise _public_key_refused("X25519", len(public_key)) from error
        enc = sender.public_key().public_bytes_raw()
        return _dhkem_secret(dh, enc, public_key), enc


def _ephemeral_x25519(ephemeral: bytes | None) -> X25519PrivateKey:
    if ephemeral is None:
        return X25519PrivateKey.generate()
    return X25519PrivateKey.from_private_bytes(_exact(ephemeral, _X25519_BYTES))


def _x25519_pair(private_key: X25519PrivateKey) -> _X25519KeyPair:
    return _X25519KeyPair(private_key, private_key.public_key().public_bytes_raw())


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
            raise _decapsulation_failed("MLKEM768-X25519")
        enc_mlkem, enc_x25519 = enc[:_MLKEM768_CIPHERTEXT_BYTES], enc[_MLKEM768_CIPHERTEXT_BYTES:]
        try:
            secret_mlkem = self.mlkem.decapsulate(enc_mlkem)
            secret_x25519 = self.x25519.exchange(X25519PublicKey.from_public_bytes(enc_x25519))
        except ValueError as error:
            raise _decapsulation_failed("MLKEM768-X25519") from error
        return _xwing_combine(secret_mlkem, secret_x25519, enc_x25519, self.x25519_public)


def _xwing_combine(mlkem: bytes, x25519: bytes, enc_x25519: bytes, public_x25519: bytes) -> bytes:
    """X-Wing section 5.3, Combiner. The ML-KEM ciphertext is bound by ML-KEM itself."""
    return hashlib.sha3_256(mlkem + x25519 + enc_x25519 + public_x25519 + _XWING_LABEL).digest()


@lru_cache(maxsize=64)
def _xwing_public(public_key: bytes) -> tuple[MLKEM768PublicKey, X25519PublicKey]:
    # Parsing expands the ML-KEM matrix, and a gateway seals thousands of requests to the same key.
    if len(public_key) != KEM_MLKEM768_X25519.n_pk:
        raise _public_key_refused("MLKEM768-X25519", len(public_key))
    try:
        return (
            MLKEM768PublicKey.from_public_bytes(public_key[:_MLKEM768_PUBLIC_BYTES]),
            X25519PublicKey.from_public_bytes(public_key[_MLKEM768_PUBLIC_BYTES:]),
        )
    except ValueError as error:  # FIPS 203 section 7.2, the modulus check
        raise _public_key_refused("MLKEM768-X25519", len(public_key)) from error


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
        expanded = hashlib.shake_256(_exact(private_key, self.n_sk)).digest(_MLKEM768_SEED_BYTES + 32)
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
            raise _public_key_refused("MLKEM768-X25519", len(public_key)) from error
        enc_x25519 = sender.public_key().public_bytes_raw()
        secret = _xwing_combine(secret_mlkem, secret_x25519, enc_x25519, public_key[_MLKEM768_PUBLIC_BYTES:])
        return secret, enc_mlkem + enc_x25519


KEM_X25519: Final = DhKemX25519()
KEM_MLKEM768_X25519: Final = XWing()
