"""The outer app: what the host and the network may see.

GET  /.well-known/sealgate/attestation?nonce=   a fresh bundle for 64 hex digits of the client's
GET  /ohttp-keys                                application/ohttp-keys; trust them through the bundle only
POST /sealed                                    message/ohttp-chunked-req
GET  /healthz, /metrics, /openapi.json          free of content
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from attest.attesters.base import AttesterFailure
from attest.protocol import paths, problems
from attest.protocol.problems import Problem
from attest.refusal import Malformed
from attest.statement import checked_nonce
from runtime.api.inner import InnerApp
from runtime.api.metrics import RuntimeMetrics
from runtime.api.opening import BUSY, RequestReader
from runtime.api.outer_openapi import outer_document
from runtime.api.sealed import SealedRoute
from runtime.api.served import ServedModel
from runtime.attestation import Attestation
from runtime.identity import RuntimeIdentity
from runtime.settings import ServeSettings

_LOG = logging.getLogger("sealgate.runtime")

_MAX_WAITING_FOR_EVIDENCE: Final = 64
"""The hardware signs one report at a time, each for tens of milliseconds; more waiters would time out."""

_NONCE = Problem(
    problems.NONCE, 400, f"Send {paths.NONCE_PARAMETER}= with 64 lower-case hex digits, once", processed=False
)
_NO_EVIDENCE = Problem(
    problems.EVIDENCE_UNAVAILABLE, 503, "The TEE gave no evidence", processed=False, detail="Try again."
)
_INTERNAL = Problem(problems.INTERNAL, 500, "The runtime failed", processed="unknown")


def problem_response(problem: Problem) -> Response:
    """A plain problem document."""
    headers = {"cache-control": "no-store"}
    if problem.status == 503:  # noqa: PLR2004 - Service Unavailable
        headers["retry-after"] = "1"
    return Response(problem.body(), problem.status, headers, problems.MEDIA_PROBLEM)


class Evidence:
    """The route that hands out evidence.

    Args:
        attestation: makes it.
        metrics: counts requests.
    """

    def __init__(self, attestation: Attestation, metrics: RuntimeMetrics) -> None:
        self._attestation = attestation
        self._metrics = metrics
        self._one_at_a_time = asyncio.Lock()
        self._waiting = 0

    async def __call__(self, request: Request) -> Response:
        """Answer one nonce."""
        outcome, response = await self._answer(request)
        self._metrics.count("attestation", outcome)
        return response

    async def _answer(self, request: Request) -> tuple[str, Response]:
        try:
            (value,) = request.query_params.getlist(paths.NONCE_PARAMETER)
            nonce = checked_nonce(value)
        except (ValueError, Malformed):
            return "nonce-form", problem_response(_NONCE)
        if self._waiting >= _MAX_WAITING_FOR_EVIDENCE:
            return "busy", problem_response(BUSY)
        self._waiting += 1
        try:
            async with self._one_at_a_time:
                epoch = self._attestation.epoch()
                bundle = await asyncio.to_thread(self._attestation.bundle, epoch, nonce)
        except AttesterFailure as failure:
            _LOG.warning("no evidence: %s", type(failure).__name__)
            return "evidence-unavailable", problem_response(_NO_EVIDENCE)
        finally:
            self._waiting -= 1
        return "200", Response(bundle, 200, {"cache-control": "no-store"}, paths.MEDIA_BUNDLE)


def create_outer_app(
    *,
    settings: ServeSettings,
    served: ServedModel,
    identity: RuntimeIdentity,
    attestation: Attestation,
    clock: Callable[[], datetime],
    lifespan: Lifespan[Starlette] | None = None,
) -> ASGIApp:
    """The outer app, with the inner one behind its seal."""
    metrics = RuntimeMetrics(served.engine, served.embedder)
    sealed = SealedRoute(
        InnerApp(served, max_body_bytes=settings.max_request_bytes),
        served=served,
        reader=RequestReader(
            identity, max_bytes=settings.max_request_bytes, timeout_s=settings.receive_timeout_s
        ),
        metrics=metrics,
        max_open=settings.max_open_requests,
        max_body_bytes=settings.max_request_bytes,
        padding=settings.padding,
        clock=clock,
    )

    async def ohttp_keys(_: Request) -> Response:
        keys = identity.current().keyset.ohttp_keys
        return Response(keys, 200, {"cache-control": "no-store"}, paths.MEDIA_OHTTP_KEYS)

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def show_metrics(_: Request) -> Response:
        return Response(metrics.render(), 200, {"content-type": paths.MEDIA_METRICS})

    async def openapi(_: Request) -> Response:
        return JSONResponse(outer_document())

    app = Starlette(
        routes=[
            Route(paths.ATTESTATION_PATH, Evidence(attestation, metrics).__call__, methods=["GET"]),
            Route(paths.OHTTP_KEYS_PATH, ohttp_keys, methods=["GET"]),
            Route(paths.SEALED_PATH, sealed, methods=["POST"]),
            Route(paths.HEALTH_PATH, health, methods=["GET"]),
            Route(paths.METRICS_PATH, show_metrics, methods=["GET"]),
            Route(paths.OPENAPI_PATH, openapi, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _http_problem, Exception: _fault},
        lifespan=lifespan,
    )
    return Quiet(app)


class Quiet:
    """Lets no exception of a request reach the server, whose log would show its message and traceback.

    Args:
        app: which has answered already, or whose unfinished answer the server then breaks off.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; a failure at start or stop does leave here."""
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            if scope["type"] != "http":
                raise
            _LOG.error("request failed: %s", type(error).__name__)


async def _http_problem(_: Request, error: Exception) -> Response:
    """No such route, or not with this method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    return problem_response(Problem(problems.BLANK, status, "There is no such route", processed=False))


async def _fault(_: Request, error: Exception) -> Response:
    """A fault of ours: its message could hold anything, so only its type is logged."""
    _LOG.error("outer request failed: %s", type(error).__name__)
    return problem_response(_INTERNAL)
