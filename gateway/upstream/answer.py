"""From the bytes of a sealed answer to the bytes that an application may have, without I/O.

The last bytes come out of ``end`` only, and only after the receipt was verified. What the channel or the
receipt refuses leaves here as the error that the application sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http import HTTPStatus

from attest.protocol.receipt import Receipt
from attest.refusal import Refused
from gateway.errors import GatewayError, ReceiptRefused, RequestRejected, RuntimeInterrupted, misbehaved
from gateway.upstream.exchange import AnswerHead, SealedExchange
from gateway.upstream.release import EventGate, WholeGate


class AnswerReader:
    """Reads the answer of one exchange.

    Args:
        exchange: after its request was sealed.
        max_bytes: of an answer that is not a stream.
    """

    def __init__(self, exchange: SealedExchange, max_bytes: int) -> None:
        self._exchange = exchange
        self._max_bytes = max_bytes
        self._gate: EventGate | WholeGate | None = None

    def __repr__(self) -> str:
        return f"AnswerReader({self._exchange!r}, {self._gate!r})"

    @property
    def head(self) -> AnswerHead | None:
        """The answer's head, once it came."""
        return self._exchange.head

    def feed(self, data: bytes) -> bytes:
        """What may be released after these bytes arrived.

        Raises:
            RuntimeMisbehaved: they are not the next bytes of a sealed answer to this request.
            RequestRejected: the answer is that the gateway's token is not accepted.
        """
        with _refusals():
            return self._through_gate(self._exchange.feed(data))

    def finish(self) -> bytes:
        """The sealed answer ended here: what may be released of its last bytes, before the receipt.

        Raises:
            RuntimeInterrupted: it was cut off.
            RuntimeMisbehaved: it is not a sealed answer to this request.
            RequestRejected: as ``feed``.
        """
        with _refusals():
            return self._through_gate(self._exchange.finish())

    def end(self, now: datetime) -> tuple[bytes, Receipt]:
        """The withheld rest and the receipt that was verified for it; for after ``finish``.

        Raises:
            RuntimeInterrupted: an event stream has no end marker.
            ReceiptRefused: there is no valid receipt.
        """
        with _refusals():
            rest = b"" if self._gate is None else self._gate.rest()
        try:
            receipt = self._exchange.receipt(now)
        except Refused as error:
            raise ReceiptRefused("The answer has no valid receipt.", refusal=error.code) from error
        return rest, receipt

    def _through_gate(self, content: bytes) -> bytes:
        if self._gate is None:
            if self.head is None:
                return b""
            if self.head.status == HTTPStatus.UNAUTHORIZED:
                # It is the gateway that is not authorized, not the application.
                raise RequestRejected("The runtime rejected the gateway's token.")
            self._gate = EventGate() if self.head.is_stream else WholeGate(self._max_bytes)
        return self._gate.feed(content)


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except Refused as error:
        raise _as_seen_by_application(error) from error


def _as_seen_by_application(error: Refused) -> GatewayError:
    if error.code.endswith("-truncated") or error.code == "event-stream-unfinished":
        return RuntimeInterrupted("The sealed answer was cut off.", refusal=error.code)
    return misbehaved(error)
