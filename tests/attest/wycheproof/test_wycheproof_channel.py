"""Wycheproof against what the sealed channel is made of."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from attest.channel import kem_x25519, kem_xwing
from attest.channel.aead import AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305, Aead, AeadSequence
from attest.channel.kdf import HKDF_SHA256, Hkdf
from attest.channel.kem_x25519 import KEM_X25519
from attest.refusal import Malformed, Refused
from tests.attest.wycheproof.wycheproof import cases, unhex


@pytest.mark.parametrize(
    ("name", "suites"),
    [("aes_gcm", (AES_128_GCM, AES_256_GCM)), ("chacha20_poly1305", (CHACHA20_POLY1305,))],
)
def test_opening(wycheproof: Path, name: str, suites: tuple[Aead, ...]) -> None:
    """With the nonces of 12 bytes and the keys that HPKE has."""
    by_key = {suite.n_k: suite for suite in suites}
    seen: Counter[str] = Counter()
    for group, test in cases(wycheproof, name):
        key, nonce, aad, message, sealed, tag = unhex(test, "key", "iv", "aad", "msg", "ct", "tag")
        suite = by_key.get(len(key))
        if suite is None or len(nonce) != suite.n_n or group["tagSize"] != 128:
            continue
        seen[test["result"]] += 1
        if test["result"] == "valid":
            assert AeadSequence(suite, key, nonce).open(aad, sealed + tag) == message
            assert AeadSequence(suite, key, nonce).seal(aad, message) == sealed + tag
        else:
            with pytest.raises(Refused, match="hpke-open-failed"):
                AeadSequence(suite, key, nonce).open(aad, sealed + tag)
    assert min(seen["valid"], seen["invalid"]) > 20


@pytest.mark.parametrize(
    ("name", "kdf"), [("hkdf_sha256", HKDF_SHA256), ("hkdf_sha384", Hkdf(0x0002, hashes.SHA384()))]
)
def test_deriving(wycheproof: Path, name: str, kdf: Hkdf) -> None:
    """More than 255 blocks cannot be had."""
    for _, test in cases(wycheproof, name):
        ikm, salt, info, okm = unhex(test, "ikm", "salt", "info", "okm")
        prk = kdf.extract(salt, ikm)
        if test["result"] == "valid":
            assert kdf.expand(prk, info, test["size"]) == okm
        else:
            with pytest.raises(ValueError, match=r"length|derive"):
                kdf.expand(prk, info, test["size"])


def test_x25519(wycheproof: Path) -> None:
    """The twist and points in another form are taken, and the zero that points of low order yield is not."""
    refused = 0
    for _, test in cases(wycheproof, "x25519"):
        public, private, shared = unhex(test, "public", "private", "shared")
        pair = KEM_X25519.load_key_pair(private)
        if any(shared):
            expected = kem_x25519._dhkem_secret(shared, public, pair.public_key)
            assert pair.decapsulate(public) == expected, test["tcId"]
            continue
        refused += 1
        with pytest.raises(Refused, match="decapsulation"):
            pair.decapsulate(public)
    assert refused > 10


OWN, PEER = (X25519PrivateKey.from_private_bytes(bytes([byte]) * 32) for byte in (0, 1))
OWN_PUBLIC, ENC = OWN.public_key().public_bytes_raw(), PEER.public_key().public_bytes_raw()


def _decapsulated(seed: bytes, ciphertext: bytes) -> bytes:
    mlkem = MLKEM768PrivateKey.from_seed_bytes(seed)
    return kem_xwing._XWingKeyPair(b"", mlkem, OWN, OWN_PUBLIC, b"").decapsulate(ciphertext + ENC)


def test_ml_kem_768(wycheproof: Path) -> None:
    """As X-Wing uses it, beside an X25519 exchange that is known."""
    exchanged = OWN.exchange(PEER.public_key())
    invalid = 0
    for _, test in cases(wycheproof, "mlkem_768"):
        seed, ciphertext, secret = unhex(test, "seed", "c", "K")
        if test["result"] == "invalid":
            invalid += 1
            with pytest.raises((Refused, ValueError)):
                _decapsulated(seed, ciphertext)
            continue
        public = MLKEM768PrivateKey.from_seed_bytes(seed).public_key().public_bytes_raw()
        assert public.hex() == test["ek"]
        combined = kem_xwing._xwing_combine(secret, exchanged, ENC, OWN_PUBLIC)
        assert _decapsulated(seed, ciphertext) == combined
    assert invalid == 40


def test_public_keys_of_low_order_are_refused_by_the_sender(wycheproof: Path) -> None:
    """Sealing to such a key would be sealing to everybody."""
    for _, test in cases(wycheproof, "x25519"):
        public, shared = unhex(test, "public", "shared")
        if not any(shared):
            with pytest.raises(Malformed):
                KEM_X25519.encapsulate(public)
