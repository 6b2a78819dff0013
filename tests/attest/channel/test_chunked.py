"""Chunked OHTTP: the draft's example, and what a relay, a recorder or a liar may try."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attest.channel import chunked
from attest.channel import kem_x25519 as kem_module
from attest.channel.chunked import (
    MAX_CHUNK,
    MAX_MESSAGE_BYTES,
    MAX_RECEIVED_CHUNK,
    ChunkedRequestOpener,
    ChunkedRequestSealer,
    ChunkedResponseOpener,
    ChunkedResponseSealer,
)
from attest.channel.hpke import SuiteId
from attest.channel.key_config import KeyConfig
from attest.channel.ohttp import KeyPair, open_request, seal_request
from attest.channel.varint import decode_varint, encode_varint, encode_varint_in, varint_size
from attest.refusal import Malformed, Refused, Unsupported

SUITE = SuiteId(0x20, 1, 2)
KEY = KeyPair.generate(1, [SUITE])
PREAMBLE = 7 + 32


def _opener(max_bytes: int = 1 << 20) -> ChunkedRequestOpener:
    return ChunkedRequestOpener({1: KEY}, max_bytes=max_bytes)


def _open(opener: ChunkedRequestOpener | ChunkedResponseOpener, data: bytes) -> bytes:
    return b"".join(opener.feed(data) + opener.finish())


def _request(*pieces: bytes) -> tuple[ChunkedRequestSealer, list[bytes]]:
    """A sealer, and its preamble and chunks one by one; the last piece is final."""
    sealer = ChunkedRequestSealer(KEY.config)
    chunks = [sealer.preamble, *(sealer.seal(piece) for piece in pieces[:-1])]
    return sealer, [*chunks, sealer.seal(pieces[-1], final=True)]


def _exchange() -> tuple[ChunkedRequestSealer, ChunkedRequestOpener]:
    sealer, chunks = _request(b"request")
    opener = _opener()
    assert _open(opener, b"".join(chunks)) == b"request"
    return sealer, opener


def _answer(*pieces: bytes) -> tuple[ChunkedResponseOpener, list[bytes]]:
    sealer, opener = _exchange()
    answer = opener.response_sealer()
    chunks = [answer.preamble, *(answer.seal(piece) for piece in pieces[:-1])]
    return sealer.response_opener(), [*chunks, answer.seal(pieces[-1], final=True)]


def _requests(*pieces: bytes) -> tuple[ChunkedRequestOpener, list[bytes]]:
    return _opener(), _request(*pieces)[1]


BOTH = pytest.mark.parametrize("make", [_requests, _answer], ids=["request", "response"])
Make = Callable[..., tuple[Any, list[bytes]]]


def test_the_drafts_example(shared: Path, monkeypatch: pytest.MonkeyPatch, vector_count: Any) -> None:
    """Appendix A of draft-ietf-ohai-chunked-ohttp, byte for byte, both sides and directions."""
    vectors = json.loads((shared / "vectors" / "ohttp" / "ohttp-vectors.json").read_bytes())
    raw = vectors["chunked"]
    vector = {
        name: bytes.fromhex(text) for name, text in raw.items() if isinstance(text, str) and name != "source"
    }
    key_pair = KeyPair.load(1, vector["skR"], [SuiteId(0x20, 1, 1), SuiteId(0x20, 1, 3)])
    # The stored copy has one zero byte more than the draft, which a strict parser must notice.
    assert key_pair.config.serialise() + b"\x00" == vector["keyConfig"]
    with pytest.raises(Malformed, match="ohttp-keys-trailing-bytes"):
        KeyConfig.parse(vector["keyConfig"])

    original = kem_module._ephemeral_x25519
    monkeypatch.setattr(kem_module, "_ephemeral_x25519", lambda _: original(vector["skE"]))
    sealer = ChunkedRequestSealer(key_pair.config)
    assert sealer.enc == vector["enc"]
    pieces = raw["requestChunks"]
    sent = sealer.preamble + b"".join(
        sealer.seal(bytes.fromhex(piece["plaintext"]), final=piece["final"]) for piece in pieces
    )
    assert sent == vector["encapsulatedRequest"]
    opener = ChunkedRequestOpener({1: key_pair}, max_bytes=1000)
    assert opener.feed(sent) == [bytes.fromhex(piece["plaintext"]) for piece in pieces[:-1]]
    assert opener.finish() == []

    monkeypatch.setattr(chunked, "fresh_response_nonce", lambda _: vector["responseNonce"])
    answer = opener.response_sealer()
    pieces = raw["responseChunks"]
    sent = answer.preamble + b"".join(
        answer.seal(bytes.fromhex(piece["plaintext"]), final=piece["final"]) for piece in pieces
    )
    assert sent == vector["encapsulatedResponse"]
    reply = sealer.response_opener()
    assert reply.feed(sent) == [bytes.fromhex(piece["plaintext"]) for piece in pieces[:-1]]
    assert reply.finish() == []
    vector_count("ohttp/ohttp-vectors.json chunked", 1, 1, "both sides, both directions")


@BOTH
def test_cut_anywhere_is_truncation(make: Make) -> None:
    """A stream that ends early is refused at every possible cut, chunk borders included."""
    _, chunks = make(b"first", b"second", b"last")
    size = len(b"".join(chunks))
    for cut in range(size):
        opener, parts = make(b"first", b"second", b"last")
        with pytest.raises(Refused):
            _open(opener, b"".join(parts)[:cut])


@BOTH
def test_a_missing_final_chunk_has_its_own_code(make: Make) -> None:
    opener, chunks = make(b"first", b"second", b"")
    assert opener.feed(b"".join(chunks[:-1])) == [b"first", b"second"]
    with pytest.raises(Refused, match="ohttp-truncated"):
        opener.finish()


@BOTH
def test_nothing_at_all_is_truncated(make: Make) -> None:
    opener, _ = make(b"")
    with pytest.raises(Refused, match="ohttp-truncated"):
        opener.finish()


@BOTH
def test_reordered_duplicated_and_dropped_chunks_do_not_open(make: Make) -> None:
    for order in ([0, 2, 1, 3], [0, 1, 1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2, 2, 3]):
        opener, chunks = make(b"first", b"second", b"last")
        with pytest.raises(Refused, match="hpke-open-failed"):
            _open(opener, b"".join(chunks[index] for index in order))


@BOTH
def test_a_chunk_cannot_be_promoted_to_final_or_demoted(make: Make) -> None:
    """Finality is in the AAD: cutting after a chunk and relabelling its length changes nothing."""
    opener, chunks = make(b"first", b"second", b"last")
    relabelled = b"\x00" + chunks[2][1:]
    opener.feed(chunks[0] + chunks[1] + relabelled)
    with pytest.raises(Refused, match="hpke-open-failed"):
        opener.finish()
    opener, chunks = make(b"first", b"last")
    with pytest.raises(Refused, match="hpke-open-failed"):
        opener.feed(chunks[0] + chunks[1] + encode_varint(len(chunks[2]) - 1) + chunks[2][1:])


@BOTH
def test_bytes_after_the_end_are_refused(make: Make) -> None:
    opener, chunks = make(b"first", b"last")
    with pytest.raises(Refused, match="hpke-open-failed"):
        _open(opener, b"".join(chunks) + b"\x00")


@BOTH
def test_every_flipped_bit_is_refused(make: Make) -> None:
    """All of them, except where a length is only spelt differently: see the next test."""
    _, chunks = make(b"one", b"two")
    size = 8 * len(b"".join(chunks))
    for bit in range(size):
        opener, parts = make(b"one", b"two")
        changed = bytearray(b"".join(parts))
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Refused):
            _open(opener, bytes(changed))


@BOTH
@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_lengths_may_be_spelt_longer(make: Make, width: int) -> None:
    """Section 6: the spelling of a length is not authenticated, and means nothing."""
    opener, chunks = make(b"one", b"two")
    size = varint_size(chunks[1][0])
    longer = encode_varint_in(decode_varint(chunks[1][:size]), width) + chunks[1][size:]
    final = encode_varint_in(0, width) + chunks[2][1:]
    assert _open(opener, chunks[0] + longer + final) == b"onetwo"


def test_chunks_of_another_request_do_not_open() -> None:
    """The same receiver, the same content, the same place in the stream: still another key."""
    _, mine = _request(b"one", b"two")
    _, other = _request(b"one", b"two")
    with pytest.raises(Refused, match="hpke-open-failed"):
        _open(_opener(), mine[0] + other[1] + mine[2])
    with pytest.raises(Refused, match="hpke-open-failed"):
        _open(_opener(), mine[0] + mine[1] + other[2])


def test_an_answer_opens_for_its_own_request_only() -> None:
    opener, _ = _answer(b"mine")
    _, chunks = _answer(b"other")
    with pytest.raises(Refused, match="hpke-open-failed"):
        _open(opener, b"".join(chunks))


def test_a_request_is_no_answer_and_single_shot_is_not_chunked() -> None:
    """Labels part the variants: what one seals, the other does not open (section 3, no fallback)."""
    _, chunks = _request(b"data")
    with pytest.raises(Refused, match="hpke-open-failed"):
        open_request({1: KEY}, chunks[0] + chunks[1][1:])
    single = seal_request(KEY.config, b"data").data
    with pytest.raises(Refused, match="hpke-open-failed"):
        _open(_opener(), single[:PREAMBLE] + b"\x00" + single[PREAMBLE:])


def test_two_answers_to_one_request_have_different_keys() -> None:
    sealer, opener = _exchange()
    one, two = opener.response_sealer(), opener.response_sealer()
    assert one.preamble != two.preamble
    with pytest.raises(Refused, match="hpke-open-failed"):
        _open(sealer.response_opener(), one.preamble + two.seal(b"x", final=True))


@BOTH
def test_errors_stick(make: Make) -> None:
    """After a refusal nothing more opens, not even what would have been next."""
    opener, chunks = make(b"first", b"second", b"last")
    opener.feed(chunks[0])
    with pytest.raises(Refused, match="hpke-open-failed"):
        opener.feed(chunks[2])
    for _ in range(2):
        with pytest.raises(Refused, match="hpke-open-failed"):
            opener.feed(chunks[1])
        with pytest.raises(Refused, match="hpke-open-failed"):
            opener.finish()


@BOTH
def test_a_malformed_refusal_stays_malformed(make: Make) -> None:
    opener, chunks = make(b"x", b"")
    for _ in range(2):
        with pytest.raises(Malformed, match="ohttp-chunk-too-short") as refusal:
            opener.feed(chunks[0] + b"\x05")
        assert refusal.value.exit_code == 30


@BOTH
def test_length_bounds_are_judged_before_the_bytes_come(make: Make) -> None:
    cases = {
        "ohttp-chunk-too-large": encode_varint(MAX_RECEIVED_CHUNK + 17),
        "ohttp-chunk-too-short": encode_varint(15),
        "ohttp-chunk-empty": encode_varint(16),
    }
    for code, length in cases.items():
        opener, chunks = make(b"x", b"")
        with pytest.raises(Refused) as refusal:
            opener.feed(chunks[0] + length)
        assert refusal.value.code == code
    opener, chunks = make(b"x", b"")
    with pytest.raises(Refused, match="ohttp-chunk-too-large"):
        opener.feed(chunks[0] + encode_varint((1 << 62) - 1))


@BOTH
def test_the_final_chunk_is_bounded_while_it_is_held(make: Make) -> None:
    """It has no length, so a liar could make us hold it for ever."""
    opener, chunks = make(b"x", b"")
    opener.feed(chunks[0] + b"\x00" + bytes(MAX_RECEIVED_CHUNK + 16))
    with pytest.raises(Refused, match="ohttp-chunk-too-large"):
        opener.feed(b"\x00")


@BOTH
def test_the_largest_chunk_that_the_draft_requires_is_taken_whole(make: Make) -> None:
    opener, chunks = make(bytes(MAX_CHUNK), b"")
    assert len(chunks[1]) == MAX_CHUNK + 16 + 4
    assert opener.feed(b"".join(chunks)) == [bytes(MAX_CHUNK)]


def test_a_larger_chunk_of_another_sender_is_taken() -> None:
    """We send 2^14 and take up to 2^16."""
    sealer = ChunkedRequestSealer(KEY.config)
    data = bytes(MAX_RECEIVED_CHUNK)
    sealed = sealer._messages.seal(b"", data)
    final = sealer.seal(b"", final=True)
    assert _open(_opener(), sealer.preamble + encode_varint(len(sealed)) + sealed + final) == data


def test_total_size_is_bounded() -> None:
    _, chunks = _request(b"x" * 1000, b"")
    data = b"".join(chunks)
    assert _open(_opener(max_bytes=len(data)), data) == b"x" * 1000
    with pytest.raises(Refused, match="ohttp-too-large"):
        _opener(max_bytes=len(data) - 1).feed(data)
    sealer, opener = _exchange()
    answer = opener.response_sealer()
    data = answer.preamble + answer.seal(b"x" * 1000, final=True)
    with pytest.raises(Refused, match="ohttp-too-large"):
        sealer.response_opener(max_bytes=len(data) - 1).feed(data)


def test_one_key_protects_a_bounded_amount() -> None:
    sealer = ChunkedRequestSealer(KEY.config)
    sealer._bytes = MAX_MESSAGE_BYTES - 1
    sealer.seal(b"x")
    with pytest.raises(OverflowError):
        sealer.seal(b"x")
    opener = _opener(max_bytes=1 << 62)
    opener._received = MAX_MESSAGE_BYTES
    with pytest.raises(Refused, match="ohttp-too-large"):
        opener.feed(b"x")


def test_unknown_key_is_refused_on_the_header_alone() -> None:
    """The sender hears of it before it has sent its body; a wrong suite counts as an unknown key."""
    _, chunks = _request(b"x")
    with pytest.raises(Refused, match="ohttp-unknown-key"):
        ChunkedRequestOpener({2: KEY}, max_bytes=1000).feed(chunks[0][:7])
    other = KeyPair.generate(1)
    with pytest.raises(Refused, match="ohttp-unknown-key"):
        ChunkedRequestOpener({1: other}, max_bytes=1000).feed(chunks[0][:7])


def test_an_invalid_encapsulation_is_refused() -> None:
    _, chunks = _request(b"x")
    with pytest.raises(Refused, match="hpke-decapsulation-failed"):
        _opener().feed(chunks[0][:7] + bytes(32))


def test_key_id_and_enc_are_known_once_the_preamble_is_in() -> None:
    sealer, chunks = _request(b"x")
    opener = _opener()
    opener.feed(chunks[0][:-1])
    assert (opener.key_id, opener.enc) == (None, b"")
    with pytest.raises(RuntimeError):
        opener.response_sealer()
    opener.feed(chunks[0][-1:])
    assert (opener.key_id, opener.enc) == (1, sealer.enc)


def test_an_answer_may_begin_before_the_request_has_ended() -> None:
    sealer = ChunkedRequestSealer(KEY.config)
    opener = _opener()
    opener.feed(sealer.preamble + sealer.seal(b"first"))
    answer = opener.response_sealer()
    reply = sealer.response_opener()
    assert reply.feed(answer.preamble + answer.seal(b"early")) == [b"early"]


def test_the_sealer_refuses_misuse() -> None:
    sealer = ChunkedRequestSealer(KEY.config)
    assert sealer.seal(b"") == b""
    sealer.seal(b"", final=True)
    with pytest.raises(RuntimeError):
        sealer.seal(b"more")
    with pytest.raises(Unsupported, match="ohttp-suite"):
        ChunkedRequestSealer(KEY.config, SuiteId(0x20, 1, 3))


def test_the_opener_refuses_use_after_the_end() -> None:
    opener, chunks = _requests(b"x")
    _open(opener, b"".join(chunks))
    with pytest.raises(RuntimeError):
        opener.feed(b"")
    with pytest.raises(RuntimeError):
        opener.finish()


def test_no_repr_shows_content_or_keys() -> None:
    sealer, opener = _exchange()
    answer = opener.response_sealer()
    reply = sealer.response_opener()
    sealer2 = ChunkedRequestSealer(KEY.config)
    sealer2.seal(b"CANARY-CONTENT")
    shown = repr((sealer, sealer2, opener, answer, reply))
    assert "CANARY" not in shown
    assert repr(KEY.hpke.private_bytes())[2:-1] not in shown
    assert isinstance(answer, ChunkedResponseSealer)
