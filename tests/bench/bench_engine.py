"""Speed of the embedded model on this machine. Prints one JSON object.

Run: python tests/bench/bench_engine.py [--threads 2]

Times are of the embedded model, so ``sealgate model pull smollm2`` comes first. Run it on an idle machine:
the products wait for the slowest of their threads.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from dataclasses import dataclass

import torch

from runtime.engine.base import GenerateRequest, SamplingParams
from runtime.engine.simple import SimpleEngine
from runtime.model.loaded import LoadedModel, load_model

NEW_TOKENS = 64
STORY = "Tell me a story about a lighthouse keeper. "


@dataclass(frozen=True)
class Timing:
    """Seconds to the first token, and tokens per second after it."""

    first_token_s: float
    tokens_per_s: float


async def generate(engine: SimpleEngine, name: str, prompt: list[int], params: SamplingParams) -> Timing:
    """Run one request and time it."""
    start = time.perf_counter()
    arrivals = [
        time.perf_counter()
        async for _ in engine.generate(GenerateRequest(name, "bench", tuple(prompt), params))
    ]
    rest = arrivals[-1] - arrivals[0]
    return Timing(arrivals[0] - start, (len(arrivals) - 1) / rest if rest else 0.0)


async def measure(loaded: LoadedModel, threads: int) -> dict[str, float]:
    """Single stream, batches and a long prompt."""
    engine = SimpleEngine(loaded, threads=threads)
    await engine.start()
    greedy = SamplingParams(NEW_TOKENS, temperature=0, ignore_eos=True)
    sampled = SamplingParams(NEW_TOKENS, temperature=0.8, top_p=0.95, ignore_eos=True)
    prompt = loaded.tokenizer.encode_chat([{"role": "user", "content": STORY}])
    await generate(engine, "warm", prompt, greedy)
    singles = [await generate(engine, "one", prompt, greedy) for _ in range(3)]
    figures = {
        "first_token_ms": statistics.median(each.first_token_s for each in singles) * 1000,
        "tokens_per_s": statistics.median(each.tokens_per_s for each in singles),
        "sampled_tokens_per_s": (await generate(engine, "one", prompt, sampled)).tokens_per_s,
    }
    for size in (2, 4, 8):
        start = time.perf_counter()
        await asyncio.gather(*[generate(engine, str(i), prompt, greedy) for i in range(size)])
        figures[f"batch_{size}_tokens_per_s"] = size * NEW_TOKENS / (time.perf_counter() - start)
    long = loaded.tokenizer.encode(STORY * 100)[:1000]
    first = await generate(engine, "long", long, SamplingParams(1, temperature=0))
    figures["prompt_tokens_per_s"] = len(long) / first.first_token_s
    await engine.stop()
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    threads = parser.parse_args().threads
    start = time.perf_counter()
    loaded = load_model("smollm2")
    load_s = time.perf_counter() - start
    figures = asyncio.run(measure(loaded, threads))
    facts = {"model": loaded.name, "dtype": loaded.dtype, "threads": threads, "torch": torch.__version__}
    rounded = {name: round(value, 1) for name, value in figures.items()}
    print(json.dumps({**facts, "load_s": round(load_s, 2), **rounded}, indent=2))


if __name__ == "__main__":
    main()
