"""``POST /sealed``: the only way in.

    1 admit    a place among the open requests
    2 open     the whole sealed request, once (opening)
    3 parse    binary HTTP, and whose it is (admission)
    4 answer   the inner app, in this process
    5 seal     its answer as it comes, the receipt at the end (sealing)

Up to step 2 errors are plain problem documents; from then on everything is sealed. The sender's hang-up
cancels the inner app, which closes the engine's sequence.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from attest.channel.padding import Profile
from attest.protocol import paths, problems
from attest.protocol.problems import Problem
from attest.protocol.receipt import Receipt, sign_receipt
from attest.refusal import Malformed, Refused
from runtime.api.admission import Admitted, admit, parse_message
from runtime.api.asgi import ClientGone, respond
from runtime.api.errors import ApiError, internal_error
from runtime.api.exchange import Exchange
from runtime.api.inner import AnswerBroken
from runtime.api.metrics import RuntimeMetrics
from runtime.api.opening import BUSY, Opened, RequestReader, Unopened
from runtime.api.sealing import SealedAnswer
from runtime.api.served import ServedModel
from runtime.identity import Epoch

_LOG = logging.getLogger("sealgate.runtime")


class SealedRoute:
    """The ASGI app of the route.

    Args:
        inner: the inner API.
        served: what receipts say of the model.
        reader: opens requests.
        metrics: counts them.
        max_open: sealed requests worked on at once.
        max_body_bytes: of an inner request.
        padding: profile of the answers.
        clock: the time, aware.
    """

    def __init__(
        self,
        inner: ASGIApp,
        *,
        served: ServedModel,
        reader: RequestReader,
        metrics: RuntimeMetrics,
        max_open: int,
        max_body_bytes: int,
        padding: Profile,
        clock: Callable[[], datetime],
    ) -> None:
        self._inner = inner
        self._served = served
        self._reader = reader
        self._metrics = metrics
        self._max_open = max_open
        self._max_body_bytes = max_body_bytes
        self._padding = padding
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one sealed request."""
        if self._metrics.open_requests >= self._max_open:
            await self._refuse(send, Unopened(BUSY, "busy"))
            return
        self._metrics.open_requests += 1
        try:
            opened = await self._reader.read(scope, receive)
            await self._answer(opened, receive, send)
        except Unopened as unopened:
            await self._refuse(send, unopened)
        except ClientGone:
            self._metrics.count("sealed", "client-gone")
        finally:
            self._metrics.open_requests -= 1

    async def _refuse(self, send: Send, unopened: Unopened) -> None:
        self._metrics.count("sealed", unopened.code)
        await respond_problem(send, unopened.problem)

    async def _answer(self, opened: Opened, receive: Receive, send: Send) -> None:
        self._metrics.sealed_bytes_in += len(opened.message)
        try:
            head, body = parse_message(opened.message, max_body_bytes=self._max_body_bytes)
            admitted = admit(head, body, opened.epoch, self._clock())
        except Refused as refusal:
            await self._seal_error(opened, send, refusal)
            return
        exchange = Exchange(
            tenant=admitted.claims.tenant,
            label_id=admitted.claims.label_id,
            receipt_id=f"rcpt-{uuid.uuid4().hex}",
        )
        answer = SealedAnswer(
            send,
            opened.sealer,
            padding=self._padding,
            receipt_id=exchange.receipt_id,
            make_receipt=lambda status, digest: self._receipt(
                admitted, opened.epoch, exchange, status, digest
            ),
        )
        await self._dispatch(admitted, exchange, answer, receive)
        self._metrics.sealed_bytes_out += answer.sealed_bytes

    async def _dispatch(
        self, admitted: Admitted, exchange: Exchange, answer: SealedAnswer, receive: Receive
    ) -> None:
        working = asyncio.create_task(
            _as_coroutine(self._inner, admitted.scope(exchange), _receive_once(admitted.body), answer.send)
        )
        hanging_up = asyncio.create_task(_until_gone(receive))
        try:
            await asyncio.wait({working, hanging_up}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise ClientGone
            self._settle(working, answer)
        finally:
            for task in (working, hanging_up):
                task.cancel()
            # The engine's sequence is closed when this returns, not at some later garbage collection.
            await asyncio.gather(working, hanging_up, return_exceptions=True)
        if answer.status is None:
            await _send_error(answer.send, internal_error())
        outcome = str(answer.status) if answer.ended else "broken"
        self._metrics.count("sealed", outcome)

    def _settle(self, working: asyncio.Task[None], answer: SealedAnswer) -> None:
        """Note how the inner app ended; an answer that began and did not end stays without its last chunk."""
        failure = working.exception()
        if failure is not None and not isinstance(failure, (AnswerBroken, ClientGone)):
            _LOG.error(
                "inner app failed: %s, answer begun: %s", type(failure).__name__, answer.status is not None
            )

    async def _seal_error(self, opened: Opened, send: Send, refusal: Refused) -> None:
        """Nobody is established as the sender, so there is no receipt to name them."""
        answer = SealedAnswer(send, opened.sealer, padding=self._padding)
        if isinstance(refusal, Malformed) and refusal.code.startswith("bhttp-"):
            error = ApiError(
                HTTPStatus.BAD_REQUEST,
                refusal.code.replace("-", "_"),
                "The sealed message is not one binary HTTP request (RFC 9292).",
            )
        elif refusal.code.startswith("bhttp-"):
            error = ApiError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "request_too_large",
                f"The body may have {self._max_body_bytes} bytes. Shorten the request.",
            )
        else:
            error = ApiError.of_identity(refusal)
        self._metrics.count("sealed", refusal.code)
        await _send_error(answer.send, error)

    def _receipt(
        self, admitted: Admitted, epoch: Epoch, exchange: Exchange, status: int, response_sha256: str
    ) -> str:
        claims = admitted.claims
        receipt = Receipt(
            receipt_id=exchange.receipt_id,
            statement_digest=claims.statement_digest,
            keyset_digest=epoch.keyset_digest,
            tenant=claims.tenant,
            sequence=claims.sequence,
            request_sha256=claims.body_sha256,
            response_sha256=response_sha256,
            model=exchange.model,
            base_model_digest=exchange.base_model_digest or self._served.base_model_digest,
            adapter_digest=exchange.adapter_digest,
            label_id=claims.label_id,
            prompt_tokens=exchange.prompt_tokens,
            completion_tokens=exchange.completion_tokens,
            finish_reason=exchange.finish_reason,
            status=status,
            backend=exchange.backend or self._served.engine.info.backend,
            issued_at=self._clock().replace(microsecond=0),
        )
        return sign_receipt(epoch.receipt_key, receipt)


async def respond_problem(send: Send, problem: Problem) -> None:
    """The plain answer."""
    retry = [(b"retry-after", b"1")] if problem.status == HTTPStatus.SERVICE_UNAVAILABLE else []
    await respond(send, problem.status, problem.body(), problems.MEDIA_PROBLEM, retry)


async def _send_error(send: Send, error: ApiError) -> None:
    await respond(send, error.status, error.body(), paths.MEDIA_JSON)


async def _as_coroutine(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


def _receive_once(body: bytes) -> Receive:
    """The inner app's ``receive``: the body, then nothing until it is cancelled."""
    given = False

    async def receive() -> Message:
        nonlocal given
        if given:
            await asyncio.get_running_loop().create_future()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def _until_gone(receive: Receive) -> None:
    with suppress(ClientGone):
        while (await receive())["type"] != "http.disconnect":
            pass
