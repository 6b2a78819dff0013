"""The search that the demo's claim rests on: it finds what is there, and only that."""

from __future__ import annotations

import base64
import random
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cli.demo.search import FRAGMENT, MAX_RECORDING, MIN_PROMPT, PLANTED, find_prompt, plant

PROMPT = "The merger with Heliotrope closes on Friday: what should the press note say?"
NOISE = random.Random(7).randbytes(6000)  # noqa: S311 - repeatable noise, not a secret


@pytest.mark.parametrize("form", PLANTED)
def test_finds_the_prompt_in_each_form(form: str) -> None:
    """Positive control: each form planted in noise is found."""
    planted = dict(plant(NOISE, PROMPT))[form]
    assert find_prompt(planted, PROMPT)


def test_finds_nothing_in_noise() -> None:
    assert find_prompt(NOISE, PROMPT) == []


def test_finds_nothing_where_only_another_prompt_is() -> None:
    other = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nA question about gardening and the weather in Spain."
    assert find_prompt(other, PROMPT) == []


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(st.characters(codec="utf-8"), min_size=MIN_PROMPT, max_size=80),
    before=st.binary(max_size=40),
    after=st.binary(max_size=40),
    form=st.sampled_from(sorted(PLANTED)),
)
def test_finds_any_text_in_any_form(text: str, before: bytes, after: bytes, form: str) -> None:
    """Any text that may be searched for, at any alignment."""
    packed = before + PLANTED[form](text.encode()) + after
    assert find_prompt(packed, text)


@pytest.mark.parametrize("length", [FRAGMENT, FRAGMENT + 5])
@pytest.mark.parametrize("shift", range(6))
def test_finds_a_fragment_in_base64_at_every_alignment(length: int, shift: int) -> None:
    """A piece cut out of the middle, encoded behind other bytes, is found once a few blocks are whole."""
    piece = PROMPT.encode()[20 : 20 + length + 5]
    assert find_prompt(base64.b64encode(b"#" * shift + piece), PROMPT)


def test_finds_a_prompt_in_a_stream_that_breaks_off() -> None:
    """What a truncated deflate stream still yields counts."""
    packed = zlib.compress(PROMPT.encode() + NOISE)[: len(PROMPT) + 200]
    assert find_prompt(NOISE[:100] + packed, PROMPT)


def test_finds_a_prompt_split_by_chunk_framing() -> None:
    raw = PROMPT.encode()
    framed = (
        b"\r\n\r\n" + b"".join(b"1\r\n" + raw[i : i + 1] + b"\r\n" for i in range(len(raw))) + b"0\r\n\r\n"
    )
    assert find_prompt(framed, PROMPT)


def test_does_not_pass_what_it_cannot_search() -> None:
    """Too short a prompt or too long a recording is an error and never "not found"."""
    with pytest.raises(ValueError, match="at least"):
        find_prompt(NOISE, "short")
    with pytest.raises(ValueError, match="at most"):
        find_prompt(bytes(MAX_RECORDING + 1), PROMPT)


def test_a_trace_does_not_show_the_prompt() -> None:
    traces = find_prompt(PROMPT.encode(), PROMPT)
    assert "Heliotrope" not in repr(traces)
