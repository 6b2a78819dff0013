"""Calls are found in an answer's text, however it is cut."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.api.tool_calls import CallDelta, CallReader

NAMES = frozenset({"weather", "time"})
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "O\\"s}{lo\\\\", "n": [1, {}]}}\n</tool_call>'
OTHER = '<tool_call>{"name":"time","arguments":{}}</tool_call>'


def read(pieces: list[str]) -> tuple[str, list[tuple[str, str]], CallReader]:
    """The content, the calls by name and arguments, and the reader."""
    reader = CallReader(NAMES)
    content = ""
    deltas: list[CallDelta] = []
    for at, piece in enumerate(pieces):
        text, calls = reader.feed(piece, last=at == len(pieces) - 1)
        content += text
        deltas += calls
    names = [delta.name for delta in deltas if delta.name is not None]
    arguments = [
        "".join(delta.arguments for delta in deltas if delta.index == index) for index in range(len(names))
    ]
    assert [delta.index for delta in deltas if delta.id is not None] == list(range(len(names)))
    assert all(re.fullmatch("call_[0-9a-f]{24}", delta.id) for delta in deltas if delta.id is not None)
    return content, list(zip(names, arguments, strict=True)), reader


WEATHER = ("weather", '{"city": "O\\"s}{lo\\\\", "n": [1, {}]}')
TIME = ("time", "{}")
READ = [
    ("", "", []),
    ("Hello", "Hello", []),
    ("a < b <tool", "a < b <tool", []),
    (CALL, "", [WEATHER]),
    (f"I look.\n{CALL}\n{OTHER}", "I look.\n", [WEATHER, TIME]),
    (f"{CALL}{OTHER}{CALL}\n", "", [WEATHER, TIME, WEATHER]),
    (f"{OTHER} and so on", " and so on", [TIME]),
    # What is no call is content.
    ('<tool_call>{"name": "rain", "arguments": {}}', '<tool_call>{"name": "rain", "arguments": {}}', []),
    ('<tool_call>{"name": "time", "arguments": "x"}', '<tool_call>{"name": "time", "arguments": "x"}', []),
    ("<tool_call>time()</tool_call>", "<tool_call>time()</tool_call>", []),
    ("<tool_call>" + "x" * 600, "<tool_call>" + "x" * 600, []),
    (f"<tool_call>\n{OTHER}", "<tool_call>\n", [TIME]),
    # Cut short.
    ('<tool_call>\n{"name": "we', '<tool_call>\n{"name": "we', []),
    (f'{OTHER}\n<tool_call>\n{{"name": "we', "", [TIME]),
    ('<tool_call>{"name": "time", "arguments": {"zone": "u', "", [("time", '{"zone": "u')]),
    ('<tool_call>{"name": "time", "arguments": {}}\n</tool', "", [TIME]),
]


@pytest.mark.parametrize(("text", "content", "calls"), READ)
def test_what_an_answer_says_and_calls(text: str, content: str, calls: list[tuple[str, str]]) -> None:
    assert read([text])[:2] == (content, calls)
    assert read([*text, ""])[:2] == (content, calls)


@settings(max_examples=150, deadline=None)
@given(
    parts=st.lists(st.sampled_from([CALL, OTHER, "\n", " text ", "<", "<tool_call>", "{"]), max_size=6),
    cuts=st.lists(st.integers(0, 400), max_size=12),
)
def test_it_does_not_matter_where_the_text_is_cut(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in pairwise(edges)]
    whole, cut = read([text]), read(pieces)
    assert cut[:2] == whole[:2]


def test_arguments_are_passed_on_as_they_come() -> None:
    reader = CallReader(NAMES)
    reader.feed('<tool_call>{"name": "weather", "arguments": ', last=False)
    shown = [reader.feed(piece, last=False)[1] for piece in ('{"ci', 'ty": "Os', 'lo"}', "}</tool_call>")]
    assert ["".join(delta.arguments for delta in deltas) for deltas in shown] == [
        '{"ci',
        'ty": "Os',
        'lo"}',
        "",
    ]


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("Hello", False),
        (CALL, True),
        (CALL[:-12], True),
        (CALL[:-16], False),
        (f"{OTHER}{CALL[:20]}", True),
        (f"{OTHER}<tool_call>", True),
    ],
)
def test_an_answer_that_ends_inside_a_call_is_not_complete(text: str, complete: bool) -> None:
    assert read([text])[2].complete is complete


def test_the_arguments_are_the_text_that_the_model_wrote() -> None:
    _, calls, _ = read(list(CALL))
    assert json.loads(calls[0][1]) == {"city": 'O"s}{lo\\', "n": [1, {}]}
