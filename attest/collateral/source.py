"""Where collateral comes from: what a cache holds, or a cache and the services behind it."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from typing import Protocol
from weakref import WeakValueDictionary

from attest.collateral.cache import Cache
from attest.collateral.items import Item
from attest.refusal import Refused


class CollateralSource(Protocol):
    """Hands out collateral. What it hands out is not trusted."""

    def find(self, item: Item, now: datetime) -> bytes | None:
        """What is at hand, fresh enough to be preferred to what the evidence brought along."""
        ...

    def get(self, item: Item, now: datetime) -> bytes:
        """What is at hand or can be had.

        Raises:
            Refused: ``collateral-*``.
        """
        ...

    def fetched_at(self, item: Item) -> datetime | None:
        """When what ``get`` hands out was fetched; None if nothing is at hand."""
        ...


class Fetching(Protocol):
    """Asks services (``attest.collateral.fetch.Fetcher``)."""

    def fetch(self, item: Item) -> bytes:
        """One answer, as it is to be kept.

        Raises:
            Refused: ``collateral-*``.
        """
        ...

    def host_of(self, item: Item) -> str:
        """Who answers it, for people."""
        ...


class Offline:
    """A cache and no network: what an air-gapped verifier has.

    Args:
        cache: filled by ``sealgate collateral import``.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def __repr__(self) -> str:
        return f"Offline({self._cache!r})"

    def find(self, item: Item, now: datetime) -> bytes | None:
        """What is in the cache and has not ended: what came with the evidence may be newer than that.

        Raises:
            Refused: ``collateral-cache-altered``, ``collateral-cache-unusable``.
        """
        return self._cache.read(item.key, at=now)

    def get(self, item: Item, now: datetime) -> bytes:  # noqa: ARG002 - nothing fresher can be had
        """Whatever is in the cache: verifiers hold its own dates against the time.

        Raises:
            Refused: ``collateral-missing``, which names what to fetch; ``collateral-cache-altered``,
                ``collateral-cache-unusable``.
        """
        kept = self._cache.read(item.key)
        if kept is None:
            raise Refused(
                "collateral-missing", "docs/how-to/collateral.md", expected=item.key, got="not in the cache"
            )
        return kept

    def fetched_at(self, item: Item) -> datetime | None:
        """When what is in the cache was fetched."""
        entry = self._cache.entry(item.key)
        return None if entry is None else entry.fetched_at


class Online:
    """A cache, and the services behind it for what it lacks or has had for too long.

    Args:
        cache: holds what was fetched.
        fetcher: asks the services.
        max_age: ask again for anything older, even if its kind counts as fresh for longer; None leaves that
            to each kind. A re-check uses it to see what changed.
    """

    def __init__(self, cache: Cache, fetcher: Fetching, *, max_age: timedelta | None = None) -> None:
        self._cache = cache
        self._fetcher = fetcher
        self._max_age = max_age
        self._turn = threading.Lock()
        self._turns: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()  # while awaited

    def __repr__(self) -> str:
        return f"Online({self._cache!r})"

    def find(self, item: Item, now: datetime) -> bytes | None:
        """As ``get``: what the vendor says is never given up for what the evidence's host chose to send.

        Raises:
            Refused: ``collateral-*``.
        """
        return self.get(item, now)

    def fetched_at(self, item: Item) -> datetime | None:
        """When what is in the cache was fetched."""
        entry = self._cache.entry(item.key)
        return None if entry is None else entry.fetched_at

    def get(self, item: Item, now: datetime) -> bytes:
        """What is in the cache and fresh, or what the service answers. A failed fetch is a refusal.

        Raises:
            Refused: ``collateral-*``.
        """
        with self._turn:
            turn = self._turns.setdefault(item.key, threading.Lock())
        with turn:  # however many want it, the service is asked once
            kept = self._fresh(item, now)
            if kept is None:
                kept = self._fetcher.fetch(item)
                self._cache.write(item.key, kept, now, source=self._fetcher.host_of(item))
        return kept

    def _fresh(self, item: Item, now: datetime) -> bytes | None:
        age = item.fresh_for if self._max_age is None else min(item.fresh_for, self._max_age)
        try:
            return self._cache.read(item.key, not_before=now - age, at=now)
        except Refused as refusal:
            if refusal.code != "collateral-cache-altered":
                raise
            return None  # refused, and asked for anew: damage on the disk is no reason to stop
