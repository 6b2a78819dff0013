"""What a serving engine takes in memory beside what it is meant to hold. Prints one JSON object.

    python -m tests.bench.bench_memory [--kv-mb 1024] [--adapters 16] [--modes bf16,int8,float32]

Each weight mode runs in a process of its own: it opens the embedded model, lays it out, checks itself,
loads adapters, and reads prompts until every page of the cache has been written. Then

    meant       the weights as they are held, the budget of keys and values, adapters hot and placed
    peak        the most that the process ever had resident, the time in which weights are laid out included,
                less what the interpreter and its libraries took before a model was opened

Goal: the peak is at most 1.15 times what is meant; the libraries are reported beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from runtime.engine.base import GenerateRequest, SamplingParams
from runtime.engine.chunked import ChunkedEngine
from runtime.engine.lora.batch import LoraBatches
from runtime.engine.lora.shape import BaseShape
from runtime.engine.lora.store import AdapterStore
from runtime.engine.lora.tables import LoraTables
from runtime.engine.run.runner import adapter_dtype
from runtime.engine.settings import EngineSettings
from runtime.engine.telemetry import PageFigures
from runtime.model.loaded import open_model
from tests.bench.bench_lora import Folders

GOAL = 1.15
TENANT = "bench"
PROMPT = 1024
BUDGET = 1 << 30
"""For adapters at hand; what is counted is what those here take of it."""


def status_bytes(member: str) -> int:
    """A size that proc_pid_status(5) gives of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{member}:"))


async def fill(engine: ChunkedEngine, digests: list[str], positions: int) -> None:
    """Read prompts that begin differently, by all adapters in turn, until so many positions were written."""
    await engine.start()
    for index in range(max(len(digests), -(-positions // PROMPT))):
        prompt = (index, *range(PROMPT - 1))
        params = SamplingParams(1, temperature=0, ignore_eos=True)
        adapter = digests[index % len(digests)] if digests else None
        request = GenerateRequest(str(index), TENANT, prompt, params, adapter_digest=adapter)
        async for _ in engine.generate(request):
            pass
    await engine.stop()


def page_figures(engine: ChunkedEngine) -> PageFigures:
    """Of its cache."""
    telemetry = engine.stats().telemetry
    if telemetry is None or telemetry.pages is None:
        raise SystemExit("the engine tells nothing of its pages")
    return telemetry.pages


def child(mode: Any, kv_bytes: int, adapters: int, threads: int) -> dict[str, float]:
    """All of it in this process, whose libraries are loaded."""
    libraries = status_bytes("VmRSS")
    with tempfile.TemporaryDirectory() as folder:
        opened = open_model("smollm2")
        shape = BaseShape.of(opened.architecture)
        tables = LoraTables(shape, adapters, adapter_dtype(opened.architecture, mode, "cpu"))
        store = AdapterStore(tables, base_model_digest=opened.base_model_digest, budget_bytes=BUDGET)
        settings = EngineSettings(mode, kv_bytes=kv_bytes, threads=threads)
        engine = ChunkedEngine(opened, settings, adapters=(store, LoraBatches(tables)))
        del opened
        ready = status_bytes("VmHWM")
        folders = Folders(shape, Path(folder))
        digests = [store.register_folder(folders.make(index), tenant=TENANT) for index in range(adapters)]
        positions = page_figures(engine).capacity * settings.page_size
        asyncio.run(fill(engine, digests, positions))
        held, pages = store.stats(), page_figures(engine)
        peak = status_bytes("VmHWM")
        store.close()
    weights, kept = engine.runner.weight_bytes, held.tables_bytes + held.hot_bytes
    meant = weights + kv_bytes + kept
    return {
        "weights_mb": weights / 1e6,
        "keys_and_values_mb": kv_bytes / 1e6,
        "pages_written": round((pages.used + pages.cached) / pages.capacity, 3),
        "adapters_mb": kept / 1e6,
        "meant_mb": meant / 1e6,
        "libraries_mb": libraries / 1e6,
        "peak_when_ready_mb": ready / 1e6,
        "peak_mb": peak / 1e6,
        "peak_less_libraries_over_meant": (peak - libraries) / meant,
        "peak_over_meant": peak / meant,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kv-mb", type=int, default=1024)
    parser.add_argument("--adapters", type=int, default=16)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--modes", default="bf16,int8,float32")
    parser.add_argument("--child", help="What a process of this benchmark runs.")
    options = parser.parse_args()
    if options.child is not None:
        print(json.dumps(child(options.child, options.kv_mb << 20, options.adapters, options.threads)))
        return
    figures = {}
    for mode in options.modes.split(","):
        command = [sys.executable, "-m", "tests.bench.bench_memory", *sys.argv[1:], "--child", mode]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        figures[mode] = {name: round(value, 3) for name, value in json.loads(done.stdout).items()}
    met = {mode: each["peak_less_libraries_over_meant"] <= GOAL for mode, each in figures.items()}
    print(json.dumps({"goal": GOAL, "threads": options.threads, "modes": figures, "met": met}, indent=2))


if __name__ == "__main__":
    main()
