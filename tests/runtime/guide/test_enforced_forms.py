"""What is written under a form is of that form."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from runtime.guide.form import Callable, CallsForm, ChoiceForm, Form, JsonForm, RegexForm
from runtime.guide.guide import GrammarGuide
from tests.simulators.guided_walk import EOS, accepts, allowed_tokens, backend, tiny_guides, walk

GUIDES = tiny_guides()


async def guide_of(form: Form) -> GrammarGuide:
    return (await GUIDES.compiled(form, tenant="t")).guide()


NAMES = st.sampled_from(["a", "b", "name", "weight in kg", 'q"\\uote', "ü", "x-guidance", "$ref", "type"])
LEAVES: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": ["string", "null"]}),
    st.tuples(st.integers(-999, 999), st.integers(0, 500)).map(
        lambda t: {"type": "integer", "minimum": t[0], "maximum": t[0] + t[1]}
    ),
    st.sampled_from([5, 7, 0.5, 0.01]).map(lambda step: {"type": "number", "multipleOf": step}),
    st.tuples(st.integers(0, 4), st.integers(0, 6)).map(
        lambda t: {"type": "string", "minLength": t[0], "maxLength": t[0] + t[1]}
    ),
    st.sampled_from(["^[a-c]{2,5}$", "\\d-\\d", "^(x|yy)+"]).map(lambda p: {"type": "string", "pattern": p}),
    st.sampled_from(["date", "date-time", "time", "ipv4", "uuid", "email"]).map(
        lambda name: {"type": "string", "format": name}
    ),
    st.lists(st.sampled_from([1, 2.5, "x", None, True, [1], {"k": "v"}]), min_size=1, max_size=4).map(
        lambda values: {"enum": values}
    ),
    st.sampled_from(["fixed", 7, {"a": [1, {"b": None}]}]).map(lambda value: {"const": value}),
    st.just({"exclusiveMinimum": 0, "exclusiveMaximum": 1, "type": "number"}),
)


def larger(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    def an_object(members: dict[str, Any], required: list[str], extra: Any) -> dict[str, Any]:
        schema = {"type": "object", "properties": members}
        schema["required"] = [name for name in required if name in members]
        return schema if extra is None else {**schema, "additionalProperties": extra}

    return st.one_of(
        st.builds(
            an_object,
            st.dictionaries(NAMES, inner, max_size=4),
            st.lists(NAMES, unique=True, max_size=4),
            st.none() | st.just(False) | inner,
        ),
        st.tuples(inner, st.integers(0, 2), st.integers(0, 2)).map(
            lambda t: {"type": "array", "items": t[0], "minItems": t[1], "maxItems": t[1] + t[2]}
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda several: {"anyOf": several}),
        st.lists(inner, min_size=1, max_size=3).map(
            lambda several: {
                "type": "array",
                "prefixItems": several,
                "items": False,
                "minItems": len(several),
            }
        ),
        inner.map(lambda one: {"$defs": {"d": one}, "type": "array", "items": {"$ref": "#/$defs/d"}}),
    )


def rooted(schema: dict[str, Any]) -> dict[str, Any]:
    """Definitions stand at the root, as references want them."""
    definitions: dict[str, Any] = {}

    def lift(value: Any) -> Any:
        if isinstance(value, list):
            return [lift(each) for each in value]
        if not isinstance(value, dict):
            return value
        lifted = {key: lift(each) for key, each in value.items() if key != "$defs"}
        if "$defs" in value:
            name = f"d{len(definitions)}"
            definitions[name] = None  # the name is taken before what is inside takes the next
            definitions[name] = lift(value["$defs"]["d"])
            lifted["items"] = {"$ref": f"#/$defs/{name}"}
        return lifted

    lifted: dict[str, Any] = lift(schema)
    return {**lifted, "$defs": definitions} if definitions else lifted


SCHEMAS = st.recursive(LEAVES, larger, max_leaves=6).map(rooted)


@settings(max_examples=60, deadline=None)
@given(schema=SCHEMAS, seed=st.integers(0, 2**16))
async def test_json_under_a_schema_parses_and_validates(schema: dict[str, Any], seed: int) -> None:
    written = walk(await guide_of(JsonForm(schema)), seed)
    assume(written is not None)
    assert written is not None
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    validator.validate(json.loads(written))


@pytest.mark.parametrize(
    "name",
    ["date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"],
)
async def test_a_format_is_one_to_validators_too(name: str) -> None:
    """Lengths of parts of an address, and seconds numbered 60, are what a grammar is easily too wide in."""
    schema = {"type": "string", "format": name}
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    ended = [written for seed in range(60) if (written := walk(await guide_of(JsonForm(schema)), seed))]
    assert len(ended) > 40
    for written in ended:
        validator.validate(json.loads(written))


async def test_a_format_and_an_expression_of_its_own_both_hold() -> None:
    form = JsonForm({"type": "string", "format": "email", "pattern": "^[ab]+@"})
    assert accepts(await guide_of(form), '"ab@x.org"')
    assert not accepts(await guide_of(form), '"c@x.org"')
    assert not accepts(await guide_of(form), '"ab@"')


@pytest.mark.parametrize(
    "pattern",
    [r"\d{3}-\d{4}", "^(yes|no)$", "[a-f]+/[0-9]", "a\nb?", r"x\$", r"[^a-z\s]{2}", "(?i)abc", "ü|é"],
)
async def test_text_under_an_expression_matches_it_from_beginning_to_end(pattern: str) -> None:
    for seed in range(8):
        written = walk(await guide_of(RegexForm(pattern)), seed)
        assert written is not None
        assert re.fullmatch(pattern, written) is not None


async def test_a_choice_is_one_of_its_options() -> None:
    options = ("yes", "yesterday", 'no "quotes"\n', "/slash/", "猫")
    written = {walk(await guide_of(ChoiceForm(options)), seed) for seed in range(40)}
    assert written == set(options)


async def test_special_tokens_are_no_text_and_the_end_comes_only_where_the_form_is_whole() -> None:
    """A token such as <|im_start|> is written like text, and would be one to the model."""
    text = JsonForm({"type": "string"})
    assert accepts(await guide_of(text), '"<|x|>"')
    guide = await guide_of(text)
    for token in backend().encode('"a', add_special_tokens=False).ids:
        guide.advance(token)
        assert len(allowed_tokens(guide)) > 100
        assert not {0, 1, EOS} & set(allowed_tokens(guide))
    choice = await guide_of(ChoiceForm(("a",)))
    assert EOS not in allowed_tokens(choice)
    choice.advance(allowed_tokens(choice)[0])
    assert allowed_tokens(choice) == [EOS]


async def test_members_that_are_not_named_are_not_written() -> None:
    closed = JsonForm({"type": "object", "properties": {"a": {"type": "integer"}}})
    assert accepts(await guide_of(closed), '{"a": 1}')
    assert not accepts(await guide_of(closed), '{"a": 1, "b": 2}')
    named = JsonForm({**closed.schema, "additionalProperties": {"type": "integer"}})
    assert accepts(await guide_of(named), '{"a": 1, "b": 2}')
    joined = JsonForm(
        {"allOf": [closed.schema, {"type": "object", "properties": {"b": {"type": "integer"}}}]}
    )
    assert accepts(await guide_of(joined), '{"a": 1, "b": 2}')


async def test_the_librarys_own_member_changes_nothing() -> None:
    form = JsonForm({"type": "array", "items": {"const": 1}, "x-guidance": {"whitespace_flexible": True}})
    assert accepts(await guide_of(form), "[1, 1]")
    assert not accepts(await guide_of(form), "[1,\n1]")


WEATHER = Callable("weather", {"properties": {"city": {"type": "string"}}, "required": ["city"]})
TIME = Callable("time", {"type": "object", "properties": {"zone": {"enum": ["utc", "cet"]}}})
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
OTHER = '<tool_call>\n{"name": "time", "arguments": {"zone": "cet"}}\n</tool_call>'
WRONG = (
    '<tool_call>\n{"name": "time", "arguments": {"zone": "est"}}\n</tool_call>',
    '<tool_call>\n{"name": "weather", "arguments": {}}\n</tool_call>',
    '<tool_call>\n{"name": "weather", "arguments": "Oslo"}\n</tool_call>',
    '<tool_call>\n{"name": "rain", "arguments": {"city": "Oslo"}}\n</tool_call>',
    "<tool_call>x",
    f"{CALL} and more",
)
CONTENT = JsonForm({"type": "array", "items": {"type": "integer"}})


@pytest.mark.parametrize(
    ("form", "accepted", "refused"),
    [
        (CallsForm((WEATHER, TIME), True, 2), (CALL, OTHER, f"{CALL}\n{OTHER}"), ("Hi", f"{CALL}\n" * 3)),
        (CallsForm((WEATHER, TIME), True, 1), (CALL, OTHER), (f"{CALL}\n{OTHER}", "")),
        (
            CallsForm((WEATHER, TIME), False, 2),
            ("", "Hi", "a < b", "<tool", CALL, f"I look.\n{CALL}\n{OTHER}"),
            (f"{CALL}\n{CALL}\n{CALL}", f"text {CALL}\ntext"),
        ),
        (CallsForm((WEATHER, TIME), False, 1, CONTENT), ("[1, 2]", CALL), ("Hi", f"[1]\n{CALL}")),
    ],
    ids=["required", "one", "auto", "auto-json"],
)
async def test_calls(form: CallsForm, accepted: tuple[str, ...], refused: tuple[str, ...]) -> None:
    for text in accepted:
        assert accepts(await guide_of(form), text), text
    for text in (*refused, *WRONG):
        assert not accepts(await guide_of(form), text), text


@pytest.mark.parametrize(
    "parameters",
    [
        {"type": ["object", "null"], "properties": {}},
        {"anyOf": [{"type": "string"}, {"type": "object"}]},
        {"$ref": "#/$defs/o", "$defs": {"o": {"properties": {"a": {"type": "integer"}}}}},
    ],
)
async def test_arguments_are_an_object_though_the_schema_takes_more(parameters: dict[str, Any]) -> None:
    """A call with other arguments would be written, and then not be read as a call."""
    form = CallsForm((Callable("f", parameters),), True, 1)
    for arguments, accepted in (("{}", True), ("null", False), ('"a"', False), ("1", False)):
        text = f'<tool_call>\n{{"name": "f", "arguments": {arguments}}}\n</tool_call>'
        assert accepts(await guide_of(form), text) is accepted


async def test_random_calls_are_whole_and_their_arguments_valid() -> None:
    for seed in range(12):
        written = walk(await guide_of(CallsForm((WEATHER, TIME), True, 1)), seed)
        assert written is not None
        call = json.loads(written.removeprefix("<tool_call>").removesuffix("</tool_call>"))
        schema = {"weather": WEATHER, "time": TIME}[call["name"]].parameters
        jsonschema_rs.validate(schema, call["arguments"])
