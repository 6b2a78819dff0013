"""A request is served once (RFC 9458 section 6.5)."""

from __future__ import annotations

import threading

import pytest

from attest.channel.chunked import ChunkedRequestOpener, ChunkedRequestSealer
from attest.channel.ohttp import KeyPair
from attest.channel.replay import ReplayStore
from attest.refusal import Refused


def test_a_recorded_request_is_refused_the_second_time() -> None:
    key_pair = KeyPair.generate(4)
    sealer = ChunkedRequestSealer(key_pair.config)
    recorded = sealer.preamble + sealer.seal(b"prompt", final=True)
    store = ReplayStore()
    for attempt in range(2):
        opener = ChunkedRequestOpener({4: key_pair}, max_bytes=10_000)
        opener.feed(recorded)
        assert opener.finish() == [b"prompt"]
        assert opener.key_id is not None
        if attempt == 0:
            store.claim(opener.key_id, opener.enc)
            continue
        with pytest.raises(Refused, match="replayed-request"):
            store.claim(opener.key_id, opener.enc)


def test_keys_are_apart() -> None:
    store = ReplayStore()
    store.claim(1, b"enc")
    store.claim(2, b"enc")
    assert len(store) == 2


def test_a_full_store_refuses_and_forgets_nothing() -> None:
    """Evicting to make room would let whoever fills the store replay."""
    store = ReplayStore(capacity=2)
    store.claim(1, b"a")
    store.claim(1, b"b")
    with pytest.raises(Refused, match="replay-store-full"):
        store.claim(1, b"c")
    with pytest.raises(Refused, match="replayed-request"):
        store.claim(1, b"a")


def test_a_destroyed_key_makes_room() -> None:
    store = ReplayStore(capacity=2)
    store.claim(1, b"a")
    store.claim(2, b"b")
    store.forget_key(1)
    store.forget_key(77)
    assert len(store) == 1
    store.claim(3, b"c")
    with pytest.raises(Refused, match="replayed-request"):
        store.claim(2, b"b")


def test_one_of_many_threads_wins() -> None:
    store, won, start = ReplayStore(), [], threading.Barrier(8)

    def try_claim() -> None:
        start.wait()
        for number in range(200):
            try:
                store.claim(1, number.to_bytes(2, "big"))
            except Refused:
                continue
            won.append(number)

    threads = [threading.Thread(target=try_claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == list(range(200))
    assert repr(store) == f"ReplayStore(200/{1 << 20})"
