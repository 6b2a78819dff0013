"""Turns what the relay yields into an HTTP answer, and the application's hanging up into the relay's end."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from traceback import extract_tb
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from attest.protocol import paths
from gateway.errors import GatewayError, GatewayFault
from gateway.metrics import Metrics
from gateway.relay import AnswerEnd, AnswerStart

log = logging.getLogger("sealgate.gateway")

CLIENT_HUNG_UP = "client_hung_up"


class RelayResponse(Response):
    """An answer under way.

    Args:
        request_id: of the call, for the answer's header and the log.
        route: one of the known routes, for metrics.
        parts: the relay's generator, not yet begun.
        metrics: where to count.
    """

    def __init__(
        self,
        request_id: str,
        route: str,
        parts: AsyncGenerator[AnswerStart | bytes | AnswerEnd],
        metrics: Metrics,
    ) -> None:
        super().__init__()
        self._request_id = request_id
        self._route = route
        self._parts = parts
        self._metrics = metrics
        self._began = time.monotonic()
        self._start: AnswerStart | None = None
        self._headers_sent = False
        self._sent_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Serve until the answer ends or the application hangs up, whichever comes first."""
        serving = asyncio.create_task(self._serve(send))
        hanging_up = asyncio.create_task(_disconnected(receive))
        self._metrics.in_flight += 1
        try:
            await asyncio.wait({serving, hanging_up}, return_when=asyncio.FIRST_COMPLETED)
            hung_up = not serving.done()
        finally:
            hanging_up.cancel()
            serving.cancel()  # closes the relay's generator, which hangs up on the runtime
            await asyncio.gather(serving, hanging_up, return_exceptions=True)
            self._metrics.in_flight -= 1
        if hung_up:
            self._metrics.client_hangups += 1
        self._record(CLIENT_HUNG_UP if hung_up else serving.result())

    async def _serve(self, send: Send) -> str:
        """Send the whole answer; returns its outcome code, ``ok`` or an error's."""
        try:
            async with aclosing(self._parts):
                async for part in self._parts:
                    match part:
                        case AnswerStart():
                            self._start = part
                        case AnswerEnd():
                            await self._send_part(send, part.content, more=False)
                        case _:
                            await self._send_part(send, part)
        except GatewayError as error:
            await self._fail(send, error)
            return error.code
        except OSError:  # the connection went while we were writing to it
            return CLIENT_HUNG_UP
        except Exception as error:  # noqa: BLE001 - the last place where a defect can become an answer
            fault = self._fault(error)
            await self._fail(send, fault)
            return fault.code
        return "ok"

    async def _send_part(self, send: Send, part: bytes, *, more: bool = True) -> None:
        # Status and headers wait for the first byte that may be released: until then an error has a status.
        if not self._headers_sent:
            if self._start is None:
                raise RuntimeError("the relay ended without an answer")
            length = {} if more else {"content-length": str(len(part))}
            await self._send_start(send, self._start.status, self._start.headers | length)
        self._sent_bytes += len(part)
        await send({"type": "http.response.body", "body": part, "more_body": more})

    async def _send_start(self, send: Send, status: int, headers: dict[str, str]) -> None:
        self._metrics.first_byte.observe(time.monotonic() - self._began)
        self._headers_sent = True
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        raw.append((paths.REQUEST_ID_HEADER.encode(), self._request_id.encode()))
        await send({"type": "http.response.start", "status": status, "headers": raw})

    async def _fail(self, send: Send, error: GatewayError) -> None:
        document = json.dumps(error.body(self._request_id))
        with suppress(OSError):
            if self._headers_sent:
                # The start is out and cannot be taken back. An error event, and no end marker, tells the
                # application that what it has is not an answer; only streams are released in parts.
                body = f"data: {document}\n\n".encode()
            else:
                body = document.encode()
                headers = {"content-type": paths.MEDIA_JSON, "cache-control": "no-store", **error.headers}
                await self._send_start(send, error.status, headers)
            await send({"type": "http.response.body", "body": body, "more_body": False})

    def _fault(self, error: Exception) -> GatewayFault:
        # Neither the message nor a trace: either may quote what the application sent.
        place = extract_tb(error.__traceback__)[-1]
        log.error(
            "defect request=%s %s at %s:%s",
            self._request_id,
            type(error).__name__,
            place.filename,
            place.lineno,
        )
        return GatewayFault("The gateway failed.")

    def _record(self, code: str) -> None:
        seconds = time.monotonic() - self._began
        self._metrics.requests[self._route, code] += 1
        self._metrics.whole.observe(seconds)
        log.info(
            "request=%s route=%s code=%s seconds=%.3f bytes=%d",
            self._request_id,
            self._route,
            code,
            seconds,
            self._sent_bytes,
        )


class ErrorResponse(Response):
    """One error document, for a request that did not reach the relay."""

    media_type = paths.MEDIA_JSON

    def __init__(self, error: GatewayError, request_id: str) -> None:
        headers = {"cache-control": "no-store", paths.REQUEST_ID_HEADER: request_id, **error.headers}
        super().__init__(json.dumps(error.body(request_id)), status_code=error.status, headers=headers)


async def _disconnected(receive: Receive) -> None:
    message: Any = {}
    while message.get("type") != "http.disconnect":
        message = await receive()
