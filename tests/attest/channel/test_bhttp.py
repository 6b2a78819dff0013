"""RFC 9292: the examples, both framings, truncation, padding, bounds."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest.channel.bhttp import (
    Content,
    InformationalHead,
    RequestDecoder,
    RequestEncoder,
    RequestHead,
    ResponseDecoder,
    ResponseEncoder,
    ResponseHead,
    Trailers,
    encode_request,
    encode_response,
)
from attest.channel.varint import encode_varint
from attest.refusal import Malformed, Refused

HEAD = RequestHead("POST", "https", "example.com", "/v1/x?y=1", ((b"a", b"1"), (b"b", b"")))
ANSWER = ResponseHead(200, ((b"content-type", b"text/plain"),))
TRAILERS = ((b"t", b"done"),)


def _decode(decoder: RequestDecoder | ResponseDecoder, data: bytes, step: int = 0) -> list[Any]:
    """All events, with adjacent content joined (where it is cut means nothing)."""
    events: list[Any] = []
    for start in range(0, len(data), step or max(1, len(data))):
        events += decoder.feed(data[start : start + (step or len(data))])
    events += decoder.finish()
    joined: list[Any] = []
    for event in events:
        if isinstance(event, Content) and joined and isinstance(joined[-1], Content):
            joined[-1] = Content(joined[-1].data + event.data)
        else:
            joined.append(event)
    return joined


def _request(data: bytes, step: int = 0, **bounds: int) -> list[Any]:
    return _decode(RequestDecoder(**bounds), data, step)


def _response(data: bytes, step: int = 0, **bounds: int) -> list[Any]:
    return _decode(ResponseDecoder(**bounds), data, step)


@pytest.fixture
def examples(shared: Path) -> dict[str, bytes]:
    raw = json.loads((shared / "vectors" / "ohttp" / "bhttp-examples.json").read_bytes())
    return {name: bytes.fromhex(text) for name, text in raw.items()}


def test_examples_decode_whole_and_byte_by_byte(examples: dict[str, bytes], vector_count: Any) -> None:
    """All eight, with the messages that RFC 9292 section 5 prints beside them."""
    curl = RequestHead(
        "GET",
        "https",
        "",
        "/hello.txt",
        (
            (b"user-agent", b"curl/7.16.3 libcurl/7.16.3 OpenSSL/0.9.7l zlib/1.2.3"),
            (b"host", b"www.example.com"),
            (b"accept-language", b"en, mi"),
        ),
    )
    chunked = [
        ResponseHead(200),
        Content(b"This content contains CRLF.\r\n"),
        Trailers(((b"trailer", b"text"),)),
    ]
    expected: dict[str, list[Any]] = {
        "rfc9292-5.1-request-known-length": [curl],
        "rfc9292-5.1-request-indeterminate-padded": [curl],
        "request-known": [curl],
        "chunked-known": chunked,
        "chunked-indeterminate": chunked,
        "tiny-request": [RequestHead("GET", "https", "example.com", "/")],
        "tiny-response": [ResponseHead(200)],
    }
    informational = examples.pop("rfc9292-5.2-response-with-informational")
    for step in (0, 1):
        for name, data in examples.items():
            decode = _request if data[0] in (0, 2) else _response
            assert decode(data, step) == expected[name], name
        events = _response(informational, step)
        assert events[0] == InformationalHead(102, ((b"running", b'"sleep 15"'),))
        assert [type(event) for event in events[1:]] == [InformationalHead, ResponseHead, Content]
        assert len(events[2].headers) == 8
        assert events[3].data == b"Hello World! My content includes a trailing CRLF.\r\n"
    vector_count("ohttp/bhttp-examples.json", 8, 8, "decoded whole and byte by byte")


def test_examples_encode(examples: dict[str, bytes]) -> None:
    """What we write is what RFC 9292 prints, where it spells things the shortest way."""
    (head,) = _request(examples["request-known"])
    assert encode_request(head, b"") == examples["request-known"]
    encoder = RequestEncoder()
    assert (
        encoder.head(head) + encoder.end() + bytes(10)
        == (examples["rfc9292-5.1-request-indeterminate-padded"])
    )
    response, content, trailers = _response(examples["chunked-known"])
    assert encode_response(response, content.data, trailers=trailers.fields) == examples["chunked-known"]
    stream = ResponseEncoder()
    written = stream.head(response) + stream.content(content.data) + stream.end(trailers.fields)
    assert written == examples["chunked-indeterminate"]
    stream = ResponseEncoder()
    data = examples["rfc9292-5.2-response-with-informational"]
    *informational, final, content = _response(data)
    written = b"".join(map(stream.informational, informational)) + stream.head(final)
    assert written + stream.content(content.data) + stream.end() == data


token = st.from_regex(rb"[!#$%&'*+\-.^_`|~0-9a-z]{1,12}", fullmatch=True)
value = st.from_regex(rb"([!-~\x80-\xff]([\t -~\x80-\xff]{0,20}[!-~\x80-\xff])?)?", fullmatch=True)
fields = st.lists(st.tuples(token, value), max_size=6).map(tuple)
text = st.from_regex(r"[!-~]{0,12}", fullmatch=True)
heads = st.builds(
    RequestHead,
    method=st.sampled_from(["GET", "POST", "M-SEARCH"]),
    scheme=st.sampled_from(["https", "http", "x+y"]),
    authority=text,
    path=text.map(lambda tail: "/" + tail),
    headers=fields,
)
answers = st.builds(ResponseHead, status=st.integers(200, 599), headers=fields)
informationals = st.lists(
    st.builds(InformationalHead, status=st.integers(100, 199), headers=fields), max_size=2
)


def _tail(body: bytes, trailers: tuple[tuple[bytes, bytes], ...]) -> list[Any]:
    return ([Content(body)] if body else []) + ([Trailers(trailers)] if trailers else [])


@settings(deadline=None, max_examples=80)
@given(heads, st.binary(max_size=300), fields, st.integers(0, 20), st.integers(0, 9))
def test_known_length_round_trip(
    head: RequestHead, body: bytes, trailers: Any, padding: int, step: int
) -> None:
    data = encode_request(head, body, trailers=trailers) + bytes(padding)
    assert _request(data, step) == [head, *_tail(body, trailers)]
    answer = ResponseHead(299, head.headers)
    data = encode_response(answer, body, trailers=trailers) + bytes(padding)
    assert _response(data, step) == [answer, *_tail(body, trailers)]


@settings(deadline=None, max_examples=80)
@given(
    informationals,
    answers,
    st.lists(st.binary(max_size=700), max_size=4),
    fields,
    st.sampled_from(["none", "bucket"]),
    st.integers(0, 9),
)
def test_indeterminate_round_trip(  # noqa: PLR0917  hypothesis passes them by position
    early: Any, answer: ResponseHead, chunks: list[bytes], trailers: Any, padding: Any, step: int
) -> None:
    """Also under padding: the reader sees the same message."""
    encoder = ResponseEncoder(padding=padding)
    data = b"".join(map(encoder.informational, early)) + encoder.head(answer)
    data += b"".join(map(encoder.content, chunks)) + encoder.end(trailers)
    assert _response(data, step) == [*early, answer, *_tail(b"".join(chunks), trailers)]
    request = RequestEncoder(padding=padding)
    data = request.head(HEAD) + b"".join(map(request.content, chunks)) + request.end(trailers)
    assert _request(data, step) == [HEAD, *_tail(b"".join(chunks), trailers)]


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 3), st.binary(max_size=120), st.booleans())
def test_decoders_only_refuse(indicator: int, data: bytes, with_head: bool) -> None:
    """Arbitrary bytes, after a good head or none, end in events or in a refusal."""
    start = encode_varint(indicator)
    if with_head:
        start = encode_request(HEAD, b"")[:-2] if indicator in (0, 2) else encode_response(ANSWER, b"")[:-2]
    for decode in (_request, _response):
        with contextlib.suppress(Refused):
            assert decode(start + data, 5)


def _stream(*chunks: bytes, trailers: Any = ()) -> bytes:
    encoder = RequestEncoder()
    return encoder.head(HEAD) + b"".join(map(encoder.content, chunks)) + encoder.end(trailers)


def test_known_length_may_end_only_before_empty_sections() -> None:
    """RFC 9292 section 3.8: before a length prefix of which nothing follows, and nowhere else."""
    bare = RequestHead(HEAD.method, HEAD.scheme, HEAD.authority, HEAD.path)
    control = len(encode_request(bare, b"")) - 3
    full = encode_request(HEAD, b"")
    whole = {control: bare, len(full) - 2: HEAD, len(full) - 1: HEAD}
    for cut in range(len(full)):
        if cut in whole:
            assert _request(full[:cut]) == [whole[cut]]
            continue
        with pytest.raises(Malformed, match="bhttp-truncated"):
            _request(full[:cut])
    body = encode_request(HEAD, b"body")
    assert _request(body[:-1]) == [HEAD, Content(b"body")]
    for cut in range(len(body) - 5, len(body) - 1):
        with pytest.raises(Malformed, match="bhttp-truncated"):
            _request(body[:cut])


def test_known_length_trailers_are_all_or_nothing() -> None:
    data = encode_request(HEAD, b"body", trailers=TRAILERS)
    size = len(b"\x01t\x04done")
    assert _request(data)[-1] == Trailers(TRAILERS)
    for cut in range(len(data) - size, len(data)):
        with pytest.raises(Malformed, match="bhttp-truncated"):
            _request(data[:cut])


def test_indeterminate_content_needs_its_terminator() -> None:
    """A message cut between two chunks is not a shorter message."""
    data = _stream(b"one", b"two")
    assert _request(data[:-1]) == [HEAD, Content(b"onetwo")]  # the trailers' terminator may be left out
    for cut in range(len(_stream()) - 1, len(data) - 1):
        with pytest.raises(Malformed, match="bhttp-truncated"):
            _request(data[:cut])
    assert _request(_stream()[:-2]) == [HEAD]  # no content at all: nothing remains


def test_indeterminate_fields_need_their_terminator() -> None:
    data = _stream(b"x", trailers=TRAILERS)
    for cut in range(len(data) - len(b"\x01t\x04done\x00") + 1, len(data)):
        with pytest.raises(Malformed, match="bhttp-truncated"):
            _request(data[:cut])
    head_only = RequestEncoder().head(HEAD)
    with pytest.raises(Malformed, match="bhttp-truncated"):
        _request(head_only[:-1])


def test_nothing_is_no_message() -> None:
    for decode in (_request, _response):
        with pytest.raises(Malformed, match="bhttp-truncated"):
            decode(b"")


def test_informational_response_needs_a_final_one() -> None:
    encoder = ResponseEncoder()
    data = encoder.informational(InformationalHead(103, ((b"a", b"b"),)))
    with pytest.raises(Malformed, match="bhttp-truncated"):
        _response(data)


@pytest.mark.parametrize("step", [0, 1])
def test_padding_must_be_zero(step: int) -> None:
    for data in (encode_request(HEAD, b"x", trailers=TRAILERS), _stream(b"x", trailers=TRAILERS)):
        assert _request(data + bytes(1000), step)[0] == HEAD
        with pytest.raises(Malformed, match="bhttp-padding"):
            _request(data + bytes(1000) + b"\x01", step)


@pytest.mark.parametrize("data", [b"\x04", b"\x01", b"\x03", b"\x40\x04"])
def test_framing_must_be_that_of_a_request(data: bytes) -> None:
    with pytest.raises(Malformed, match="bhttp-framing"):
        _request(data)


@pytest.mark.parametrize("data", [b"\x04", b"\x00", b"\x02"])
def test_framing_must_be_that_of_a_response(data: bytes) -> None:
    with pytest.raises(Malformed, match="bhttp-framing"):
        _response(data)


@pytest.mark.parametrize("status", [0, 99, 600, 1000, 20000])
def test_status_must_be_of_http(status: int) -> None:
    with pytest.raises(Malformed, match="bhttp-status"):
        _response(b"\x01" + encode_varint(status))
    with pytest.raises(Malformed, match="bhttp-status"):
        encode_response(ResponseHead(status), b"")


def _prefixed(*parts: bytes) -> bytes:
    return b"".join(encode_varint(len(part)) + part for part in parts)


@pytest.mark.parametrize(
    ("part", "control"),
    [
        ("method", (b"", b"https", b"a", b"/")),
        ("method", (b"GET x", b"https", b"a", b"/")),
        ("method", (b"G\xc9T", b"https", b"a", b"/")),
        ("scheme", (b"GET", b"", b"a", b"/")),
        ("scheme", (b"GET", b"1http", b"a", b"/")),
        ("authority", (b"GET", b"https", b"a b", b"/")),
        ("authority", (b"GET", b"https", b"a\r\nx: y", b"/")),
        ("path", (b"GET", b"https", b"a", b"")),
        ("path", (b"GET", b"https", b"a", b"x")),
        ("path", (b"GET", b"https", b"a", b"/ HTTP/1.1")),
        ("path", (b"GET", b"https", b"a", b"/\xff")),
        ("path", (b"GET", b"https", b"a", b"*x")),
        ("path", (b"CONNECT", b"https", b"a:443", b"")),
    ],
)
def test_bad_control_data(part: str, control: tuple[bytes, ...]) -> None:
    """Request smuggling begins here; both reading and writing refuse."""
    with pytest.raises(Malformed, match=f"bhttp-control-data: {part}"):
        _request(b"\x00" + _prefixed(*control))
    with pytest.raises(Malformed, match=f"bhttp-control-data: {part}"):
        encode_request(RequestHead(*(item.decode("latin-1") for item in control)), b"")


BAD_FIELDS = [
    ("bhttp-field-name", (b"a b", b"x")),
    ("bhttp-field-name", (b"a:", b"x")),
    ("bhttp-field-name", (b":path", b"/other")),
    ("bhttp-field-name", (b"a\r\n", b"x")),
    ("bhttp-field-name", (b"\xe9", b"x")),
    ("bhttp-field-value", (b"a", b"x\r\nset-cookie: y")),
    ("bhttp-field-value", (b"a", b"x\ny")),
    ("bhttp-field-value", (b"a", b"\x00")),
    ("bhttp-field-value", (b"a", b" x")),
    ("bhttp-field-value", (b"a", b"x\t")),
    ("bhttp-field-value", (b"a", b"x\n")),
]


@pytest.mark.parametrize(("code", "field"), BAD_FIELDS)
def test_bad_fields(code: str, field: tuple[bytes, bytes]) -> None:
    """In headers and trailers, known length and not, reading and writing."""
    line = _prefixed(*field)
    control = _prefixed(b"GET", b"https", b"a", b"/")
    for data in (
        b"\x00" + control + _prefixed(line),
        b"\x02" + control + line + b"\x00",
        b"\x00" + control + b"\x00\x00" + _prefixed(line),
        b"\x02" + control + b"\x00\x00" + line + b"\x00",
    ):
        with pytest.raises(Malformed) as refusal:
            _request(data)
        assert refusal.value.code == code
    encoder = ResponseEncoder()
    encoder.head(ANSWER)
    for write in (
        lambda: encode_request(RequestHead("GET", "https", "a", "/", (field,)), b""),
        lambda: ResponseEncoder().head(ResponseHead(200, (field,))),
        lambda: encoder.end((field,)),
    ):
        with pytest.raises(Malformed) as refusal:
            write()
        assert refusal.value.code == code


def test_empty_field_name_in_a_known_section_is_refused() -> None:
    control = _prefixed(b"GET", b"https", b"a", b"/")
    with pytest.raises(Malformed, match="bhttp-field-name"):
        _request(b"\x00" + control + _prefixed(_prefixed(b"", b"x")))


def test_field_names_are_lowered() -> None:
    head = RequestHead("GET", "https", "a", "/", ((b"Content-Type", b"X"),))
    lowered = RequestHead("GET", "https", "a", "/", ((b"content-type", b"X"),))
    assert _request(encode_request(head, b"")) == [lowered]
    raw = b"\x00" + _prefixed(b"GET", b"https", b"a", b"/") + _prefixed(_prefixed(b"Content-Type", b"X"))
    assert _request(raw) == [lowered]


def test_a_field_line_stays_inside_its_section() -> None:
    """A length that reaches past the section would make content look like a header."""
    control = _prefixed(b"GET", b"https", b"a", b"/")
    for section in (b"\x01a\x05xyz", b"\x05a", b"\x01", b"\x01a", b"\x01a\xc0", b"\x40", b"\x01a\x40"):
        with pytest.raises(Malformed) as refusal:
            _request(b"\x00" + control + _prefixed(section) + bytes(40))
        assert refusal.value.code == "bhttp-field-section"


def test_head_bound_is_judged_before_the_bytes_come() -> None:
    head = encode_request(HEAD, b"")
    assert _request(head, max_header_bytes=len(head) - 1) == [HEAD]  # all but the content's length
    with pytest.raises(Refused, match="bhttp-head-too-large"):
        _request(head, max_header_bytes=len(head) - 3)
    huge = encode_varint(1 << 40)
    control = _prefixed(b"GET", b"https", b"a", b"/")
    for data in (b"\x00" + huge, b"\x00" + control + huge, b"\x02" + control + huge):
        decoder = RequestDecoder()
        with pytest.raises(Refused, match="bhttp-head-too-large"):
            decoder.feed(data)


def test_endless_informational_responses_are_bounded() -> None:
    early = encode_varint(103) + b"\x00"
    ResponseDecoder(max_header_bytes=1000).feed(b"\x03" + early * 332)
    with pytest.raises(Refused, match="bhttp-head-too-large"):
        ResponseDecoder(max_header_bytes=1000).feed(b"\x03" + early * 334)


def test_endless_fields_are_bounded() -> None:
    head = RequestEncoder().head(HEAD)[:-1]
    RequestDecoder(max_header_bytes=len(head) + 801).feed(head + b"\x01a\x01b" * 200)
    with pytest.raises(Refused, match="bhttp-head-too-large"):
        RequestDecoder(max_header_bytes=len(head) + 801).feed(head + b"\x01a\x01b" * 201)


def test_body_bound_is_judged_before_the_bytes_come() -> None:
    assert _request(encode_request(HEAD, b"12345"), max_body_bytes=5)[-1] == Content(b"12345")
    assert _request(_stream(b"123", b"45"), max_body_bytes=5)[-1] == Content(b"12345")
    for data in (encode_request(HEAD, b"123456"), _stream(b"123", b"456")):
        with pytest.raises(Refused, match="bhttp-body-too-large"):
            _request(data, max_body_bytes=5)
    decoder = RequestDecoder(max_body_bytes=5)
    with pytest.raises(Refused, match="bhttp-body-too-large"):
        decoder.feed(_stream(b"123", b"456")[:-2])  # not one byte beyond the bound is passed on
    decoder = RequestDecoder(max_body_bytes=5)
    with pytest.raises(Refused, match="bhttp-body-too-large"):
        decoder.feed(encode_request(HEAD, b"")[:-2] + encode_varint(1 << 40))


def test_content_is_passed_on_as_it_comes() -> None:
    """The receiver of a stream need not wait for the end of a chunk."""
    decoder = ResponseDecoder()
    encoder = ResponseEncoder()
    assert decoder.feed(encoder.head(ANSWER)) == [ANSWER]
    chunk = encoder.content(b"hello world")
    assert decoder.feed(chunk[:6]) == [Content(b"hello")]
    assert decoder.feed(chunk[6:] + encoder.content(b"!")) == [Content(b" world!")]
    assert decoder.feed(encoder.end()) == []
    assert decoder.finish() == []


def test_errors_stick() -> None:
    decoder = RequestDecoder()
    with pytest.raises(Malformed, match="bhttp-framing"):
        decoder.feed(b"\x09")
    with pytest.raises(Malformed, match="bhttp-failed"):
        decoder.feed(b"\x00")
    with pytest.raises(Malformed, match="bhttp-failed"):
        decoder.finish()


def test_nothing_after_the_end() -> None:
    decoder = RequestDecoder()
    decoder.feed(encode_request(HEAD, b""))
    decoder.finish()
    with pytest.raises(RuntimeError):
        decoder.feed(b"")
    with pytest.raises(RuntimeError):
        decoder.finish()


def test_encoders_refuse_misuse() -> None:
    encoder = ResponseEncoder()
    for act in (lambda: encoder.content(b"x"), encoder.end):
        with pytest.raises(RuntimeError):
            act()
    encoder.head(ANSWER)
    with pytest.raises(RuntimeError):
        encoder.head(ANSWER)
    with pytest.raises(RuntimeError):
        encoder.informational(InformationalHead(103))
    assert encoder.content(b"") == b""  # an empty chunk would end the content
    encoder.end()
    for act in (lambda: encoder.content(b"x"), encoder.end):
        with pytest.raises(RuntimeError):
            act()
    with pytest.raises(ValueError, match="does not fit"):
        ResponseEncoder().head(ResponseHead(103))
    with pytest.raises(ValueError, match="does not fit"):
        ResponseEncoder().informational(InformationalHead(200))


def test_no_repr_shows_content() -> None:
    canary = b"CANARY"
    encoder = ResponseEncoder()
    encoder.head(ResponseHead(200, ((b"x", canary),)))
    encoder.content(canary)
    decoder = ResponseDecoder()
    shown = repr(
        (
            RequestHead("POST", "https", "CANARY", "/CANARY", ((canary, canary),)),
            ResponseHead(200, ((canary, canary),)),
            InformationalHead(103, ((canary, canary),)),
            Content(canary),
            Trailers(((canary, canary),)),
            encoder,
            decoder,
        )
    )
    assert "CANARY" not in shown
