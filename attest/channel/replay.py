"""Remembering what was opened, so that a recorded request is not served twice (RFC 9458 section 6.5.1).

The encapsulation names a request: it is bound into the keys of every chunk, so a replay repeats it exactly.
Keys are made when the runtime starts and are never stored, hence a store that was lost never meets a
request it has forgotten: the key is gone too.

Claim after the first chunk has opened and before anything has an effect. An entry is never evicted to make
room, because then whoever fills the store could replay: a full store refuses until ``forget_key``.
"""

from __future__ import annotations

import hashlib
import threading
from typing import Final

from attest.refusal import Refused

DEFAULT_CAPACITY: Final = 1 << 20
"""Requests per store; about 100 MB when full. Keys should be renewed well before."""


class ReplayStore:
    """The requests claimed under the keys that are still alive. Safe to share between threads.

    Args:
        capacity: how many requests in all.
    """

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        self._capacity = capacity
        self._seen: dict[int, set[bytes]] = {}
        self._count = 0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"ReplayStore({self._count}/{self._capacity})"

    def __len__(self) -> int:
        return self._count

    def claim(self, key_id: int, enc: bytes) -> None:
        """Take the request for this caller alone.

        Args:
            key_id: the receiver's key.
            enc: the request's encapsulation.

        Raises:
            Refused: ``replayed-request`` if it was claimed before, ``replay-store-full``.
        """
        # Post-quantum encapsulations are 1120 bytes long; a digest keeps the store small and its cost known.
        digest = hashlib.sha256(enc).digest()
        with self._lock:
            seen = self._seen.setdefault(key_id, set())
            if digest in seen:
                raise Refused("replayed-request", "RFC 9458 section 6.5.1", got=f"key {key_id}")
            if self._count >= self._capacity:
                raise Refused(
                    "replay-store-full", expected=f"at most {self._capacity} requests under the living keys"
                )
            seen.add(digest)
            self._count += 1

    def forget_key(self, key_id: int) -> None:
        """Drop the entries of a key **whose private half is destroyed**."""
        with self._lock:
            self._count -= len(self._seen.pop(key_id, ()))
