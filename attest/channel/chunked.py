"""Chunked oblivious HTTP (draft-ietf-ohai-chunked-ohttp-08), without I/O, both directions incremental.

    stream   = preamble || chunk ... || final chunk
    preamble = request: header || enc; response: response nonce
    chunk    = varint(length) || sealed piece, AAD ""
    final    = varint(0)      || sealed piece, AAD "final", to the end of the stream

The number of a chunk is in its nonce and the last one is marked in its AAD, so a stream that was cut,
reordered, spliced or extended does not open. The final chunk has no length: an opener holds it back until
``finish()``, and what is held is bounded. Errors stick: after one refusal every call refuses.

The length prefixes are not authenticated and may be spelt in several ways (section 6); nothing is derived
from how they are spelt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from typing import Final

from attest.channel.aead import TAG_BYTES, AeadSequence
from attest.channel.hpke import ReceiverContext, SenderContext, SuiteId, kem_by_id
from attest.channel.key_config import KeyConfig
from attest.channel.ohttp import (
    HEADER_BYTES,
    KeyPair,
    Labels,
    RequestHeader,
    find_key,
    fresh_response_nonce,
    receiver_context,
    response_messages,
    response_nonce_bytes,
    sender_context,
)
from attest.channel.varint import decode_varint, encode_varint, varint_size
from attest.refusal import Malformed, Refused

CHUNKED: Final = Labels(b"message/bhttp chunked request", b"message/bhttp chunked response")

MAX_CHUNK: Final = 1 << 14
"""Plaintext bytes of the chunks we send: what every receiver MUST take (section 3)."""

MAX_RECEIVED_CHUNK: Final = 1 << 16
"""Plaintext bytes of the largest chunk we take, which bounds what is held before it is authenticated."""

MAX_MESSAGE_BYTES: Final = 1 << 30
"""Bytes under one key, with which AES-GCM keeps its margin over 2^20 keys (section 7.3)."""

DEFAULT_MAX_RESPONSE_BYTES: Final = 1 << 26
"""Sealed bytes of the longest answer that a sender takes unless told otherwise."""

_FINAL_AAD: Final = b"final"
_CLAUSE: Final = "draft-ietf-ohai-chunked-ohttp-08"


class _Sealer:
    """Cuts plaintext into sealed, length-prefixed chunks."""

    def __init__(self, messages: AeadSequence) -> None:
        self._messages = messages
        self._bytes = 0
        self._finished = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._bytes} bytes{', finished' if self._finished else ''})"

    def seal(self, plaintext: bytes, *, final: bool = False) -> bytes:
        """The next chunks of the stream, ready to send.

        Args:
            plaintext: any length; cut into pieces of ``MAX_CHUNK``. Empty and not final yields nothing.
            final: this ends the stream; without it the receiver refuses what it has.
        """
        if self._finished:
            raise RuntimeError("this stream has had its final chunk")
        self._bytes += len(plaintext)
        if self._bytes > MAX_MESSAGE_BYTES:
            raise OverflowError(f"more than {MAX_MESSAGE_BYTES} bytes under one key")
        view = memoryview(plaintext)
        pieces = [view[start : start + MAX_CHUNK] for start in range(0, len(view), MAX_CHUNK)]
        last = (pieces.pop() if pieces else view) if final else None
        parts: list[bytes] = []
        for piece in pieces:
            parts.append(encode_varint(len(piece) + TAG_BYTES))
            parts.append(self._messages.seal(b"", piece))
        if last is not None:
            self._finished = True
            parts.append(b"\x00")
            parts.append(self._messages.seal(_FINAL_AAD, last))
        return b"".join(parts)


class _Opener:
    """Opens a stream as its bytes arrive."""

    def __init__(self, preamble_bytes: int, max_bytes: int) -> None:
        self._buffer = bytearray()
        self._preamble_bytes = preamble_bytes
        self._messages: AeadSequence | None = None
        self._in_final = False
        self._finished = False
        self._failure: Refused | None = None
        self._received = 0
        self._max_bytes = min(max_bytes, MAX_MESSAGE_BYTES)

    def __repr__(self) -> str:
        state = "failed" if self._failure else "finished" if self._finished else "open"
        return f"{type(self).__name__}({state}, {self._received} bytes received)"

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the stream; return the plaintext pieces that they complete.

        What comes back is authentic and in order, but not known to be complete before ``finish()``.

        Raises:
            Malformed: ``ohttp-chunk-too-short``, ``ohttp-chunk-empty``.
            Refused: ``ohttp-too-large``, ``ohttp-chunk-too-large``, ``hpke-open-failed``; a request also
                ``ohttp-unknown-key`` and ``hpke-decapsulation-failed``.
        """
        return self._sticky(lambda: self._take(data))

    def finish(self) -> list[bytes]:
        """Say that the stream has ended; return the final piece unless it is empty.

        Raises:
            Refused: ``ohttp-truncated`` if the final chunk is missing, ``hpke-open-failed`` if it is cut,
                extended or not the one that belongs here.
        """
        return self._sticky(self._end)

    def _sticky(self, act: Callable[[], list[bytes]]) -> list[bytes]:
        if self._failure is not None:
            raise copy(self._failure)
        if self._finished:
            raise RuntimeError("this stream has ended")
        try:
            return act()
        except Refused as failure:
            self._failure = copy(failure)  # a copy has no traceback, whose frames would keep the data alive
            self._buffer = bytearray()  # not clear(): the traceback may still hold a view of the old one
            raise

    def _take(self, data: bytes) -> list[bytes]:
        self._received += len(data)
        if self._received > self._max_bytes:
            raise Refused("ohttp-too-large", expected=f"at most {self._max_bytes} bytes")
        self._buffer += data
        if self._messages is None:
            self._messages = self._start()
            if self._messages is None:
                return []
        pieces: list[bytes] = []
        if not self._in_final:
            with memoryview(self._buffer) as view:
                used = self._chunks(self._messages, view, pieces)
            del self._buffer[:used]
        if self._in_final and len(self._buffer) > MAX_RECEIVED_CHUNK + TAG_BYTES:
            raise _chunk_too_large(len(self._buffer))
        return pieces

    def _start(self) -> AeadSequence | None:
        """The sequence, once the preamble is complete; the preamble is then off the buffer."""
        raise NotImplementedError

    def _chunks(self, messages: AeadSequence, view: memoryview, pieces: list[bytes]) -> int:
        """Open every complete chunk of ``view`` into ``pieces``; return how many bytes that used."""
        position, size = 0, len(view)
        while position < size:
            body = position + varint_size(view[position])
            if body > size:
                break
            length = decode_varint(view[position:body])
            if length == 0:
                self._in_final = True
                return body
            _check_chunk_length(length)
            if body + length > size:
                break
            pieces.append(messages.open(b"", view[body : body + length]))
            position = body + length
        return position

    def _end(self) -> list[bytes]:
        if self._messages is None or not self._in_final:
            raise Refused("ohttp-truncated", f"{_CLAUSE} section 7.1", expected="a final chunk")
        piece = self._messages.open(_FINAL_AAD, bytes(self._buffer))
        self._buffer.clear()
        self._finished = True
        return [piece] if piece else []


def _chunk_too_large(size: int) -> Refused:
    return Refused(
        "ohttp-chunk-too-large",
        f"{_CLAUSE} section 3",
        expected=f"at most {MAX_RECEIVED_CHUNK + TAG_BYTES} bytes",
        got=str(size),
    )


def _check_chunk_length(length: int) -> None:
    """Judge a length before waiting for its bytes: the number is the attacker's."""
    if length > MAX_RECEIVED_CHUNK + TAG_BYTES:
        raise _chunk_too_large(length)
    if length < TAG_BYTES:
        raise Malformed("ohttp-chunk-too-short", f"{length} bytes hold no tag", clause=_CLAUSE)
    if length == TAG_BYTES:  # costs the receiver work and carries nothing: only the final chunk may be empty
        raise Malformed("ohttp-chunk-empty", clause=_CLAUSE)


class ChunkedRequestSealer(_Sealer):
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


class ChunkedResponseOpener(_Opener):
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


class ChunkedRequestOpener(_Opener):
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


class ChunkedResponseSealer(_Sealer):
    """The receiver's side of the answer; made by ``ChunkedRequestOpener.response_sealer``."""

    def __init__(self, context: ReceiverContext, enc: bytes) -> None:
        self.preamble = fresh_response_nonce(context.suite)
        super().__init__(response_messages(context, enc, self.preamble, CHUNKED))
