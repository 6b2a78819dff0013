"""Formats and tools on the embedded model: what is promised of the form holds of every answer that ends."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jsonschema_rs
import pytest

from attest.protocol import paths
from attest.protocol.openai.answers import ChatAnswer, ChatChunk
from runtime.api.served import CompiledForm, ServedModel
from runtime.guide.form import Form, FormsBusy
from runtime.guide.guides import Guides, vocabulary
from runtime.guide.limits import GuideLimits
from runtime.model.loaded import OpenModel
from tests.simulators.guided_model import guided_model
from tests.simulators.sealing_client import InnerAnswer, SealingClient
from tests.simulators.stub_runtime import StubRuntime, served_by, stub_engine

pytestmark = pytest.mark.model

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "colours": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 2},
    },
    "required": ["name", "age", "colours"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 16}, "unit": {"enum": ["celsius", "kelvin"]}},
    "required": ["city", "unit"],
}
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "stop_all", "description": "Stops everything."}},
]
PARAMETERS: dict[str, dict[str, Any]] = {"get_weather": WEATHER, "stop_all": {"type": "object"}}
NAMED = {"type": "function", "function": {"name": "get_weather"}}
BOB = "Describe Bob, who is 42 years old and likes red."
RAIN = "What is the weather in Oslo?"


@pytest.fixture(scope="module")
def served(smollm2: OpenModel) -> Iterator[ServedModel]:
    """One engine for all tests: its thread outlives their event loops."""
    served = guided_model(smollm2)
    asyncio.run(served.engine.start())
    yield served
    asyncio.run(served.engine.stop())


@pytest.fixture
async def client(served: ServedModel) -> SealingClient:
    return StubRuntime.around(served).client()


async def ask(client: SealingClient, text: str, **members: Any) -> InnerAnswer:
    messages = [{"role": "user", "content": text}]
    request = {"model": "smollm2", "messages": messages, "max_tokens": 64, "temperature": 0, **members}
    return await client.call("POST", paths.CHAT_PATH, request)


def chat(answer: InnerAnswer) -> ChatAnswer:
    return ChatAnswer.model_validate_json(answer.body)


def content(answer: InnerAnswer) -> str:
    (choice,) = chat(answer).choices
    assert choice.finish_reason == "stop"
    assert choice.message.content is not None
    return choice.message.content


def calls(answer: InnerAnswer) -> list[tuple[str, Any]]:
    (choice,) = chat(answer).choices
    assert choice.message.tool_calls
    return [(call.function.name, json.loads(call.function.arguments)) for call in choice.message.tool_calls]


async def test_json_of_a_schema_streamed_and_whole(client: SealingClient) -> None:
    whole = content(await ask(client, BOB, response_format=FORMAT))
    jsonschema_rs.validate(PERSON, json.loads(whole))
    streamed = await ask(client, BOB, response_format=FORMAT, stream=True)
    chunks = [ChatChunk.model_validate(event) for event in streamed.events]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_what_is_cut_says_so(client: SealingClient) -> None:
    choice = chat(await ask(client, BOB, response_format=FORMAT, max_tokens=6)).choices[0]
    assert choice.finish_reason == "length"
    with pytest.raises(json.JSONDecodeError):
        json.loads(choice.message.content or "")


async def test_choices_and_expressions(client: SealingClient) -> None:
    assert content(await ask(client, "Is grass green?", structured_outputs={"choice": ["yes", "no"]})) in {
        "yes",
        "no",
    }
    date = content(await ask(client, "When did it begin?", structured_outputs={"regex": r"\d{4}-\d\d-\d\d"}))
    assert re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", date)


async def test_plain_completions_are_held_to_a_form_too(client: SealingClient) -> None:
    request = {"model": "smollm2", "prompt": ["Bob:", "Eve:"], "max_tokens": 64, "response_format": FORMAT}
    answer = (await client.call("POST", paths.COMPLETIONS_PATH, {**request, "seed": 3})).json()
    for choice in answer["choices"]:
        assert choice["finish_reason"] == "stop"
        jsonschema_rs.validate(PERSON, json.loads(choice["text"]))


async def test_a_seed_repeats_a_guided_answer(client: SealingClient) -> None:
    """At temperature 2 a free answer would be noise; each of these is valid, and comes again."""
    one, two = [
        [
            choice.message.content
            for choice in chat(
                await ask(client, BOB, response_format=FORMAT, temperature=2, seed=11, n=3)
            ).choices
        ]
        for _ in range(2)
    ]
    assert one == two
    assert len(set(one)) > 1
    for text in one:
        jsonschema_rs.validate(PERSON, json.loads(text or ""))


async def test_guided_answers_do_not_disturb_free_ones(client: SealingClient) -> None:
    alone = chat(await ask(client, RAIN)).choices[0].message.content
    together = await asyncio.gather(
        ask(client, BOB, response_format=FORMAT),
        ask(client, RAIN),
        ask(client, RAIN, tools=TOOLS, tool_choice="required"),
        ask(client, "Is grass green?", structured_outputs={"choice": ["yes", "no"]}),
    )
    assert chat(together[1]).choices[0].message.content == alone
    jsonschema_rs.validate(PERSON, json.loads(content(together[0])))


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
async def test_a_call_streamed_and_whole(client: SealingClient, choice: Any) -> None:
    members = {"tools": TOOLS, "tool_choice": choice, "parallel_tool_calls": False}
    whole = await ask(client, RAIN, **members)
    assert chat(whole).choices[0].finish_reason == "tool_calls"
    assert chat(whole).choices[0].message.content is None
    ((name, arguments),) = calls(whole)
    assert choice == "required" or name == "get_weather"
    jsonschema_rs.validate(PARAMETERS[name], arguments)
    streamed = await ask(client, RAIN, **members, stream=True)
    deltas = [
        delta
        for event in streamed.events
        for delta in ChatChunk.model_validate(event).choices[0].delta.tool_calls or ()
    ]
    assert choice == "required" or len(deltas) > 3  # arguments come in parts
    assert [delta.function.name for delta in deltas if delta.id is not None] == [name]
    assert json.loads("".join(delta.function.arguments for delta in deltas)) == arguments
    assert streamed.events[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_a_named_function_is_called_once(client: SealingClient) -> None:
    choice = {"type": "function", "function": {"name": "stop_all"}}
    assert calls(await ask(client, RAIN, tools=TOOLS, tool_choice=choice)) == [("stop_all", {})]


async def test_a_model_that_need_not_call_may_answer(client: SealingClient) -> None:
    choice = chat(await ask(client, "Say hello.", tools=TOOLS, max_tokens=24)).choices[0]
    if choice.message.tool_calls is None:
        assert choice.message.content
    else:
        assert choice.finish_reason in {"tool_calls", "length"}


async def test_results_of_calls_are_read(client: SealingClient) -> None:
    call = {"name": "get_weather", "arguments": '{"city": "Oslo", "unit": "celsius"}'}
    messages = [
        {"role": "user", "content": RAIN},
        {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": call}]},
        {"role": "tool", "tool_call_id": "c1", "content": '{"degrees": 7}'},
    ]
    assert "7" in content(await ask(client, "", messages=messages, tools=TOOLS, tool_choice="none"))


@pytest.mark.parametrize(
    ("members", "param"),
    [
        (
            {"response_format": {**FORMAT, "json_schema": {"name": "n", "schema": {"not": {}}}}},
            "response_format",
        ),
        ({"structured_outputs": {"regex": "(?=a)"}}, "structured_outputs"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"if": {}}}}]}, "tools"),
    ],
)
async def test_what_cannot_be_enforced_is_refused_at_once(
    client: SealingClient, served: ServedModel, members: dict[str, Any], param: str
) -> None:
    before = served.engine.stats().steps
    error = (await ask(client, RAIN, **members)).json()["error"]
    assert (error["code"], error["param"], error["type"]) == ("invalid_value", param, "invalid_request_error")
    assert served.engine.stats().steps == before


async def test_a_form_that_grows_too_costly_ends_its_own_request_alone(
    served: ServedModel, smollm2: OpenModel
) -> None:
    tokens = vocabulary(smollm2.tokenizer.backend, smollm2.tokenizer.eos_ids)
    tight = replace(served, guides=Guides(tokens, GuideLimits(lexer_states=4000)))
    client = StubRuntime.around(tight).client()
    costly = {"structured_outputs": {"regex": r"(\p{L}| ){1,5000}"}, "max_tokens": 400}
    failed, free = await asyncio.gather(ask(client, RAIN, **costly), ask(client, RAIN))
    assert (failed.status, failed.error_code) == (400, "guide_failed")
    assert chat(free).choices[0].message.content


async def test_an_engine_that_obeys_no_form_is_not_asked_to() -> None:
    client = (await StubRuntime.started(stub_engine("Hello"))).client()
    for members, param in (({"response_format": FORMAT}, "response_format"), ({"tools": TOOLS}, "tools")):
        request = {"model": "stub", "messages": [{"role": "user", "content": "Hi"}], **members}
        answer = await client.call("POST", paths.CHAT_PATH, request)
        error = answer.json()["error"]
        assert (answer.status, error["code"], error["param"]) == (400, "unsupported_parameter", param)


async def test_a_form_that_waits_too_long_is_told_to_come_again() -> None:
    """Forms of others, or a compiler that hangs: no fault of the request's."""

    class Busy:
        async def compiled(self, form: Form, *, tenant: str) -> CompiledForm:
            del form, tenant
            raise FormsBusy

    client = StubRuntime.around(replace(served_by(stub_engine("Hello")), guides=Busy())).client()
    request = {"model": "stub", "messages": [{"role": "user", "content": "Hi"}], "response_format": FORMAT}
    answer = await client.call("POST", paths.CHAT_PATH, request)
    assert (answer.status, answer.error_code) == (429, "engine_overloaded")
    assert answer.headers["retry-after"] == "5"
