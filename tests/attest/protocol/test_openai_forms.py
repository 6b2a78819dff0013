"""Formats, tools and calls in request bodies: what is accepted, and what is refused in which words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from attest.protocol.openai.chat import ChatRequest
from attest.protocol.openai.completions import CompletionRequest
from attest.protocol.openai.parse import InvalidBody, parse_request

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL: dict[str, Any] = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def chat(**members: Any) -> ChatRequest:
    return parse_request(ChatRequest, json.dumps({**CHAT, **members}).encode())


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def schema_format(**members: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, **members}}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    "members",
    [
        {"response_format": {"type": "json_object"}},
        {"response_format": schema_format(strict=True, description="d", schema=nested(40))},
        {"structured_outputs": {"json": {"type": "array"}}},
        {"structured_outputs": {"regex": "a+"}},
        {"structured_outputs": {"choice": ["a", "b"]}},
        {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False},
        {"tools": [TOOL], "tool_choice": named("f"), "response_format": schema_format()},
        {"tools": [{"type": "function", "function": {"name": "f", "strict": True, "description": "d"}}]},
        {"tools": [], "tool_choice": "none"},
        {"messages": [{"role": "assistant", "tool_calls": [CALL]}]},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [CALL]}]},
        {"messages": [{"role": "tool", "content": "7", "tool_call_id": "c"}]},
    ],
)
def test_accepted(members: dict[str, Any]) -> None:
    assert chat(**members).model == "m"


def test_completions_take_formats_too() -> None:
    body = {"model": "m", "prompt": "p", "response_format": {"type": "json_object"}}
    assert parse_request(CompletionRequest, json.dumps(body).encode()).formatted
    with pytest.raises(InvalidBody):
        parse_request(CompletionRequest, json.dumps({**body, "ignore_eos": True}).encode())


SCHEMA = "response_format.json_schema.schema"


@pytest.mark.parametrize(
    ("members", "code", "param"),
    [
        ({"response_format": {"type": "xml"}}, "invalid_value", "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "invalid_value", "response_format"),
        ({"response_format": {**schema_format(), "type": "text"}}, "invalid_value", "response_format"),
        ({"response_format": schema_format(name="a b")}, "invalid_value", "response_format.json_schema.name"),
        ({"response_format": schema_format(schema=[])}, "invalid_type", SCHEMA),
        ({"response_format": schema_format(schema=nested(60))}, "invalid_value", SCHEMA),
        ({"response_format": schema_format(schema={"enum": [0] * 9000})}, "invalid_value", SCHEMA),
        ({"response_format": schema_format(colour=1)}, "unknown_parameter", "response_format.json_schema"),
        ({"structured_outputs": {}}, "invalid_value", "structured_outputs"),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "invalid_value", "structured_outputs"),
        ({"structured_outputs": {"regex": "a" * 4097}}, "invalid_value", "structured_outputs.regex"),
        ({"structured_outputs": {"choice": []}}, "invalid_value", "structured_outputs.choice"),
        ({"structured_outputs": {"choice": ["a"] * 1025}}, "invalid_value", "structured_outputs.choice"),
        ({"structured_outputs": {"json": nested(60)}}, "invalid_value", "structured_outputs.json"),
        ({"structured_outputs": {"grammar": "x"}}, "unknown_parameter", "structured_outputs"),
        (
            {"structured_outputs": {"regex": "a"}, "response_format": {"type": "text"}},
            "invalid_value",
            None,
        ),
        ({"structured_outputs": {"regex": "a"}, "ignore_eos": True}, "invalid_value", None),
        ({"tools": [TOOL], "ignore_eos": True}, "invalid_value", None),
        ({"tools": [TOOL], "structured_outputs": {"regex": "a"}}, "invalid_value", None),
        ({"tools": [TOOL, TOOL]}, "invalid_value", None),
        ({"tools": [TOOL] * 129}, "invalid_value", "tools"),
        ({"tools": [{}]}, "missing_parameter", "tools.0.type"),
        ({"tools": [{**TOOL, "type": "custom"}]}, "invalid_value", "tools.0.type"),
        ({"tools": [{"type": "function", "function": {}}]}, "missing_parameter", "tools.0.function.name"),
        ({"tools": [TOOL], "tool_choice": "sometimes"}, "invalid_value", "tool_choice"),
        ({"tools": [TOOL], "tool_choice": named("g")}, "invalid_value", None),
        ({"tool_choice": "required"}, "invalid_value", None),
        ({"messages": [{"role": "assistant"}]}, "missing_parameter", "messages.0.content"),
        ({"messages": [{"role": "tool", "content": "7"}]}, "invalid_value", "messages.0"),
        ({"messages": [{"role": "user", "content": "", "tool_call_id": "c"}]}, "invalid_value", "messages.0"),
        ({"messages": [{"role": "user", "content": "", "tool_calls": [CALL]}]}, "invalid_value", "messages.0"),  # noqa: E501 - a row of a table
        (
            {"messages": [{"role": "assistant", "tool_calls": []}]},
            "invalid_value",
            "messages.0.tool_calls",
        ),
    ],
)  # fmt: skip
def test_refusals_name_the_parameter(members: dict[str, Any], code: str, param: str | None) -> None:
    with pytest.raises(InvalidBody) as caught:
        chat(**members)
    assert (caught.value.code, caught.value.param) == (code, param)
    assert caught.value.message.endswith(".")


def test_refusals_hold_no_names_of_the_senders_making() -> None:
    canary = "canary-77e"
    for members in (
        {"response_format": schema_format(schema={canary: {canary: nested(60)}})},
        {"response_format": {"type": canary, canary: 1}},
        {"tools": [{"type": "function", "function": {"name": f"{canary}!"}}]},
        {"tools": [TOOL], "tool_choice": named(canary)},
        {"structured_outputs": {canary: canary}},
        {"messages": [{"role": "assistant", "tool_calls": [{**CALL, canary: canary}]}]},
    ):
        with pytest.raises(InvalidBody) as caught:
            chat(**members)
        error = caught.value
        assert canary not in f"{error} {error!r} {error.message} {error.param}"
