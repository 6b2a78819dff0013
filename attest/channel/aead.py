"""The AEADs of HPKE (RFC 9180 section 7.3), and the counting nonce that both directions use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from attest.refusal import Refused

TAG_BYTES: Final = 16  # of every AEAD here (RFC 9180 table 5, Nt)


class AeadKey(Protocol):
    """A keyed AEAD primitive of the library beneath."""

    def encrypt(self, nonce: bytes, data: bytes | memoryview, associated_data: bytes | None) -> bytes:
        """Ciphertext and tag."""
        ...

    def decrypt(self, nonce: bytes, data: bytes | memoryview, associated_data: bytes | None) -> bytes:
        """Plaintext; raises ``InvalidTag``."""
        ...


@dataclass(frozen=True)
class Aead:
    """An AEAD of the HPKE registry; lengths in bytes. ``new`` is None for the export-only one."""

    id: int
    name: str
    n_k: int
    n_n: int
    new: Callable[[bytes], AeadKey] | None


AES_128_GCM: Final = Aead(0x0001, "AES-128-GCM", 16, 12, AESGCM)
AES_256_GCM: Final = Aead(0x0002, "AES-256-GCM", 32, 12, AESGCM)
CHACHA20_POLY1305: Final = Aead(0x0003, "ChaCha20-Poly1305", 32, 12, ChaCha20Poly1305)
EXPORT_ONLY: Final = Aead(0xFFFF, "export-only", 0, 0, None)


class AeadSequence:
    """One AEAD key used for numbered messages: nonce = base nonce XOR number (RFC 9180 section 5.2).

    A failed ``open`` does not advance the number, and neither does anything else: a caller that goes on
    after a failure opens the same number again, so no chunk can be skipped.
    """

    __slots__ = ("_base_nonce", "_key", "_limit", "_next", "_nonce_bytes")

    def __init__(self, aead: Aead, key: bytes, base_nonce: bytes) -> None:
        if aead.new is None:
            raise ValueError("the export-only AEAD seals nothing")  # RFC 9180 section 5.3: our own error
        self._key = aead.new(key)
        self._base_nonce = int.from_bytes(base_nonce, "big")
        self._nonce_bytes = aead.n_n
        self._limit = (1 << (8 * aead.n_n)) - 1
        self._next = 0

    def __repr__(self) -> str:
        return f"AeadSequence(next {self._next})"

    def seal(self, aad: bytes, plaintext: bytes | memoryview) -> bytes:
        """Ciphertext and tag of the next message."""
        nonce = (self._base_nonce ^ self._next).to_bytes(self._nonce_bytes, "big")
        sealed = self._key.encrypt(nonce, plaintext, aad)
        self._advance()
        return sealed

    def open(self, aad: bytes, sealed: bytes | memoryview) -> bytes:
        """Plaintext of the next message.

        Raises:
            Refused: ``hpke-open-failed`` if it is not the next message of this sequence under this key.
        """
        nonce = (self._base_nonce ^ self._next).to_bytes(self._nonce_bytes, "big")
        try:
            plaintext = self._key.decrypt(nonce, sealed, aad)
        except InvalidTag:
            # From None: the library's traceback would keep the ciphertext and its key alive.
            raise Refused(
                "hpke-open-failed", "RFC 9180 section 5.2", expected=f"message {self._next} of this context"
            ) from None
        self._advance()
        return plaintext

    def _advance(self) -> None:
        if self._next >= self._limit:  # RFC 9180 section 5.2: a nonce is never used twice
            raise OverflowError("the message counter of this key is exhausted")
        self._next += 1
