"""A fuzzer reads what the gateway says of itself and finds nothing that breaks it, runtime and all."""

from __future__ import annotations

import asyncio
import tempfile
from functools import cached_property
from pathlib import Path

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from attest.mock.vendor import MockVendor
from attest.protocol import paths
from gateway.api.openapi import gateway_document
from gateway.app import create_app
from tests.simulators.real_runtime import MODEL, RealRuntime
from tests.simulators.running_gateway import write_settings

CHECKS = [
    schemathesis.checks.not_a_server_error,
    schemathesis.checks.response_schema_conformance,
    schemathesis.checks.content_type_conformance,
]


class Pair:
    """A gateway before the real runtime, without a socket between them; made when it is first asked.

    The fuzzer wants the document while tests are collected; keys of a vendor are too slow to make then.
    """

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.api_key = ""

    @cached_property
    def gateway(self) -> ASGIApp:
        """The gateway."""
        runtime = RealRuntime(MockVendor.create())
        app = runtime.app()
        carrier = httpx2.ASGITransport(app)  # type: ignore[arg-type]  # its own idea of an ASGI app's type
        values, self.api_key, _ = write_settings(
            Path(self.folder.name), "http://runtime", runtime.trust, runtime.reference
        )
        asyncio.run(runtime.engines[-1].start())
        return create_app(values, transport=carrier)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The document without the pair behind it; everything else with it."""
        if scope["type"] == "http" and scope["path"] == paths.OPENAPI_PATH:
            await JSONResponse(gateway_document())(scope, receive, send)
        elif scope["type"] == "http":
            await self.gateway(scope, receive, send)


PAIR = Pair()


@pytest.fixture(scope="module", autouse=True)
def made() -> ASGIApp:
    """Make the pair before the fuzzer's own event loop runs."""
    return PAIR.gateway


SCHEMA = schemathesis.openapi.from_asgi(paths.OPENAPI_PATH, PAIR)


@SCHEMA.parametrize()
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_gateway(case: schemathesis.Case) -> None:
    """With a valid key, so that what is sent goes through every step to the engine and back."""
    case.headers = {**(case.headers or {}), "authorization": f"Bearer {PAIR.api_key}"}
    if isinstance(case.body, dict) and "model" in case.body:
        case.body["model"] = MODEL
    response = case.call()
    assert b"Traceback" not in response.content
    case.validate_response(response, checks=CHECKS)


@SCHEMA.parametrize()
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_gateway_without_a_key(case: schemathesis.Case) -> None:
    case.headers = {name: value for name, value in (case.headers or {}).items() if name != "authorization"}
    response = case.call()
    assert response.status_code in {200, 401, 405}
    case.validate_response(response, checks=CHECKS)
