"""Speed and quality of the embedded model on this machine, beside transformers. Prints one JSON object.

Run: python tests/bench/bench_engine.py [--threads 2] [--repeats 5]

Per weight mode: decoding at 1, 8 and 32 streams, reading 1,024 tokens, the share of the memory roofline that
one stream reaches (bytes of weights read per token over measured read bandwidth), memory, and what the mode
costs in quality: perplexity of a fixed text, and how often the likeliest token is that of float32.

Runners and transformers take turns, a repeat of each after the other, and medians are given: on a shared
machine compare the figures of one run only. ``sealgate model pull smollm2`` comes first.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

from runtime import settings
from runtime.engine.run.batch import Piece
from runtime.engine.run.cache import page_bytes
from runtime.engine.run.runner import load_runner
from runtime.engine.run.weights import WEIGHT_MODES
from runtime.model.loaded import OpenModel, open_model
from runtime.model.store import stored_model

PAGE = 16
PROMPT = 64
STEPS = 4
STREAMS = (1, 8, 32)
LONG = 1024
SCORED = 512
TEXT = Path(__file__).parents[2] / "docs" / "explanation" / "architecture.md"

Figures = dict[str, list[float]]


class Bench:
    """A runner with room for the largest batch."""

    def __init__(self, opened: OpenModel, mode: Any) -> None:
        before = resident_bytes()
        start = time.perf_counter()
        self.runner = load_runner(opened.architecture, opened.weights, mode)
        self.pack_s = time.perf_counter() - start
        gc.collect()
        self.grown_bytes = resident_bytes() - before
        pages = 1 + max(STREAMS) * (PROMPT + 32) // PAGE
        self.cache = self.runner.cache(pages, PAGE)
        self.kv_bytes = pages * page_bytes(opened.architecture, PAGE, self.runner.cache_dtype)

    def run(self, *pieces: Piece) -> torch.Tensor:
        """Logits of the pieces' rows."""
        batch = self.runner.batch(pieces, self.cache)
        return self.runner.logits(self.runner.forward(batch, self.cache))

    def measure(self, ids: list[int], figures: Figures) -> None:
        """One repeat of everything."""
        per = (PROMPT + 32) // PAGE
        tables = [list(range(1 + i * per, 1 + (i + 1) * per)) for i in range(max(STREAMS))]
        for streams in STREAMS:
            for index in range(streams):
                self.run(Piece(ids[index : index + PROMPT], 0, tables[index], 0))
            steps = [
                [Piece([ids[at]], at, table) for table in tables[:streams]]
                for at in range(PROMPT, PROMPT + STEPS)
            ]
            took = [timed(partial(self.run, *pieces)) for pieces in steps]
            add(figures, f"decode_{streams}_tokens_per_s", streams / statistics.median(took))
        took_s = timed(lambda: self.run(Piece(ids[:LONG], 0, list(range(1, LONG // PAGE + 1)))))
        add(figures, "prefill_tokens_per_s", LONG / took_s)

    def scored(self, ids: list[int]) -> torch.Tensor:
        """Logits of every position of a text."""
        return self.run(Piece(ids, 0, list(range(1, len(ids) // PAGE + 2)), len(ids)))


def measure_transformers(model: Any, ids: list[int], figures: Figures) -> None:
    """The same work by transformers: batches of equal length, its own cache."""
    for streams in STREAMS:
        prompts = torch.tensor([ids[i : i + PROMPT] for i in range(streams)])
        cache = model(prompts, use_cache=True, logits_to_keep=1).past_key_values
        step = partial(model, prompts[:, :1], past_key_values=cache, use_cache=True)
        took = [timed(step) for _ in range(STEPS)]
        add(figures, f"decode_{streams}_tokens_per_s", streams / statistics.median(took))
    took_s = timed(lambda: model(torch.tensor([ids[:LONG]]), use_cache=True, logits_to_keep=1))
    add(figures, "prefill_tokens_per_s", LONG / took_s)


def add(figures: Figures, name: str, value: float) -> None:
    """Keep one repeat's figure."""
    figures.setdefault(name, []).append(value)


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def resident_bytes() -> int:
    """What the process holds in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def read_bandwidth() -> float:
    """Bytes per second that a sum over a large tensor reads: the best of a few."""
    large = torch.ones(64 << 20)
    return float(large.nbytes / min(timed(large.sum) for _ in range(6)))


def perplexity(logits: torch.Tensor, ids: list[int]) -> float:
    """Of a text by the logits of its positions."""
    return float(torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:])).exp())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    opened = open_model("smollm2")
    open_s = time.perf_counter() - start
    benches = {mode: Bench(opened, mode) for mode in WEIGHT_MODES}
    path = stored_model(settings.home(), "smollm2").weights
    peer = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    ).eval()
    ids = (opened.tokenizer.encode(TEXT.read_text()) * 2)[: LONG + PROMPT]
    figures: dict[str, Figures] = {mode: {} for mode in (*WEIGHT_MODES, "transformers float32")}
    bandwidths: Figures = {}
    with torch.inference_mode():
        for _ in range(options.repeats):
            for mode, bench in benches.items():
                bench.measure(ids, figures[mode])
            measure_transformers(peer, ids, figures["transformers float32"])
            add(bandwidths, "read", read_bandwidth())
        logits = {mode: bench.scored(ids[:SCORED]) for mode, bench in benches.items()}
    report: dict[str, dict[str, float]] = {
        name: {key: round(statistics.median(values), 1) for key, values in figure.items()}
        for name, figure in figures.items()
    }
    bandwidth = statistics.median(bandwidths["read"])
    for mode, bench in benches.items():
        # Every weight is read per token but the embedding table, of which one row is.
        read = bench.runner.weight_bytes - bench.runner.table_bytes
        report[mode] |= {
            "roofline": round(report[mode]["decode_1_tokens_per_s"] * read / bandwidth, 2),
            "pack_s": round(bench.pack_s, 2),
            "weights_mb": round(bench.runner.weight_bytes / 1e6, 1),
            "grown_over_weights": round(bench.grown_bytes / bench.runner.weight_bytes, 2),
            "perplexity": round(perplexity(logits[mode], ids[:SCORED]), 3),
            "likeliest_as_float32": round(
                float((logits[mode].argmax(1) == logits["float32"].argmax(1)).float().mean()), 3
            ),
        }
    facts = {
        "model": opened.name,
        "threads": options.threads,
        "repeats": options.repeats,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "load_average": round(os.getloadavg()[0], 1),
        "read_gb_per_s": round(bandwidth / 1e9, 1),
        "open_s": round(open_s, 2),
    }
    print(json.dumps({**facts, "modes": report}, indent=2))


if __name__ == "__main__":
    main()
