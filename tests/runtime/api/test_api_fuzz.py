"""A fuzzer reads what both apps say of themselves and finds nothing that breaks them."""

from __future__ import annotations

import asyncio

import schemathesis
from hypothesis import HealthCheck, settings
from starlette.types import Receive, Scope, Send

from attest.protocol import paths
from runtime.api.exchange import SCOPE_KEY, Exchange
from runtime.api.inner import InnerApp
from tests.simulators.stub_runtime import StubRuntime, served_by, stub_engine

FUZZ = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


class InnerWithTenant:
    """The inner app as the seal calls it, without the seal."""

    def __init__(self) -> None:
        engine = stub_engine(context=1 << 16)
        asyncio.run(engine.start())
        self._inner = InnerApp(served_by(engine), max_body_bytes=1 << 20)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """With somebody to answer to."""
        if scope["type"] != "http":
            return
        exchange = Exchange(tenant="t", label_id="l", receipt_id="r")
        await self._inner({**scope, SCOPE_KEY: exchange}, receive, send)


schemathesis.serializer.alias(paths.MEDIA_SEALED_REQUEST, "application/octet-stream")

INNER = schemathesis.openapi.from_asgi("/openapi.json", InnerWithTenant())
OUTER = schemathesis.openapi.from_asgi("/openapi.json", asyncio.run(StubRuntime.started()).app)


CHECKS = [
    schemathesis.checks.not_a_server_error,
    schemathesis.checks.response_schema_conformance,
    schemathesis.checks.content_type_conformance,
]


def hold(case: schemathesis.Case) -> None:
    """The answer is one that the document knows, and shows nothing of our insides."""
    response = case.call()
    assert b"Traceback" not in response.content
    case.validate_response(response, checks=CHECKS)


@INNER.parametrize()
@FUZZ
def test_the_inner_api(case: schemathesis.Case) -> None:
    if isinstance(case.body, dict) and "model" in case.body:
        case.body["model"] = "stub"  # a name that it would not guess, behind which the engine is
    hold(case)


@OUTER.parametrize()
@FUZZ
def test_the_outer_api(case: schemathesis.Case) -> None:
    hold(case)
