"""The OpenAI-compatible API that applications see, and the gateway's own routes.

Through the relay go ``/v1/chat/completions``, ``/v1/completions``, ``/v1/embeddings``, ``/v1/tokenize`` and
``/v1/detokenize`` (where vLLM has them too), ``/v1/models`` and ``/v1/models/{id}``.
``/sealgate/verdict`` says what the gateway believes of its runtime, and why. All of these want an API key.
``/healthz``, ``/metrics`` and ``/openapi.json`` want none, and hold no content.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Lifespan

from attest.appraise import AttestedRuntime
from attest.protocol import paths
from attest.protocol.openai.parse import REQUESTS
from gateway.api.body import read_json_body
from gateway.api.openapi import gateway_document
from gateway.api.respond import ErrorResponse, RelayResponse
from gateway.errors import GatewayError, GatewayFault, MethodNotAllowed, RouteNotFound
from gateway.identity.api_keys import ApiKeyStore
from gateway.metrics import Metrics
from gateway.relay import Call, Relay
from gateway.trust.pool import VerifiedRuntimePool, utc_now

VERDICT_PATH = "/sealgate/verdict"
_NOT_FOUND, _METHOD_NOT_ALLOWED = 404, 405


class Api:
    """The routes of one gateway.

    Args:
        relay: the request path.
        keys: who may use it.
        pool: for the verdict page and the gauge.
        metrics: where to count.
        max_body_bytes: of a request.
    """

    def __init__(
        self,
        *,
        relay: Relay,
        keys: ApiKeyStore,
        pool: VerifiedRuntimePool,
        metrics: Metrics,
        max_body_bytes: int,
    ) -> None:
        self._relay = relay
        self._keys = keys
        self._pool = pool
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes

    def application(self, lifespan: Lifespan[Starlette]) -> Starlette:
        """The ASGI application."""
        relayed = self._answering(self._relayed)
        app = Starlette(
            lifespan=lifespan,
            routes=[
                *(Route(path, relayed, methods=["POST"]) for path in REQUESTS),
                Route(paths.MODELS_PATH, relayed, methods=["GET"]),
                Route(f"{paths.MODELS_PATH}/{{model:path}}", relayed, methods=["GET"]),
                Route(VERDICT_PATH, self._answering(self._verdict), methods=["GET"]),
                Route(paths.HEALTH_PATH, self._health, methods=["GET"]),
                Route(paths.METRICS_PATH, self._metrics_page, methods=["GET"]),
                Route(paths.OPENAPI_PATH, self._openapi, methods=["GET"]),
            ],
            exception_handlers={HTTPException: _http_exception},
        )
        app.router.redirect_slashes = False  # an answer that says "go elsewhere" is not one of this API's
        return app

    def _answering(
        self, endpoint: Callable[[Request, str], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """``endpoint`` with a request id, its errors turned into answers and counted."""

        async def answer(request: Request) -> Response:
            request_id = _new_request_id()
            try:
                return await endpoint(request, request_id)
            except GatewayError as error:
                self._metrics.requests[_route_of(request), error.code] += 1
                return ErrorResponse(error, request_id)
            except ClientDisconnect:
                self._metrics.client_hangups += 1
                return Response(status_code=499)  # nobody reads it

        return answer

    async def _relayed(self, request: Request, request_id: str) -> Response:
        caller = self._keys.authenticate(request.headers.get("authorization"))
        body = b""
        if request.method == "POST":
            body = await read_json_body(request, max_bytes=self._max_body_bytes)
        call = Call(
            request_id=request_id,
            caller=caller,
            method=request.method,
            path=request.scope["raw_path"].decode("latin-1"),
            body=body,
            label=request.headers.get(paths.LABEL_HEADER),
        )
        return RelayResponse(request_id, _route_of(request), self._relay.relay(call), self._metrics)

    async def _verdict(self, request: Request, request_id: str) -> Response:
        self._keys.authenticate(request.headers.get("authorization"))
        try:
            runtime = await self._pool.acquire()
        except GatewayError as error:
            rows = getattr(error.__cause__, "checks", ())
            document = {**error.body(request_id), "checks": [row.as_dict() for row in rows]}
            return JSONResponse(document, status_code=error.status, headers=error.headers)
        return JSONResponse(verdict_document(runtime), headers={"cache-control": "no-store"})

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok", "verdict": self._pool.current() is not None})

    async def _metrics_page(self, _: Request) -> Response:
        runtime = self._pool.current()
        left = 0.0 if runtime is None else (runtime.valid_until - utc_now()).total_seconds()
        page = self._metrics.render(verdict_seconds_left=max(left, 0.0))
        return PlainTextResponse(page, media_type=paths.MEDIA_METRICS)

    async def _openapi(self, _: Request) -> Response:
        return JSONResponse(gateway_document())


def verdict_document(runtime: AttestedRuntime) -> dict[str, object]:
    """A verdict for people and programs: the EAR claims, when it ends, and every check."""
    return {
        "tee": "MOCK" if runtime.is_mock else runtime.vendor,
        "statement": runtime.statement_digest,
        "keyset": runtime.keyset_digest,
        "measurement": runtime.measurement,
        "reference": runtime.reference_digest,
        "valid_until": runtime.valid_until.isoformat(),
        "ear": runtime.ear(),
        "checks": [row.as_dict() for row in runtime.checks],
    }


async def _http_exception(_: Request, error: Exception) -> Response:
    """Starlette's own refusals in this API's form."""
    status = error.status_code if isinstance(error, HTTPException) else 0
    known: dict[int, GatewayError] = {
        _NOT_FOUND: RouteNotFound("There is no such route."),
        _METHOD_NOT_ALLOWED: MethodNotAllowed("This route does not take this method."),
    }
    return ErrorResponse(known.get(status, GatewayFault("The gateway failed.")), _new_request_id())


def _new_request_id() -> str:
    return f"req_{secrets.token_hex(12)}"


def _route_of(request: Request) -> str:
    """One of the known routes, so that no caller can add to the metrics' labels."""
    path = request.url.path
    return f"{paths.MODELS_PATH}/{{id}}" if path.startswith(f"{paths.MODELS_PATH}/") else path
