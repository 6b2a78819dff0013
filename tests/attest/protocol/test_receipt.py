"""Receipts: what one vouches for, and everything that another would have to lie about."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from attest import strict_json
from attest.digest import sha256_digest
from attest.protocol.receipt import (
    MAX_AGE,
    PAYLOAD_TYPE,
    Receipt,
    open_receipt,
    sign_receipt,
    verify_receipt,
)
from attest.protocol.tenant_token import CLOCK_SKEW
from attest.refusal import Malformed, Refused

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
RECEIPT = Receipt(
    receipt_id="rcpt-1",
    statement_digest=sha256_digest(b"statement"),
    keyset_digest=sha256_digest(b"keyset"),
    tenant="kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
    sequence=7,
    request_sha256="ab" * 32,
    response_sha256="cd" * 32,
    model="smollm2",
    base_model_digest=sha256_digest(b"model"),
    adapter_digest=None,
    label_id=sha256_digest(b"label"),
    prompt_tokens=20,
    completion_tokens=12,
    finish_reason="stop",
    status=200,
    backend="simple",
    issued_at=NOW,
)
EXPECTED: dict[str, Any] = {
    name: getattr(RECEIPT, name)
    for name in (
        "receipt_id", "statement_digest", "keyset_digest", "tenant", "sequence", "label_id",
        "request_sha256", "response_sha256", "status", "adapter_digest",
    )
}  # fmt: skip
TEXT = sign_receipt(KEY, RECEIPT)
DEEP = strict_json.b64url_encode(
    b'{"payload":' + b"[" * 600 + b"]" * 600 + b',"payloadType":"","signatures":[]}'
)
"""Shallow enough for the JSON reader, and too deep for what comes after it."""


def refusal(text: str, *, now: datetime = NOW, key: bytes = PUBLIC, **expected: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        verify_receipt(text, receipt_key=key, now=now, **{**EXPECTED, **expected})
    return caught.value


def envelope() -> dict[str, Any]:
    return dict(json.loads(base64.urlsafe_b64decode(TEXT + "=" * (-len(TEXT) % 4))))


def wire(value: Any) -> str:
    return strict_json.b64url_encode(strict_json.canonical(value))


def resigned(change: Callable[[dict[str, Any]], object], *, encode: Any = strict_json.canonical) -> str:
    """A receipt over a changed statement, properly signed: what a runtime with a fault could make."""
    statement = json.loads(base64.b64decode(envelope()["payload"]))
    change(statement)
    payload = encode(statement)
    pae = b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)
    signature = {**envelope()["signatures"][0], "sig": base64.b64encode(KEY.sign(pae)).decode()}
    return wire({**envelope(), "payload": base64.b64encode(payload).decode(), "signatures": [signature]})


def unchanged(_: dict[str, Any]) -> None:
    """Sign again what was signed."""


def test_what_was_signed_is_what_is_read() -> None:
    assert verify_receipt(TEXT, receipt_key=PUBLIC, now=NOW, **EXPECTED) == RECEIPT
    error = replace(RECEIPT, model=None, finish_reason=None, adapter_digest=sha256_digest(b"a"), status=400)
    assert open_receipt(sign_receipt(KEY, error), receipt_key=PUBLIC) == error
    assert open_receipt(resigned(unchanged), receipt_key=PUBLIC) == RECEIPT


def test_it_is_an_in_toto_statement_in_a_dsse_envelope() -> None:
    """By the two standards' own member names, for tools that are not ours."""
    assert envelope()["payloadType"] == "application/vnd.in-toto+json"
    statement = json.loads(base64.b64decode(envelope()["payload"]))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["subject"] == [{"name": "response", "digest": {"sha256": "cd" * 32}}]
    assert statement["predicateType"] == "https://sealgate.dev/receipt/v1"


@pytest.mark.parametrize("member", EXPECTED)
def test_every_expectation_is_held_against_it(member: str) -> None:
    other = 3 if isinstance(EXPECTED[member], int) else "another"
    assert refusal(TEXT, **{member: other}).code == f"receipt-{member.replace('_', '-')}"


def test_it_is_checked_when_the_answer_ends() -> None:
    late = NOW + MAX_AGE
    assert verify_receipt(TEXT, receipt_key=PUBLIC, now=late, **EXPECTED) == RECEIPT
    assert refusal(TEXT, now=late + timedelta(seconds=1)).code == "receipt-time"
    assert refusal(TEXT, now=NOW - CLOCK_SKEW - timedelta(seconds=2)).code == "receipt-time"


def test_another_key_did_not_sign_it() -> None:
    other = Ed25519PrivateKey.generate()
    assert refusal(TEXT, key=other.public_key().public_bytes_raw()).code == "receipt-signature"
    # The other key's signature under this key's id: the id alone convinces nobody.
    forged = envelope()
    forged["signatures"][0]["sig"] = json.loads(
        base64.urlsafe_b64decode(sign_receipt(other, RECEIPT) + "===")
    )["signatures"][0]["sig"]
    assert refusal(wire(forged)).code == "receipt-signature"


def test_the_signature_covers_the_payload_type() -> None:
    changed = resigned(lambda statement: statement.update(predicateType="https://example.org/other"))
    assert refusal(changed).code == "receipt-kind"
    assert refusal(wire({**envelope(), "payloadType": "text/plain"})).code == "receipt-kind"


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["predicate"].update(sequence="7"),
        lambda s: s["predicate"].update(sequence=-1),
        lambda s: s["predicate"].update(sequence=True),
        lambda s: s["predicate"].update(status=99),
        lambda s: s["predicate"].update(model=""),
        lambda s: s["predicate"].update(model=5),
        lambda s: s["predicate"].update(tenant=None),
        lambda s: s["predicate"].update(backend="a\nb"),
        lambda s: s["predicate"].update(adapter_digest="none"),
        lambda s: s["predicate"].update(label_id="public"),
        lambda s: s["predicate"].update(request_sha256="AB" * 32),
        lambda s: s["predicate"].update(issued_at=2**53 - 1),
    ],
)
def test_every_member_has_its_form(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(Malformed) as caught:
        open_receipt(resigned(change), receipt_key=PUBLIC)
    assert caught.value.code == "receipt-member"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda s: s["predicate"].update(note="x"), "receipt-members"),
        (lambda s: s["predicate"].pop("status"), "receipt-members"),
        (lambda s: s.update(note="x"), "receipt-members"),
        (lambda s: s["subject"].append({}), "receipt-subject"),
        (lambda s: s["subject"][0]["digest"].update(sha256="00" * 32), "receipt-subject"),
    ],
)
def test_nothing_else_is_in_it(change: Callable[[dict[str, Any]], object], code: str) -> None:
    with pytest.raises(Malformed) as caught:
        open_receipt(resigned(change), receipt_key=PUBLIC)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "receipt-not-json"),
        ("!", "receipt-base64"),
        ("A" * 30_000, "receipt-too-large"),
        (wire([]), "receipt-members"),
        (DEEP, "receipt-not-canonical"),
        (wire({**envelope(), "x": 1}), "receipt-members"),
        (wire({**envelope(), "signatures": []}), "receipt-signatures"),
        (wire({**envelope(), "signatures": envelope()["signatures"] * 2}), "receipt-signatures"),
        (strict_json.b64url_encode(json.dumps(envelope()).encode()), "receipt-not-canonical"),
        (
            strict_json.b64url_encode(b'{"payload":"\\ud800","payloadType":"","signatures":[]}'),
            "receipt-not-canonical",
        ),
        (resigned(unchanged, encode=lambda s: json.dumps(s).encode()), "receipt-not-canonical"),
    ],
)
def test_what_is_no_receipt(text: str, code: str) -> None:
    caught = refusal(text)
    assert isinstance(caught, Malformed)
    assert caught.code == code


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(TEXT) - 1), st.sampled_from("ABCxyz019-_"))
def test_no_other_spelling_of_a_receipt_is_accepted(place: int, character: str) -> None:
    changed = TEXT[:place] + character + TEXT[place + 1 :]
    if changed != TEXT:
        refusal(changed)
