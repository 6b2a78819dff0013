"""Results as signed tokens: what was said, by whom, until when; nothing else is believed."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attest import strict_json
from attest.appraise import AttestedRuntime
from attest.ear import PROFILE
from attest.ear_token import key_id, read_ear, sign_ear
from attest.mock.world import MockWorld
from attest.refusal import Refused
from tests.simulators.mock_runtime import NONCE, NOW, verdict

KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key()


@pytest.fixture(scope="module")
def runtime(board_world: MockWorld) -> AttestedRuntime:
    """A verdict on a machine with eight GPUs."""
    return verdict(board_world, board_world.answer(NONCE))


def test_each_attester_has_a_submodule(runtime: AttestedRuntime) -> None:
    """The whole, the CPU, and every device by kind and index, each with a vector and a tier of its own."""
    submods = runtime.ear()["submods"]
    names = [
        *(f"nvidia-gpu-{index}" for index in range(8)),
        *(f"nvidia-switch-{index}" for index in range(4)),
    ]
    assert list(submods) == ["runtime", "cpu", *names]
    assert {part["sealgate.vendor"] for part in submods.values()} == {"MOCK"}
    assert {part["ear.status"] for part in submods.values()} == {"contraindicated"}
    assert len({part.get("sealgate.device") for part in submods.values()}) == 13
    assert submods["cpu"]["sealgate.tee"] == "tdx"


def test_round_trip(runtime: AttestedRuntime) -> None:
    """What was said is read back; another reader of JWTs reads the same."""
    result = runtime.ear()
    token = sign_ear(result, KEY)
    assert read_ear(token, PUBLIC, now=NOW) == result
    options = {"verify_exp": False, "verify_iat": False}
    assert jwt.decode(token, PUBLIC, algorithms=["EdDSA"], options=options) == result  # type: ignore[arg-type]
    assert jwt.get_unverified_header(token) == {"alg": "EdDSA", "kid": key_id(PUBLIC), "typ": "eat+jwt"}
    assert result["eat_profile"] == PROFILE


def _token(claims: Any, header: dict[str, Any] | None = None, key: Ed25519PrivateKey = KEY) -> str:
    head = strict_json.b64url_encode(json.dumps(header or {"alg": "EdDSA", "kid": "k"}).encode())
    body = strict_json.b64url_encode(json.dumps(claims).encode())
    return f"{head}.{body}.{strict_json.b64url_encode(key.sign(f'{head}.{body}'.encode()))}"


GOOD = {"eat_profile": PROFILE, "iat": int(NOW.timestamp()), "exp": int(NOW.timestamp()) + 60, "submods": {}}


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (_token(GOOD, {"alg": "none", "kid": "k"}), "ear-algorithm"),
        (_token(GOOD, {"alg": "HS256", "kid": "k"}), "ear-algorithm"),
        (_token(GOOD, {"alg": "EdDSA", "kid": "k", "jwk": "x"}), "ear-header"),
        (_token(GOOD, key=Ed25519PrivateKey.generate()), "ear-signature"),
        (_token(GOOD)[:-4] + "AAAA", "ear-signature"),
        (_token(GOOD | {"eat_profile": "tag:other"}), "ear-profile"),
        (_token({name: GOOD[name] for name in GOOD if name != "exp"}), "ear-claims"),
        (_token(GOOD | {"iat": True}), "ear-claims"),
        (_token(GOOD | {"submods": []}), "ear-claims"),
        (_token([]), "ear-claims"),
        (_token(GOOD | {"iat": GOOD["iat"] + 1}), "ear-not-yet-valid"),
        (_token(GOOD | {"exp": GOOD["iat"]}), "ear-expired"),
        ("a.b", "ear-parts"),
        ("a.b.c", "ear-base64"),
    ],
)
def test_what_is_refused(token: str, code: str) -> None:
    """Each rule by itself."""
    with pytest.raises(Refused) as refusal:
        read_ear(token, PUBLIC, now=NOW)
    assert refusal.value.code == code


def test_the_last_second(runtime: AttestedRuntime) -> None:
    """A result holds until its end and not a second longer."""
    token, end = sign_ear(runtime.ear(), KEY), runtime.valid_until
    read_ear(token, PUBLIC, now=end - timedelta(seconds=1))
    with pytest.raises(Refused, match="ear-expired"):
        read_ear(token, PUBLIC, now=end)


def test_every_flipped_bit_of_a_small_token() -> None:
    """No bit is free."""
    token = _token(GOOD)
    for place in range(len(token)):
        other = token[:place] + chr(ord(token[place]) ^ 1) + token[place + 1 :]
        with pytest.raises(Refused):
            read_ear(other, PUBLIC, now=NOW)
