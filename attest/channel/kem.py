"""Key encapsulation as HPKE uses it (RFC 9180 section 4): the seam, and how every KEM says no.

The KEMs themselves are kem_x25519.py and kem_xwing.py.
"""

from __future__ import annotations

from typing import Protocol

from attest.refusal import Malformed, Refused


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


def decapsulation_failed(kem: str) -> Refused:
    """The refusal of an encapsulation."""
    return Refused("hpke-decapsulation-failed", "RFC 9180 section 4", expected=f"an encapsulation for {kem}")


def public_key_refused(kem: str, size: int) -> Malformed:
    """The refusal of a public key of ``size`` bytes."""
    return Malformed("hpke-public-key", f"{size} bytes are no {kem} key", clause="RFC 9180 section 7.1.4")


def exact_private_key(private_key: bytes, size: int) -> bytes:
    """``private_key`` if it has ``size`` bytes.

    Raises:
        Malformed: ``hpke-private-key``.
    """
    if len(private_key) != size:
        raise Malformed(
            "hpke-private-key", f"{len(private_key)} bytes, not {size}", clause="RFC 9180 section 7.1.2"
        )
    return private_key
