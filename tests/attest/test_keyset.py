"""The keyset: one spelling, a life in whole seconds, every bit in the digest."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest import strict_json
from attest.digest import sha256_digest
from attest.keyset import MAX_KEYSET_BYTES, MAX_OHTTP_KEYS_BYTES, Keyset, KeysetState
from attest.refusal import Malformed, Refused

START = datetime(2026, 6, 1, tzinfo=UTC)
END = datetime(2026, 6, 2, tzinfo=UTC)
KEYSET = Keyset(
    ohttp_keys=b"\x00\x01\x02" * 11, receipt_key=bytes(range(32)), not_before=START, not_after=END
)
MEMBERS = json.loads(KEYSET.canonical())
SECOND = timedelta(seconds=1)
seconds = st.integers(0, 253_402_300_798)


@given(
    st.binary(min_size=1, max_size=300), st.binary(min_size=32, max_size=32), seconds, st.integers(1, 10**6)
)
@settings(max_examples=100)
def test_round_trip(ohttp_keys: bytes, receipt_key: bytes, start: int, life: int) -> None:
    """What is written is read back as the same keyset, and names the same digest."""
    end = min(start + life, 253_402_300_799)
    keyset = Keyset(
        ohttp_keys=ohttp_keys,
        receipt_key=receipt_key,
        not_before=datetime.fromtimestamp(start, UTC),
        not_after=datetime.fromtimestamp(end, UTC),
    )
    assert Keyset.parse(keyset.canonical()) == keyset
    assert keyset.digest == sha256_digest(keyset.canonical())


def test_the_document_is_the_documented_one() -> None:
    """Another implementation of docs/reference/statement.md writes the same bytes."""
    assert {
        "ohttp_keys": strict_json.b64encode(KEYSET.ohttp_keys),
        "receipt_key": {"kty": "OKP", "crv": "Ed25519", "x": strict_json.b64url_encode(KEYSET.receipt_key)},
        "not_before": 1780272000,
        "not_after": 1780358400,
    } == MEMBERS


@pytest.mark.parametrize(
    ("now", "state"),
    [
        (START - SECOND, KeysetState.PENDING),
        (START, KeysetState.ACTIVE),
        (END - SECOND, KeysetState.ACTIVE),
        (END, KeysetState.STALE),
        (END + SECOND, KeysetState.STALE),
        (START.astimezone(timezone(timedelta(hours=9))), KeysetState.ACTIVE),
    ],
)
def test_state(now: datetime, state: KeysetState) -> None:
    """Active from not_before until just before not_after, in any time zone."""
    assert KEYSET.state(now) is state


def test_every_flipped_bit_is_another_keyset_or_none() -> None:
    """No bit of a keyset is free."""
    data, parsed = KEYSET.canonical(), 0
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            keyset = Keyset.parse(bytes(flipped))
        except Refused:
            continue
        parsed += 1
        assert keyset.digest != KEYSET.digest
    assert parsed > 0, "some flips must reach the digest, or this test only tests the parser"


def _document(**changes: Any) -> bytes:
    return strict_json.canonical(MEMBERS | changes)


JWK = MEMBERS["receipt_key"]


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (_document(extra=1), "keyset-members"),
        (strict_json.canonical({"ohttp_keys": ""}), "keyset-members"),
        (b"[]", "keyset-members"),
        (_document(ohttp_keys=""), "keyset-ohttp-keys"),
        (_document(ohttp_keys=5), "keyset-base64"),
        (_document(ohttp_keys="AB=="), "keyset-base64"),
        (_document(ohttp_keys="AAA"), "keyset-base64"),
        (_document(ohttp_keys="AA AA"), "keyset-base64"),
        (_document(ohttp_keys="-_-_"), "keyset-base64"),
        (_document(ohttp_keys="A" * ((MAX_OHTTP_KEYS_BYTES + 2) // 3 * 4 + 4)), "keyset-too-large"),
        (_document(receipt_key="x"), "keyset-members"),
        (_document(receipt_key=JWK | {"kid": "1"}), "keyset-members"),
        (_document(receipt_key=JWK | {"crv": "X25519"}), "keyset-receipt-key"),
        (_document(receipt_key=JWK | {"kty": "EC"}), "keyset-receipt-key"),
        (_document(receipt_key=JWK | {"x": JWK["x"] + "="}), "keyset-too-large"),
        (_document(receipt_key=JWK | {"x": JWK["x"][:-1] + "9"}), "keyset-base64"),
        (_document(receipt_key=JWK | {"x": "AAAA"}), "keyset-receipt-key"),
        (_document(receipt_key=JWK | {"d": JWK["x"]}), "keyset-members"),
        (_document(not_before=True), "keyset-times"),
        (_document(not_before=-1), "keyset-times"),
        (_document(not_before="1780272000"), "keyset-times"),
        (_document(not_after=1780272000), "keyset-times"),
        (_document(not_after=253_402_300_800), "keyset-times"),
        (KEYSET.canonical().replace(b"1780358400", b"1780358400.0"), "keyset-bad-number"),
        (KEYSET.canonical().replace(b"1780358400", b"1e99"), "keyset-bad-number"),
        (KEYSET.canonical().replace(b"1780358400", b"9" * 5000), "keyset-not-json"),
        (KEYSET.canonical().replace(b"not_after", b"not_before"), "keyset-duplicate-member"),
        (KEYSET.canonical() + b" ", "keyset-not-canonical"),
        (json.dumps(MEMBERS).encode(), "keyset-not-canonical"),
        (KEYSET.canonical() + b"0", "keyset-not-json"),
        (b"[" * 100_000, "keyset-too-deep"),
        (b" " * (MAX_KEYSET_BYTES + 1), "keyset-too-large"),
    ],
)
def test_refuses(document: bytes, code: str) -> None:
    """Everything that ``canonical`` would not have written is refused, each by its own code."""
    with pytest.raises(Refused) as refusal:
        Keyset.parse(document)
    assert refusal.value.code == code


@pytest.mark.parametrize(
    "change",
    [
        {"ohttp_keys": b""},
        {"ohttp_keys": b"x" * (MAX_OHTTP_KEYS_BYTES + 1)},
        {"receipt_key": b"x" * 31},
        {"not_before": END},
        {"not_after": END.replace(tzinfo=None)},
        {"not_after": END + timedelta(microseconds=1)},
        {"not_before": datetime(1969, 12, 31, tzinfo=UTC)},
    ],
)
def test_a_keyset_cannot_be_built_wrong(change: dict[str, Any]) -> None:
    """The runtime cannot publish what no verifier would read."""
    with pytest.raises(Malformed):
        replace(KEYSET, **change)


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_fuzz_tail(data: bytes) -> None:
    """Only refusals leave the parser, whatever replaces the tail of a good document."""
    good = KEYSET.canonical()
    for document in (data, good[: len(good) // 2] + data, good + data):
        if document != good:
            with pytest.raises(Refused):
                Keyset.parse(document)
