"""Chunked OHTTP for any plaintext, cut in any way, and the bytes of any liar."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest.channel.chunked import ChunkedRequestOpener, ChunkedRequestSealer, ChunkedResponseOpener
from attest.channel.hpke import SuiteId
from attest.channel.ohttp import KeyPair
from attest.refusal import Refused

KEYS = {aead: KeyPair.generate(aead, [SuiteId(0x20, 1, aead)]) for aead in (1, 2, 3)}
KEYS[9] = KeyPair.generate(9)

pieces = st.lists(st.binary(max_size=200) | st.sampled_from([1, 16384, 16385, 40000]).map(bytes), max_size=5)
cuts = st.lists(st.integers(1, 5000), min_size=1, max_size=30)


def _fed(opener: ChunkedRequestOpener | ChunkedResponseOpener, data: bytes, sizes: list[int]) -> bytes:
    stream, opened = io.BytesIO(data), []
    turn = 0
    while part := stream.read(sizes[turn % len(sizes)]):
        opened += opener.feed(part)
        turn += 1
    return b"".join(opened + opener.finish())


@settings(deadline=None, max_examples=60)
@given(pieces, pieces, cuts, st.sampled_from(sorted(KEYS)))
def test_any_message_survives_any_cutting(
    request_parts: list[bytes], answer_parts: list[bytes], sizes: list[int], key_id: int
) -> None:
    """Neither how the sender cut the plaintext nor how the network cut the stream can be seen."""
    sealer = ChunkedRequestSealer(KEYS[key_id].config)
    sent = sealer.preamble + b"".join(map(sealer.seal, request_parts)) + sealer.seal(b"", final=True)
    opener = ChunkedRequestOpener(KEYS, max_bytes=1 << 20)
    assert _fed(opener, sent, sizes) == b"".join(request_parts)
    answer = opener.response_sealer()
    sent = answer.preamble + b"".join(answer.seal(p) for p in answer_parts[:-1])
    sent += answer.seal(b"".join(answer_parts[-1:]), final=True)
    assert _fed(sealer.response_opener(), sent, sizes) == b"".join(answer_parts)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=300), st.booleans())
def test_arbitrary_bytes_never_open(tail: bytes, with_preamble: bool) -> None:
    """Good prefix or none, arbitrary tail: only a refusal comes out, never another exception."""
    sealer = ChunkedRequestSealer(KEYS[2].config)
    opener = ChunkedRequestOpener(KEYS, max_bytes=1 << 20)
    with pytest.raises(Refused):
        _fed(opener, (sealer.preamble if with_preamble else b"") + tail, [7])


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_any_permutation_or_subset_of_chunks_is_refused(data: st.DataObject) -> None:
    """The only order that opens is the one that was sent."""
    sealer = ChunkedRequestSealer(KEYS[2].config)
    chunks = [sealer.seal(b"a"), sealer.seal(b"b"), sealer.seal(b"c"), sealer.seal(b"d", final=True)]
    order = data.draw(st.lists(st.integers(0, 3), max_size=6))
    opener = ChunkedRequestOpener(KEYS, max_bytes=1 << 20)
    stream = sealer.preamble + b"".join(chunks[index] for index in order)
    if order == [0, 1, 2, 3]:
        assert _fed(opener, stream, [50]) == b"abcd"
        return
    with pytest.raises(Refused):
        _fed(opener, stream, [50])
