"""A receiver's key: what it publishes, together with the private half."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from attest.channel.hpke import DEFAULT_SUITE, KemKeyPair, SuiteId, kem_by_id, suite_by_id
from attest.channel.key_config import KeyConfig

DEFAULT_SUITES: Final = (DEFAULT_SUITE, SuiteId(DEFAULT_SUITE.kem, DEFAULT_SUITE.kdf, 0x0003))
"""AES-256-GCM, or ChaCha20-Poly1305 for machines without AES instructions."""


@dataclass(frozen=True, repr=False)
class KeyPair:
    """A receiver's published configuration together with the private key."""

    config: KeyConfig
    hpke: KemKeyPair

    def __repr__(self) -> str:
        return f"KeyPair({self.config!r})"

    @classmethod
    def generate(cls, key_id: int, suites: Iterable[SuiteId] = DEFAULT_SUITES) -> KeyPair:
        """A fresh key pair under ``key_id``.

        Args:
            key_id: 0..255, unique among the keys that one receiver publishes.
            suites: what to offer, favourite first; all with the same KEM.
        """
        return cls._of(key_id, tuple(suites), None)

    @classmethod
    def load(cls, key_id: int, private_key: bytes, suites: Iterable[SuiteId] = DEFAULT_SUITES) -> KeyPair:
        """The key pair of a serialised private key; arguments as in ``generate``.

        Raises:
            Malformed: ``hpke-private-key``.
        """
        return cls._of(key_id, tuple(suites), private_key)

    @classmethod
    def _of(cls, key_id: int, suites: tuple[SuiteId, ...], private_key: bytes | None) -> KeyPair:
        for suite in suites:
            suite_by_id(suite)
        if len({suite.kem for suite in suites}) != 1:
            raise ValueError("a key belongs to exactly one KEM")
        kem = kem_by_id(suites[0].kem)
        hpke = kem.generate_key_pair() if private_key is None else kem.load_key_pair(private_key)
        symmetric = tuple((suite.kdf, suite.aead) for suite in suites)
        return cls(KeyConfig(key_id, kem.id, hpke.public_key, symmetric), hpke)
