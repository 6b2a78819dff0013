"""Oblivious HTTP in a single shot (RFC 9458): a whole request, a whole answer.

Sealgate speaks the chunked variant (chunked.py); this one is for peers that have no other. Neither ever
falls back to the other by itself. What is inside a message (binary HTTP) is no concern of this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attest.channel.encapsulation import (
    HEADER_BYTES,
    Labels,
    RequestHeader,
    choose_suite,
    find_key,
    fresh_response_nonce,
    receiver_context,
    response_messages,
    response_nonce_bytes,
    sender_context,
)
from attest.channel.hpke import ReceiverContext, SenderContext, SuiteId, kem_by_id
from attest.channel.key_config import KeyConfig, parse_key_configs, serialise_key_configs
from attest.channel.key_pair import DEFAULT_SUITES, KeyPair
from attest.evidence.reader import Reader

__all__ = [
    "DEFAULT_SUITES",
    "KeyConfig",
    "KeyPair",
    "OpenedRequest",
    "SealedRequest",
    "choose_suite",
    "open_request",
    "parse_key_configs",
    "seal_request",
    "serialise_key_configs",
]

SINGLE_SHOT: Final = Labels(b"message/bhttp request", b"message/bhttp response")


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
