"""Chunked oblivious HTTP (draft-ietf-ohai-chunked-ohttp-08), without I/O, both directions incremental.

    request = header || enc || chunk ... || final chunk
    answer  = response nonce || chunk ... || final chunk

The number of a chunk is in its nonce and the last one is marked in its AAD, so a stream that was cut,
reordered, spliced or extended does not open; chunk_stream.py does that. An answer's key comes from its
request's context, so it opens for that request only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attest.channel.aead import AeadSequence
from attest.channel.chunk_stream import (
    MAX_CHUNK,
    MAX_MESSAGE_BYTES,
    MAX_RECEIVED_CHUNK,
    ChunkOpener,
    ChunkSealer,
)
from attest.channel.encapsulation import (
    HEADER_BYTES,
    Labels,
    RequestHeader,
    find_key,
    fresh_response_nonce,
    receiver_context,
    response_messages,
    response_nonce_bytes,
    sender_context,
)
from attest.channel.hpke import ReceiverContext, SenderContext, SuiteId, kem_by_id
from attest.channel.key_config import KeyConfig
from attest.channel.key_pair import KeyPair

__all__ = [
    "DEFAULT_MAX_RESPONSE_BYTES",
    "MAX_CHUNK",
    "MAX_MESSAGE_BYTES",
    "MAX_RECEIVED_CHUNK",
    "ChunkedRequestOpener",
    "ChunkedRequestSealer",
    "ChunkedResponseOpener",
    "ChunkedResponseSealer",
]

CHUNKED: Final = Labels(b"message/bhttp chunked request", b"message/bhttp chunked response")

DEFAULT_MAX_RESPONSE_BYTES: Final = 1 << 26
"""Sealed bytes of the longest answer that a sender takes unless told otherwise."""


class ChunkedRequestSealer(ChunkSealer):
    """The sender's side of a request.

    Args:
        config: the receiver's authenticated key configuration.
        suite: one that it offers; by default the receiver's favourite that we speak.

    Raises:
        Unsupported: ``ohttp-suite``.
        Malformed: ``hpke-public-key``.
    """

    def __init__(self, config: KeyConfig, suite: SuiteId | None = None) -> None:
        self.preamble, self.enc, self._context = sender_context(config, suite, CHUNKED)
        super().__init__(self._context.messages)

    def response_opener(self, *, max_bytes: int = DEFAULT_MAX_RESPONSE_BYTES) -> ChunkedResponseOpener:
        """An opener for the one answer to this request; ``max_bytes`` bounds its sealed bytes."""
        return ChunkedResponseOpener(self._context, self.enc, max_bytes)


class ChunkedResponseOpener(ChunkOpener):
    """The sender's side of the answer; made by ``ChunkedRequestSealer.response_opener``."""

    def __init__(self, context: SenderContext, enc: bytes, max_bytes: int) -> None:
        super().__init__(response_nonce_bytes(context.suite), max_bytes)
        self._context = context
        self._enc = enc

    def _start(self) -> AeadSequence | None:
        if len(self._buffer) < self._preamble_bytes:
            return None
        nonce = bytes(self._buffer[: self._preamble_bytes])
        del self._buffer[: self._preamble_bytes]
        return response_messages(self._context, self._enc, nonce, CHUNKED)


class ChunkedRequestOpener(ChunkOpener):
    """The receiver's side of a request.

    Args:
        key_pairs: by key id, the published ones and those still in their overlap.
        max_bytes: bound on the sealed request, in bytes.

    Attributes:
        key_id: the key that the request names; None until the preamble is in.
        enc: its encapsulation, for the replay store; empty until the preamble is in.
    """

    def __init__(self, key_pairs: Mapping[int, KeyPair], *, max_bytes: int) -> None:
        super().__init__(HEADER_BYTES, max_bytes)
        self._key_pairs = key_pairs
        self._header: RequestHeader | None = None
        self._context: ReceiverContext | None = None
        self.key_id: int | None = None
        self.enc = b""

    def _start(self) -> AeadSequence | None:
        if self._header is None:
            if len(self._buffer) < HEADER_BYTES:
                return None
            self._header = RequestHeader.parse(bytes(self._buffer[:HEADER_BYTES]))
            # Judged on seven bytes: a sender with old keys hears of it before it has sent the rest.
            find_key(self._key_pairs, self._header)
            self._preamble_bytes = HEADER_BYTES + kem_by_id(self._header.suite.kem).n_enc
        if len(self._buffer) < self._preamble_bytes:
            return None
        enc = bytes(self._buffer[HEADER_BYTES : self._preamble_bytes])
        del self._buffer[: self._preamble_bytes]
        key_pair = find_key(self._key_pairs, self._header)
        self._context = receiver_context(key_pair, self._header, enc, CHUNKED)
        self.key_id, self.enc = self._header.key_id, enc
        return self._context.messages

    def response_sealer(self) -> ChunkedResponseSealer:
        """A sealer for an answer, under a fresh nonce and so a key of its own at each call."""
        if self._context is None:
            raise RuntimeError("the request's preamble is not in yet")
        return ChunkedResponseSealer(self._context, self.enc)


class ChunkedResponseSealer(ChunkSealer):
    """The receiver's side of the answer; made by ``ChunkedRequestOpener.response_sealer``."""

    def __init__(self, context: ReceiverContext, enc: bytes) -> None:
        self.preamble = fresh_response_nonce(context.suite)
        super().__init__(response_messages(context, enc, self.preamble, CHUNKED))
