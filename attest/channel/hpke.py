"""Hybrid public key encryption (RFC 9180), modes base and psk, as contexts with a sequence and an exporter.

``cryptography`` offers HPKE as a single shot, without the exporter that OHTTP derives its response keys
from, so the key schedule is here, over that library's primitives. The tests hold it against the vectors of
RFC 9180 and draft-ietf-hpke-pq, against pyhpke, and against that single-shot API.

Modes auth and auth_psk are absent: X-Wing has no authenticated encapsulation, and the gateway signs inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from attest.channel.aead import (
    AES_128_GCM,
    AES_256_GCM,
    CHACHA20_POLY1305,
    EXPORT_ONLY,
    TAG_BYTES,
    Aead,
    AeadSequence,
)
from attest.channel.kdf import HKDF_SHA256, Kdf
from attest.channel.kem import Kem, KemKeyPair
from attest.channel.kem_x25519 import KEM_X25519
from attest.channel.kem_xwing import KEM_MLKEM768_X25519
from attest.refusal import Refused, Unsupported

__all__ = [
    "DEFAULT_SUITE",
    "KEM_MLKEM768_X25519",
    "KEM_X25519",
    "TAG_BYTES",
    "Kem",
    "KemKeyPair",
    "Psk",
    "ReceiverContext",
    "SenderContext",
    "Suite",
    "SuiteId",
    "kem_by_id",
    "setup_base_receiver",
    "setup_base_sender",
    "setup_psk_receiver",
    "setup_psk_sender",
    "suite_by_id",
]

_MODE_BASE: Final = 0
_MODE_PSK: Final = 1
_MIN_PSK_BYTES: Final = 32  # RFC 9180 section 5.1.2: a PSK MUST have at least 32 bytes of entropy


class SuiteId(NamedTuple):
    """The three code points of a cipher suite."""

    kem: int
    kdf: int
    aead: int

    def __str__(self) -> str:
        return f"{self.kem:#06x}/{self.kdf:#06x}/{self.aead:#06x}"


DEFAULT_SUITE: Final = SuiteId(kem=0x647A, kdf=0x0001, aead=0x0002)
"""ML-KEM-768 + X25519, HKDF-SHA256, AES-256-GCM."""


@dataclass(frozen=True)
class Suite:
    """A cipher suite: the algorithms themselves."""

    kem: Kem
    kdf: Kdf
    aead: Aead

    @property
    def id(self) -> SuiteId:
        """The three code points."""
        return SuiteId(self.kem.id, self.kdf.id, self.aead.id)

    @property
    def label(self) -> bytes:
        """``suite_id`` of RFC 9180 section 5.1."""
        return b"HPKE" + b"".join(value.to_bytes(2, "big") for value in self.id)


_KEMS: Final[dict[int, Kem]] = {kem.id: kem for kem in (KEM_X25519, KEM_MLKEM768_X25519)}
_KDFS: Final[dict[int, Kdf]] = {HKDF_SHA256.id: HKDF_SHA256}
_AEADS: Final = {a.id: a for a in (AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305, EXPORT_ONLY)}


def kem_by_id(kem_id: int) -> Kem:
    """The KEM with this code point.

    Raises:
        Unsupported: ``hpke-kem``.
    """
    kem = _KEMS.get(kem_id)
    if kem is None:
        raise Unsupported("hpke-kem", "RFC 9180 section 7.1", got=f"{kem_id:#06x}")
    return kem


def suite_by_id(suite_id: SuiteId) -> Suite:
    """The suite with these code points.

    Raises:
        Unsupported: ``hpke-kem``, ``hpke-kdf`` or ``hpke-aead``.
    """
    kem = kem_by_id(suite_id.kem)
    kdf = _KDFS.get(suite_id.kdf)
    if kdf is None:
        raise Unsupported("hpke-kdf", "RFC 9180 section 7.2", got=f"{suite_id.kdf:#06x}")
    aead = _AEADS.get(suite_id.aead)
    if aead is None:
        raise Unsupported("hpke-aead", "RFC 9180 section 7.3", got=f"{suite_id.aead:#06x}")
    return Suite(kem, kdf, aead)


class Psk(NamedTuple):
    """A pre-shared key and its name (RFC 9180 section 5.1.2)."""

    key: bytes
    key_id: bytes

    def __repr__(self) -> str:
        return f"Psk({len(self.key)} bytes)"


class _Context:
    """What both sides hold after setup: the message sequence and the exporter."""

    __slots__ = ("_exporter_secret", "_messages", "suite")

    def __init__(self, suite: Suite, mode: int, shared_secret: bytes, info: bytes, psk: Psk) -> None:
        self.suite = suite
        key, base_nonce, self._exporter_secret = suite.kdf.schedule(
            suite.label, mode, shared_secret, info, psk=psk, lengths=(suite.aead.n_k, suite.aead.n_n)
        )
        self._messages = None if suite.aead.new is None else AeadSequence(suite.aead, key, base_nonce)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.suite.id}, {self._messages})"

    @property
    def messages(self) -> AeadSequence:
        """The sequence of messages.

        Raises:
            Unsupported: ``hpke-export-only`` under the export-only AEAD.
        """
        if self._messages is None:
            raise Unsupported("hpke-export-only", "RFC 9180 section 5.3")
        return self._messages

    def export(self, context: bytes, length: int) -> bytes:
        """A secret of ``length`` bytes that both sides can derive (RFC 9180 section 5.3)."""
        return self.suite.kdf.export(self.suite.label, self._exporter_secret, context, length)


class SenderContext(_Context):
    """The sender's side: seals message 0, 1, 2, ..."""

    __slots__ = ()

    def seal(self, aad: bytes, data: bytes | memoryview) -> bytes:
        """The next message, sealed: ``len(data) + TAG_BYTES`` bytes."""
        return self.messages.seal(aad, data)


class ReceiverContext(_Context):
    """The receiver's side: opens message 0, 1, 2, ... in that order."""

    __slots__ = ()

    def open(self, aad: bytes, data: bytes | memoryview) -> bytes:
        """The next message, opened.

        Raises:
            Refused: ``hpke-open-failed``.
        """
        return self.messages.open(aad, data)


_NO_PSK: Final = Psk(b"", b"")


def _checked(psk: Psk) -> Psk:
    if len(psk.key) < _MIN_PSK_BYTES or not psk.key_id:
        raise Refused(
            "hpke-psk",
            "RFC 9180 section 5.1.2",
            expected=f"a key of at least {_MIN_PSK_BYTES} bytes and its id",
            got=f"{len(psk.key)} and {len(psk.key_id)} bytes",
        )
    return psk


def setup_base_sender(
    suite: Suite, public_key: bytes, info: bytes, *, ephemeral: bytes | None = None
) -> tuple[bytes, SenderContext]:
    """RFC 9180 section 5.1.1, SetupBaseS.

    Args:
        suite: the algorithms.
        public_key: the receiver's, serialised.
        info: what both sides must agree on besides the key.
        ephemeral: for known-answer tests only, see ``Kem.encapsulate``.

    Returns:
        ``(enc, context)``.

    Raises:
        Malformed: ``hpke-public-key``.
    """
    shared_secret, enc = suite.kem.encapsulate(public_key, ephemeral=ephemeral)
    return enc, SenderContext(suite, _MODE_BASE, shared_secret, info, _NO_PSK)


def setup_base_receiver(suite: Suite, enc: bytes, key_pair: KemKeyPair, info: bytes) -> ReceiverContext:
    """RFC 9180 section 5.1.1, SetupBaseR.

    Raises:
        Refused: ``hpke-decapsulation-failed``.
    """
    return ReceiverContext(suite, _MODE_BASE, key_pair.decapsulate(enc), info, _NO_PSK)


def setup_psk_sender(
    suite: Suite, public_key: bytes, info: bytes, psk: Psk, *, ephemeral: bytes | None = None
) -> tuple[bytes, SenderContext]:
    """RFC 9180 section 5.1.2, SetupPSKS; arguments as in ``setup_base_sender``.

    Raises:
        Refused: ``hpke-psk`` if the key is too short or has no id.
        Malformed: ``hpke-public-key``.
    """
    _checked(psk)
    shared_secret, enc = suite.kem.encapsulate(public_key, ephemeral=ephemeral)
    return enc, SenderContext(suite, _MODE_PSK, shared_secret, info, psk)


def setup_psk_receiver(
    suite: Suite, enc: bytes, key_pair: KemKeyPair, info: bytes, psk: Psk
) -> ReceiverContext:
    """RFC 9180 section 5.1.2, SetupPSKR.

    Raises:
        Refused: ``hpke-psk`` or ``hpke-decapsulation-failed``.
    """
    _checked(psk)
    return ReceiverContext(suite, _MODE_PSK, key_pair.decapsulate(enc), info, psk)
