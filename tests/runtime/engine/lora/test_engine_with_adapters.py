"""Through the whole engine: more adapters than places, bad ones among them, requests given up midway."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
import torch

from runtime.engine.base import EngineRefusal, GenerateRequest, SamplingParams
from runtime.engine.chunked import ChunkedEngine
from runtime.engine.lora.adapter import TENSORS_NAME
from runtime.engine.lora.batch import LoraBatches
from runtime.engine.lora.shape import BaseShape
from runtime.engine.lora.store import AdapterStore
from runtime.engine.lora.tables import LoraTables
from runtime.engine.settings import EngineSettings
from runtime.model.loaded import open_model
from tests.simulators.lora_runs import Run, greedy
from tests.simulators.peft_adapters import adapter_files, lora_tensors, peft_config
from tests.simulators.tiny_models import save_folder, tiny_config

TOKENS = 10
ADAPTERS = 9
PROMPT = tuple(range(5, 45))
UNKNOWN = "sha256:" + "f" * 64


class World:
    """An engine with four units of room, and nine adapters of which the first was destroyed on disk."""

    def __init__(self, where: Path) -> None:
        save_folder(where / "base", tiny_config("llama"))
        opened = open_model(where / "base")
        shape = self.shape = BaseShape.of(opened.architecture)
        self.tables = LoraTables(shape, 4, torch.float32)
        self.store = AdapterStore(
            self.tables, base_model_digest=opened.base_model_digest, budget_bytes=6 * shape.unit_size * 4
        )
        self.digests = [self._saved(shape, where / str(seed), seed) for seed in range(ADAPTERS)]
        (where / "0" / TENSORS_NAME).write_bytes(b"overwritten by the host")
        settings = EngineSettings(mode="float32", kv_bytes=1 << 24, threads=1)
        self.engine = ChunkedEngine(opened, settings, adapters=(self.store, LoraBatches(self.tables)))

    def _saved(self, shape: BaseShape, folder: Path, seed: int, scale: float = 0.5) -> str:
        folder.mkdir()
        tensors = lora_tensors(shape, 8, seed=seed, scale=scale)
        for name, data in adapter_files(tensors, peft_config(8)).items():
            (folder / name).write_bytes(data)
        return self.store.register_folder(folder, tenant="t")

    def hostile(self, where: Path) -> str:
        """An adapter of weights that are all numbers, whose products are none."""
        return self._saved(self.shape, where / "hostile", ADAPTERS, scale=1e30)

    async def answer(
        self, name: str, digest: str | None, stop_after: int = TOKENS, **sampling: float
    ) -> list[int] | str:
        """The engine's tokens, or its refusal."""
        params = SamplingParams(TOKENS, ignore_eos=True, **{"temperature": 0, **sampling})
        request = GenerateRequest(name, "t", PROMPT, params, adapter_digest=digest)
        tokens: list[int] = []
        try:
            async with contextlib.aclosing(self.engine.generate(request)) as outputs:
                async for output in outputs:
                    tokens.append(output.token_id)
                    if len(tokens) == stop_after:
                        break
        except EngineRefusal as refusal:
            return f"{refusal.code} {refusal.detail}"
        return tokens

    async def alone(self, digest: str | None) -> list[int]:
        """What the adapter says by itself, without engine or neighbours."""
        if digest is None:
            return greedy(self.engine.runner, self.tables, [Run(PROMPT, None)], TOKENS)[0].tokens
        lease = self.store.acquire(digest, tenant="t")
        placed = await asyncio.wrap_future(lease.future)
        tokens = greedy(self.engine.runner, self.tables, [Run(PROMPT, placed)], TOKENS)[0].tokens
        lease.release()
        return tokens


async def test_every_request_gets_its_adapter_whatever_happens_to_others(tmp_path: Path) -> None:
    """Each answer is that of the adapter alone, among refusals and requests given up."""
    world = World(tmp_path)
    destroyed, *sound = world.digests
    await world.engine.start()
    whole = [*sound, None, *sound]
    answers = await asyncio.gather(
        world.answer("destroyed", destroyed),
        world.answer("unknown", UNKNOWN),
        *(world.answer(f"whole {index}", digest) for index, digest in enumerate(whole)),
        *(world.answer(f"given up {index}", digest, stop_after=3) for index, digest in enumerate(sound)),
    )
    expected = {digest: await world.alone(digest) for digest in (*sound, None)}
    assert len({tuple(tokens) for tokens in expected.values()}) == ADAPTERS
    assert answers[:2] == ["adapter_failed adapter-tensors-header", f"adapter_not_found {UNKNOWN}"]
    assert answers[2:] == [expected[digest] for digest in whole] + [expected[digest][:3] for digest in sound]
    stats = world.store.stats()
    assert (stats.pinned, stats.waiting) == (0, 0)
    await world.engine.stop()
    world.store.close()


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0}, {"temperature": 1.0, "top_p": 0.9}])
async def test_an_adapter_that_computes_no_numbers_fails_its_own_requests(
    tmp_path: Path, sampling: dict[str, float]
) -> None:
    """However they are drawn: those in the same steps, and those that get its pages, notice nothing."""
    world = World(tmp_path)
    hostile, sound = world.hostile(tmp_path), world.digests[1:3]
    await world.engine.start()
    answers = await asyncio.gather(
        *(world.answer(f"sound {digest}", digest) for digest in sound),
        world.answer("base", None),
        *(world.answer(f"hostile {index}", hostile, **sampling) for index in range(3)),
    )
    expected = [await world.alone(digest) for digest in (*sound, None)]
    assert answers[:3] == expected
    assert [str(each).partition(" ")[0] for each in answers[3:]] == ["engine_failed"] * 3
    assert [await world.answer(f"later {digest}", digest) for digest in (*sound, None)] == expected
    world.engine.verify()
    await world.engine.stop()
    world.store.close()


async def test_adapters_figures_say_what_was_loaded_and_what_it_takes(tmp_path: Path) -> None:
    """Loads, evictions and memory per adapter; a load that fails counts as that."""
    world = World(tmp_path)
    await world.engine.start()
    for digest in world.digests:
        await world.answer(digest, digest)
    stats = world.engine.stats()
    assert stats.telemetry is not None
    figures = stats.telemetry.adapters
    assert figures is not None
    assert figures.registered == ADAPTERS
    assert figures.every.evictions >= ADAPTERS - figures.hot
    assert figures.every.memory_bytes == world.store.stats().hot_bytes
    assert figures.failed_loads == 1
    assert stats.telemetry.refusals == {"adapter_failed": 1}
    assert set(figures.busiest) == set(world.digests)
    assert world.digests[0] not in repr(stats)
    await world.engine.stop()
    world.store.close()
