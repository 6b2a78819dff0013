"""A stream of sealed chunks, whatever its key is from (draft-ietf-ohai-chunked-ohttp-08 sections 4 and 5).

    chunk = varint(length) || sealed piece, AAD ""
    final = varint(0)      || sealed piece, AAD "final", to the end of the stream

The final chunk has no length: an opener holds it back until ``finish()``, and what is held is bounded. The
length prefixes are not authenticated and may be spelt in several ways (section 6); nothing is derived from
how they are spelt. Errors stick: after one refusal every call refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Final

from attest.channel.aead import TAG_BYTES, AeadSequence
from attest.channel.varint import decode_varint, encode_varint, varint_size
from attest.refusal import Malformed, Refused

MAX_CHUNK: Final = 1 << 14
"""Plaintext bytes of the chunks we send: what every receiver MUST take (section 3)."""

MAX_RECEIVED_CHUNK: Final = 1 << 16
"""Plaintext bytes of the largest chunk we take, which bounds what is held before it is authenticated."""

MAX_MESSAGE_BYTES: Final = 1 << 30
"""Bytes under one key, with which AES-GCM keeps its margin over 2^20 keys (section 7.3)."""

_FINAL_AAD: Final = b"final"
_CLAUSE: Final = "draft-ietf-ohai-chunked-ohttp-08"


class ChunkSealer:
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


class ChunkOpener:
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
