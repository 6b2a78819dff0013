"""Tokens before their signatures are looked at: one spelling, bounded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from attest.evidence.tokens import CompactToken, DetachedEat
from attest.refusal import Malformed
from attest.strict_json import b64url_encode


def token(header: Any, payload: bytes = b"{}") -> str:
    """A compact JWS with that header."""
    return ".".join(map(b64url_encode, (json.dumps(header).encode(), payload, b"signature")))


def code_of(text: str) -> str | None:
    """How a token's text is refused."""
    try:
        CompactToken.parse(text, name="x")
    except Malformed as refusal:
        return refusal.code
    return None


HEADER = {"alg": "ES384", "kid": "key"}


def test_parts() -> None:
    """What is signed is the text before the last dot."""
    text = token(HEADER | {"typ": "JWT", "jku": "https://x.invalid"}, b'{"a":1}')
    parsed = CompactToken.parse(text, name="x")
    assert (parsed.algorithm, parsed.key_id, parsed.signature) == ("ES384", "key", b"signature")
    assert parsed.signed == text.rpartition(".")[0].encode()
    assert (parsed.payload, parsed.claims(name="x")) == (b'{"a":1}', {"a": 1})


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (HEADER | {"kid": "k" * 200}, None),
        (HEADER | {"kid": "k" * 201}, "x-header"),
        (HEADER | {"typ": None}, "x-header"),
        (HEADER | {"typ": ["JWT"]}, "x-header"),
        (HEADER | {"x5c": "y"}, "x-header"),
        (HEADER | {"crit": "y"}, "x-header"),
        ({"alg": "ES384", "typ": "JWT"}, "x-header"),
        ({"kid": "key", "typ": "JWT"}, "x-header"),
        ([], "x-header"),
        ("alg kid", "x-header"),
    ],
)
def test_headers(header: Any, code: str | None) -> None:
    """Four members at most, short texts all, two of them always there."""
    assert code_of(token(header)) == code


def test_the_longest_token() -> None:
    """As many characters as there may be, and one more."""
    head = token(HEADER).rpartition(".")[0] + "."
    longest = head + "A" * (32 * 1024 - len(head))
    if len(longest.rpartition(".")[2]) % 4 == 1:  # no base64 has that length
        head = token(HEADER | {"typ": "x"}).rpartition(".")[0] + "."
        longest = head + "A" * (32 * 1024 - len(head))
    assert code_of(longest) is None
    assert code_of(longest + "A") == "x-too-large"
    assert code_of("a.b.c.d") == code_of("a.b") == "x-parts"


def test_claims_that_are_no_object() -> None:
    """However well they were signed."""
    parsed = CompactToken.parse(token(HEADER, b"[]"), name="x")
    with pytest.raises(Malformed, match="x-claims"):
        parsed.claims(name="x")


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ([f"GPU-{n}" for n in range(32)], None),
        ([f"GPU-{n}" for n in range(33)], "nras-bundle"),
        ([], "nras-bundle"),
        (["GPU-99", "SWITCH-0"], None),
        (["GPU-100"], "nras-device-name"),
        (["GPU-00"], "nras-device-name"),
        (["GPU-1", "gpu-0"], "nras-device-name"),
        (["GPU-"], "nras-device-name"),
        (["GPU-1\n"], "nras-device-name"),
    ],
)
def test_devices(names: list[str], code: str | None) -> None:
    """One to thirty-two, each by kind and number."""
    text = token(HEADER)
    data = json.dumps([["JWT", text], dict.fromkeys(names, text)]).encode()
    if code is None:
        assert list(DetachedEat.parse(data).devices) == names
        return
    with pytest.raises(Malformed) as refusal:
        DetachedEat.parse(data)
    assert refusal.value.code == code
