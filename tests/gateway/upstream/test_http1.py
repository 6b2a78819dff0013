"""The reader of answers: every way to cut the bytes gives the same, and what h11 refuses is refused."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.upstream.http1 import MAX_HEAD_BYTES, AnswerReader, Head, NotHttp, request_bytes

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
START = b"HTTP/1.1 200 OK\r\n"


def read(data: bytes, step: int = 1 << 20, *, ends: bool = True) -> tuple[Head, bytes, AnswerReader]:
    """All of one answer, fed ``step`` bytes at a time; asks again only when it was told to wait."""
    reader = AnswerReader()
    pieces = [data[at : at + step] for at in range(0, len(data), step)]

    def more() -> None:
        if pieces:
            reader.feed(pieces.pop(0))
        elif ends:
            reader.end()
        else:
            raise EOFError

    while (head := reader.head()) is None:
        more()
    content = b""
    while (part := reader.content()) != b"":
        if part is None:
            more()
        else:
            content += part
    for piece in pieces:
        reader.feed(piece)
    return head, content, reader


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1 << 20])
@pytest.mark.parametrize(
    ("data", "content"),
    [
        (START + b"Content-Length: 5\r\n\r\nhello", b"hello"),
        (START + b"content-length:0\r\n\r\n", b""),
        (b"HTTP/1.1 204 \r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", b""),
        (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (CHUNKED + b"2;a=b\r\nhe\r\n003\r\nllo\r\n0\r\nTrailer: x\r\n\r\n", b"hello"),
        (b"HTTP/1.1 103 Early\r\nx: y\r\n\r\n" + START + b"content-length: 5\r\n\r\nhello", b"hello"),
    ],
    ids=["length", "zero", "204", "304", "chunk", "chunks", "informational"],
)
def test_an_answer_is_the_same_however_it_arrives(data: bytes, content: bytes, step: int) -> None:
    _, got, reader = read(data, step, ends=False)
    assert got == content
    assert reader.complete
    assert reader.keeps_open
    assert not reader.has_more


def test_the_head_is_what_was_sent() -> None:
    head, _, _ = read(START + b"Content-Type: a/b \t\r\nX:\r\nx: \xfc\r\ncontent-length: 0\r\n\r\n")
    assert head.status == 200
    assert head.fields[:3] == [(b"content-type", b"a/b"), (b"x", b""), (b"x", b"\xfc")]


def test_content_without_a_length_ends_with_the_connection() -> None:
    _, content, reader = read(START + b"\r\nhello", 3)
    assert content == b"hello"
    assert not reader.keeps_open


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        START + b"connection: x, Close\r\ncontent-length: 0\r\n\r\n",
    ],
)
def test_a_connection_that_will_close_is_not_kept(data: bytes) -> None:
    assert not read(data)[2].keeps_open


def test_bytes_behind_the_answer_are_seen() -> None:
    assert read(START + b"content-length: 1\r\n\r\nab")[2].has_more


@pytest.mark.parametrize("step", [1, 1 << 20])
@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 99 Low\r\n\r\n",
        b"HTTP/1.1 600 High\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 O\x00K\r\n\r\n",
        START + b" folded: x\r\n\r\n",
        START + b"a: b\r\n folded\r\ncontent-length: 0\r\n\r\n",
        START + b"a : b\r\n\r\n",
        START + b": b\r\n\r\n",
        START + b"a\r\n\r\n",
        START + b"a: b\nc: d\r\n\r\n",
        START + b"a: b\rc\r\n\r\n",
        START + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab",
        START + b"content-length: 1, 1\r\n\r\na",
        START + b"content-length: +1\r\n\r\na",
        START + b"content-length: \r\n\r\na",
        START + b"content-length: 1000000000000000\r\n\r\na",
        START + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        START + b"transfer-encoding: gzip, chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        START + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        CHUNKED + b"\r\n",
        CHUNKED + b"-1\r\na\r\n",
        CHUNKED + b"0x1\r\na\r\n0\r\n\r\n",
        CHUNKED + b"1\r\nab\r\n0\r\n\r\n",
        CHUNKED + b"1\r\na\n\n0\r\n\r\n",
        CHUNKED + b"1 a\r\na\r\n0\r\n\r\n",
        CHUNKED + b"1;" + b"x" * 300 + b"\r\na\r\n0\r\n\r\n",
        CHUNKED + b"0\r\nnot a field\r\n\r\n",
        START + b"a: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n",
        CHUNKED + b"0\r\n" + (b"a: " + b"x" * 1000 + b"\r\n") * 66 + b"\r\n",
        START + b"content-length: 3\r\n\r\nab",
        CHUNKED + b"3\r\nabc\r\n",
        CHUNKED + b"3\r\nab",
        CHUNKED + b"0\r\n",
        START[:9],
        b"",
    ],
)
def test_what_has_no_single_meaning_is_refused(data: bytes, step: int) -> None:
    with pytest.raises(NotHttp):
        read(data, step)


def test_endless_input_is_refused_while_it_arrives() -> None:
    for start in (START + b"a: ", CHUNKED, CHUNKED + b"0\r\n"):
        with pytest.raises(NotHttp):
            read(start + b"1" * (MAX_HEAD_BYTES + 1), ends=False)


def _h11(data: bytes) -> tuple[int, bytes] | None:
    """What h11 makes of the answer; None if it refuses it."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    connection.receive_data(b"")
    status, content = 0, b""
    try:
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                content += event.data
            elif not isinstance(event, h11.InformationalResponse):
                return None
    except h11.RemoteProtocolError:
        return None
    return status, content


PIECES = st.sampled_from(
    [
        *(
            b"HTTP/1.1 200 OK",
            b"HTTP/1.0 200 OK",
            b"HTTP/1.1 204 No",
            b"HTTP/1.1 100 Go",
            b"\r\n",
            b"\r\n\r\n",
        ),
        *(b"content-length: 3", b"content-length: 0", b"transfer-encoding: chunked", b"connection: close"),
        *(b"3\r\nabc\r\n", b"0\r\n\r\n", b"0\r\n", b"a: b", b"abc", b"\n", b" ", b"\r", b":", b"\x00", b"3"),
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=9).map(b"".join), st.booleans())
def test_what_is_read_h11_reads_alike(data: bytes, begins_well: bool) -> None:
    """An independent reader agrees on every answer that ours accepts."""
    if begins_well:
        data = START + data
    try:
        head, content, _ = read(data)
    except NotHttp:
        return
    assert _h11(data) == (head.status, content)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.lists(st.integers(1, 40), max_size=5), st.integers(1, 50))
def test_what_h11_writes_is_read(content: bytes, cuts: list[int], step: int) -> None:
    server = h11.Connection(h11.SERVER)
    server.receive_data(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")
    server.next_event()
    server.next_event()
    wire = server.send(h11.Response(status_code=200, headers=[("a", "b")])) or b""
    rest = content
    for cut in cuts:
        wire += server.send(h11.Data(data=rest[:cut])) or b""
        rest = rest[cut:]
    wire += (server.send(h11.Data(data=rest)) or b"") + (server.send(h11.EndOfMessage()) or b"")
    assert read(wire, step)[1] == content


def test_a_request_states_its_own_length() -> None:
    fields = [(b"Host", b"a"), (b"Content-Length", b"7"), (b"transfer-encoding", b"chunked")]
    data = request_bytes(b"POST", b"/x", fields, b"abc")
    assert data == b"POST /x HTTP/1.1\r\nHost: a\r\ncontent-length: 3\r\n\r\nabc"
    assert request_bytes(b"POST", b"/", [], b"").endswith(b"content-length: 0\r\n\r\n")
    assert request_bytes(b"GET", b"/", [], b"") == b"GET / HTTP/1.1\r\n\r\n"


@pytest.mark.parametrize("bad", [b"a\r\nb", b"a\nb", b"a\rb", b"a\x00"])
def test_a_line_end_in_a_request_is_refused(bad: bytes) -> None:
    for method, target, field in (
        (bad, b"/", (b"a", b"b")),
        (b"GET", bad, (b"a", b"b")),
        (b"GET", b"/", (b"a", bad)),
    ):
        with pytest.raises(ValueError, match="end of a line"):
            request_bytes(method, target, [field], b"")
