"""The OpenAPI 3.1 document of the outer routes, for people and for the fuzzer."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from attest.protocol import paths, problems

_PROBLEM = {
    "description": "What went wrong, and whether anything was done.",
    "content": {problems.MEDIA_PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_PROBLEM_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "processed"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "processed": {"enum": [True, False, "unknown"]},
    },
}
_BYTES = {"schema": {"type": "string", "format": "binary"}}


def outer_document() -> dict[str, Any]:
    """The document as JSON."""
    nonce = {
        "name": paths.NONCE_PARAMETER,
        "in": "query",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Sealgate runtime, outer API", "version": version("sealgate")},
        "paths": {
            paths.ATTESTATION_PATH: _get(paths.MEDIA_BUNDLE, "evidence", ("400", "503"), [nonce]),
            paths.OHTTP_KEYS_PATH: _get(paths.MEDIA_OHTTP_KEYS, "keys", ()),
            paths.SEALED_PATH: {
                "post": {
                    "operationId": "sealed",
                    "requestBody": {"required": True, "content": {paths.MEDIA_SEALED_REQUEST: _BYTES}},
                    "responses": {
                        "200": _ok(paths.MEDIA_SEALED_RESPONSE),
                        **dict.fromkeys(("400", "408", "409", "413", "415", "503"), _PROBLEM),
                    },
                }
            },
            paths.HEALTH_PATH: _get(paths.MEDIA_JSON, "health", ()),
            paths.METRICS_PATH: _get("text/plain", "metrics", ()),
        },
        "components": {"schemas": {"Problem": _PROBLEM_SCHEMA}},
    }


def _get(
    media_type: str, name: str, failures: tuple[str, ...], parameters: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    return {
        "get": {
            "operationId": name,
            "parameters": parameters or [],
            "responses": {"200": _ok(media_type), **dict.fromkeys(failures, _PROBLEM)},
        }
    }


def _ok(media_type: str) -> dict[str, Any]:
    content = {"schema": {"type": "object"}} if media_type.endswith("json") else _BYTES
    return {"description": "As asked.", "content": {media_type: content}}
