"""Carries one exchange over HTTP: sealed bytes out, once; sealed bytes in, within bounds.

``Sender`` is for an event loop and ``BlockingSender`` for threads. Neither repeats anything: a request whose
fate is unknown stays unknown, and says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from typing import Protocol

import httpx2

from attest.appraise import AttestedRuntime
from attest.channel.padding import Profile
from attest.protocol.receipt import Receipt
from attest.protocol.tenant_token import RequestSigner
from attest.refusal import Refused
from gateway.errors import RuntimeTimeout, refused
from gateway.upstream import outer
from gateway.upstream.answer import AnswerReader
from gateway.upstream.exchange import AnswerHead, InnerRequest, SealedExchange
from gateway.upstream.outer import Patience


class Answer(Protocol):
    """A sealed answer whose head has arrived."""

    @property
    def head(self) -> AnswerHead:
        """How the answer begins."""

    def content(self) -> AsyncIterator[bytes]:
        """What may be released before the receipt, as it arrives; ends where the sealed answer ends."""

    def end(self) -> tuple[bytes, Receipt]:
        """The rest, withheld until the receipt that comes with it was verified."""

    async def aclose(self) -> None:
        """Hang up, which cancels the work in the runtime if it goes on."""


class Upstream(Protocol):
    """What the relay needs of whatever carries sealed requests."""

    async def send(
        self, runtime: AttestedRuntime, request: InnerRequest, *, sequence: int, label_id: str
    ) -> Answer:
        """Seal to ``runtime``, send once, and return when the answer's head has arrived."""


class _Exchanges:
    """Begins exchanges: what both senders share.

    Args:
        url: the runtime's outer address, without a trailing slash.
        signer: the gateway's key.
        patience: bounds of time and size.
        profile: padding profile of requests.
        clock: the time, aware.
    """

    def __init__(
        self,
        url: str,
        *,
        signer: RequestSigner,
        patience: Patience,
        profile: Profile,
        clock: Callable[[], datetime],
    ) -> None:
        self.url = url
        self.patience = patience
        self.clock = clock
        self._signer = signer
        self._profile = profile

    def begin(
        self, runtime: AttestedRuntime, request: InnerRequest, sequence: int, label_id: str
    ) -> tuple[httpx2.Request, AnswerReader]:
        """Seal; nothing has left yet.

        Raises:
            RuntimeRefused: ``verdict-expired``, or the verified keys cannot be sealed to.
        """
        try:
            exchange = SealedExchange(
                runtime,
                self._signer,
                request,
                sequence=sequence,
                label_id=label_id,
                now=self.clock(),
                profile=self._profile,
                max_response_bytes=self.patience.max_response_bytes,
            )
        except Refused as error:
            raise refused(error) from error
        reader = AnswerReader(exchange, self.patience.max_response_bytes)
        return outer.sealed_request(self.url, exchange.sealed_request, self.patience), reader

    def first_event_s(self, request: InnerRequest) -> float:
        """How long the head may take: an answer in one piece begins when it is finished."""
        return self.patience.first_event_s if request.wants_stream else self.patience.whole_s


class Sender:
    """Sends sealed requests from an event loop; arguments as ``_Exchanges``, and the transport to use."""

    def __init__(
        self,
        url: str,
        *,
        transport: httpx2.AsyncBaseTransport,
        signer: RequestSigner,
        patience: Patience,
        profile: Profile,
        clock: Callable[[], datetime],
    ) -> None:
        self._exchanges = _Exchanges(url, signer=signer, patience=patience, profile=profile, clock=clock)
        self._transport = transport

    async def send(
        self, runtime: AttestedRuntime, request: InnerRequest, *, sequence: int, label_id: str
    ) -> SealedAnswer:
        """Seal to ``runtime``, send once, and return when the answer's head has arrived.

        Raises:
            RuntimeUnreachable, RuntimeRefused, RuntimeBusy: nothing was opened by a runtime.
            MayHaveRun: everything else.
        """
        sealed, reader = self._exchanges.begin(runtime, request, sequence, label_id)
        with outer.sending_sealed():
            async with asyncio.timeout(self._exchanges.first_event_s(request)):
                response = await self._transport.handle_async_request(sealed)
                answer = SealedAnswer(response, reader, self._exchanges)
                try:
                    await _require_sealed(response)
                    await answer.open()
                except BaseException:
                    await answer.aclose()
                    raise
        return answer


class SealedAnswer:
    """An answer under way; made by ``Sender``."""

    def __init__(self, response: httpx2.Response, reader: AnswerReader, exchanges: _Exchanges) -> None:
        self._response = response
        self._arriving = response.aiter_raw()
        self._reader = reader
        self._exchanges = exchanges
        self._whole_by = time.monotonic() + exchanges.patience.whole_s
        self._released = b""
        self._finished = False

    @property
    def head(self) -> AnswerHead:
        """How the answer begins."""
        if self._reader.head is None:
            raise RuntimeError("only an open answer has a head")
        return self._reader.head

    async def open(self) -> None:
        """Read until the head has arrived."""
        while self._reader.head is None:
            self._take(await anext(self._arriving, None))

    async def content(self) -> AsyncIterator[bytes]:
        """What may be released before the receipt, as it arrives; ends where the sealed answer ends.

        Raises:
            MayHaveRun: something else came, or nothing in time.
        """
        progress = time.monotonic()
        while True:
            if self._released:
                yield self._released
                progress = time.monotonic()
            if self._finished:
                return
            deadline = _deadline(self.head, self._whole_by, progress, self._exchanges.patience)
            self._released = b""
            self._take(await self._next(deadline))

    def end(self) -> tuple[bytes, Receipt]:
        """The rest, withheld until the receipt that comes with it was verified; for after ``content``.

        Raises:
            RuntimeInterrupted, RuntimeMisbehaved, ReceiptRefused: as ``AnswerReader.end``.
        """
        return self._reader.end(self._exchanges.clock())

    async def aclose(self) -> None:
        """Hang up, which cancels the work in the runtime if it goes on."""
        await self._arriving.aclose()
        await self._response.aclose()

    def _take(self, data: bytes | None) -> None:
        """The next bytes, or None where the sealed answer ended."""
        if data is None:
            self._released += self._reader.finish()
            self._finished = True
        else:
            self._released += self._reader.feed(data)

    async def _next(self, deadline: float) -> bytes | None:
        with outer.sending_sealed():
            async with asyncio.timeout(deadline - time.monotonic()):
                return await anext(self._arriving, None)


class BlockingSender:
    """``Sender`` for threads."""

    def __init__(
        self,
        url: str,
        *,
        transport: httpx2.BaseTransport,
        signer: RequestSigner,
        patience: Patience,
        profile: Profile,
        clock: Callable[[], datetime],
    ) -> None:
        self._exchanges = _Exchanges(url, signer=signer, patience=patience, profile=profile, clock=clock)
        self._transport = transport

    def send(
        self, runtime: AttestedRuntime, request: InnerRequest, *, sequence: int, label_id: str
    ) -> BlockingSealedAnswer:
        """As ``Sender.send``."""
        sealed, reader = self._exchanges.begin(runtime, request, sequence, label_id)
        deadline = time.monotonic() + self._exchanges.first_event_s(request)
        with outer.sending_sealed():
            response = self._transport.handle_request(sealed)
            answer = BlockingSealedAnswer(response, reader, self._exchanges)
            try:
                _require_sealed_blocking(response, deadline)
                answer.open(deadline)
            except BaseException:
                answer.close()
                raise
        return answer


class BlockingSealedAnswer:
    """``SealedAnswer`` for threads; made by ``BlockingSender``."""

    def __init__(self, response: httpx2.Response, reader: AnswerReader, exchanges: _Exchanges) -> None:
        self._response = response
        self._arriving = response.iter_raw()
        self._reader = reader
        self._exchanges = exchanges
        self._whole_by = time.monotonic() + exchanges.patience.whole_s
        self._released = b""
        self._finished = False

    @property
    def head(self) -> AnswerHead:
        """How the answer begins."""
        if self._reader.head is None:
            raise RuntimeError("only an open answer has a head")
        return self._reader.head

    def open(self, deadline: float) -> None:
        """Read until the head has arrived."""
        while self._reader.head is None:
            data = next(self._arriving, None)
            _require_before(deadline)
            self._take(data)

    def content(self) -> Iterator[bytes]:
        """As ``SealedAnswer.content``."""
        progress = time.monotonic()
        while True:
            if self._released:
                yield self._released
                progress = time.monotonic()
            if self._finished:
                return
            deadline = _deadline(self.head, self._whole_by, progress, self._exchanges.patience)
            self._released = b""
            self._take(self._next(deadline))

    def end(self) -> tuple[bytes, Receipt]:
        """As ``SealedAnswer.end``."""
        return self._reader.end(self._exchanges.clock())

    def close(self) -> None:
        """Hang up, which cancels the work in the runtime if it goes on."""
        self._response.close()

    def _take(self, data: bytes | None) -> None:
        """The next bytes, or None where the sealed answer ended."""
        if data is None:
            self._released += self._reader.finish()
            self._finished = True
        else:
            self._released += self._reader.feed(data)

    def _next(self, deadline: float) -> bytes | None:
        with outer.sending_sealed():
            data = next(self._arriving, None)
            _require_before(deadline)
            return data


async def _require_sealed(response: httpx2.Response) -> None:
    if outer.is_sealed(response.status_code, response.headers):
        return
    body = b""
    async for data in response.aiter_raw():
        body += data
        if len(body) > outer.MAX_PROBLEM_BYTES:
            break
    raise outer.unsealed_answer(response.status_code, response.headers, body)


def _require_sealed_blocking(response: httpx2.Response, deadline: float) -> None:
    if outer.is_sealed(response.status_code, response.headers):
        return
    body = b""
    for data in response.iter_raw():
        _require_before(deadline)
        body += data
        if len(body) > outer.MAX_PROBLEM_BYTES:
            break
    raise outer.unsealed_answer(response.status_code, response.headers, body)


def _deadline(head: AnswerHead, whole_by: float, progress: float, patience: Patience) -> float:
    """By when (monotonic) something must arrive: a stream must also make progress, however it drips."""
    return min(whole_by, progress + patience.idle_s) if head.is_stream else whole_by


def _require_before(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise RuntimeTimeout("The runtime made no progress in the time allowed.")
