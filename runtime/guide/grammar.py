"""From a form to the text of a grammar, in the library's dialect of Lark."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from runtime.guide.form import CallsForm, ChoiceForm, Form, JsonForm, RegexForm
from runtime.guide.pattern import whole
from runtime.guide.schema import prepared
from runtime.model.tool_prompt import CALL_CLOSE, CALL_OPEN

_LAYOUT: Final = {
    "x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "},
}
"""JSON is written one way, with the spaces that models saw most: a small one that may choose its white space
can go on choosing it to the end of the context."""

_SLASH: Final = re.compile(r"\\.|/|\n", re.DOTALL)


def grammar_of(form: Form) -> str:
    """The grammar; equal forms have equal grammars.

    Raises:
        FormRefused: the form cannot be enforced.
    """
    match form:
        case JsonForm():
            return f"start: {_json(form)}\n"
        case RegexForm(pattern):
            return f"start: {_regex(whole(pattern))}\n"
        case ChoiceForm(options):
            return f"start: {' | '.join(_literal(option) for option in options)}\n"
        case CallsForm():
            return _calls(form)


def _calls(form: CallsForm) -> str:
    more = form.most - 1
    further = f' ("\\n{CALL_OPEN}" call){{0,{more}}}' if more else ""
    rules = [f"call: {' | '.join(f'call_{index}' for index in range(len(form.functions)))}"]
    for index, function in enumerate(form.functions):
        head = _literal(f'\n{{"name": "{function.name}", "arguments": ')
        tail = _literal(f"}}\n{CALL_CLOSE}")
        rules += [
            f"call_{index}: {head} arguments_{index} {tail}",
            f"arguments_{index}: {_json(JsonForm(_object(function.parameters)))}",
        ]
    if form.required:
        start = f'start: "{CALL_OPEN}" call{further}'
    elif form.content is not None:
        start = f'start: content | "{CALL_OPEN}" call{further}'
        rules.append(f"content: {_json(form.content)}")
    else:
        # The lazy lexeme ends where the tag does: from there on only a call can follow.
        start = f"start: TEXT | open call{further}"
        rules += ["TEXT: /(.|\\n)*/", f"open[lazy]: /(.|\\n)*{CALL_OPEN}/"]
    return "\n".join([start, *rules, ""])


def _object(parameters: Any) -> dict[str, Any]:
    """Arguments are an object, whatever a function's schema leaves open."""
    return (
        dict(parameters) if "type" in parameters or "$ref" in parameters else {"type": "object", **parameters}
    )


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
