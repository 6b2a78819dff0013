"""What HPKE refuses, and that it shows no key."""

from __future__ import annotations

import pytest

from attest.channel.aead import AES_256_GCM, EXPORT_ONLY, AeadSequence
from attest.channel.hpke import (
    DEFAULT_SUITE,
    KEM_MLKEM768_X25519,
    KEM_X25519,
    Kem,
    Psk,
    SuiteId,
    kem_by_id,
    setup_base_receiver,
    setup_base_sender,
    setup_psk_receiver,
    setup_psk_sender,
    suite_by_id,
)
from attest.refusal import Malformed, Refused, Unsupported

X25519_SUITE = SuiteId(0x20, 1, 2)
KEMS = [KEM_X25519, KEM_MLKEM768_X25519]
PSK = Psk(bytes(range(32)), b"id")


@pytest.mark.parametrize(
    ("suite", "code"),
    [
        (SuiteId(0x10, 1, 2), "hpke-kem"),
        (SuiteId(0x20, 3, 2), "hpke-kdf"),
        (SuiteId(0x20, 1, 9), "hpke-aead"),
    ],
)
def test_unknown_algorithms_are_unsupported(suite: SuiteId, code: str) -> None:
    with pytest.raises(Unsupported) as refusal:
        suite_by_id(suite)
    assert refusal.value.code == code


def test_the_default_suite_is_post_quantum() -> None:
    assert suite_by_id(DEFAULT_SUITE).kem is KEM_MLKEM768_X25519
    assert suite_by_id(DEFAULT_SUITE).aead is AES_256_GCM


@pytest.mark.parametrize("kem", KEMS, ids=["x25519", "xwing"])
@pytest.mark.parametrize("change", [-1, 1])
def test_keys_of_wrong_length_are_malformed(kem: Kem, change: int) -> None:
    pair = kem.generate_key_pair()
    _, enc = kem.encapsulate(pair.public_key)

    def resized(data: bytes) -> bytes:
        return data[:change] if change < 0 else data + data[:change]

    with pytest.raises(Malformed, match="hpke-public-key"):
        kem.encapsulate(resized(pair.public_key))
    with pytest.raises(Malformed, match="hpke-private-key"):
        kem.load_key_pair(resized(pair.private_bytes()))
    with pytest.raises(Refused, match="hpke-decapsulation-failed"):
        pair.decapsulate(resized(enc))


def test_mlkem_keys_that_fail_the_modulus_check_are_malformed() -> None:
    """FIPS 203 section 7.2: a coefficient of 4095 is none."""
    with pytest.raises(Malformed, match="hpke-public-key"):
        KEM_MLKEM768_X25519.encapsulate(b"\xff" * 1184 + KEM_X25519.generate_key_pair().public_key)


def test_low_order_points_are_refused_by_both_kems() -> None:
    """RFC 9180 section 7.1.4: an all-zero Diffie-Hellman result would be a key that everyone knows."""
    zero = bytes(32)
    with pytest.raises(Malformed, match="hpke-public-key"):
        KEM_X25519.encapsulate(zero)
    with pytest.raises(Refused, match="hpke-decapsulation-failed"):
        KEM_X25519.generate_key_pair().decapsulate(zero)
    pair = KEM_MLKEM768_X25519.generate_key_pair()
    with pytest.raises(Malformed, match="hpke-public-key"):
        KEM_MLKEM768_X25519.encapsulate(pair.public_key[:1184] + zero)
    _, enc = KEM_MLKEM768_X25519.encapsulate(pair.public_key)
    with pytest.raises(Refused, match="hpke-decapsulation-failed"):
        pair.decapsulate(enc[:1088] + zero)


def test_xwing_has_no_fixed_ephemeral() -> None:
    with pytest.raises(Unsupported, match="hpke-ephemeral"):
        KEM_MLKEM768_X25519.encapsulate(
            KEM_MLKEM768_X25519.generate_key_pair().public_key, ephemeral=bytes(32)
        )


@pytest.mark.parametrize("kem_id", [0x20, 0x647A])
def test_every_input_of_the_setup_is_bound(kem_id: int) -> None:
    """Another info, AAD, receiver or encapsulation opens nothing."""
    suite = suite_by_id(SuiteId(kem_id, 1, 2))
    pair, other = suite.kem.generate_key_pair(), suite.kem.generate_key_pair()
    enc, sender = setup_base_sender(suite, pair.public_key, b"info")
    sealed = sender.seal(b"aad", b"data")
    assert setup_base_receiver(suite, enc, pair, b"info").open(b"aad", sealed) == b"data"
    flipped = enc[:-1] + bytes([enc[-1] ^ 0x80])  # the bit that X25519 itself ignores
    wrong = [
        (enc, pair, b"other", b"aad"),
        (enc, pair, b"info", b"other"),
        (enc, other, b"info", b"aad"),
        (flipped, pair, b"info", b"aad"),
    ]
    for wrong_enc, receiver, info, aad in wrong:
        with pytest.raises(Refused, match="hpke-open-failed"):
            setup_base_receiver(suite, wrong_enc, receiver, info).open(aad, sealed)


def test_messages_open_in_order_only_and_a_failure_skips_nothing() -> None:
    suite = suite_by_id(X25519_SUITE)
    pair = suite.kem.generate_key_pair()
    enc, sender = setup_base_sender(suite, pair.public_key, b"")
    first, second = sender.seal(b"", b"1"), sender.seal(b"", b"2")
    receiver = setup_base_receiver(suite, enc, pair, b"")
    with pytest.raises(Refused, match="hpke-open-failed"):
        receiver.open(b"", second)
    assert receiver.open(b"", first) == b"1"
    with pytest.raises(Refused, match="hpke-open-failed"):
        receiver.open(b"", first)
    assert receiver.open(b"", second) == b"2"


@pytest.mark.parametrize("psk", [Psk(bytes(31), b"id"), Psk(bytes(32), b""), Psk(b"", b"")])
def test_weak_or_nameless_psk_is_refused(psk: Psk) -> None:
    suite = suite_by_id(X25519_SUITE)
    pair = suite.kem.generate_key_pair()
    with pytest.raises(Refused, match="hpke-psk"):
        setup_psk_sender(suite, pair.public_key, b"", psk)
    with pytest.raises(Refused, match="hpke-psk"):
        setup_psk_receiver(suite, bytes(32), pair, b"", psk)


def test_psk_is_bound() -> None:
    """A receiver with another key, another key id, or none, opens nothing."""
    suite = suite_by_id(X25519_SUITE)
    pair = suite.kem.generate_key_pair()
    enc, sender = setup_psk_sender(suite, pair.public_key, b"", PSK)
    sealed = sender.seal(b"", b"data")
    receivers = [
        setup_psk_receiver(suite, enc, pair, b"", Psk(bytes(32), b"id")),
        setup_psk_receiver(suite, enc, pair, b"", Psk(PSK.key, b"other")),
        setup_base_receiver(suite, enc, pair, b""),
    ]
    for receiver in receivers:
        with pytest.raises(Refused, match="hpke-open-failed"):
            receiver.open(b"", sealed)
    assert setup_psk_receiver(suite, enc, pair, b"", PSK).open(b"", sealed) == b"data"


def test_export_only_seals_nothing_but_exports() -> None:
    suite = suite_by_id(SuiteId(0x20, 1, 0xFFFF))
    pair = suite.kem.generate_key_pair()
    enc, sender = setup_base_sender(suite, pair.public_key, b"")
    with pytest.raises(Unsupported, match="hpke-export-only"):
        sender.seal(b"", b"data")
    assert sender.export(b"x", 32) == setup_base_receiver(suite, enc, pair, b"").export(b"x", 32)
    with pytest.raises(ValueError, match="export-only"):
        AeadSequence(EXPORT_ONLY, b"", b"")


def test_exports_differ_by_context_and_exchange() -> None:
    suite = suite_by_id(X25519_SUITE)
    public = suite.kem.generate_key_pair().public_key
    _, one = setup_base_sender(suite, public, b"")
    _, two = setup_base_sender(suite, public, b"")
    assert len({one.export(b"a", 32), one.export(b"b", 32), two.export(b"a", 32)}) == 3


def test_the_message_counter_never_wraps() -> None:
    """RFC 9180 section 5.2: the last nonce is not used, so none is used twice."""
    messages = AeadSequence(AES_256_GCM, bytes(32), bytes(12))
    messages._next = (1 << 96) - 2
    messages.seal(b"", b"")
    with pytest.raises(OverflowError):
        messages.seal(b"", b"")


def test_no_repr_shows_a_key() -> None:
    for kem_id in (0x20, 0x647A):
        kem = kem_by_id(kem_id)
        pair = kem.generate_key_pair()
        suite = suite_by_id(SuiteId(kem_id, 1, 2))
        _, context = setup_base_sender(suite, pair.public_key, b"")
        shown = repr(pair) + repr(context) + repr(context.messages) + repr(PSK)
        for secret in (pair.private_bytes(), context._exporter_secret, PSK.key):
            assert secret.hex() not in shown
            assert repr(secret)[2:-1] not in shown
