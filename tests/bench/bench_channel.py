"""Speed of the channel, beside the libraries it is built on or held against. Prints one JSON object.

Run: python tests/bench/bench_channel.py
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from collections.abc import Callable
from typing import Any

from cryptography import __version__ as cryptography_version
from cryptography.hazmat.primitives import hpke as pyca
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from pyhpke import AEADId, CipherSuite, KDFId, KEMId

from attest.channel.bhttp import (
    RequestDecoder,
    RequestHead,
    ResponseDecoder,
    ResponseEncoder,
    ResponseHead,
    encode_request,
)
from attest.channel.chunked import ChunkedRequestOpener, ChunkedRequestSealer
from attest.channel.hpke import KEM_X25519, SuiteId, setup_base_receiver, setup_base_sender, suite_by_id
from attest.channel.ohttp import KeyPair

MEBIBYTE = 1 << 20
AEADS = {"AES-128-GCM": 1, "AES-256-GCM": 2, "ChaCha20-Poly1305": 3}
PRIMITIVES: dict[str, Any] = {
    "AES-128-GCM": (AESGCM, 16),
    "AES-256-GCM": (AESGCM, 32),
    "ChaCha20-Poly1305": (ChaCha20Poly1305, 32),
}


def best_seconds(act: Callable[[], object], repeats: int, rounds: int = 5) -> float:
    """Seconds of one call: the best of ``rounds``, so that a busy machine counts least."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(repeats):
            act()
        best = min(best, (time.perf_counter() - start) / repeats)
    return best


def stream_speed(aead: int) -> dict[str, float]:
    """MB/s of sealing and of opening a chunked request of 1 MiB, setup excluded."""
    key_pair = KeyPair.generate(1, [SuiteId(0x647A, 1, aead)])
    data = secrets.token_bytes(MEBIBYTE)
    sealer = ChunkedRequestSealer(key_pair.config)
    seal = best_seconds(lambda: sealer.seal(data), 20)
    opens = []
    for _ in range(20):
        sender = ChunkedRequestSealer(key_pair.config)
        sealed = sender.seal(data, final=True)
        opener = ChunkedRequestOpener({1: key_pair}, max_bytes=2 * MEBIBYTE)
        opener.feed(sender.preamble)
        start = time.perf_counter()
        opener.feed(sealed)
        opener.finish()
        opens.append(time.perf_counter() - start)
    return {"seal": MEBIBYTE / seal / 1e6, "open": MEBIBYTE / min(opens) / 1e6}


def raw_speed(name: str) -> float:
    """MB/s of the bare AEAD primitive on 16 KiB pieces: what no framing can beat."""
    primitive, size = PRIMITIVES[name]
    cipher, data, nonce = primitive(secrets.token_bytes(size)), secrets.token_bytes(1 << 14), bytes(12)
    return float((1 << 14) / best_seconds(lambda: cipher.encrypt(nonce, data, b""), 500) / 1e6)


def setup_times(kem_id: int) -> dict[str, float]:
    """Microseconds of setting up both ends of a context."""
    suite = suite_by_id(SuiteId(kem_id, 1, 2))
    pair = suite.kem.generate_key_pair()
    enc, _ = setup_base_sender(suite, pair.public_key, b"info")
    return {
        "sender": 1e6 * best_seconds(lambda: setup_base_sender(suite, pair.public_key, b"info"), 300),
        "receiver": 1e6 * best_seconds(lambda: setup_base_receiver(suite, enc, pair, b"info"), 300),
    }


def pyca_times(hybrid: bool) -> dict[str, float]:
    """Microseconds of cryptography's single shot on an empty message."""
    x25519 = X25519PrivateKey.generate()
    private: Any = x25519
    if hybrid:
        private = pyca.MLKEM768X25519PrivateKey(MLKEM768PrivateKey.generate(), x25519)
    kem = pyca.KEM.MLKEM768_X25519 if hybrid else pyca.KEM.X25519
    suite = pyca.Suite(kem, pyca.KDF.HKDF_SHA256, pyca.AEAD.AES_256_GCM)
    public = private.public_key()
    sealed = suite.encrypt(b"", public, b"info")
    return {
        "sender": 1e6 * best_seconds(lambda: suite.encrypt(b"", public, b"info"), 300),
        "receiver": 1e6 * best_seconds(lambda: suite.decrypt(sealed, private, b"info"), 300),
    }


def pyhpke_times() -> dict[str, float]:
    """Microseconds of pyhpke's contexts (X25519; it has no hybrid KEM)."""
    suite = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.AES256_GCM)
    pair = KEM_X25519.generate_key_pair()
    public = suite.kem.deserialize_public_key(pair.public_key)
    private = suite.kem.deserialize_private_key(pair.private_bytes())
    enc, _ = suite.create_sender_context(public, b"info")
    return {
        "sender": 1e6 * best_seconds(lambda: suite.create_sender_context(public, b"info"), 200),
        "receiver": 1e6 * best_seconds(lambda: suite.create_recipient_context(enc, private, b"info"), 200),
    }


def bhttp_times() -> dict[str, float]:
    """Microseconds of a typical request, and of one padded event of a token stream."""
    fields = tuple((b"x-field-%d" % number, b"v" * 24) for number in range(8))
    head = RequestHead("POST", "http", "sealgate.local", "/v1/chat/completions", fields)
    body = bytes(2000)
    message = encode_request(head, body)

    def decode_request() -> None:
        decoder = RequestDecoder()
        decoder.feed(message)
        decoder.finish()

    encoder = ResponseEncoder(padding="bucket")
    start = encoder.head(ResponseHead(200))
    event = encoder.content(bytes(230))
    decoder = ResponseDecoder()
    decoder.feed(start)
    return {
        "encode_request_us": 1e6 * best_seconds(lambda: encode_request(head, body), 500),
        "decode_request_us": 1e6 * best_seconds(decode_request, 500),
        "encode_padded_event_us": 1e6 * best_seconds(lambda: encoder.content(bytes(230)), 500),
        "decode_padded_event_us": 1e6 * best_seconds(lambda: decoder.feed(event), 500),
    }


def rounded(value: Any) -> Any:
    """Three or four significant digits are all that such a measurement has."""
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    return round(value, 1) if isinstance(value, float) else value


def main() -> None:
    """Measure and print."""
    result = {
        "chunked_ohttp_1mib_mb_per_s": {name: stream_speed(aead) for name, aead in AEADS.items()},
        "bare_aead_16kib_mb_per_s": {name: raw_speed(name) for name in AEADS},
        "hpke_setup_us": {
            "x25519": {
                "sealgate": setup_times(0x20),
                "pyhpke": pyhpke_times(),
                "cryptography_single_shot": pyca_times(hybrid=False),
            },
            "mlkem768_x25519": {
                "sealgate": setup_times(0x647A),
                "cryptography_single_shot": pyca_times(hybrid=True),
            },
        },
        "binary_http": bhttp_times(),
        "machine": {
            "cpus": os.cpu_count(),
            "python": sys.version.split()[0],
            "cryptography": cryptography_version,
        },
    }
    print(json.dumps(rounded(result), indent=2))


if __name__ == "__main__":
    main()
