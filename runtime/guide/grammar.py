"""From a form to the text of a grammar, in the library's dialect of Lark."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from runtime.guide.form import CallsForm, ChoiceForm, Form, FormRefused, JsonForm, RegexForm, Schema
from runtime.guide.pattern import whole
from runtime.guide.schema import prepared
from runtime.model.tool_prompt import CALL_CLOSE, CALL_OPEN

_LAYOUT: Final = {
    "x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "},
}
"""JSON is written one way, with the spaces that models saw most: a small one that may choose its white space
can go on choosing it to the end of the context."""

_SLASH: Final = re.compile(r"\\.|/|\n", re.DOTALL)


def grammar_of(form: Form, *, most: int) -> str:
    """The grammar; equal forms have equal grammars.

    Args:
        form: to be enforced.
        most: bytes that the grammar may have; work on one that gets larger ends early.

    Raises:
        FormRefused: the form cannot be enforced, or is too large.
    """
    grammar = "".join(_bounded(_pieces(form), most))
    try:
        grammar.encode()
    except UnicodeEncodeError:
        raise FormRefused("A form is text, without halves of characters (surrogates).") from None
    return grammar


def _bounded(pieces: Iterator[str], most: int) -> Iterator[str]:
    left = most
    for piece in pieces:
        left -= len(piece.encode(errors="replace"))
        if left < 0:
            raise FormRefused(f"A form may have {most} bytes with all its schemas.")
        yield piece


def _pieces(form: Form) -> Iterator[str]:
    match form:
        case JsonForm():
            yield f"start: {_json(form)}\n"
        case RegexForm(pattern):
            yield f"start: {_regex(whole(pattern))}\n"
        case ChoiceForm(options):
            yield f"start: {' | '.join(_literal(option) for option in options)}\n"
        case CallsForm():
            yield from _calls(form)


def _calls(form: CallsForm) -> Iterator[str]:
    more = form.most - 1
    further = f' ("\\n{CALL_OPEN}" call){{0,{more}}}' if more else ""
    if form.required:
        yield f'start: "{CALL_OPEN}" call{further}\n'
    elif form.content is not None:
        yield f'start: content | "{CALL_OPEN}" call{further}\n'
        yield f"content: {_json(form.content)}\n"
    else:
        # The lazy lexeme ends where the tag does: from there on only a call can follow.
        yield f"start: TEXT | open call{further}\n"
        yield f"TEXT: /(.|\\n)*/\nopen[lazy]: /(.|\\n)*{CALL_OPEN}/\n"
    yield f"call: {' | '.join(f'call_{index}' for index in range(len(form.functions)))}\n"
    for index, function in enumerate(form.functions):
        head = _literal(f'\n{{"name": "{function.name}", "arguments": ')
        tail = _literal(f"}}\n{CALL_CLOSE}")
        yield f"call_{index}: {head} arguments_{index} {tail}\n"
        yield f"arguments_{index}: {_json(JsonForm(_object(function.parameters)))}\n"


def _object(parameters: Schema) -> dict[str, Any]:
    """Arguments are an object, whatever the schema leaves open: no other call would be read as one."""
    kind = parameters.get("type", "object")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        raise FormRefused("The parameters of a function are a schema of type 'object'.")
    return {**parameters, "type": "object"}


def _json(form: JsonForm) -> str:
    schema = prepared(form.schema)
    return f"%json {json.dumps({**schema, **_LAYOUT}, ensure_ascii=False)}"


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _regex(pattern: str) -> str:
    """Between slashes, where neither a slash nor an end of line may stand for itself."""
    return f"/{_SLASH.sub(_escaped, pattern)}/"


def _escaped(match: re.Match[str]) -> str:
    return {"/": r"\/", "\n": r"\n", "\\\n": r"\n"}.get(match.group(), match.group())
