"""One sealed exchange against a peer that knows all keys and lies inside the seal."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attest.appraise import AttestedRuntime, appraise
from attest.channel import bhttp
from attest.mock.vendor import MockVendor
from attest.protocol.receipt import sign_receipt
from attest.protocol.tenant_token import RequestSigner
from attest.refusal import Refused
from attest.verify.bundle import verify_bundle
from gateway.errors import (
    GatewayError,
    ReceiptRefused,
    RequestRejected,
    RuntimeInterrupted,
    RuntimeMisbehaved,
)
from gateway.trust.verdict import Verdict
from gateway.upstream.answer import AnswerReader
from gateway.upstream.exchange import InnerRequest, SealedExchange
from tests.simulators.mock_peer import END, EVENTS, JSON_ANSWER, MockPeer, Opened

LABEL_ID = "sha256:" + "ab" * 32
BODY = b'{"model":"m","messages":[{"role":"user","content":"the secret prompt"}]}'
REQUEST = InnerRequest("POST", "/v1/chat/completions", BODY, wants_stream=True)


@pytest.fixture(scope="module")
def peer(vendor: MockVendor) -> MockPeer:
    return MockPeer(vendor)


@pytest.fixture(scope="module")
def runtime(peer: MockPeer) -> AttestedRuntime:
    now = datetime.now(UTC)
    nonce = Verdict.new_nonce()
    verified = verify_bundle(peer.world.answer(nonce), nonce=nonce, roots=peer.trust, now=now)
    return appraise(verified, peer.reference, now=now)


def begin(
    runtime: AttestedRuntime, *, sequence: int = 7, signer: RequestSigner | None = None
) -> SealedExchange:
    return SealedExchange(
        runtime,
        signer or RequestSigner(Ed25519PrivateKey.generate()),
        REQUEST,
        sequence=sequence,
        label_id=LABEL_ID,
        now=datetime.now(UTC),
        profile="bucket",
        max_response_bytes=1 << 20,
    )


def read(exchange: SealedExchange, sealed: bytes) -> tuple[bytes, bytes]:
    """What is released before the end, and what is released at the end."""
    reader = AnswerReader(exchange, 1 << 20)
    early = reader.feed(sealed) + reader.finish()
    rest, _ = reader.end(datetime.now(UTC))
    return early, rest


def test_what_was_asked_arrives_and_what_was_answered_comes_back(
    peer: MockPeer, runtime: AttestedRuntime
) -> None:
    exchange = begin(runtime)
    opened = peer.open(exchange.sealed_request)
    assert (opened.head.method, opened.head.path, opened.body) == ("POST", "/v1/chat/completions", BODY)
    assert (opened.claims.sequence, opened.claims.label_id) == (7, LABEL_ID)
    assert opened.claims.statement_digest == runtime.statement_digest
    early, rest = read(exchange, b"".join(peer.sealed_parts(opened, [*EVENTS, END])))
    assert (early, rest) == (b"".join(EVENTS), END)


def test_nothing_of_the_request_is_readable_outside(runtime: AttestedRuntime) -> None:
    sealed = begin(runtime).sealed_request
    for secret in (b"secret prompt", b"chat/completions", b"Bearer", LABEL_ID.encode()):
        assert secret not in sealed


def test_requests_of_like_size_look_alike(runtime: AttestedRuntime) -> None:
    assert len(begin(runtime, sequence=1).sealed_request) == len(begin(runtime, sequence=999).sealed_request)


def test_however_the_sealed_answer_is_cut_the_same_comes_out(
    peer: MockPeer, runtime: AttestedRuntime
) -> None:
    exchange = begin(runtime)
    sealed = b"".join(peer.honest_stream(exchange.sealed_request))
    reader = AnswerReader(exchange, 1 << 20)
    released = b"".join(reader.feed(sealed[index : index + 1]) for index in range(len(sealed)))
    released += reader.finish()
    rest, receipt = reader.end(datetime.now(UTC))
    assert (released, rest) == (b"".join(EVENTS), END)
    assert receipt.receipt_id == "rcpt-1"


def test_of_an_answer_in_one_piece_nothing_is_released_before_the_receipt(
    peer: MockPeer, runtime: AttestedRuntime
) -> None:
    exchange = begin(runtime)
    assert read(exchange, b"".join(peer.honest_answer(exchange.sealed_request))) == (b"", JSON_ANSWER)


def test_an_answer_that_is_one_chunk_opens_too(peer: MockPeer, runtime: AttestedRuntime) -> None:
    """Then even the head is known only when the sealed answer has ended."""
    exchange = begin(runtime)
    opened = peer.open(exchange.sealed_request)
    fields = ((b"content-type", b"application/json"), (b"sealgate-receipt-id", b"rcpt-1"))
    text = sign_receipt(peer.receipt_key, peer.receipt(opened, JSON_ANSWER))
    message = bhttp.encode_response(
        bhttp.ResponseHead(200, fields), JSON_ANSWER, trailers=((b"sealgate-receipt", text.encode()),)
    )
    sealed = opened.sealer.preamble + opened.sealer.seal(message, final=True)
    assert read(exchange, sealed) == (b"", JSON_ANSWER)


def test_a_verdict_that_ended_seals_nothing(runtime: AttestedRuntime) -> None:
    with pytest.raises(Refused) as caught:
        SealedExchange(
            runtime,
            RequestSigner(Ed25519PrivateKey.generate()),
            REQUEST,
            sequence=1,
            label_id=LABEL_ID,
            now=runtime.valid_until,
            profile="bucket",
            max_response_bytes=1 << 20,
        )
    assert caught.value.code == "verdict-expired"


Lie = Callable[[MockPeer, Opened], list[bytes]]
OTHER = "sha256:" + "22" * 32


def _receipt_says(**members: object) -> Lie:
    return lambda peer, opened: peer.sealed_parts(opened, [*EVENTS, END], **members)  # type: ignore[arg-type]


def _forged(peer: MockPeer, opened: Opened) -> list[bytes]:
    honest = peer.receipt(opened, b"".join(EVENTS) + END)
    text = sign_receipt(Ed25519PrivateKey.generate(), honest)
    return peer.sealed_parts(opened, [*EVENTS, END], receipt=text)


def _of_another_request(peer: MockPeer, opened: Opened) -> list[bytes]:
    other = peer.opened[0]
    text = sign_receipt(peer.receipt_key, peer.receipt(other, b"".join(EVENTS) + END))
    return peer.sealed_parts(opened, [*EVENTS, END], receipt=text)


def _of_another_status(peer: MockPeer, opened: Opened) -> list[bytes]:
    text = sign_receipt(peer.receipt_key, peer.receipt(opened, b"".join(EVENTS) + END, 201))
    return peer.sealed_parts(opened, [*EVENTS, END], receipt=text)


def _text_changed_after_signing(peer: MockPeer, opened: Opened) -> list[bytes]:
    text = sign_receipt(peer.receipt_key, peer.receipt(opened, b"".join(EVENTS) + END))
    return peer.sealed_parts(opened, [EVENTS[0], END], receipt=text)


LYING_RECEIPTS: dict[str, tuple[Lie, str]] = {
    "none": (lambda p, o: p.sealed_parts(o, [*EVENTS, END], with_receipt=False), "receipt-missing"),
    "not one": (lambda p, o: p.sealed_parts(o, [*EVENTS, END], receipt="AAAA"), "receipt-not-json"),
    "forged": (_forged, "receipt-signature"),
    "of another request": (_of_another_request, "receipt-tenant"),
    "of another answer": (_text_changed_after_signing, "receipt-response-sha256"),
    "another request hash": (_receipt_says(request_sha256="0" * 64), "receipt-request-sha256"),
    "another statement": (_receipt_says(statement_digest=OTHER), "receipt-statement-digest"),
    "another keyset": (_receipt_says(keyset_digest=OTHER), "receipt-keyset-digest"),
    "another tenant": (_receipt_says(tenant="somebody"), "receipt-tenant"),
    "another sequence": (_receipt_says(sequence=8), "receipt-sequence"),
    "another label": (_receipt_says(label_id=OTHER), "receipt-label-id"),
    "another status": (_of_another_status, "receipt-status"),
    "another id": (_receipt_says(receipt_id="rcpt-2"), "receipt-receipt-id"),
    "of yesterday": (
        _receipt_says(issued_at=datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)),
        "receipt-time",
    ),
}


@pytest.mark.parametrize("name", LYING_RECEIPTS)
def test_without_a_receipt_for_exactly_this_exchange_the_end_is_withheld(
    peer: MockPeer, runtime: AttestedRuntime, name: str
) -> None:
    peer.open(begin(runtime).sealed_request)  # so that there is another request
    lie, code = LYING_RECEIPTS[name]
    exchange = begin(runtime)
    reader = AnswerReader(exchange, 1 << 20)
    released = reader.feed(b"".join(lie(peer, peer.open(exchange.sealed_request)))) + reader.finish()
    assert END not in released
    with pytest.raises(ReceiptRefused) as caught:
        reader.end(datetime.now(UTC))
    assert caught.value.refusal == code


def _error_of(exchange: SealedExchange, sealed: bytes) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        read(exchange, sealed)
    return caught.value


def test_a_sealed_answer_that_breaks_off_is_interrupted_wherever_it_does(
    peer: MockPeer, runtime: AttestedRuntime
) -> None:
    exchange = begin(runtime)
    parts = peer.honest_stream(exchange.sealed_request)
    for count in range(len(parts)):
        again = begin(runtime)
        sealed = b"".join(peer.honest_stream(again.sealed_request)[:count])
        error = _error_of(again, sealed)
        assert isinstance(error, RuntimeInterrupted)
        assert error.refusal == "ohttp-truncated"


def test_an_answer_to_another_request_does_not_open(peer: MockPeer, runtime: AttestedRuntime) -> None:
    earlier = b"".join(peer.honest_stream(begin(runtime).sealed_request))
    error = _error_of(begin(runtime), earlier)
    assert isinstance(error, RuntimeMisbehaved)


def test_parts_that_are_swapped_doubled_or_left_out_do_not_open(
    peer: MockPeer, runtime: AttestedRuntime
) -> None:
    for order in ([0, 2, 1, 3, 4, 5], [0, 1, 1, 2, 3, 4, 5], [0, 2, 3, 4, 5]):
        exchange = begin(runtime)
        parts = peer.honest_stream(exchange.sealed_request)
        assert isinstance(_error_of(exchange, b"".join(parts[i] for i in order)), RuntimeMisbehaved)


def test_any_flipped_bit_refuses(peer: MockPeer, runtime: AttestedRuntime) -> None:
    size = len(b"".join(peer.honest_stream(begin(runtime).sealed_request)))
    for index in range(0, size, 37):
        exchange = begin(runtime)
        sealed = bytearray(b"".join(peer.honest_stream(exchange.sealed_request)))
        sealed[index] ^= 1 << (index % 8)
        assert isinstance(_error_of(exchange, bytes(sealed)), RuntimeMisbehaved | RuntimeInterrupted)


def test_after_one_refusal_nothing_more_comes_out(peer: MockPeer, runtime: AttestedRuntime) -> None:
    exchange = begin(runtime)
    parts = peer.honest_stream(exchange.sealed_request)
    reader = AnswerReader(exchange, 1 << 20)
    with pytest.raises(RuntimeMisbehaved):
        reader.feed(parts[0] + parts[2])
    with pytest.raises(RuntimeMisbehaved):
        reader.feed(parts[1])


def test_a_stream_without_its_end_marker_is_interrupted(peer: MockPeer, runtime: AttestedRuntime) -> None:
    """Whole and with a valid receipt, and still not an answer."""
    exchange = begin(runtime)
    error = _error_of(exchange, b"".join(peer.sealed_parts(peer.open(exchange.sealed_request), EVENTS)))
    assert isinstance(error, RuntimeInterrupted)
    assert error.refusal == "event-stream-unfinished"


def test_a_rejected_token_is_not_the_applications_401(peer: MockPeer, runtime: AttestedRuntime) -> None:
    exchange = begin(runtime)
    sealed = peer.sealed_parts(
        peer.open(exchange.sealed_request),
        [b'{"error":{}}'],
        status=401,
        content_type="application/json",
        with_receipt=False,
    )
    assert isinstance(_error_of(exchange, b"".join(sealed)), RequestRejected)


@pytest.mark.parametrize("receipt_id", [None, "", "rcpt 1 "])
def test_a_head_without_a_plain_receipt_id_is_refused(
    peer: MockPeer, runtime: AttestedRuntime, receipt_id: str | None
) -> None:
    exchange = begin(runtime)
    opened = peer.open(exchange.sealed_request)
    if receipt_id == "rcpt 1 ":
        with pytest.raises(Refused):  # the encoder does not even write it
            peer.sealed_parts(opened, [*EVENTS, END], receipt_id=receipt_id)
        return
    error = _error_of(exchange, b"".join(peer.sealed_parts(opened, [*EVENTS, END], receipt_id=receipt_id)))
    assert isinstance(error, RuntimeMisbehaved)
    assert error.refusal == "answer-head-malformed"


def test_nothing_here_shows_content(peer: MockPeer, runtime: AttestedRuntime) -> None:
    exchange = begin(runtime)
    reader = AnswerReader(exchange, 1 << 20)
    reader.feed(b"".join(peer.honest_stream(exchange.sealed_request)))
    shown = repr(exchange) + repr(reader) + repr(REQUEST)
    assert "secret" not in shown
    assert "three" not in shown
