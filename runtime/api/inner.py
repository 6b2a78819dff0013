"""The inner API: OpenAI-shaped, reached only through the seal.

    GET  /v1/models, /v1/models/{name}
    POST /v1/chat/completions, /v1/completions      whole or streamed
    POST /v1/embeddings, /v1/tokenize, /v1/detokenize

An ordinary ASGI app, written without a framework: a few routes, and every function between a token and the
seal is paid for per token. It answers only requests that carry an ``Exchange``. An error that happens before
the first token has its own status; a stream that breaks later ends with an error event and no ``[DONE]``.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from http import HTTPStatus
from importlib.metadata import version

from starlette.types import Message, Receive, Scope, Send

from attest.protocol import openapi, paths
from attest.protocol.openai.chat import ChatRequest
from attest.protocol.openai.completions import CompletionRequest
from attest.protocol.openai.embeddings import EmbeddingsRequest
from attest.protocol.openai.parse import InvalidBody, Request, parse_request
from attest.protocol.openai.tokenize import DetokenizeRequest, TokenizeRequest
from runtime.api import forms, generation
from runtime.api.answers import DONE, ChatWriter, CompletionWriter, Writer, error_event, to_json
from runtime.api.asgi import BodyTooLarge, ClientGone, header, read_body, respond
from runtime.api.embeddings import Embeddings
from runtime.api.errors import ApiError, internal_error
from runtime.api.exchange import SCOPE_KEY, Exchange
from runtime.api.generation import Piece
from runtime.api.models import Models
from runtime.api.prompts import Prompts
from runtime.api.served import ServedModel
from runtime.api.tokens import Tokens
from runtime.engine.base import EngineRefusal

_LOG = logging.getLogger("sealgate.runtime")

_EVENT_STREAM = [(b"content-type", paths.MEDIA_EVENT_STREAM.encode()), (b"cache-control", b"no-store")]


class InnerApp:
    """The inner ASGI app.

    Args:
        served: the model behind it.
        max_body_bytes: of one request.
        wall_clock: seconds since 1970.
    """

    def __init__(
        self, served: ServedModel, *, max_body_bytes: int, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._models = Models(served)
        self._max_body_bytes = max_body_bytes
        self._wall_clock = wall_clock
        self._prompts = Prompts(served.tokenizer)
        self._embeddings = None if served.embedder is None else Embeddings(served.embedder)
        self._tokens = Tokens(served, self._models, self._prompts, self._embeddings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        answer = _Answer(send)
        try:
            await self._answer(scope, receive, answer.send, _exchange_of(scope))
        except ClientGone:
            return
        except ApiError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - whatever it is, the log gets its type alone
            _LOG.error("inner request failed: %s", type(error).__name__)
            failure = internal_error()
        else:
            return
        if answer.started:
            raise AnswerBroken
        await _fail(send, failure)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        path, method = scope["path"], scope["method"]
        if path == paths.MODELS_PATH or path.startswith(f"{paths.MODELS_PATH}/"):
            _require_method(method, "GET")
            name = path.removeprefix(paths.MODELS_PATH).removeprefix("/")
            await respond(send, HTTPStatus.OK, await self._model_page(name), paths.MEDIA_JSON)
        elif path == paths.CHAT_PATH:
            _require_method(method, "POST")
            await self._chat(await self._body(scope, receive, ChatRequest), send, exchange)
        elif path == paths.COMPLETIONS_PATH:
            _require_method(method, "POST")
            await self._complete(await self._body(scope, receive, CompletionRequest), send, exchange)
        elif path == paths.EMBEDDINGS_PATH:
            _require_method(method, "POST")
            await self._embed(await self._body(scope, receive, EmbeddingsRequest), send, exchange)
        elif path in paths.TOKENIZE_PATHS:
            _require_method(method, "POST")
            tokens = await self._tokens.of(await self._body(scope, receive, TokenizeRequest))
            await respond(send, HTTPStatus.OK, tokens, paths.MEDIA_JSON)
        elif path in paths.DETOKENIZE_PATHS:
            _require_method(method, "POST")
            text = await self._tokens.text(await self._body(scope, receive, DetokenizeRequest))
            await respond(send, HTTPStatus.OK, text, paths.MEDIA_JSON)
        elif path == paths.OPENAPI_PATH:
            _require_method(method, "GET")
            document = openapi.document("Sealgate runtime, inner API", version=version("sealgate"))
            await respond(send, HTTPStatus.OK, to_json(document).encode(), paths.MEDIA_JSON)
        else:
            raise ApiError(
                HTTPStatus.NOT_FOUND, "route_not_found", "There is no such route; see /openapi.json."
            )

    async def _body(self, scope: Scope, receive: Receive, model: type[Request]) -> Request:
        media_type = header(scope, b"content-type").partition(b";")[0].strip().lower()
        if media_type != paths.MEDIA_JSON.encode():
            raise ApiError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "Send application/json."
            )
        try:
            return parse_request(model, await read_body(receive, self._max_body_bytes))
        except BodyTooLarge as error:
            raise ApiError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "request_too_large",
                f"The body may have {self._max_body_bytes} bytes. Shorten the request.",
            ) from error
        except InvalidBody as error:
            raise ApiError.of_body(error) from None

    async def _chat(self, request: ChatRequest, send: Send, exchange: Exchange) -> None:
        served = await self._models.choose(request.model)
        prompt = await self._prompts.of_chat(request)
        writer = ChatWriter(
            f"chatcmpl-{uuid.uuid4().hex}",
            int(self._wall_clock()),
            served,
            request.streaming,
            logprobs=bool(request.logprobs),
            prompt_logprobs=request.prompt_logprobs,
        )
        await self._generate(request, [prompt], writer, send, exchange, served=served)

    async def _complete(self, request: CompletionRequest, send: Send, exchange: Exchange) -> None:
        served = await self._models.choose(request.model)
        prompts = await self._prompts.of_completion(request)
        writer = CompletionWriter(
            f"cmpl-{uuid.uuid4().hex}",
            int(self._wall_clock()),
            served,
            request.streaming,
            alternatives=request.alternatives,
            prompt_logprobs=request.prompt_logprobs,
        )
        await self._generate(request, prompts, writer, send, exchange, served=served)

    async def _embed(self, request: EmbeddingsRequest, send: Send, exchange: Exchange) -> None:
        embeddings = self._embeddings
        if embeddings is None or request.model != embeddings.model:
            raise self._models.makes_no_embeddings()
        await respond(send, HTTPStatus.OK, await embeddings.answer(request, exchange), paths.MEDIA_JSON)

    async def _generate(
        self,
        request: ChatRequest | CompletionRequest,
        prompts: list[list[int]],
        writer: Writer,
        send: Send,
        exchange: Exchange,
        *,
        served: ServedModel,
    ) -> None:
        form = await forms.compiled(request, served, tenant=exchange.tenant)
        plans = generation.plans(
            request,
            prompts,
            served=served,
            exchange=exchange,
            request_id=uuid.uuid4().hex,
            form=form,
            functions=forms.callable_names(request) if isinstance(request, ChatRequest) else frozenset(),
        )
        exchange.model = served.name
        async with aclosing(generation.run(plans, served, exchange)) as pieces:
            try:
                first = await anext(pieces)
                if not request.stream:
                    collected = [first, *[piece async for piece in pieces]]
            except EngineRefusal as error:
                raise ApiError.of_engine(error) from None
            headers = _ran(served, exchange)
            if request.stream:
                head = [*_EVENT_STREAM, *headers]
                await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": head})
                await _stream(
                    first, pieces, writer, send, exchange, include_usage=request.streaming.include_usage
                )
            else:
                if request.scores is None:
                    body = writer.whole(collected, exchange)
                else:  # a line per token of the prompt: other answers stream meanwhile
                    body = await asyncio.to_thread(writer.whole, collected, exchange)
                await respond(send, HTTPStatus.OK, body, paths.MEDIA_JSON, headers)

    async def _model_page(self, name: str) -> bytes:
        if name:
            return to_json(await self._models.entry(name)).encode()
        return to_json({"object": "list", "data": await self._models.listed()}).encode()


class AnswerBroken(Exception):
    """An answer broke off after it had begun; whoever carries it must not let it look complete."""


class _Answer:
    """Remembers whether an answer has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def send(self, message: Message) -> None:
        self.started = True
        await self._send(message)


def _ran(served: ServedModel, exchange: Exchange) -> list[tuple[bytes, bytes]]:
    """Note which adapter the answer is made with, for its receipt; the header that says the same."""
    digest = exchange.adapter_digest = served.adapter_digest
    return [] if digest is None else [(paths.ADAPTER_HEADER.encode(), digest.encode())]


def _exchange_of(scope: Scope) -> Exchange:
    exchange = scope.get(SCOPE_KEY)
    if scope["type"] != "http" or not isinstance(exchange, Exchange):
        raise ApiError(HTTPStatus.UNAUTHORIZED, "no_tenant", "This API is reached through the seal only.")
    return exchange


async def _stream(
    first: Piece,
    pieces: AsyncGenerator[Piece],
    writer: Writer,
    send: Send,
    exchange: Exchange,
    *,
    include_usage: bool,
) -> None:
    await _more(send, writer.event(first))
    try:
        async for piece in pieces:
            if event := writer.event(piece):
                await _more(send, event)
    except EngineRefusal as error:
        last = error_event(ApiError.of_engine(error).body())
    else:
        last = (writer.usage_event(exchange) if include_usage else b"") + DONE
    await send({"type": "http.response.body", "body": last, "more_body": False})


async def _more(send: Send, event: bytes) -> None:
    await send({"type": "http.response.body", "body": event, "more_body": True})


async def _fail(send: Send, error: ApiError) -> None:
    headers = []
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after_s))
    await respond(send, error.status, error.body(), paths.MEDIA_JSON, headers)


def _require_method(method: str, expected: str) -> None:
    if method != expected:
        raise ApiError(
            HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", f"This route answers {expected} only."
        )
