"""Functions, calls and their results in plain words, for models whose chat template knows none of them.

The form of a call is that of Qwen's and Hermes' templates, so that one grammar and one parser read them all:

    <tool_call>
    {"name": "weather", "arguments": {"city": "Oslo"}}
    </tool_call>
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

CALL_OPEN: Final = "<tool_call>"
CALL_CLOSE: Final = "</tool_call>"

_RESULT_OPEN: Final = "<tool_response>"
_RESULT_CLOSE: Final = "</tool_response>"

PREAMBLE: Final = f"""\
You can call functions. They are described between <tools> and </tools>, one JSON object per line:
<tools>
{{tools}}
</tools>
To call a function, write its name and its arguments as one JSON object, in this form:
{CALL_OPEN}
{{"name": "the function's name", "arguments": {{"an argument's name": "its value"}}}}
{CALL_CLOSE}
The results come between {_RESULT_OPEN} and {_RESULT_CLOSE}."""

Message = Mapping[str, Any]


def speaks_of_calls(messages: Sequence[Message]) -> bool:
    """Whether there is a call in the conversation, or a result of one."""
    return any("tool_calls" in message or message.get("role") == "tool" for message in messages)


def spelled_out(messages: Sequence[Message], tools: Sequence[Message] | None) -> list[dict[str, Any]]:
    """The conversation with ``role`` and ``content`` alone.

    The functions stand at the end of the system message, which is put in front if there is none. Calls become
    part of their message, and the results of one turn one message of the user.

    Args:
        messages: as the OpenAI API has them, with the arguments of calls parsed.
        tools: of the same API; None or empty if nothing may be called.
    """
    plain: list[dict[str, Any]] = []
    for message in messages:
        if message["role"] == "tool":
            result = f"{_RESULT_OPEN}\n{message['content']}\n{_RESULT_CLOSE}"
            if plain and plain[-1].pop("results", False):
                plain[-1] |= {"content": f"{plain[-1]['content']}\n{result}", "results": True}
            else:
                plain.append({"role": "user", "content": result, "results": True})
        else:
            parts = [message["content"], *map(_call, message.get("tool_calls") or ())]
            plain.append({"role": message["role"], "content": "\n".join(filter(None, parts))})
    if tools:
        described = PREAMBLE.replace("{tools}", "\n".join(map(_json, tools)))
        if not plain or plain[0]["role"] != "system":
            plain.insert(0, {"role": "system", "content": described})
        else:
            plain[0]["content"] = f"{plain[0]['content']}\n\n{described}"
    return [{"role": message["role"], "content": message["content"]} for message in plain]


def _call(call: Message) -> str:
    function = call["function"]
    body = {"name": function["name"], "arguments": function["arguments"]}
    return f"{CALL_OPEN}\n{_json(body)}\n{CALL_CLOSE}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
