"""Validate a body, or say in the API's words what is wrong with it."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Final, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from attest.protocol import paths
from attest.protocol.body import Body
from attest.protocol.openai.chat import ChatRequest
from attest.protocol.openai.completions import MAX_PROMPTS, CompletionRequest
from attest.protocol.openai.embeddings import MAX_INPUTS, EmbeddingsRequest
from attest.protocol.openai.forms import (
    CalledFunction,
    Function,
    JsonSchema,
    ResponseFormat,
    StructuredOutputs,
    Tool,
    ToolCall,
)
from attest.protocol.openai.messages import Message, TextPart
from attest.protocol.openai.sampling import MAX_STOP_CHARACTERS, MAX_STOPS, StreamOptions
from attest.protocol.openai.tokenize import DetokenizeRequest, TokenizeRequest

Request = TypeVar("Request", bound=Body)

AnyRequest = ChatRequest | CompletionRequest | EmbeddingsRequest | TokenizeRequest | DetokenizeRequest

REQUESTS: Final[Mapping[str, type[AnyRequest]]] = {
    paths.CHAT_PATH: ChatRequest,
    paths.COMPLETIONS_PATH: CompletionRequest,
    paths.EMBEDDINGS_PATH: EmbeddingsRequest,
    **dict.fromkeys(paths.TOKENIZE_PATHS, TokenizeRequest),
    **dict.fromkeys(paths.DETOKENIZE_PATHS, DetokenizeRequest),
}

UNSUPPORTED: Final = frozenset(
    {
        *("audio", "best_of", "function_call", "functions", "logit_bias", "modalities", "moderation"),
        *("prediction", "prompt_cache_options", "store", "suffix", "web_search_options"),
        *("add_generation_prompt", "continue_final_message", "chat_template", "chat_template_kwargs"),
    }
)
"""Documented parameters, the last ones vLLM's, that are refused unless they ask for what happens anyway."""

_UNIONS: Final = {
    "stop": f"a string or a list of at most {MAX_STOPS}, each of 1 to {MAX_STOP_CHARACTERS} characters",
    "content": "a string or a list of text parts; images, audio and files are not supported",
    "tool_choice": "none, auto, required, or a function by its name, which must be among the tools",
    "prompt": f"a string, a list of token ids, or a list of at most {MAX_PROMPTS} of either, none empty",
    "input": f"a string, a list of token ids, or a list of at most {MAX_INPUTS} of either, none empty",
}
"""pydantic explains every arm of a union in turn; one sentence says more."""


class InvalidBody(ValueError):
    """The body is not a request of this API. Holds names and rules, never values.

    Args:
        code: ``invalid_json``, ``missing_parameter``, ``unknown_parameter``, ``unsupported_parameter``,
            ``invalid_type`` or ``invalid_value``.
        param: the member that is wrong, e.g. ``messages.0.content``; None for the body itself.
        message: what is wrong and what would be right, one sentence.
    """

    def __init__(self, code: str, param: str | None, message: str) -> None:
        self.code = code
        self.param = param
        self.message = message
        super().__init__(f"{code}: {param}")


def parse_request(model: type[Request], body: bytes) -> Request:
    """Validate a body, once.

    Raises:
        InvalidBody: with the first thing that is wrong.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _explained(error.errors(include_url=False, include_input=False)[0]) from None


def _explained(error: ErrorDetails) -> InvalidBody:
    """The API's words for pydantic's; names of members only where they are ours."""
    kind, location = error["type"], error["loc"]
    param = _param(location)
    if named := _last(location, UNSUPPORTED):
        return InvalidBody("unsupported_parameter", named, f"This runtime does not support '{named}'.")
    match kind:
        case "json_invalid":
            return InvalidBody("invalid_json", None, "The body is not one JSON document in UTF-8.")
        case "rule":
            code, message = "invalid_value", f"{error['msg']}."
        case "extra_forbidden":
            code, message = "unknown_parameter", "The request has a parameter unknown to this API."
        case "missing":
            code, message = "missing_parameter", f"The parameter '{param}' is required."
        case "content_missing":
            param = f"{param}.content"
            code, message = "missing_parameter", f"The parameter '{param}' is required."
        case _ if union := _last(location, _UNIONS):
            code, message = "invalid_value", f"'{param}' must be {_UNIONS[union]}."
        case _:
            code = "invalid_type" if kind.endswith("_type") else "invalid_value"
            message = f"'{param or 'the body'}' is not acceptable: {error['msg']}."
    return InvalidBody(code, param, message)


def _last(location: tuple[int | str, ...], names: Container[str]) -> str | None:
    return next((part for part in reversed(location) if isinstance(part, str) and part in names), None)


_OWN: Final = (
    *(ChatRequest, CompletionRequest, EmbeddingsRequest, TokenizeRequest, DetokenizeRequest),
    *(Message, TextPart, StreamOptions, ResponseFormat, StructuredOutputs),
    *(JsonSchema, Tool, Function, ToolCall, CalledFunction),
)
_OWN_NAMES: Final = frozenset(
    field.alias or name for model in _OWN for name, field in model.model_fields.items()
)


def _param(location: tuple[int | str, ...]) -> str | None:
    """Where, up to the first name that the sender made up (or pydantic did, for an arm of a union)."""
    path: list[str] = []
    for part in location:
        if isinstance(part, str) and part not in _OWN_NAMES:
            break
        path.append(str(part))
    return ".".join(path) or None
