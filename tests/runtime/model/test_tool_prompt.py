"""Functions and calls reach the model: by its own template, or in words where that knows none."""

from __future__ import annotations

import json
from typing import Any

from runtime.model.chat_template import ChatTemplate
from runtime.model.tool_prompt import PREAMBLE
from tests.simulators.tiny_models import TEMPLATE

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Zürich"}}}
ASKED: list[dict[str, Any]] = [{"role": "user", "content": "Rain?"}]
CALLED: list[dict[str, Any]] = [
    *ASKED,
    {"role": "assistant", "content": "I look.", "tool_calls": [CALL, CALL]},
    {"role": "tool", "content": "7", "tool_call_id": "c1"},
    {"role": "tool", "content": "8", "tool_call_id": "c2"},
]
# The shape of Qwen2.5's and Qwen3's own.
QWEN = (
    "{%- if tools %}<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>{% endif %}"
    "{%- for m in messages %}[{{ m.role }}]{{ m.content }}"
    "{%- for c in m.tool_calls or [] %}<tool_call>"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}</tool_call>'
    "{%- endfor %}{%- endfor %}"
)


def render(source: str, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> str:
    return ChatTemplate(source, {}).render(messages, add_generation_prompt=False, tools=tools)


def test_a_template_that_takes_tools_gets_them() -> None:
    written = render(QWEN, CALLED, [TOOL])
    assert written.startswith(f"<tools>{json.dumps(TOOL)}</tools>[user]Rain?[assistant]I look.<tool_call>")
    assert '"arguments": {"city": "Zürich"}}</tool_call>[tool]7[tool]8' in written
    assert "You can call" not in written


def test_without_tools_nothing_is_said_of_them() -> None:
    assert render(QWEN, ASKED) == "[user]Rain?"
    assert render(TEMPLATE, ASKED) == "<|im_start|>user\nRain?<|im_end|>\n"
    assert render(TEMPLATE, ASKED, []) == "<|im_start|>user\nRain?<|im_end|>\n"


def test_a_template_without_tools_gets_them_in_words() -> None:
    described = PREAMBLE.replace("{tools}", json.dumps(TOOL))
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Zürich"}}\n</tool_call>'
    results = "<tool_response>\n7\n</tool_response>\n<tool_response>\n8\n</tool_response>"
    assert render(TEMPLATE, CALLED, [TOOL]) == (
        f"<|im_start|>system\n{described}<|im_end|>\n"
        "<|im_start|>user\nRain?<|im_end|>\n"
        f"<|im_start|>assistant\nI look.\n{call}\n{call}<|im_end|>\n"
        f"<|im_start|>user\n{results}<|im_end|>\n"
    )


def test_the_functions_follow_the_callers_own_system_message() -> None:
    written = render(TEMPLATE, [{"role": "system", "content": "Be brief."}, *ASKED], [TOOL])
    assert written.startswith("<|im_start|>system\nBe brief.\n\nYou can call functions.")
    assert written.count("<|im_start|>system") == 1


def test_calls_are_shown_where_nothing_may_be_called_any_more() -> None:
    assert "<tool_response>\n7\n</tool_response>" in render(TEMPLATE, CALLED)
    assert "You can call" not in render(TEMPLATE, CALLED)


def test_a_template_with_another_form_of_call_is_not_asked_to_describe_them() -> None:
    """Its calls would not be read, and a grammar for ours would fight what it says."""
    for other in (
        QWEN.replace("<tool_call>", "[TOOL_CALLS]").replace("</tool_call>", ""),
        QWEN + "{# <tool_call><function=name> #}",
    ):
        assert not ChatTemplate(other, {}).takes_tools
        assert "You can call functions." in render(other, ASKED, [TOOL])
