"""How much of an answer an application may have before its receipt is verified.

Of a streamed answer: every whole server-sent event as it comes, but not the end marker; an application that
saw ``[DONE]`` has seen a vouched-for answer. Of any other answer: nothing.
"""

from __future__ import annotations

from attest.refusal import Malformed

MAX_EVENT_BYTES = 1 << 20  # one event carries one token and its log-probabilities
_END_MARKER = b"data: [DONE]"
_EVENT_END = b"\n\n"


class EventGate:
    """Lets whole events through and withholds the end marker with all that follows it.

    A part of an event is never released: text that breaks off inside an event would swallow the error event
    that has to follow it.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._ended = False

    def __repr__(self) -> str:
        return f"EventGate({len(self._held)} bytes held)"

    def feed(self, content: bytes) -> bytes:
        """The part that may be released now.

        Raises:
            Malformed: ``event-too-large``.
        """
        self._held += content
        released = b""
        if not self._ended:
            released = self._whole_events()
        if len(self._held) > MAX_EVENT_BYTES:
            raise Malformed("event-too-large", f"more than {MAX_EVENT_BYTES} bytes without an end")
        return released

    def rest(self) -> bytes:
        """What was withheld; only for a caller that has verified the receipt.

        Raises:
            Malformed: ``event-stream-unfinished`` if the end marker never came.
        """
        if not self._ended:
            raise Malformed("event-stream-unfinished", "no end marker")
        return bytes(self._held)

    def _whole_events(self) -> bytes:
        end = self._held.rfind(_EVENT_END) + len(_EVENT_END)
        if end < len(_EVENT_END):
            return b""
        marker = _find_marker(self._held, end)
        if marker is not None:
            self._ended = True
            end = marker
        released = bytes(self._held[:end])
        del self._held[:end]
        return released


def _find_marker(held: bytearray, end: int) -> int | None:
    """Where an event before ``end`` starts with the end marker; inside JSON it cannot start a line."""
    if held.startswith(_END_MARKER):
        return 0
    position = held.find(b"\n" + _END_MARKER, 0, end)
    return None if position < 0 else position + 1


class WholeGate:
    """Withholds everything."""

    def __init__(self, max_bytes: int) -> None:
        self._held = bytearray()
        self._max_bytes = max_bytes

    def __repr__(self) -> str:
        return f"WholeGate({len(self._held)} bytes held)"

    def feed(self, content: bytes) -> bytes:
        """Nothing.

        Raises:
            Malformed: ``answer-too-large``.
        """
        self._held += content
        if len(self._held) > self._max_bytes:
            raise Malformed("answer-too-large", f"more than {self._max_bytes} bytes")
        return b""

    def rest(self) -> bytes:
        """All of it; only for a caller that has verified the receipt."""
        return bytes(self._held)
