"""The keys by which this replica is known, and their life.

Keys are made here, at start, and are never written anywhere: whoever restarts the runtime gets new ones, so
a store of used requests that was lost never meets a request that it has forgotten. An *epoch* is one keyset
with all that must end with it. The next epoch begins ``key_overlap`` before the end of the last, or early
when a store is full; requests sealed to the last keyset are opened until it ends.

There is no timer: whoever asks for the current epoch brings the time, and the change happens then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attest.channel.hpke import KEM_X25519, SuiteId
from attest.channel.key_config import serialise_key_configs
from attest.channel.ohttp import DEFAULT_SUITES, KeyPair
from attest.channel.replay import ReplayStore
from attest.keyset import Keyset
from attest.protocol.tenant_token import CLOCK_SKEW
from runtime.api.tenants import Tenants

INTEROPERABLE_SUITES: Final = tuple(SuiteId(KEM_X25519.id, kdf, aead) for _, kdf, aead in DEFAULT_SUITES)
"""For OHTTP clients without a post-quantum KEM; published after the default."""

_KEY_IDS: Final = 256  # RFC 9458 section 3: one byte
_OFFERS: Final = (DEFAULT_SUITES, INTEROPERABLE_SUITES)


@dataclass(frozen=True, repr=False)
class Epoch:
    """One keyset and what ends with it.

    Args:
        keyset: what the statement vouches for.
        keyset_digest: of the keyset, computed once.
        key_pairs: that open requests, by key id.
        receipt_key: signs receipts.
        tenants: the numbers that tenants have used under this keyset.
        previous: the keyset before this one; None for the first since start.
    """

    keyset: Keyset
    keyset_digest: str
    key_pairs: Mapping[int, KeyPair]
    receipt_key: Ed25519PrivateKey
    tenants: Tenants
    previous: Keyset | None

    def __repr__(self) -> str:
        return f"Epoch({self.keyset_digest}, keys {sorted(self.key_pairs)})"


class RuntimeIdentity:
    """All living epochs.

    Args:
        lifetime: of a keyset.
        overlap: how long before its end the next one begins.
        replay_capacity: requests that the living keys remember together.
        max_tenants: tenants that one keyset remembers.
        clock: the time, aware.
    """

    def __init__(
        self,
        *,
        lifetime: timedelta,
        overlap: timedelta,
        replay_capacity: int,
        max_tenants: int,
        clock: Callable[[], datetime],
    ) -> None:
        self._lifetime = lifetime
        self._overlap = overlap
        self._max_tenants = max_tenants
        self._clock = clock
        self._replay = ReplayStore(replay_capacity)
        self._next_key_id = 0
        self._last: Keyset | None = None
        self._epochs = [self._begin(clock())]

    def __repr__(self) -> str:
        return f"RuntimeIdentity({self._epochs!r})"

    def current(self) -> Epoch:
        """The epoch that new verdicts rest on; begins the next one if it is time."""
        now = self._clock()
        self._end_stale(now)
        if not self._epochs or now >= self._epochs[-1].keyset.not_after - self._overlap:
            self._epochs.append(self._begin(now))
        return self._epochs[-1]

    def key_pairs(self) -> dict[int, KeyPair]:
        """Every key that still opens requests."""
        self.current()
        return {key_id: pair for epoch in self._epochs for key_id, pair in epoch.key_pairs.items()}

    def epoch_of(self, key_id: int) -> Epoch | None:
        """The living epoch of a key."""
        return next((epoch for epoch in self._epochs if key_id in epoch.key_pairs), None)

    def claim(self, key_id: int, enc: bytes) -> None:
        """Take an opened request; once only.

        Raises:
            Refused: ``replayed-request``, ``replay-store-full``.
        """
        self._replay.claim(key_id, enc)

    def renew(self) -> None:
        """End every living key now and begin anew: the only way to make room without forgetting."""
        for epoch in self._epochs:
            self._forget(epoch)
        self._epochs = [self._begin(self._clock())]

    def _end_stale(self, now: datetime) -> None:
        for epoch in [epoch for epoch in self._epochs if now >= epoch.keyset.not_after]:
            self._epochs.remove(epoch)
            self._forget(epoch)

    def _forget(self, epoch: Epoch) -> None:
        for key_id in epoch.key_pairs:
            self._replay.forget_key(key_id)

    def _begin(self, now: datetime) -> Epoch:
        key_pairs = {}
        for suites in _OFFERS:
            key_pairs[self._next_key_id] = KeyPair.generate(self._next_key_id, suites)
            self._next_key_id = (self._next_key_id + 1) % _KEY_IDS
        receipt_key = Ed25519PrivateKey.generate()
        start = now.replace(microsecond=0)
        keyset = Keyset(
            ohttp_keys=serialise_key_configs([pair.config for pair in key_pairs.values()]),
            receipt_key=receipt_key.public_key().public_bytes_raw(),
            # A gateway whose clock is a little behind would take keys made just now for pending ones.
            not_before=start - CLOCK_SKEW,
            not_after=start + self._lifetime,
        )
        previous, self._last = self._last, keyset
        return Epoch(
            keyset=keyset,
            keyset_digest=keyset.digest,
            key_pairs=key_pairs,
            receipt_key=receipt_key,
            tenants=Tenants(self._max_tenants),
            previous=previous,
        )
