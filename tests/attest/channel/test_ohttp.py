"""RFC 9458: key configurations, single-shot messages, and the example of Appendix A."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest.channel import kem_x25519 as kem_module
from attest.channel import ohttp
from attest.channel.hpke import DEFAULT_SUITE, SuiteId
from attest.channel.key_config import (
    MAX_KEY_CONFIGS_BYTES,
    KeyConfig,
    parse_key_configs,
    serialise_key_configs,
)
from attest.channel.ohttp import KeyPair, choose_suite, open_request, seal_request
from attest.refusal import Malformed, Refused, Unsupported

X25519_AES128 = SuiteId(0x20, 1, 1)


def _fix_ephemeral(monkeypatch: pytest.MonkeyPatch, scalar: bytes) -> None:
    original = kem_module._ephemeral_x25519
    monkeypatch.setattr(kem_module, "_ephemeral_x25519", lambda _: original(scalar))


def test_appendix_a(shared: Path, monkeypatch: pytest.MonkeyPatch, vector_count: Any) -> None:
    """Request and response of RFC 9458 Appendix A, byte for byte, both sides."""
    vectors = json.loads((shared / "vectors" / "ohttp" / "ohttp-vectors.json").read_bytes())
    vector = {name: bytes.fromhex(value) for name, value in vectors["rfc9458"].items() if name != "source"}
    suites = [SuiteId(0x20, 1, 1), SuiteId(0x20, 1, 3)]
    key_pair = KeyPair.load(1, vector["skR"], suites)
    assert key_pair.config.serialise() == vector["keyConfig"]
    config = KeyConfig.parse(vector["keyConfig"])
    assert config == key_pair.config

    _fix_ephemeral(monkeypatch, vector["skE"])
    sealed = seal_request(config, vector["requestBHTTP"])
    assert sealed.data == vector["encapsulatedRequest"]
    opened = open_request({1: key_pair}, sealed.data)
    assert opened.plaintext == vector["requestBHTTP"]
    assert opened.enc == vector["enc"]
    assert opened._context.export(b"message/bhttp response", 16) == vector["secret"]

    monkeypatch.setattr(ohttp, "fresh_response_nonce", lambda _: vector["responseNonce"])
    assert opened.seal_response(vector["responseBHTTP"]) == vector["encapsulatedResponse"]
    assert sealed.open_response(vector["encapsulatedResponse"]) == vector["responseBHTTP"]
    vector_count("ohttp/ohttp-vectors.json rfc9458", 1, 1, "both sides")


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=4000), st.binary(max_size=4000), st.sampled_from([1, 2, 3]))
def test_round_trip(request_bytes: bytes, response_bytes: bytes, aead: int) -> None:
    key_pair = KeyPair.generate(7, [SuiteId(0x20, 1, aead)])
    sealed = seal_request(key_pair.config, request_bytes)
    opened = open_request({7: key_pair}, sealed.data)
    assert opened.plaintext == request_bytes
    assert opened.key_id == 7
    assert sealed.open_response(opened.seal_response(response_bytes)) == response_bytes


def test_default_keys_are_post_quantum() -> None:
    key_pair = KeyPair.generate(0)
    assert choose_suite(key_pair.config) == DEFAULT_SUITE
    assert open_request({0: key_pair}, seal_request(key_pair.config, b"x").data).plaintext == b"x"


def test_every_flipped_bit_of_a_request_is_refused() -> None:
    """Header, encapsulation, ciphertext and tag: whatever the relay changes, nothing opens."""
    key_pair = KeyPair.generate(1, [X25519_AES128, SuiteId(0x20, 1, 3)])
    data = seal_request(key_pair.config, b"payload").data
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Refused):
            open_request({1: key_pair}, bytes(changed))


def test_truncated_messages_are_refused() -> None:
    key_pair = KeyPair.generate(1, [X25519_AES128])
    sealed = seal_request(key_pair.config, b"payload")
    opened = open_request({1: key_pair}, sealed.data)
    response = opened.seal_response(b"answer")
    for cut in range(len(sealed.data)):
        with pytest.raises(Refused):
            open_request({1: key_pair}, sealed.data[:cut])
    for cut in range(len(response)):
        with pytest.raises(Refused):
            sealed.open_response(response[:cut])
    with pytest.raises(Malformed, match="ohttp-request-truncated"):
        open_request({1: key_pair}, sealed.data[:30])
    with pytest.raises(Malformed, match="ohttp-response-truncated"):
        sealed.open_response(response[:15])


def test_an_answer_opens_for_its_own_request_only() -> None:
    key_pair = KeyPair.generate(1, [X25519_AES128])
    one, two = seal_request(key_pair.config, b"x"), seal_request(key_pair.config, b"x")
    answer = open_request({1: key_pair}, one.data).seal_response(b"for one")
    with pytest.raises(Refused, match="hpke-open-failed"):
        two.open_response(answer)
    assert one.open_response(answer) == b"for one"


def test_unknown_key_and_unoffered_suite_are_told_apart_from_the_rest() -> None:
    """The one refusal that a sender may answer with new keys: nothing was opened."""
    key_pair = KeyPair.generate(1, [X25519_AES128])
    data = seal_request(key_pair.config, b"x").data
    with pytest.raises(Refused, match="ohttp-unknown-key"):
        open_request({2: key_pair}, data)
    with pytest.raises(Refused, match="ohttp-unknown-key"):
        open_request({1: KeyPair.generate(1, [SuiteId(0x20, 1, 3)])}, data)
    with pytest.raises(Refused, match="ohttp-unknown-key"):
        open_request({1: KeyPair.generate(1)}, data)


def test_sender_takes_only_an_offered_suite_that_we_speak() -> None:
    config = KeyPair.generate(1, [X25519_AES128]).config
    with pytest.raises(Unsupported, match="ohttp-suite"):
        seal_request(config, b"x", SuiteId(0x20, 1, 3))
    strange = KeyConfig(1, 0x20, config.public_key, ((9, 9), (1, 0xFFFF), (1, 9)))
    with pytest.raises(Unsupported, match="ohttp-suite"):
        seal_request(strange, b"x")
    later = KeyConfig(1, 0x20, config.public_key, ((9, 9), (1, 3)))
    assert choose_suite(later) == SuiteId(0x20, 1, 3)


def test_a_key_has_one_kem_and_known_suites() -> None:
    with pytest.raises(ValueError, match="one KEM"):
        KeyPair.generate(1, [X25519_AES128, DEFAULT_SUITE])
    with pytest.raises(ValueError, match="one KEM"):
        KeyPair.generate(1, [])
    with pytest.raises(Unsupported, match="hpke-kdf"):
        KeyPair.generate(1, [SuiteId(0x20, 9, 1)])


configs = st.builds(
    KeyConfig,
    key_id=st.integers(0, 255),
    kem_id=st.just(0x20),
    public_key=st.binary(min_size=32, max_size=32),
    symmetric=st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF)), min_size=1, max_size=5).map(
        tuple
    ),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(configs, min_size=1, max_size=4, unique_by=lambda config: config.key_id))
def test_key_lists_round_trip(items: list[KeyConfig]) -> None:
    assert parse_key_configs(serialise_key_configs(items)) == tuple(items)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=200))
def test_the_key_list_parser_only_refuses(data: bytes) -> None:
    """Whatever comes in, a list or a refusal comes out; and a list has one spelling."""
    try:
        parsed = parse_key_configs(data)
    except Refused:
        return
    assert parsed


def _entry(config: bytes) -> bytes:
    return len(config).to_bytes(2, "big") + config


def test_bad_key_lists() -> None:
    good = KeyPair.generate(1, [X25519_AES128]).config.serialise()
    strange = b"\x05\xab\xcd" + bytes(20)
    cases = {
        "ohttp-keys-truncated": [b"\x00", _entry(good)[:-1], _entry(good) + b"\x00", _entry(good[:-1])],
        "ohttp-keys-trailing-bytes": [_entry(good + b"\x00")],
        "ohttp-keys-duplicate-id": [_entry(good) * 2],
        "ohttp-keys-none-usable": [b"", _entry(strange)],
        "ohttp-keys-too-large": [bytes(MAX_KEY_CONFIGS_BYTES + 1)],
        "ohttp-keys-symmetric": [
            _entry(good[:35] + b"\x00\x00"),
            _entry(good[:35] + b"\x00\x03\x00\x01\x00"),
        ],
    }
    for code, inputs in cases.items():
        for data in inputs:
            with pytest.raises(Refused) as refusal:
                parse_key_configs(data)
            assert refusal.value.code == code
    assert len(parse_key_configs(_entry(strange) + _entry(good))) == 1  # an unknown KEM is left out


def test_no_repr_shows_content_or_keys() -> None:
    key_pair = KeyPair.generate(3)
    sealed = seal_request(key_pair.config, b"CANARY-CONTENT")
    opened = open_request({3: key_pair}, sealed.data)
    shown = repr((key_pair, key_pair.config, sealed, opened))
    assert "CANARY" not in shown
    assert key_pair.hpke.private_bytes().hex() not in shown
    assert repr(key_pair.hpke.private_bytes())[2:-1] not in shown
