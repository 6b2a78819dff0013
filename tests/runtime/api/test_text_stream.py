"""Text from tokens: no torn characters, no trace of a stop string, whatever the tokens' borders."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.api.text_stream import StopFilter, TextStream
from runtime.engine.stub_text import EOS, ByteDecoder

TEXTS = st.text(alphabet="ab€🙂", max_size=40)
STOPS = st.lists(st.text(alphabet="ab€🙂", min_size=1, max_size=4), max_size=3)


def expected(text: str, stops: list[str]) -> tuple[str, bool]:
    """The rule, on the whole text: the stop string completed first ends it."""
    for end in range(1, len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return text[: min(starts)], True
    return text, False


@settings(max_examples=300, deadline=None)
@given(TEXTS, STOPS, st.lists(st.integers(1, 5), max_size=40))
def test_the_result_does_not_depend_on_how_the_text_was_cut(
    text: str, stops: list[str], sizes: list[int]
) -> None:
    stop_filter = StopFilter(stops)
    shown, rest = "", text
    for size in [*sizes, len(text) + 1]:
        shown += stop_filter.feed(rest[:size])
        rest = rest[size:]
    if not stop_filter.stopped:
        shown += stop_filter.finish()
    assert (shown, stop_filter.stopped) == expected(text, stops)


@settings(max_examples=200, deadline=None)
@given(TEXTS, STOPS)
def test_byte_by_byte_the_same_text_comes_out(text: str, stops: list[str]) -> None:
    stream = TextStream(ByteDecoder(), stops, frozenset({EOS}))
    shown = ""
    for token in text.encode():
        piece = stream.feed(token, last=False)
        assert "\ufffd" not in piece
        shown += piece
        if stream.stopped:
            break
    else:
        shown += stream.feed(EOS, last=True)
    assert (shown, stream.stopped) == expected(text, stops)


def test_what_could_become_a_stop_string_is_held_back() -> None:
    stop_filter = StopFilter(["END"])
    assert [stop_filter.feed(piece) for piece in ("a E", "N", "X", "EN")] == ["a ", "", "ENX", ""]
    assert stop_filter.finish() == "EN"


def test_an_unfinished_character_at_the_end_is_shown_as_such() -> None:
    stream = TextStream(ByteDecoder(), [], frozenset({EOS}))
    assert stream.feed("€".encode()[0], last=False) == ""
    assert stream.feed(EOS, last=True) == "\ufffd"


def test_reprs_hold_no_text() -> None:
    stop_filter = StopFilter(["secret-stop"])
    stop_filter.feed("secret")
    assert "secret" not in repr(stop_filter)
