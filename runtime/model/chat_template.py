"""Render a conversation by the model's own template, in a sandbox.

The template is code that came with the weights, and the messages come from clients: the sandbox denies
both the interpreter's insides, and the clock is left out so that the same conversation is always the
same prompt.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, meta
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from attest.refusal import Malformed, Refused
from runtime.model.tool_prompt import CALL_OPEN, speaks_of_calls, spelled_out

MAX_TEMPLATE = 1 << 17
_XML_CALL = "<function="
"""Some templates write calls in a form of XML between the same tags."""


class ChatTemplate:
    """A compiled template.

    Args:
        source: Jinja text, as in ``tokenizer.chat_template``.
        special_tokens: names the template may use, e.g. ``bos_token``.

    Raises:
        Malformed: ``chat-template-too-large``, ``chat-template-syntax``.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        if len(source) > MAX_TEMPLATE:
            raise Malformed("chat-template-too-large", f"{len(source)} characters, at most {MAX_TEMPLATE}")
        # The options are those that the templates are written for (transformers' chat templates).
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        try:
            self._template: Template = environment.from_string(source)
            free = meta.find_undeclared_variables(environment.parse(source))
        except TemplateError as error:
            raise Malformed("chat-template-syntax") from error
        self._special_tokens = dict(special_tokens)
        self.takes_tools = "tools" in free and CALL_OPEN in source and _XML_CALL not in source
        """Whether it describes functions, and has calls written as JSON between the tags we read."""

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> str:
        """The prompt's text.

        Args:
            messages: as the OpenAI API has them, each with a content, the arguments of calls parsed.
            add_generation_prompt: end where the assistant's next message begins.
            tools: functions that may be called, as the same API has them. A template that does not take
                them gets them in words (``tool_prompt``), as it gets calls and results.

        Raises:
            Refused: ``chat-template-refused`` if the template does not take this conversation, e.g. for
                the order of its roles or the type of a content.
        """
        conversation = [dict(message) for message in messages]
        if not self.takes_tools and (tools or speaks_of_calls(conversation)):
            conversation, tools = spelled_out(conversation, tools), None
        try:
            return self._template.render(
                messages=conversation,
                tools=None if tools is None else list(tools),
                add_generation_prompt=add_generation_prompt,
                **self._special_tokens,
            )
        except Refused:
            raise
        # A template is a program over the client's values: whatever it trips on is the conversation's fault.
        except Exception:  # noqa: BLE001 see above; the cause is dropped, since it may quote the content
            raise Refused("chat-template-refused", expected="a conversation the template takes") from None


def _refuse(_message: str) -> NoReturn:
    """A template's own ``raise_exception``; its message may quote the content, so it is dropped."""
    raise Refused("chat-template-refused", expected="a conversation the template takes")


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)
