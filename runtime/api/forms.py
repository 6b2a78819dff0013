"""From a request to the form that its answers are held to, and the messages that its prompt is made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from attest.protocol.openai.chat import ChatRequest
from attest.protocol.openai.completions import CompletionRequest
from attest.protocol.openai.forms import NamedTool, ToolCall
from attest.protocol.openai.messages import Message
from runtime.api.errors import ApiError
from runtime.api.served import CompiledForm, ServedModel
from runtime.guide.form import (
    Callable,
    CallsForm,
    ChoiceForm,
    Form,
    FormRefused,
    FormsBusy,
    JsonForm,
    RegexForm,
)

MOST_CALLS: Final = 16
"""In one answer. Without a bound a model that must call goes on calling to the end of its context."""

RETRY_S: Final = 5.0

_FREE: Final = {"properties": {}, "additionalProperties": False}
"""A function without parameters takes none."""


async def compiled(
    request: ChatRequest | CompletionRequest, served: ServedModel, *, tenant: str
) -> CompiledForm | None:
    """The form of the request's answers; None if they are free.

    Raises:
        ApiError: the form cannot be enforced, or not now, or the engine obeys none.
    """
    form = _form(request)
    if form is None:
        return None
    param = _param(request)
    if served.guides is None:
        raise ApiError(
            HTTPStatus.BAD_REQUEST,
            "unsupported_parameter",
            f"The engine '{served.engine.info.backend}' does not support '{param}'.",
            param,
        )
    try:
        return await served.guides.compiled(form, tenant=tenant)
    except FormRefused as refusal:
        raise ApiError(HTTPStatus.BAD_REQUEST, "invalid_value", refusal.message, param) from None
    except FormsBusy:
        raise ApiError(
            HTTPStatus.TOO_MANY_REQUESTS,
            "engine_overloaded",
            "Too many forms wait to be compiled. Try again in a moment.",
            retry_after=RETRY_S,
        ) from None


def callable_names(request: ChatRequest) -> frozenset[str]:
    """The functions that an answer may call; empty if it may call none."""
    return frozenset(function.name for function in _functions(request))


def tools(request: ChatRequest) -> list[dict[str, Any]]:
    """The tools as a prompt describes them; none if none may be called."""
    if request.tool_choice == "none":
        return []
    return [tool.model_dump(by_alias=True, exclude_none=True) for tool in request.tools or ()]


def messages(request: ChatRequest) -> list[dict[str, Any]]:
    """The conversation as a prompt shows it."""
    return [_message(message) for message in request.messages]


def _message(message: Message) -> dict[str, Any]:
    role = "system" if message.role == "developer" else message.role
    result: dict[str, Any] = {"role": role, "content": message.text}
    if message.tool_calls is not None:
        result["tool_calls"] = [_call(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        result["tool_call_id"] = message.tool_call_id
    return result


def _call(call: ToolCall) -> dict[str, Any]:
    """Templates write the arguments' JSON themselves; what is no object (a call cut short) stays text."""
    arguments: Any = call.function.arguments
    try:
        parsed = json.loads(arguments)
    except (ValueError, RecursionError):
        parsed = None
    return {
        "id": call.id,
        "type": "function",
        "function": {
            "name": call.function.name,
            "arguments": parsed if isinstance(parsed, dict) else arguments,
        },
    }


def _form(request: ChatRequest | CompletionRequest) -> Form | None:
    content = _content(request)
    functions = _functions(request) if isinstance(request, ChatRequest) else ()
    if not functions or not isinstance(request, ChatRequest):
        return content
    one = request.parallel_tool_calls is False or isinstance(request.tool_choice, NamedTool)
    return CallsForm(
        functions=functions,
        required=request.tool_choice not in {None, "auto"},
        most=1 if one else MOST_CALLS,
        content=content if isinstance(content, JsonForm) else None,
    )


def _functions(request: ChatRequest) -> tuple[Callable, ...]:
    choice = request.tool_choice
    if choice == "none":
        return ()
    wanted = choice.function.name if isinstance(choice, NamedTool) else None
    return tuple(
        Callable(tool.function.name, _FREE if tool.function.parameters is None else tool.function.parameters)
        for tool in request.tools or ()
        if wanted in {None, tool.function.name}
    )


def _content(request: ChatRequest | CompletionRequest) -> JsonForm | RegexForm | ChoiceForm | None:
    outputs, response_format = request.structured_outputs, request.response_format
    if outputs is not None:
        if outputs.regex is not None:
            return RegexForm(outputs.regex)
        if outputs.choice is not None:
            return ChoiceForm(tuple(outputs.choice))
        return JsonForm(outputs.json_ or {})
    if response_format is None or response_format.type == "text":
        return None
    schema: Mapping[str, Any] = {"type": "object"}
    if response_format.json_schema is not None:
        schema = response_format.json_schema.schema_
    return JsonForm(schema)


def _param(request: ChatRequest | CompletionRequest) -> str:
    if isinstance(request, ChatRequest) and callable_names(request):
        return "tools"
    return "response_format" if request.structured_outputs is None else "structured_outputs"
