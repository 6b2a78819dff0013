"""Released keys: an answer made as the key store makes it, opened; and everything else refused."""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding
from hypothesis import given, settings
from hypothesis import strategies as st

from attest import strict_json
from attest.keyrelease.released_key import MAX_ANSWER_BYTES, ReleasedKey, open_released_key
from attest.refusal import Refused

ALGORITHM = "RSA_AES_KEY_WRAP_256"
OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
KEY = rsa.generate_private_key(65537, 2048)
MATERIAL = b"thirty-two bytes of key material"
KEY_ID = "https://vault.example/keys/tuning/0123"


def wrapped(material: bytes = MATERIAL, aes_key: bytes | None = None) -> bytes:
    """Material wrapped to the enclave's key."""
    key = aes_key or secrets.token_bytes(32)
    return KEY.public_key().encrypt(key, OAEP) + aes_key_wrap_with_padding(
        key[:32].ljust(32, b"\x00"), material
    )


def answer(ciphertext: bytes | None = None, *, enc: str = ALGORITHM, **changed: Any) -> bytes:
    """The key store's answer."""
    text = strict_json.b64url_encode(wrapped() if ciphertext is None else ciphertext)
    hsm = json.dumps({"schema_version": "1.0.0", "header": {"enc": enc, "alg": "dir"}, "ciphertext": text})
    claims = {
        "request": {"nonce": "n-1", "enc": ALGORITHM, "kid": KEY_ID},
        "response": {"key": {"key": {"kid": KEY_ID, "key_hsm": strict_json.b64url_encode(hsm.encode())}}},
    }
    parts = [b'{"alg":"RS256"}', json.dumps(claims | changed).encode(), b"signature"]
    return ".".join(map(strict_json.b64url_encode, parts)).encode()


def decrypt(ciphertext: bytes, algorithm: str) -> bytes:
    """As a TPM would."""
    assert algorithm == ALGORITHM
    return KEY.decrypt(ciphertext, OAEP)


def opened(data: bytes, **changed: Any) -> ReleasedKey:
    """``open_released_key`` with what does not matter filled in."""
    options: dict[str, Any] = {
        "nonce": "n-1",
        "algorithm": ALGORITHM,
        "modulus_size": 256,
        "decrypt": decrypt,
    }
    return open_released_key(data, **(options | changed))


def code(data: bytes, **changed: Any) -> str:
    """How opening refuses."""
    with pytest.raises(Refused) as caught:
        opened(data, **changed)
    return caught.value.code


def test_a_key_that_was_released_to_us() -> None:
    """The material comes out, and out of no log."""
    key = opened(answer())
    assert (key.key_id, key.material) == (KEY_ID, MATERIAL)
    assert "material" not in repr(key)
    assert repr(key) == f"ReleasedKey({KEY_ID})"


def test_another_request() -> None:
    """The answer to another nonce, or by another algorithm than asked for, refuses."""
    assert code(answer(), nonce="n-2") == "key-release-nonce"
    assert code(answer(request={"nonce": "\ud800", "enc": ALGORITHM})) == "key-release-nonce"
    assert code(answer(enc="RSA1_5")) == "key-release-algorithm"
    assert code(answer(request={"nonce": "n-1", "enc": "RSA1_5"})) == "key-release-algorithm"


def test_a_key_that_does_not_open() -> None:
    """A changed wrap, a key wrapped for another, and an AES key that is none refuse."""
    good = bytearray(wrapped())
    good[-1] ^= 1
    assert code(answer(bytes(good))) == "key-release-unwrap"
    assert code(answer(), decrypt=lambda *_: bytes(32)) == "key-release-unwrap"
    assert code(answer(), decrypt=lambda *_: bytes(31)) == "key-release-unwrap"
    assert code(answer(wrapped()[:257])) == "key-release-unwrap"
    assert code(answer(bytes(256))) == "key-release-ciphertext"
    assert code(answer(b"")) == "key-release-ciphertext"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "key-release-parts"),
        (b"a.b", "key-release-parts"),
        (b"a.b.c", "key-release-base64"),
        (b"a.\xff\xff.c", "key-release-base64"),
        (b"a.YQ.c", "key-release-not-json"),
        (b"a.W10.c", "key-release-members"),
        (b"." * (MAX_ANSWER_BYTES + 1), "key-release-too-large"),
        (answer(request=None), "key-release-members"),
        (answer(request={"nonce": 1}), "key-release-members"),
        (answer(response={}), "key-release-members"),
        (answer(response={"key": {"key": []}}), "key-release-members"),
        (answer(response={"key": {"key": {"key_hsm": 5}}}), "key-release-members"),
        (answer(response={"key": {"key": {"key_hsm": "e30"}}}), "key-release-members"),
    ],
)
def test_what_is_no_answer(data: bytes, expected: str) -> None:
    """Each with its own code."""
    assert code(data) == expected


@pytest.mark.parametrize("changed", [{"algorithm": "RSA1_5"}, {"modulus_size": 128}, {"modulus_size": 2048}])
def test_what_no_release_has(changed: dict[str, Any]) -> None:
    """The caller's bug, not the key store's."""
    with pytest.raises(ValueError, match="no release"):
        opened(answer(), **changed)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_only_refuse(data: bytes) -> None:
    """No bytes raise anything else."""
    for each in (data, b"a." + strict_json.b64url_encode(data).encode() + b".c"):
        code(each)
