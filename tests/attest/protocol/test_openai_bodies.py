"""Request bodies: what is accepted, what is refused and in which words."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import completion_create_params as chat_params

from attest.protocol.openai.chat import ChatRequest
from attest.protocol.openai.completions import CompletionRequest
from attest.protocol.openai.parse import UNSUPPORTED, InvalidBody, parse_request
from attest.protocol.openapi import document
from attest.protocol.problems import OHTTP_KEY, Problem

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
IMAGE = [{"type": "image_url", "image_url": {"url": "https://example.org/x.png"}}]
COMPLETION: dict[str, Any] = {"model": "m", "prompt": "hi"}


def chat(**members: Any) -> ChatRequest:
    return parse_request(ChatRequest, json.dumps({**CHAT, **members}).encode())


def completion(**members: Any) -> CompletionRequest:
    return parse_request(CompletionRequest, json.dumps({**COMPLETION, **members}).encode())


def refused(**members: Any) -> InvalidBody:
    with pytest.raises(InvalidBody) as caught:
        chat(**members)
    return caught.value


def test_defaults() -> None:
    request = chat()
    assert (request.choices, request.stops, request.token_limit, request.alternatives) == (1, (), None, None)
    assert (completion().token_limit, completion().alternatives) == (16, None)


def test_the_usual_parameters() -> None:
    request = chat(
        temperature=0, top_p=0.5, n=2, stop="x", seed=-5, max_tokens=3, logprobs=True, presence_penalty=-2,
        stream=True, stream_options={"include_usage": True}, response_format={"type": "text"}, user="u",
        metadata={"label_id": "x"}, tools=[], tool_choice="none", logit_bias={}, store=False,
    )  # fmt: skip
    assert (request.choices, request.stops, request.token_limit) == (2, ("x",), 3)
    assert (request.alternatives, request.streaming.include_usage) == (0, True)
    assert chat(stop=["a", "b"]).stops == ("a", "b")
    assert chat(logprobs=True, top_logprobs=4).alternatives == 4
    assert chat(max_tokens=3, max_completion_tokens=5).token_limit == 5


def test_text_parts_are_one_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert chat(messages=[{"role": "user", "content": parts}]).messages[0].text == "ab"


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1], [2, 3]], [[1], [2, 3]])],
)
def test_the_four_forms_of_a_prompt(prompt: Any, prompts: Any) -> None:
    assert completion(prompt=prompt).prompts == prompts


def test_every_documented_parameter_is_known_or_refused_by_name() -> None:
    """As the stock client of this release documents them."""
    documented = set(chat_params.CompletionCreateParamsBase.__annotations__) | {"stream"}
    unknown = documented - set(ChatRequest.model_fields) - UNSUPPORTED
    assert unknown == set()


@pytest.mark.parametrize(
    ("members", "code", "param"),
    [
        ({"model": 5}, "invalid_type", "model"),
        ({"model": ""}, "invalid_value", "model"),
        ({"n": 0}, "invalid_value", "n"),
        ({"n": 17}, "invalid_value", "n"),
        ({"n": True}, "invalid_type", "n"),
        ({"n": 1.0}, "invalid_type", "n"),
        ({"stream": "true"}, "invalid_type", "stream"),
        ({"stream": 1}, "invalid_type", "stream"),
        ({"temperature": "1"}, "invalid_type", "temperature"),
        ({"temperature": 2.1}, "invalid_value", "temperature"),
        ({"temperature": float("nan")}, "invalid_value", "temperature"),
        ({"top_p": 0}, "invalid_value", "top_p"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"seed": 2**63}, "invalid_value", "seed"),
        ({"presence_penalty": 2.5}, "invalid_value", "presence_penalty"),
        ({"stop": ""}, "invalid_value", "stop"),
        ({"stop": ["a"] * 17}, "invalid_value", "stop"),
        ({"stop": 5}, "invalid_value", "stop"),
        ({"messages": []}, "invalid_value", "messages"),
        ({"messages": ["hi"]}, "invalid_type", "messages.0"),
        ({"messages": [{"role": "user"}]}, "missing_parameter", "messages.0.content"),
        ({"messages": [{"role": "teacher", "content": "x"}]}, "invalid_value", "messages.0.role"),
        ({"messages": [{"role": "user", "content": None}]}, "missing_parameter", "messages.0.content"),
        ({"messages": [{"role": "user", "content": IMAGE}]}, "invalid_value", "messages.0.content"),
        ({"stream_options": {"include_usage": True}}, "invalid_value", None),
        ({"top_logprobs": 2}, "invalid_value", None),
        ({"logit_bias": {"5": 3}}, "unsupported_parameter", "logit_bias"),
        ({"modalities": ["text", "audio"]}, "unsupported_parameter", "modalities"),
        ({"audio": {}}, "unsupported_parameter", "audio"),
        ({"store": True}, "unsupported_parameter", "store"),
        ({"temprature": 1}, "unknown_parameter", None),
    ],
)  # fmt: skip
def test_refusals_name_the_parameter(members: dict[str, Any], code: str, param: str | None) -> None:
    error = refused(**members)
    assert (error.code, error.param) == (code, param)
    assert error.message.endswith(".")


@pytest.mark.parametrize(
    "members",
    [
        {"best_of": 2},
        {"echo": True, "stream": True},
        {"suffix": "x"},
        {"prompt": ["a"] * 9, "n": 2},
        {"prompt": []},
    ],
)
def test_completions_refuse_what_they_do_not_do(members: dict[str, Any]) -> None:
    with pytest.raises(InvalidBody):
        completion(**members)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"model": "\xed\xa0\x80"}', b'{"a":1}}']
)
def test_what_is_no_json(body: bytes) -> None:
    with pytest.raises(InvalidBody) as caught:
        parse_request(ChatRequest, body)
    assert (caught.value.code, caught.value.param) == ("invalid_json", None)


def test_errors_and_reprs_hold_no_values_and_no_names_of_the_senders_making() -> None:
    canary = "canary-31f"
    bodies: list[dict[str, Any]] = [
        {canary: canary},
        {"model": [canary]},
        {"metadata": {canary: 5}},
        {"metadata": canary},
        {"logit_bias": {canary: canary}},
        {"messages": [{"role": canary, "content": canary}]},
        {"messages": [{"role": "user", "content": [{"type": canary, canary: canary}]}]},
        {"stop": [canary, ""]},
        {"stream_options": {canary: canary}, "stream": True},
    ]
    for members in bodies:
        error = refused(**members)
        assert canary not in f"{error} {error!r} {error.message} {error.param} {error.__cause__}"
        assert error.__suppress_context__
    assert canary not in repr(chat(messages=[{"role": "user", "content": canary}], user=canary))


def test_a_body_full_of_errors_costs_no_more_than_one() -> None:
    body = json.dumps({**COMPLETION, "prompt": [1, *[""] * 500_000]}).encode()
    began = time.perf_counter()
    with pytest.raises(InvalidBody):
        parse_request(CompletionRequest, body)
    assert time.perf_counter() - began < 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from([*ChatRequest.model_fields, "x"]), JSON, max_size=4))
def test_only_invalid_body_leaves_the_parser(members: dict[str, Any]) -> None:
    with suppress(InvalidBody):
        assert chat(**members).model == members.get("model", "m")


def test_the_openapi_document_refers_only_to_what_it_holds() -> None:
    described = document("t", version="1", api_keys=True)
    text = json.dumps(described)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(described["components"]["schemas"])
    assert described["paths"]["/v1/chat/completions"]["post"]["security"] == [{"key": []}]


def test_a_problem_says_whether_anything_was_done() -> None:
    problem = json.loads(Problem(OHTTP_KEY, 400, "t", processed=False, detail="d").body())
    assert problem == {"type": OHTTP_KEY, "title": "t", "status": 400, "processed": False, "detail": "d"}
    assert "detail" not in json.loads(Problem(OHTTP_KEY, 400, "t", processed="unknown").body())
