"""The OpenAPI 3.1 document of the OpenAI-shaped routes, made from the models that validate them.

Gateway and runtime serve it with their own routes added; a fuzzer reads it to test both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from attest.protocol import paths
from attest.protocol.openai.answers import (
    ChatAnswer,
    CompletionAnswer,
    DetokenizeAnswer,
    EmbeddingsAnswer,
    ErrorAnswer,
    ModelList,
    TokenizeAnswer,
)
from attest.protocol.openai.chat import ChatRequest
from attest.protocol.openai.completions import CompletionRequest
from attest.protocol.openai.embeddings import EmbeddingsRequest
from attest.protocol.openai.tokenize import DetokenizeRequest, TokenizeRequest

_REFERENCE: Final = "#/components/schemas/{model}"
_TOKENS: Final[tuple[tuple[str, str, type[BaseModel], type[BaseModel]], ...]] = (
    (paths.TOKENIZE_PATH, "tokenize", TokenizeRequest, TokenizeAnswer),
    (paths.DETOKENIZE_PATH, "detokenize", DetokenizeRequest, DetokenizeAnswer),
    (paths.TOKENIZE_PATHS[1], "tokenizeAsVllm", TokenizeRequest, TokenizeAnswer),
    (paths.DETOKENIZE_PATHS[1], "detokenizeAsVllm", DetokenizeRequest, DetokenizeAnswer),
)
_ERRORS: Final = {
    "400": "The request must change; code says how.",
    "401": "Who asks is not established.",
    "404": "No such model.",
    "405": "Another method.",
    "413": "The body is too large.",
    "415": "The body is not announced as JSON.",
    "429": "Too much at once; later is fine.",
    "500": "A fault of this server.",
    "503": "Not able to answer now.",
}


def document(
    title: str,
    *,
    version: str,
    errors: Mapping[str, str] | None = None,
    further_paths: Mapping[str, Any] | None = None,
    api_keys: bool = False,
) -> dict[str, Any]:
    """The document as JSON.

    Args:
        title: of the API.
        version: of the software that serves it.
        errors: further statuses with their descriptions.
        further_paths: OpenAPI path items of further routes.
        api_keys: the OpenAI-shaped routes want a bearer key.
    """
    requests: list[type[BaseModel]] = [
        *(ChatRequest, CompletionRequest, EmbeddingsRequest),
        *(TokenizeRequest, DetokenizeRequest),
    ]
    answers: list[type[BaseModel]] = [
        *(ChatAnswer, CompletionAnswer, EmbeddingsAnswer, TokenizeAnswer, DetokenizeAnswer),
        *(ModelList, ErrorAnswer),
    ]
    _, definitions = models_json_schema(
        [(model, "validation") for model in requests] + [(model, "serialization") for model in answers],
        ref_template=_REFERENCE,
    )
    failures = {
        status: _response(description, ErrorAnswer)
        for status, description in {**_ERRORS, **(errors or {})}.items()
    }
    security: dict[str, Any] = {"security": [{"key": []}]} if api_keys else {}
    components: dict[str, Any] = {"schemas": definitions["$defs"]}
    if api_keys:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": {
            paths.MODELS_PATH: {
                "get": {
                    "operationId": "listModels",
                    "responses": {"200": _response("The models.", ModelList), **failures},
                    **security,
                }
            },
            paths.CHAT_PATH: {"post": _streaming("chat", ChatRequest, ChatAnswer, failures) | security},
            paths.COMPLETIONS_PATH: {
                "post": _streaming("complete", CompletionRequest, CompletionAnswer, failures) | security
            },
            paths.EMBEDDINGS_PATH: {
                "post": _operation("embed", EmbeddingsRequest, EmbeddingsAnswer, failures) | security
            },
            **{
                path: {"post": _operation(name, request, answer, failures) | security}
                for path, name, request, answer in _TOKENS
            },
            **(further_paths or {}),
        },
        "components": components,
    }


def _operation(
    name: str, request: type[BaseModel], answer: type[BaseModel], failures: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "operationId": name,
        "requestBody": {"required": True, "content": {paths.MEDIA_JSON: {"schema": _schema(request)}}},
        "responses": {"200": _response("The answer.", answer), **failures},
    }


def _streaming(
    name: str, request: type[BaseModel], answer: type[BaseModel], failures: Mapping[str, Any]
) -> dict[str, Any]:
    success = _response("The answer, or its events where stream is true.", answer)
    success["content"][paths.MEDIA_EVENT_STREAM] = {}  # OpenAPI 3.1 has no schema for a sequence of events
    operation = _operation(name, request, answer, failures)
    return {**operation, "responses": {**operation["responses"], "200": success}}


def _response(description: str, model: type[BaseModel]) -> dict[str, Any]:
    return {"description": description, "content": {paths.MEDIA_JSON: {"schema": _schema(model)}}}


def _schema(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=model.__name__)}
