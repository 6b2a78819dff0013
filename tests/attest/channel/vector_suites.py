# ruff: noqa: D102  (the Kem and Kdf protocols document these methods)
"""Algorithms beyond the product's own, so that every standard vector is run that the libraries allow.

They plug into the product's contexts through the ``Kem`` and ``Kdf`` protocols: what is under test is the
key schedule, the sequence and the exporter. Only decapsulation is deterministic for the ML-KEM family, so
those vectors are run from the receiver's side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from Crypto.Hash import TurboSHAKE128, TurboSHAKE256
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x448

from attest.channel.aead import AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305, EXPORT_ONLY
from attest.channel.hpke import KEM_MLKEM768_X25519, KEM_X25519, Suite
from attest.channel.kdf import HKDF_SHA256, Hkdf, Schedule, labeled_expand, labeled_extract

HKDF_SHA384 = Hkdf(0x0002, hashes.SHA384())
HKDF_SHA512 = Hkdf(0x0003, hashes.SHA512())


@dataclass(frozen=True)
class OneStage:
    """A one-stage KDF of draft-ietf-hpke-pq section 5, with the schedule of draft-ietf-hpke-hpke."""

    id: int
    n_h: int
    derive: Callable[[bytes, int], bytes]

    def labeled_derive(self, suite: bytes, ikm: bytes, label: bytes, context: bytes, length: int) -> bytes:
        tail = len(label).to_bytes(2, "big") + label + length.to_bytes(2, "big") + context
        return self.derive(ikm + b"HPKE-v1" + suite + tail, length)

    def extract(self, salt: bytes, ikm: bytes) -> bytes:
        raise NotImplementedError("a one-stage KDF has no Extract")

    def expand(self, prk: bytes, info: bytes, length: int) -> bytes:
        raise NotImplementedError("a one-stage KDF has no Expand")

    def schedule(
        self,
        suite: bytes,
        mode: int,
        shared_secret: bytes,
        info: bytes,
        *,
        psk: tuple[bytes, bytes],
        lengths: tuple[int, int],
    ) -> Schedule:
        def prefixed(data: bytes) -> bytes:
            return len(data).to_bytes(2, "big") + data

        n_k, n_n = lengths
        ikm = prefixed(psk[0]) + prefixed(shared_secret)
        context = bytes([mode]) + prefixed(psk[1]) + prefixed(info)
        secret = self.labeled_derive(suite, ikm, b"secret", context, n_k + n_n + self.n_h)
        return Schedule(secret[:n_k], secret[n_k : n_k + n_n], secret[n_k + n_n :])

    def export(self, suite: bytes, exporter_secret: bytes, context: bytes, length: int) -> bytes:
        return self.labeled_derive(suite, exporter_secret, b"sec", context, length)


def _turbo(module: Any) -> Callable[[bytes, int], bytes]:
    return lambda data, length: module.new(domain=0x1F, data=data).read(length)


KDFS: dict[int, Any] = {
    kdf.id: kdf
    for kdf in (
        HKDF_SHA256,
        HKDF_SHA384,
        HKDF_SHA512,
        OneStage(0x0010, 32, lambda data, length: hashlib.shake_128(data).digest(length)),
        OneStage(0x0011, 64, lambda data, length: hashlib.shake_256(data).digest(length)),
        OneStage(0x0012, 32, _turbo(TurboSHAKE128)),
        OneStage(0x0013, 64, _turbo(TurboSHAKE256)),
    )
}
AEADS = {a.id: a for a in (AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305, EXPORT_ONLY)}


@dataclass(frozen=True)
class Pair:
    """A key pair of a test KEM."""

    public_key: bytes
    decapsulate: Callable[[bytes], bytes]

    def private_bytes(self) -> bytes:
        raise NotImplementedError


class Nist:
    """ECDH on a NIST curve: uncompressed points, x coordinate as the secret."""

    def __init__(self, curve: ec.EllipticCurve) -> None:
        self.curve = curve
        self.size = (curve.key_size + 7) // 8

    def load(self, scalar: bytes) -> ec.EllipticCurvePrivateKey:
        return ec.derive_private_key(int.from_bytes(scalar, "big"), self.curve)

    def public(self, key: ec.EllipticCurvePrivateKey) -> bytes:
        return key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )

    def exchange(self, key: ec.EllipticCurvePrivateKey, public: bytes) -> bytes:
        return key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(self.curve, public))


class Montgomery448:
    """X448."""

    size = 56

    def load(self, scalar: bytes) -> x448.X448PrivateKey:
        return x448.X448PrivateKey.from_private_bytes(scalar)

    def public(self, key: x448.X448PrivateKey) -> bytes:
        return key.public_key().public_bytes_raw()

    def exchange(self, key: x448.X448PrivateKey, public: bytes) -> bytes:
        return key.exchange(x448.X448PublicKey.from_public_bytes(public))


@dataclass(frozen=True)
class DhKem:
    """DHKEM of RFC 9180 section 4.1 over any group."""

    id: int
    group: Any
    kdf: Hkdf
    n_secret: int

    def load_key_pair(self, private_key: bytes) -> Pair:
        key = self.group.load(private_key)
        public = self.group.public(key)
        return Pair(public, lambda enc: self._secret(self.group.exchange(key, enc), enc, public))

    def encapsulate(self, public_key: bytes, *, ephemeral: bytes | None = None) -> tuple[bytes, bytes]:
        if ephemeral is None:
            raise ValueError("test KEM: known-answer tests only")
        key = self.group.load(ephemeral)
        enc = self.group.public(key)
        return self._secret(self.group.exchange(key, public_key), enc, public_key), enc

    def _secret(self, dh: bytes, enc: bytes, public: bytes) -> bytes:
        suite = b"KEM" + self.id.to_bytes(2, "big")
        prk = labeled_extract(self.kdf, suite, b"", b"eae_prk", dh)
        return labeled_expand(self.kdf, suite, prk, b"shared_secret", enc + public, length=self.n_secret)


@dataclass(frozen=True)
class MlKem:
    """Plain ML-KEM (draft-ietf-hpke-pq section 3): the private key is the 64-byte seed."""

    id: int
    private_class: Any

    def load_key_pair(self, private_key: bytes) -> Pair:
        key = self.private_class.from_seed_bytes(private_key)
        return Pair(key.public_key().public_bytes_raw(), key.decapsulate)


@dataclass(frozen=True)
class HybridKem:
    """ML-KEM with a NIST curve (draft-irtf-cfrg-concrete-hybrid-kems)."""

    id: int
    private_class: Any
    n_mlkem_enc: int
    group: Nist
    order: int
    seed_bytes: int
    label: bytes

    def load_key_pair(self, private_key: bytes) -> Pair:
        expanded = hashlib.shake_256(private_key).digest(64 + self.seed_bytes)
        pq = self.private_class.from_seed_bytes(expanded[:64])
        key = self.group.load(self._scalar(expanded[64:]))
        public = self.group.public(key)

        def decapsulate(enc: bytes) -> bytes:
            enc_pq, enc_t = enc[: self.n_mlkem_enc], enc[self.n_mlkem_enc :]
            parts = (pq.decapsulate(enc_pq), self.group.exchange(key, enc_t), enc_t, public, self.label)
            return hashlib.sha3_256(b"".join(parts)).digest()

        return Pair(pq.public_key().public_bytes_raw() + public, decapsulate)

    def _scalar(self, seed: bytes) -> bytes:
        size = self.group.size
        for start in range(0, len(seed), size):
            candidate = seed[start : start + size]
            if 0 < int.from_bytes(candidate, "big") < self.order:
                return candidate
        raise ValueError("no scalar in this seed")


_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_P384_ORDER = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16
)
_P256, _P384 = Nist(ec.SECP256R1()), Nist(ec.SECP384R1())

KEMS: dict[int, Any] = {
    kem.id: kem
    for kem in (
        KEM_X25519,
        KEM_MLKEM768_X25519,
        DhKem(0x0010, _P256, HKDF_SHA256, 32),
        DhKem(0x0011, _P384, HKDF_SHA384, 48),
        DhKem(0x0021, Montgomery448(), HKDF_SHA512, 64),
        MlKem(0x0041, mlkem.MLKEM768PrivateKey),
        MlKem(0x0042, mlkem.MLKEM1024PrivateKey),
        HybridKem(0x0050, mlkem.MLKEM768PrivateKey, 1088, _P256, _P256_ORDER, 128, b"MLKEM768-P256"),
        HybridKem(0x0051, mlkem.MLKEM1024PrivateKey, 1568, _P384, _P384_ORDER, 48, b"MLKEM1024-P384"),
    )
}
NOT_RUNNABLE = {0x0040: "ML-KEM-512 is in no library here, and is offered by no product suite"}


def suite_of(vector: dict[str, Any]) -> Suite:
    """The suite that a vector names."""
    return Suite(KEMS[vector["kem_id"]], KDFS[vector["kdf_id"]], AEADS[vector["aead_id"]])
