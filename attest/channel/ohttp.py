"""Oblivious HTTP (RFC 9458): key pairs, the request header, response keys, single-shot messages.

    Encapsulated Request  = header (7 bytes) || enc || sealed request          section 4.3
    Encapsulated Response = response nonce || sealed response                  section 4.4

The chunked variant, which Sealgate speaks by default, is chunked.py; it shares everything here but the two
labels. What is inside a message (binary HTTP) is no concern of this module.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from attest.channel.aead import AeadSequence
from attest.channel.hpke import (
    DEFAULT_SUITE,
    KemKeyPair,
    ReceiverContext,
    SenderContext,
    Suite,
    SuiteId,
    kem_by_id,
    setup_base_receiver,
    setup_base_sender,
    suite_by_id,
)
from attest.channel.key_config import KeyConfig, parse_key_configs, serialise_key_configs
from attest.evidence.reader import Reader
from attest.refusal import Refused, Unsupported

__all__ = [
    "HEADER_BYTES",
    "KeyConfig",
    "KeyPair",
    "Labels",
    "OpenedRequest",
    "RequestHeader",
    "SealedRequest",
    "choose_suite",
    "open_request",
    "parse_key_configs",
    "receiver_context",
    "response_messages",
    "response_nonce_bytes",
    "seal_request",
    "sender_context",
    "serialise_key_configs",
]

HEADER_BYTES: Final = 7


class Labels(NamedTuple):
    """What keeps the two variants apart: the media types that enter the key schedules."""

    request: bytes
    response: bytes


SINGLE_SHOT: Final = Labels(b"message/bhttp request", b"message/bhttp response")

DEFAULT_SUITES: Final = (DEFAULT_SUITE, SuiteId(DEFAULT_SUITE.kem, DEFAULT_SUITE.kdf, 0x0003))


@dataclass(frozen=True, repr=False)
class KeyPair:
    """A receiver's published configuration together with the private key."""

    config: KeyConfig
    hpke: KemKeyPair

    def __repr__(self) -> str:
        return f"KeyPair({self.config!r})"

    @classmethod
    def generate(cls, key_id: int, suites: Iterable[SuiteId] = DEFAULT_SUITES) -> KeyPair:
        """A fresh key pair under ``key_id``.

        Args:
            key_id: 0..255, unique among the keys that one receiver publishes.
            suites: what to offer, favourite first; all with the same KEM.
        """
        return cls._of(key_id, tuple(suites), None)

    @classmethod
    def load(cls, key_id: int, private_key: bytes, suites: Iterable[SuiteId] = DEFAULT_SUITES) -> KeyPair:
        """The key pair of a serialised private key; arguments as in ``generate``.

        Raises:
            Malformed: ``hpke-private-key``.
        """
        return cls._of(key_id, tuple(suites), private_key)

    @classmethod
    def _of(cls, key_id: int, suites: tuple[SuiteId, ...], private_key: bytes | None) -> KeyPair:
        for suite in suites:
            suite_by_id(suite)
        if len({suite.kem for suite in suites}) != 1:
            raise ValueError("a key belongs to exactly one KEM")
        kem = kem_by_id(suites[0].kem)
        hpke = kem.generate_key_pair() if private_key is None else kem.load_key_pair(private_key)
        symmetric = tuple((suite.kdf, suite.aead) for suite in suites)
        return cls(KeyConfig(key_id, kem.id, hpke.public_key, symmetric), hpke)


@dataclass(frozen=True)
class RequestHeader:
    """The clear first seven bytes of a request: which key and which algorithms (RFC 9458 section 4.3)."""

    key_id: int
    suite: SuiteId

    @classmethod
    def parse(cls, data: bytes) -> RequestHeader:
        """Read the header from ``HEADER_BYTES`` bytes.

        Raises:
            Malformed: ``ohttp-request-truncated``.
        """
        reader = Reader(data, "ohttp-request")
        key_id = reader.uint_be(1)
        return cls(key_id, SuiteId(reader.uint_be(2), reader.uint_be(2), reader.uint_be(2)))

    def serialise(self) -> bytes:
        """The seven bytes."""
        return bytes([self.key_id]) + b"".join(value.to_bytes(2, "big") for value in self.suite)

    def info(self, labels: Labels) -> bytes:
        """The HPKE ``info`` that ties a request to its header."""
        return labels.request + b"\x00" + self.serialise()


def choose_suite(config: KeyConfig) -> SuiteId:
    """The first suite in the receiver's order that we speak.

    Raises:
        Unsupported: ``ohttp-suite`` if there is none.
    """
    for suite in config.suites:
        try:
            usable = suite_by_id(suite).aead.new is not None
        except Unsupported:
            continue
        if usable:
            return suite
    raise Unsupported("ohttp-suite", "RFC 9458 section 3.1", got=f"key {config.key_id}")


def sender_context(
    config: KeyConfig, suite: SuiteId | None, labels: Labels
) -> tuple[bytes, bytes, SenderContext]:
    """Set up a request to ``config``.

    Returns:
        ``(header || enc, enc, context)``.

    Raises:
        Unsupported: ``ohttp-suite`` if ``suite`` is not offered, or nothing offered is usable.
        Malformed: ``hpke-public-key``.
    """
    chosen = choose_suite(config) if suite is None else suite
    if chosen not in config.suites:
        raise Unsupported("ohttp-suite", "RFC 9458 section 3.1", expected="an offered suite", got=str(chosen))
    header = RequestHeader(config.key_id, chosen)
    enc, context = setup_base_sender(suite_by_id(chosen), config.public_key, header.info(labels))
    return header.serialise() + enc, enc, context


def find_key(key_pairs: Mapping[int, KeyPair], header: RequestHeader) -> KeyPair:
    """The key pair that ``header`` names, if it may be used with those algorithms.

    Raises:
        Refused: ``ohttp-unknown-key``. The sender may fetch new keys and seal again: nothing was opened.
    """
    key_pair = key_pairs.get(header.key_id)
    if key_pair is None or header.suite not in key_pair.config.suites:
        raise Refused(
            "ohttp-unknown-key",
            "RFC 9458 section 4.3",
            expected="a published key and suite",
            got=f"key {header.key_id}, suite {header.suite}",
        )
    return key_pair


def receiver_context(key_pair: KeyPair, header: RequestHeader, enc: bytes, labels: Labels) -> ReceiverContext:
    """Set up the receiver's side of a request.

    Raises:
        Refused: ``hpke-decapsulation-failed``.
    """
    return setup_base_receiver(suite_by_id(header.suite), enc, key_pair.hpke, header.info(labels))


def response_nonce_bytes(suite: Suite) -> int:
    """Length of the response nonce, max(Nn, Nk) (RFC 9458 section 4.4)."""
    return max(suite.aead.n_n, suite.aead.n_k)


def response_messages(
    context: SenderContext | ReceiverContext, enc: bytes, nonce: bytes, labels: Labels
) -> AeadSequence:
    """The key of a response (RFC 9458 section 4.4), as a sequence that starts at message 0.

    The single-shot variant uses message 0 only: XOR with zero leaves the nonce as it is.
    """
    suite = context.suite
    secret = context.export(labels.response, response_nonce_bytes(suite))
    prk = suite.kdf.extract(enc + nonce, secret)
    key = suite.kdf.expand(prk, b"key", suite.aead.n_k)
    return AeadSequence(suite.aead, key, suite.kdf.expand(prk, b"nonce", suite.aead.n_n))


def fresh_response_nonce(suite: Suite) -> bytes:
    """A random nonce, without which two answers to one request would share their key."""
    return secrets.token_bytes(response_nonce_bytes(suite))


class SealedRequest:
    """A request as its sender keeps it: the bytes to send, and how to open the answer."""

    __slots__ = ("_context", "_enc", "data")

    def __init__(self, data: bytes, enc: bytes, context: SenderContext) -> None:
        self.data = data
        self._enc = enc
        self._context = context

    def __repr__(self) -> str:
        return f"SealedRequest({len(self.data)} bytes)"

    def open_response(self, data: bytes) -> bytes:
        """The plaintext of the answer to this request.

        Raises:
            Malformed: ``ohttp-response-truncated``.
            Refused: ``hpke-open-failed`` if it answers another request or was changed.
        """
        reader = Reader(data, "ohttp-response")
        nonce = reader.take(response_nonce_bytes(self._context.suite))
        messages = response_messages(self._context, self._enc, nonce, SINGLE_SHOT)
        return messages.open(b"", reader.take(reader.remaining))


class OpenedRequest:
    """A request as its receiver keeps it: the plaintext, and how to seal the answer."""

    __slots__ = ("_context", "enc", "key_id", "plaintext")

    def __init__(self, plaintext: bytes, key_id: int, enc: bytes, context: ReceiverContext) -> None:
        self.plaintext = plaintext
        self.key_id = key_id
        self.enc = enc
        self._context = context

    def __repr__(self) -> str:
        return f"OpenedRequest(key {self.key_id}, {len(self.plaintext)} bytes)"

    def seal_response(self, plaintext: bytes) -> bytes:
        """The encapsulated answer, under a key of its own at each call."""
        nonce = fresh_response_nonce(self._context.suite)
        return nonce + response_messages(self._context, self.enc, nonce, SINGLE_SHOT).seal(b"", plaintext)


def seal_request(config: KeyConfig, plaintext: bytes, suite: SuiteId | None = None) -> SealedRequest:
    """Encapsulate a whole request (RFC 9458 section 4.3).

    Raises:
        Unsupported: ``ohttp-suite``.
        Malformed: ``hpke-public-key``.
    """
    preamble, enc, context = sender_context(config, suite, SINGLE_SHOT)
    return SealedRequest(preamble + context.seal(b"", plaintext), enc, context)


def open_request(key_pairs: Mapping[int, KeyPair], data: bytes) -> OpenedRequest:
    """Open a whole encapsulated request (RFC 9458 section 4.3).

    The caller owns replay: give ``key_id`` and ``enc`` to a ``ReplayStore`` before acting.

    Raises:
        Malformed: ``ohttp-request-truncated``.
        Refused: ``ohttp-unknown-key``, ``hpke-decapsulation-failed``, ``hpke-open-failed``.
    """
    reader = Reader(data, "ohttp-request")
    header = RequestHeader.parse(reader.take(HEADER_BYTES))
    key_pair = find_key(key_pairs, header)
    enc = reader.take(kem_by_id(header.suite.kem).n_enc)
    context = receiver_context(key_pair, header, enc, SINGLE_SHOT)
    return OpenedRequest(context.open(b"", reader.take(reader.remaining)), header.key_id, enc, context)
