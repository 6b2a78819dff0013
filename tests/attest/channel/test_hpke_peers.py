"""HPKE against two independent implementations, both ways, with random keys and messages."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from cryptography.hazmat.bindings._rust import openssl as rust_openssl
from cryptography.hazmat.primitives import hpke as pyca
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from pyhpke import AEADId, CipherSuite, KDFId, KEMId

from attest.channel.hpke import (
    KEM_MLKEM768_X25519,
    KEM_X25519,
    Psk,
    SuiteId,
    setup_base_receiver,
    setup_base_sender,
    setup_psk_receiver,
    setup_psk_sender,
    suite_by_id,
)
from attest.channel.kem_xwing import XWing

ROUNDS = 8
PYHPKE_AEADS = {1: AEADId.AES128_GCM, 2: AEADId.AES256_GCM, 3: AEADId.CHACHA20_POLY1305}
PYCA_AEADS = {1: pyca.AEAD.AES_128_GCM, 2: pyca.AEAD.AES_256_GCM, 3: pyca.AEAD.CHACHA20_POLY1305}


def _noise() -> bytes:
    return secrets.token_bytes(secrets.randbelow(300))


@pytest.mark.parametrize("aead", [1, 2, 3])
@pytest.mark.parametrize("with_psk", [False, True])
def test_pyhpke_opens_what_we_seal(aead: int, with_psk: bool) -> None:
    """Several messages in sequence, their AAD, and the exporter agree with pyhpke as receiver."""
    peer = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, PYHPKE_AEADS[aead])
    suite = suite_by_id(SuiteId(0x20, 1, aead))
    for _ in range(ROUNDS):
        pair, info = KEM_X25519.generate_key_pair(), _noise()
        private = peer.kem.deserialize_private_key(pair.private_bytes())
        psk = Psk(secrets.token_bytes(32), b"key-1")
        if with_psk:
            enc, sender = setup_psk_sender(suite, pair.public_key, info, psk)
            receiver = peer.create_recipient_context(enc, private, info, psk=psk.key, psk_id=psk.key_id)
        else:
            enc, sender = setup_base_sender(suite, pair.public_key, info)
            receiver = peer.create_recipient_context(enc, private, info)
        for _ in range(4):
            aad, data = _noise(), _noise()
            assert receiver.open(sender.seal(aad, data), aad) == data
        assert receiver.export(b"label", 48) == sender.export(b"label", 48)


@pytest.mark.parametrize("aead", [1, 2, 3])
@pytest.mark.parametrize("with_psk", [False, True])
def test_we_open_what_pyhpke_seals(aead: int, with_psk: bool) -> None:
    """The same with pyhpke as sender."""
    peer = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, PYHPKE_AEADS[aead])
    suite = suite_by_id(SuiteId(0x20, 1, aead))
    for _ in range(ROUNDS):
        pair, info = KEM_X25519.generate_key_pair(), _noise()
        public = peer.kem.deserialize_public_key(pair.public_key)
        psk = Psk(secrets.token_bytes(32), b"key-1")
        if with_psk:
            enc, sender = peer.create_sender_context(public, info, psk=psk.key, psk_id=psk.key_id)
            receiver = setup_psk_receiver(suite, enc, pair, info, psk)
        else:
            enc, sender = peer.create_sender_context(public, info)
            receiver = setup_base_receiver(suite, enc, pair, info)
        for _ in range(4):
            aad, data = _noise(), _noise()
            assert receiver.open(aad, sender.seal(data, aad)) == data
        assert receiver.export(b"label", 48) == sender.export(b"label", 48)


def _pyca_keys(private: bytes, public: bytes, kem: int) -> tuple[Any, Any]:
    if kem == 0x20:
        return X25519PrivateKey.from_private_bytes(private), X25519PublicKey.from_public_bytes(public)
    pair: Any = KEM_MLKEM768_X25519.load_key_pair(private)
    mlkem_public = MLKEM768PublicKey.from_public_bytes(public[:1184])
    return (
        pyca.MLKEM768X25519PrivateKey(
            MLKEM768PrivateKey.from_seed_bytes(pair.mlkem.private_bytes_raw()), pair.x25519
        ),
        pyca.MLKEM768X25519PublicKey(mlkem_public, X25519PublicKey.from_public_bytes(public[1184:])),
    )


@pytest.mark.parametrize("aead", [1, 2, 3])
@pytest.mark.parametrize("kem", [0x20, 0x647A])
def test_pyca_single_shot_agrees_both_ways(kem: int, aead: int) -> None:
    """Cryptography's own HPKE, X-Wing included, opens ours and is opened by us."""
    peer_kem = pyca.KEM.X25519 if kem == 0x20 else pyca.KEM.MLKEM768_X25519
    peer = pyca.Suite(peer_kem, pyca.KDF.HKDF_SHA256, PYCA_AEADS[aead])
    suite = suite_by_id(SuiteId(kem, 1, aead))
    for _ in range(ROUNDS):
        pair, info, aad, data = suite.kem.generate_key_pair(), _noise(), _noise(), _noise()
        private, public = _pyca_keys(pair.private_bytes(), pair.public_key, kem)
        enc, sender = setup_base_sender(suite, pair.public_key, info)
        ours = enc + sender.seal(aad, data)
        assert rust_openssl.hpke._decrypt_with_aad(peer, ours, private, info, aad) == data
        theirs = rust_openssl.hpke._encrypt_with_aad(peer, data, public, info, aad)
        receiver = setup_base_receiver(suite, theirs[: suite.kem.n_enc], pair, info)
        assert receiver.open(aad, theirs[suite.kem.n_enc :]) == data


def test_xwing_lengths_are_those_of_the_draft() -> None:
    """1216-byte keys, 1120-byte encapsulations, 32-byte seeds and secrets."""
    assert (XWing.n_pk, XWing.n_enc, XWing.n_sk, XWing.n_secret) == (1216, 1120, 32, 32)
