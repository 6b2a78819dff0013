"""Key derivation for HPKE (RFC 9180 section 4) and for what OHTTP derives from it.

``Kdf`` is what a context needs of a KDF: the whole key schedule and the exporter. The product offers
HKDF-SHA256 only; the protocol exists so that the standard vectors of the other KDFs, one-stage ones
included, can be run against the same contexts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

_VERSION: Final = b"HPKE-v1"


class Schedule(NamedTuple):
    """What the key schedule yields. A transient value: never stored or logged."""

    key: bytes
    base_nonce: bytes
    exporter_secret: bytes


class Kdf(Protocol):
    """A KDF as a context uses it."""

    @property
    def id(self) -> int:
        """The code point in the IANA HPKE KDF registry."""
        ...

    def extract(self, salt: bytes, ikm: bytes) -> bytes:
        """RFC 9180 section 4, Extract; OHTTP's response keys use it bare."""
        ...

    def expand(self, prk: bytes, info: bytes, length: int) -> bytes:
        """RFC 9180 section 4, Expand; ``length`` in bytes."""
        ...

    def schedule(
        self,
        suite: bytes,
        mode: int,
        shared_secret: bytes,
        info: bytes,
        *,
        psk: tuple[bytes, bytes],
        lengths: tuple[int, int],
    ) -> Schedule:
        """RFC 9180 section 5.1, KeySchedule.

        Args:
            suite: the suite id, ``b"HPKE"`` and three code points.
            mode: 0 base, 1 psk.
            shared_secret: from the KEM.
            info: application information.
            psk: ``(psk, psk_id)``, both empty in mode base.
            lengths: ``(n_k, n_n)`` of the AEAD, in bytes.
        """
        ...

    def export(self, suite: bytes, exporter_secret: bytes, context: bytes, length: int) -> bytes:
        """RFC 9180 section 5.3, Export; ``length`` in bytes."""
        ...


def labeled_extract(kdf: Kdf, suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    """RFC 9180 section 4, LabeledExtract."""
    return kdf.extract(salt, _VERSION + suite + label + ikm)


def labeled_expand(kdf: Kdf, suite: bytes, prk: bytes, label: bytes, info: bytes, *, length: int) -> bytes:
    """RFC 9180 section 4, LabeledExpand."""
    return kdf.expand(prk, length.to_bytes(2, "big") + _VERSION + suite + label + info, length)


@dataclass(frozen=True)
class Hkdf:
    """HKDF (RFC 5869) over ``algorithm``, the two-stage KDF of RFC 9180."""

    id: int
    algorithm: hashes.HashAlgorithm

    def extract(self, salt: bytes, ikm: bytes) -> bytes:
        """RFC 5869 section 2.2."""
        return HKDF.extract(self.algorithm, salt, ikm)

    def expand(self, prk: bytes, info: bytes, length: int) -> bytes:
        """RFC 5869 section 2.3."""
        return HKDFExpand(self.algorithm, length, info).derive(prk)

    def schedule(
        self,
        suite: bytes,
        mode: int,
        shared_secret: bytes,
        info: bytes,
        *,
        psk: tuple[bytes, bytes],
        lengths: tuple[int, int],
    ) -> Schedule:
        """RFC 9180 section 5.1, KeySchedule."""
        key_bytes, nonce_bytes = lengths
        psk_id_hash = labeled_extract(self, suite, b"", b"psk_id_hash", psk[1])
        info_hash = labeled_extract(self, suite, b"", b"info_hash", info)
        context = bytes([mode]) + psk_id_hash + info_hash
        secret = labeled_extract(self, suite, shared_secret, b"secret", psk[0])

        def expand(label: bytes, length: int) -> bytes:
            return labeled_expand(self, suite, secret, label, context, length=length) if length else b""

        return Schedule(
            key=expand(b"key", key_bytes),
            base_nonce=expand(b"base_nonce", nonce_bytes),
            exporter_secret=expand(b"exp", self.algorithm.digest_size),
        )

    def export(self, suite: bytes, exporter_secret: bytes, context: bytes, length: int) -> bytes:
        """RFC 9180 section 5.3, Export."""
        return labeled_expand(self, suite, exporter_secret, b"sec", context, length=length)


HKDF_SHA256: Final = Hkdf(0x0001, hashes.SHA256())
