"""What both variants of oblivious HTTP share: the request header, the contexts, the response keys.

    Encapsulated Request  = header (7 bytes) || enc || sealed ...        RFC 9458 section 4.3
    Encapsulated Response = response nonce || sealed ...                 RFC 9458 section 4.4

The single-shot variant is ohttp.py, the chunked one chunked.py; their ``Labels`` keep them apart.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from attest.channel.aead import AeadSequence
from attest.channel.hpke import (
    ReceiverContext,
    SenderContext,
    Suite,
    SuiteId,
    setup_base_receiver,
    setup_base_sender,
    suite_by_id,
)
from attest.channel.key_config import KeyConfig
from attest.channel.key_pair import KeyPair
from attest.evidence.reader import Reader
from attest.refusal import Refused, Unsupported

HEADER_BYTES: Final = 7


class Labels(NamedTuple):
    """What keeps the two variants apart: the media types that enter the key schedules."""

    request: bytes
    response: bytes


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
