"""What sizes an observer can see."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from attest.channel.bhttp import (
    Content,
    RequestHead,
    ResponseDecoder,
    ResponseEncoder,
    ResponseHead,
    Trailers,
    encode_request,
)
from attest.channel.padding import (
    MAX_PADDED_CONTENT,
    MIN_PADDED_CONTENT,
    pad_length,
    pad_message,
    padded_content,
    padded_size,
)
from attest.channel.varint import decode_varint, varint_size


@settings(deadline=None)
@given(st.integers(0, 1 << 40))
def test_buckets_hold_and_cost_at_most_a_quarter(size: int) -> None:
    padded = padded_size("bucket", size)
    assert size <= padded == padded_size("bucket", padded)
    assert padded - size == pad_length("bucket", size) <= max(1024, size / 4)


@settings(deadline=None)
@given(st.integers(0, 1 << 40))
def test_none_adds_nothing(size: int) -> None:
    assert pad_length("none", size) == 0


def test_the_leak_is_as_documented() -> None:
    """48 sizes up to 8 MiB; all messages up to 1 KiB alike."""
    assert len({padded_size("bucket", size) for size in range(1, (8 << 20) + 1, 256)}) == 48
    assert {padded_size("bucket", size) for size in range(1025)} == {1024}


def test_buckets_grow_with_size() -> None:
    sizes = [padded_size("bucket", size) for size in range(40000)]
    assert sizes == sorted(sizes)


def test_prompts_of_one_bucket_are_alike() -> None:
    head = RequestHead("POST", "https", "a", "/")
    sizes = {len(pad_message("bucket", encode_request(head, bytes(size)))) for size in range(1030, 1900, 7)}
    assert sizes == {2048}


def _chunks(data: bytes) -> bytes:
    """The content that chunks carry, read naively."""
    content, position = b"", 0
    while position < len(data):
        body = position + varint_size(data[position])
        length = decode_varint(data[position:body])
        assert length
        content += data[body : body + length]
        position = body + length
    return content


def test_every_event_size_reads_back_and_lands_on_a_step() -> None:
    for size in range(1, MAX_PADDED_CONTENT + 3):
        content = bytes(range(256)) * 17
        padded = padded_content("bucket", content[:size])
        assert _chunks(padded) == content[:size]
        if MIN_PADDED_CONTENT <= size <= MAX_PADDED_CONTENT:
            assert len(padded) % 512 == 0
            assert len(padded) - size < 512 + 4
        else:
            assert len(padded) <= size + 2
        assert len(padded_content("none", content[:size])) <= size + 2


def test_events_of_a_token_stream_look_alike() -> None:
    """58 to 510 bytes, one size: the length of a token cannot be read off its event."""
    assert {len(padded_content("bucket", bytes(size))) for size in range(58, 511)} == {512}


def test_a_padded_stream_reads_as_the_plain_one_and_ends_in_a_bucket() -> None:
    events = [b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n' % (b"x" * n) for n in range(1, 90)]
    encoder = ResponseEncoder(padding="bucket")
    data = encoder.head(ResponseHead(200)) + b"".join(map(encoder.content, events))
    data += encoder.end(((b"sealgate-receipt", b"r" * 900),))
    assert len(data) == padded_size("bucket", len(data))
    decoder = ResponseDecoder()
    head, content, trailers = decoder.feed(data) + decoder.finish()
    assert head == ResponseHead(200)
    assert content == Content(b"".join(events))
    assert trailers == Trailers(((b"sealgate-receipt", b"r" * 900),))
