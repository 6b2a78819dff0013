"""The gateway's OpenAPI document: the shared routes with API keys, and the gateway's own."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any

from attest.protocol import openapi, paths

_ERRORS = {
    "403": "A policy denied it.",
    "502": "The runtime is unreachable, or its answer was not accepted.",
    "504": "The runtime made no progress in time.",
}


@cache
def gateway_document() -> dict[str, Any]:
    """The document as JSON."""
    document = openapi.document(
        "Sealgate gateway",
        version=version("sealgate"),
        errors=_ERRORS,
        further_paths={
            "/sealgate/verdict": {
                "get": {
                    "operationId": "verdict",
                    "security": [{"key": []}],
                    "responses": {
                        "200": _json("What the gateway believes of its runtime, with every check."),
                        "401": _json("Who asks is not established."),
                        "502": _json("The runtime is unreachable."),
                        "503": _json("The runtime's evidence was refused; the failing check is the last."),
                    },
                }
            },
            paths.HEALTH_PATH: {
                "get": {"operationId": "health", "responses": {"200": _json("The process is up.")}}
            },
            paths.METRICS_PATH: {
                "get": {
                    "operationId": "metrics",
                    "responses": {
                        "200": {
                            "description": "Counters without content.",
                            "content": {"text/plain": {"schema": {"type": "string"}}},
                        }
                    },
                }
            },
        },
        api_keys=True,
    )
    # The runtime's errors plus what only a gateway can add (gateway.errors.GatewayError.body).
    document["components"]["schemas"]["ErrorDetail"]["properties"] |= {
        "refusal": {"type": "string", "description": "The check that refused, where one did."},
        "request_id": {"type": "string", "description": "Names the request in the gateway's log."},
    }
    return document


def _json(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": {"type": "object"}}}}
