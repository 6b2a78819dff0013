"""One label, one encoding, one id; and nothing but ``MalformedLabel`` comes out of the readers."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.codec import encode, label_id, parse
from policies.header import format_header, parse_header
from policies.labels import Label
from policies.refusal import MalformedLabel
from policies.structured_field import parse_dictionary, serialise_dictionary
from tests.properties.label_strategies import labels


@given(labels)
def test_what_is_encoded_is_read_back(label: Label) -> None:
    assert parse(encode(label)) == label
    assert parse_header(format_header(label)) == label


@given(labels, labels)
def test_two_labels_share_an_encoding_and_an_id_exactly_if_equal(left: Label, right: Label) -> None:
    assert (encode(left) == encode(right)) is (left == right)
    assert (label_id(left) == label_id(right)) is (left == right)


@given(labels)
def test_the_encoding_is_canonical_json(label: Label) -> None:
    assert rfc8785.dumps(json.loads(encode(label))) == encode(label)


@given(labels, st.randoms(use_true_random=False))
def test_order_and_blanks_do_not_make_another_label(label: Label, random: Any) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            items = [(key, shuffled(item)) for key, item in value.items()]
            random.shuffle(items)
            return dict(items)
        if isinstance(value, list):
            return random.sample(value, len(value))
        return value

    text = json.dumps(shuffled(json.loads(encode(label))), indent=1)
    assert label_id(parse(text.encode())) == label_id(label)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.sampled_from(["org:a", "system"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["v", "c", "i", "p", "r", "t", "f", "s", "src", "u", "lvl", "by", "mip", "prio"])
            | st.text(),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(_json)
def test_no_document_makes_the_reader_fail_otherwise(document: Any) -> None:
    with contextlib.suppress(MalformedLabel):
        label = parse(json.dumps(document).encode())
        assert parse(encode(label)) == label


@given(st.binary(max_size=64))
def test_no_bytes_make_the_reader_fail_otherwise(data: bytes) -> None:
    with contextlib.suppress(MalformedLabel):
        parse(data)


@settings(max_examples=300)
@given(st.text(alphabet='vcipr1=,;()":? \\\torg:a.-\u00e9', max_size=40))
def test_no_text_makes_the_header_reader_fail_otherwise(text: str) -> None:
    with contextlib.suppress(MalformedLabel):
        parse_header(text)
    with contextlib.suppress(MalformedLabel):
        members = parse_dictionary(text)
        assert parse_dictionary(serialise_dictionary(members)) == members


@given(labels, st.data())
def test_a_header_with_one_character_changed_is_another_label_or_none(label: Label, data: Any) -> None:
    """The id in the header is over the whole label, so no edit of the rest passes for it."""
    text = format_header(label)
    at = data.draw(st.integers(0, len(text) - 1))
    sign = data.draw(st.characters(min_codepoint=32, max_codepoint=126))
    changed = text[:at] + sign + text[at + 1 :]
    with contextlib.suppress(MalformedLabel):
        assert parse_header(changed) == label or "id=" not in changed
