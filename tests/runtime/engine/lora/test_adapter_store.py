"""Adapters are lent at once, loaded aside, never taken from who uses them, and overwritten when they go."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest
import torch

from attest.refusal import Refused
from runtime.engine.base import EngineRefusal
from runtime.engine.lora.adapter import Adapter, AdapterFiles, AdapterLimits, read_adapter
from runtime.engine.lora.batch import LoraBatches
from runtime.engine.lora.lease import Lease
from runtime.engine.lora.shape import BaseShape
from runtime.engine.lora.store import AdapterStore
from runtime.engine.lora.tables import LoraTables, Placed
from tests.simulators.peft_adapters import adapter_files, lora_tensors, peft_config

BASE = "sha256:base"
WAIT_S = 20


def made(shape: BaseShape, seed: int, rank: int = 8) -> tuple[str, dict[str, bytes]]:
    """A random adapter: its digest and files."""
    files = adapter_files(lora_tensors(shape, rank, seed=seed), peft_config(rank))
    return read(shape, files).digest, files


def read(shape: BaseShape, files: AdapterFiles) -> Adapter:
    """As the store would."""
    return read_adapter(files, shape, base_model_digest=BASE, limits=AdapterLimits(), dtype=torch.float32)


def giving(files: dict[str, bytes]) -> Callable[[], dict[str, bytes]]:
    """A source that always gives ``files``."""
    return lambda: files


class World:
    """A store over few units, and what it holds."""

    def __init__(self, shape: BaseShape, units: int = 4, hot: float = 100, threads: int = 1) -> None:
        self.shape = shape
        self.tables = LoraTables(shape, units, torch.float32)
        self.one = shape.unit_size * 4
        self.store = AdapterStore(
            self.tables, base_model_digest=BASE, budget_bytes=int(hot * self.one), threads=threads
        )

    def add(self, seed: int, rank: int = 8, tenant: str = "a") -> str:
        """Register a random adapter; its digest."""
        digest, files = made(self.shape, seed, rank)
        self.store.register(digest, giving(files), tenant=tenant)
        return digest

    def ready(self, digest: str, tenant: str = "a") -> tuple[Lease, Placed]:
        """A lease that has become ready."""
        lease = self.store.acquire(digest, tenant=tenant)
        return lease, lease.future.result(WAIT_S)

    def settle(self) -> None:
        """Until what was asked for is fetched, and the keeper has done what it was asked."""
        self.store._keeper.submit(lambda: None).result(WAIT_S)
        self.store._fetchers.submit(lambda: None).result(WAIT_S)
        self.store._keeper.submit(lambda: None).result(WAIT_S)

    def content(self, placed: Placed) -> float:
        """How much weight lies in an adapter's places."""
        return sum(
            float(tensor[:, unit].abs().sum())
            for tensor in (*self.tables._down.values(), *self.tables._up.values())
            for unit in placed.units
        )


@pytest.fixture
def world(tiny_shape: BaseShape) -> Iterator[World]:
    world = World(tiny_shape)
    yield world
    world.store.close()


def test_an_adapter_is_loaded_once_and_lent_many_times(world: World) -> None:
    """The first lease waits for the loading; the others find it ready."""
    digest = world.add(1)
    first, placed = world.ready(digest)
    second = world.store.acquire(digest, tenant="a")
    assert second.future.done()
    assert second.future.result() is placed
    counts = world.store.counts()[digest]
    assert (counts.acquired, counts.loaded, counts.placed, counts.failed) == (2, 1, 1, 0)
    stats = world.store.stats()
    assert (stats.registered, stats.hot, stats.placed, stats.pinned, stats.waiting) == (1, 1, 1, 1, 0)
    assert stats.hot_bytes == world.one
    assert stats.tables_bytes == 4 * world.one
    first.release()
    second.release()
    assert world.store.stats().pinned == 0


def test_a_tenant_can_name_its_own_only_and_learns_nothing_of_others(world: World) -> None:
    """Another's adapter and one that does not exist are refused alike."""
    digest = world.add(1, tenant="a")
    unknown = "sha256:" + "f" * 64
    refusals = []
    for name in (digest, unknown):
        with pytest.raises(EngineRefusal) as caught:
            world.store.acquire(name, tenant="b")
        refusals.append((caught.value.code, caught.value.detail))
    assert refusals == [("adapter_not_found", digest), ("adapter_not_found", unknown)]
    world.store.register(digest, giving({}), tenant="b")
    world.ready(digest, tenant="a")


def test_one_tenants_broken_source_does_not_fail_anothers_request(world: World) -> None:
    """Each lease is served by a source of a tenant that asked."""
    digest, files = made(world.shape, 1)

    def broken() -> AdapterFiles:
        raise OSError

    world.store.register(digest, broken, tenant="b")
    with pytest.raises(EngineRefusal) as caught:
        world.ready(digest, tenant="b")
    assert (caught.value.code, caught.value.detail) == ("adapter_failed", "adapter-source")
    world.store.register(digest, giving(files), tenant="a")
    world.ready(digest, tenant="a")


def test_what_is_not_the_adapter_asked_for_is_refused(world: World) -> None:
    """By its digest, checked at every load."""
    digest, _ = made(world.shape, 1)
    _, other = made(world.shape, 2)
    world.store.register(digest, giving(other), tenant="a")
    with pytest.raises(EngineRefusal) as caught:
        world.ready(digest)
    assert caught.value.detail == "adapter-digest"
    assert world.store.counts()[digest].failed == 1
    assert world.store.stats().hot == 0


def test_what_can_never_fit_is_refused(tiny_shape: BaseShape, tmp_path: Path) -> None:
    """An adapter of more units than the tables have, or larger than the budget."""
    for world in (World(tiny_shape, units=7), World(tiny_shape, units=8, hot=7.9)):
        digest, files = made(tiny_shape, 1, rank=64)
        world.store.register(digest, giving(files), tenant="a")
        with pytest.raises(EngineRefusal) as caught:
            world.ready(digest)
        assert caught.value.detail == "adapter-too-large"
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
        with pytest.raises(Refused, match="adapter-too-large"):
            world.store.register_folder(tmp_path, tenant="a")
        world.store.close()


def test_a_folder_is_read_when_it_is_registered_and_when_it_was_evicted(
    tiny_shape: BaseShape, tmp_path: Path
) -> None:
    """Its digest is what it is asked for by."""
    world = World(tiny_shape, hot=1)
    digest, files = made(tiny_shape, 1)
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    assert world.store.register_folder(tmp_path, tenant="a") == digest
    world.ready(digest)
    assert world.store.counts()[digest].loaded == 0
    world.ready(world.add(2))
    assert world.store.counts()[digest].evicted == 1
    world.store.close()


def test_the_least_recently_used_leaves_memory_overwritten(tiny_shape: BaseShape) -> None:
    """The hot set stays within its budget, and what leaves it is zero."""
    world = World(tiny_shape, hot=2)
    first, second, third = (world.add(seed) for seed in (1, 2, 3))
    world.ready(first)
    world.ready(second)
    lease, _ = world.ready(first)  # placed already: the hot set is not asked
    lease.release()
    victim = world.store._hot._adapters[first]
    kept = world.store._hot._adapters[second]
    tensors = [tensor for each in victim.weights.values() for tensor in (each.down, each.up)]
    assert all(tensor.any() for tensor in tensors)
    world.ready(third)
    assert world.store.stats().hot_bytes <= 2 * world.one
    assert not any(tensor.any() for tensor in tensors)
    assert kept.weights["o"].down.any()
    assert world.store.counts()[first].evicted == 1


def test_unused_adapters_leave_the_tables_overwritten_and_used_ones_never(world: World) -> None:
    """Room is made of what nobody holds; the rest stays as it is, bit for bit."""
    held, held_at = world.ready(world.add(1))
    before = world.content(held_at)
    for seed in range(2, 12):
        lease, placed = world.ready(world.add(seed))
        assert not set(placed.units) & set(held_at.units)
        lease.release()
    world.settle()
    assert world.content(held_at) == before
    held.release()
    for seed in range(12, 18):
        world.ready(world.add(seed))[0].release()
    world.settle()
    free = Placed("", tuple(world.tables._free), ())
    assert free.units
    assert world.content(free) == 0
    assert world.store.acquire(held.digest, tenant="a").future.result(WAIT_S).units


def test_who_finds_no_room_waits_in_turn(world: World) -> None:
    """Four units, four in use: the fifth and sixth become ready as others are given back."""
    held = [world.ready(world.add(seed))[0] for seed in range(4)]
    fifth = world.store.acquire(world.add(5, rank=16), tenant="a")
    world.settle()
    held[0].release()
    world.settle()
    sixth = world.store.acquire(world.add(6), tenant="a")
    world.settle()
    assert not fifth.future.done()  # one unit is free, it needs two
    assert not sixth.future.done()  # and nobody overtakes
    held[1].release()
    assert fifth.future.result(WAIT_S).units
    assert not sixth.future.done()
    held[2].release()
    assert sixth.future.result(WAIT_S).units


def test_who_gives_up_waiting_leaves_the_queue(world: World) -> None:
    """A request that is cancelled before its adapter is ready holds nothing."""
    held = [world.ready(world.add(seed))[0] for seed in range(4)]
    gone = world.store.acquire(world.add(5), tenant="a")
    waits = world.store.acquire(world.add(6), tenant="a")
    gone.release()
    gone.release()
    assert gone.future.cancelled()
    held[0].release()
    assert waits.future.result(WAIT_S).units
    again = world.store.acquire(gone.digest, tenant="a")
    held[1].release()
    assert again.future.result(WAIT_S).units
    assert world.store.stats().waiting == 0


async def test_a_cancelled_wait_does_not_disturb_the_store(world: World) -> None:
    """Asyncio cancels the future that it wraps; the adapter is then ready for the next."""
    entered, proceed = threading.Event(), threading.Event()
    digest, files = made(world.shape, 1)

    def slow() -> AdapterFiles:
        entered.set()
        proceed.wait(WAIT_S)
        return files

    world.store.register(digest, slow, tenant="a")
    lease = world.store.acquire(digest, tenant="a")
    waiting = asyncio.ensure_future(asyncio.wrap_future(lease.future))
    await asyncio.to_thread(entered.wait, WAIT_S)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    second = world.store.acquire(digest, tenant="a")
    proceed.set()
    assert (await asyncio.wait_for(asyncio.wrap_future(second.future), WAIT_S)).units


def test_a_slow_source_delays_only_who_asked_for_it(tiny_shape: BaseShape) -> None:
    """What is hot is lent while another adapter is still being fetched."""
    world = World(tiny_shape)
    hot, _ = world.ready(world.add(1))
    hot.release()
    entered, proceed = threading.Event(), threading.Event()
    digest, files = made(tiny_shape, 2)

    def slow() -> AdapterFiles:
        entered.set()
        proceed.wait(WAIT_S)
        return files

    world.store.register(digest, slow, tenant="a")
    waits = world.store.acquire(digest, tenant="a")
    assert entered.wait(WAIT_S)
    world.ready(hot.digest)
    assert not waits.future.done()
    proceed.set()
    assert waits.future.result(WAIT_S).units
    world.store.close()


def test_an_adapter_that_nobody_may_name_is_overwritten_when_it_is_given_back(world: World) -> None:
    """Not while a sequence runs on it."""
    lease, placed = world.ready(world.add(1))
    hot = world.store._hot._adapters[lease.digest]
    world.store.unregister(lease.digest, tenant="a")
    with pytest.raises(EngineRefusal, match="adapter_not_found"):
        world.store.acquire(lease.digest, tenant="a")
    world.settle()
    assert world.content(placed) > 0
    lease.release()
    world.settle()
    assert world.content(placed) == 0
    assert not hot.weights["qkv"].down.any()
    assert world.store.stats().registered == 0
    unused = world.add(2)
    world.store.unregister(unused, tenant="a")
    world.settle()
    assert world.store.stats().registered == 0


def test_what_is_forgotten_makes_room_for_who_waits(world: World) -> None:
    """The last lease on an adapter that nobody may name any more was all that stood in the way."""
    held = [world.ready(world.add(seed))[0] for seed in range(4)]
    waits = world.store.acquire(world.add(5), tenant="a")
    world.settle()
    world.store.unregister(held[0].digest, tenant="a")
    assert not waits.future.done()
    held[0].release()
    assert waits.future.result(WAIT_S).units


def test_closing_refuses_who_waits_and_overwrites_everything(tiny_shape: BaseShape) -> None:
    """Afterwards nothing is lent."""
    world = World(tiny_shape, units=1)
    held, placed = world.ready(world.add(1))
    hot = world.store._hot._adapters[held.digest]
    waits = world.store.acquire(world.add(2), tenant="a")
    world.settle()
    world.store.close()
    with pytest.raises(EngineRefusal, match="engine_stopped"):
        waits.future.result(WAIT_S)
    assert world.content(placed) == 0
    assert not hot.weights["qkv"].up.any()
    with pytest.raises(EngineRefusal, match="engine_stopped"):
        world.store.acquire(held.digest, tenant="a")
    held.release()


def test_nothing_that_is_printed_shows_weights(world: World) -> None:
    """A repr is a name and sizes."""
    lease, _ = world.ready(world.add(1))
    shown = f"{lease!r} {world.store._hot._adapters[lease.digest]!r}"
    assert "tensor(" not in shown
    assert len(shown) < 300


def test_steps_compute_rightly_while_others_load_and_leave(tiny_shape: BaseShape) -> None:
    """Eight tenants' worth of churn through four units: no row ever sees another's weights, or zeros."""
    world = World(tiny_shape, units=6, hot=5, threads=2)
    group = tiny_shape.groups[2]
    x = torch.randn(3, group.inputs, generator=torch.Generator().manual_seed(1))
    expected: dict[str, torch.Tensor] = {}
    for seed in range(12):
        digest, files = made(tiny_shape, seed, rank=8 * (1 + seed % 2))
        world.store.register(digest, giving(files), tenant="a")
        alone = LoraTables(tiny_shape, 2, torch.float32)
        placed = alone.place(digest, read(tiny_shape, files).weights)
        batch = LoraBatches(alone).of([(placed, 1)] * 3)
        assert batch is not None
        expected[digest] = torch.zeros(3, sum(group.outputs))
        batch.apply(group.name, 1, x, expected[digest])

    def run(worker: int) -> int:
        random, batches, wrong = Random(worker), LoraBatches(world.tables), 0  # noqa: S311 picks adapters, no secrets
        for _ in range(40):
            lease = world.store.acquire(random.choice(list(expected)), tenant="a")
            placed = lease.future.result(WAIT_S)
            for _ in range(3):
                y = torch.zeros_like(expected[lease.digest])
                batch = batches.of([(placed, 1)] * 3)
                assert batch is not None
                batch.apply(group.name, 1, x, y)
                wrong += not torch.equal(y, expected[lease.digest])
            lease.release()
        return wrong

    with ThreadPoolExecutor(3) as workers:
        assert sum(workers.map(run, range(3))) == 0
    counts = world.store.counts().values()
    assert sum(each.evicted for each in counts) > 0
    assert sum(each.placed for each in counts) > len(expected)
    world.store.close()
