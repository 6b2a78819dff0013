"""What cannot be enforced, or costs too much, is refused before anything is generated."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runtime.guide.form import Callable, CallsForm, ChoiceForm, Form, FormRefused, JsonForm, RegexForm
from runtime.guide.limits import GuideLimits
from tests.simulators.guided_walk import allowed_tokens, tiny_guides

CANARY = "canary-5b1"


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def doubled(levels: int) -> dict[str, Any]:
    """Each definition joins the next one with itself: two to the power of ``levels`` if written out."""
    definitions: dict[str, Any] = {
        f"d{at}": {"allOf": [{"$ref": f"#/$defs/d{at + 1}"}, {"$ref": f"#/$defs/d{at + 1}"}]}
        for at in range(levels)
    }
    return {"$defs": {**definitions, f"d{levels}": {"type": "integer"}}, "$ref": "#/$defs/d0"}


BRANCHES = [
    {"anyOf": [{"type": "object", "properties": {f"a{i}{j}": {"type": "string"}}} for j in range(4)]}
    for i in range(8)
]


NO_OBJECT = {"$ref": "#/$defs/s", "$defs": {"s": {"type": "string"}}}
LARGE = {"properties": {f"p{n}": {"type": "string"} for n in range(500)}}


@pytest.mark.parametrize(
    ("form", "word"),
    [
        (JsonForm({"not": {"const": CANARY}}), "not"),
        (JsonForm({"type": "array", "items": {"uniqueItems": True}}), "uniqueItems"),
        (JsonForm({"if": {}, "then": {}}), "if, then"),
        (JsonForm({"properties": {CANARY: {"propertyNames": {}}}}), "propertyNames"),
        (JsonForm({"multipleOf": 1234567}), "multipleOf"),
        (JsonForm({"allOf": [{"multipleOf": 997}, {"multipleOf": 991}]}), "multipleOf"),
        (JsonForm({"multipleOf": 1e-300}), "multipleOf"),
        (JsonForm({"multipleOf": 0}), "multipleOf"),
        (JsonForm({"$ref": "#"}), "Nothing satisfies"),
        (JsonForm({"$ref": f"#/{CANARY}"}), "$ref"),
        (JsonForm({"$ref": f"https://{CANARY}.example/schema"}), "$ref"),
        (JsonForm({"enum": []}), "Nothing satisfies"),
        (JsonForm({"properties": {CANARY: False}, "required": [CANARY], "type": "object"}), "Nothing satisf"),
        (JsonForm({"oneOf": [{"type": "integer"}, {"type": "number"}]}), "anyOf"),
        (JsonForm({"patternProperties": {"a": {}, "^[ab]": {}}}), "patternProperties"),
        (JsonForm({"type": CANARY}), "cannot be enforced"),
        (JsonForm({"properties": [CANARY]}), "properties"),
        (JsonForm({"items": [{}]}), "object, true or false"),
        (JsonForm({"const": "\ud800"}), "surrogates"),
        (JsonForm({"pattern": "(a{1000}){1000}"}), "20000"),
        (JsonForm({"pattern": f"(?={CANARY})"}), "looks around"),
        (JsonForm({"patternProperties": {"((a{99}){99}){99}": {}}}), "20000"),
        (JsonForm({"allOf": BRANCHES}), "too complex"),
        (JsonForm(nested(200)), "too complex"),
        (RegexForm("(a{1000}){1000}"), "20000"),
        (RegexForm("a" * 4097), "4096"),
        (RegexForm("(?x)a{ 1000 }"), "verbose"),
        (RegexForm(f"(?<!{CANARY})a"), "looks around"),
        (RegexForm(f"({CANARY})\\1"), "looks around"),
        (RegexForm(f"({CANARY}"), "malformed"),
        (ChoiceForm((CANARY * 40_000,)), "bytes"),
        (CallsForm((Callable("f", {"not": {}}),), True, 1), "not"),
        (CallsForm((Callable("f", {"type": "string"}),), True, 1), "type 'object'"),
        (CallsForm((Callable("f", {"type": ["string", "null"]}),), True, 1), "type 'object'"),
        (CallsForm((Callable("f", NO_OBJECT),), True, 1), "Nothing satisfies"),
        (CallsForm((Callable("f", {"enum": [CANARY]}),), True, 1), "Nothing satisfies"),
        (CallsForm(tuple(Callable(f"f{n}", LARGE) for n in range(64)), True, 1), "bytes"),
    ],
)
async def test_a_refusal_names_the_rule_and_nothing_of_the_form(form: Form, word: str) -> None:
    with pytest.raises(FormRefused) as caught:
        await tiny_guides().compiled(form, tenant="t")
    assert word in caught.value.message
    assert caught.value.message.endswith(".")
    assert CANARY not in f"{caught.value} {caught.value!r} {form!r}"
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "form",
    [
        JsonForm({"type": "string", "maxLength": 10**9}),
        JsonForm({"type": "array", "minItems": 10**6, "items": {"type": "integer"}}),
        JsonForm({"enum": [f"value {n}" for n in range(5000)]}),
        JsonForm({"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(300)}}),
        JsonForm(doubled(40)),
        JsonForm(nested(40)),
        JsonForm({"type": "integer", "minimum": 0, "multipleOf": 9973}),
        RegexForm(".*a.*b.*c.*d.*e.*f.*g.*"),
        RegexForm("(x+x+)+y"),
        RegexForm("(" * 200 + "a" + ")" * 200),
        RegexForm("|".join(f".*{n}.*{n + 1}" for n in range(100))),
    ],
)
async def test_what_looks_expensive_and_is_not_compiles(form: Form) -> None:
    """Ten seconds are two hundred times what the slowest takes, and a tenth of what a bad one would."""
    async with asyncio.timeout(10):
        compiled = await tiny_guides().compiled(form, tenant="t")
    assert allowed_tokens(compiled.guide())


async def test_a_form_that_grows_too_costly_on_the_way_allows_nothing_more() -> None:
    """So that the engine ends this request, and goes on with the others."""
    guides = tiny_guides(GuideLimits(lexer_states=300))
    guide = (await guides.compiled(RegexForm(r"(\p{L}|\d){1,200}"), tenant="t")).guide()
    for _ in range(200):
        tokens = allowed_tokens(guide)
        if not tokens:
            break
        guide.advance(tokens[-1])
    assert allowed_tokens(guide) == []
    guide.advance(5)
    assert allowed_tokens(guide) == []
