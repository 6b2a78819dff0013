"""Sealgate's engine, whole: scheduler, pages, sampling, hand-over between threads.

ours.py MODE THREADS
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
from typing import Any

from runtime.engine.base import GenerateRequest, SamplingParams
from runtime.engine.chunked import ChunkedEngine
from runtime.engine.schedule.budget import BudgetSettings
from runtime.engine.settings import EngineSettings
from runtime.model.loaded import open_model
from tests.bench.peers.driver import Answer, Prompts, Window, serve


class Ours:
    """One weight mode.

    Args:
        mode: of the weights.
        threads: of the products.
    """

    def __init__(self, mode: Any, threads: int) -> None:
        # Prompts repeat between rounds, and reading them is part of what is measured. All streams are to
        # decode at once for a while, so whoever decodes already does not hold up the prompts of the others.
        budget = BudgetSettings(stretch=math.inf)
        self._settings = EngineSettings(mode, threads=threads, prefix_cache=False, budget=budget)
        self._engine = ChunkedEngine(open_model("smollm2"), self._settings)
        self._runner = asyncio.Runner()
        self._runner.run(self._engine.start())

    def facts(self) -> Answer:
        """See ``Peer``."""
        return {
            "version": "this tree",
            "settings": f"weights {self._settings.mode}, whole steps, no prefix cache",
        }

    def decode(self, prompts: Prompts, tokens: int) -> Answer:
        """See ``Peer``."""
        window = Window(len(prompts))
        ids = self._runner.run(self._all(prompts, tokens, window))
        return {"tokens_per_s": window.rate(), "ids": ids}

    def prefill(self, prompts: Prompts) -> Answer:
        """See ``Peer``."""
        start = time.perf_counter()
        self._runner.run(self._all(prompts, 1, Window(1)))
        return {"tokens_per_s": len(prompts[0]) / (time.perf_counter() - start)}

    async def _all(self, prompts: Prompts, tokens: int, window: Window) -> list[list[int]]:
        return await asyncio.gather(
            *[self._one(i, prompt, tokens, window) for i, prompt in enumerate(prompts)]
        )

    async def _one(self, index: int, prompt: list[int], tokens: int, window: Window) -> list[int]:
        params = SamplingParams(tokens, temperature=0, ignore_eos=True)
        ids = []
        async for output in self._engine.generate(
            GenerateRequest(str(index), "bench", tuple(prompt), params)
        ):
            window.add(index, 1, time.perf_counter())
            ids.append(output.token_id)
        return ids


if __name__ == "__main__":
    serve(lambda: Ours(sys.argv[1], int(sys.argv[2])))
