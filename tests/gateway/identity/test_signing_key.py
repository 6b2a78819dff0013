"""The gateway's signing key: made once, readable by its owner only."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from attest.refusal import Malformed, Refused
from gateway.identity import signing_key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway" / "signing_key.pem"


def test_the_key_is_made_once(path: Path) -> None:
    first = signing_key.load_or_create(path)
    second = signing_key.load_or_create(path)
    assert first.public_key() == second.public_key()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_of_two_first_starts_both_end_with_one_key(path: Path) -> None:
    """The second writer finds the first one's key in place and takes it."""
    first = signing_key.load_or_create(path)
    assert signing_key._create(path).public_key() == first.public_key()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_may_read_is_refused(path: Path, mode: int) -> None:
    signing_key.load_or_create(path)
    path.chmod(mode)
    with pytest.raises(Refused) as caught:
        signing_key.load_or_create(path)
    assert caught.value.code == "signing-key-exposed"


def _pem_of_another_kind() -> bytes:
    return generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _encrypted() -> bytes:
    key = generate_private_key(SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))


@pytest.mark.parametrize("content", [b"", b"not a key", _pem_of_another_kind(), _encrypted()])
def test_only_an_ed25519_key_is_taken(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(Malformed) as caught:
        signing_key.load_or_create(path)
    assert caught.value.code == "signing-key-malformed"
