"""Draw what the benchmarks measured, from their JSON into docs/assets.

build/plots/bin/python tests/bench/plots.py [--bench build/bench] [--out docs/assets]

- between-tokens.png, of flywheel.json: waits between tokens in time and by rank, chunking on and off
- adapters.png, of lora.json: throughput and time per token against the number of adapters
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parents[2]
CHUNKED, WHOLE, QUIET = "#1f6f8b", "#d1495b", "#6c757d"
NAMES = {"chunked": "prompts in pieces", "whole": "prompts whole"}
COLOURS = {"chunked": CHUNKED, "whole": WHOLE}
DPI = 130


def between_tokens(figures: dict[str, Any], path: Path) -> None:
    """Left: the longest wait of each half second. Right: the distribution of all waits."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 3.8), width_ratios=(1.6, 1), sharey=True, layout="constrained"
    )
    for way in ("whole", "chunked"):
        line = figures[way]["timeline"]
        left.plot(
            [each["s"] for each in line],
            [each["max_ms"] for each in line],
            color=COLOURS[way],
            label=NAMES[way],
            linewidth=1.3,
        )
        distribution = figures[way]["distribution_ms"]
        ranks = [*range(0, 1000, 10), *range(991, 1001)]
        right.plot([rank / 10 for rank in ranks], distribution, color=COLOURS[way], linewidth=1.5)
        p99 = figures[way]["between_p99_ms"]
        right.annotate(
            f"p99 {p99:.0f} ms",
            (99, p99),
            textcoords="offset points",
            xytext=(-8, 6 if way == "whole" else -14),
            ha="right",
            color=COLOURS[way],
        )
    every, longest = figures["intruder"]["every_s"], max(each["s"] for each in figures["whole"]["timeline"])
    arrivals = [every * (0.5 + each) for each in range(int(longest / every + 0.5))]
    for moment in arrivals:
        left.axvline(moment, color=QUIET, linewidth=0.7, linestyle=":")
    left.set_yscale("log")
    left.set_xlabel(f"seconds; dotted: a prompt of {figures['intruder']['tokens']:,} tokens arrives")
    left.set_ylabel("ms between two tokens")
    left.set_title("longest wait in each half second", fontsize=10)
    left.legend(frameon=False, loc="upper right", ncols=2)
    right.set_xlabel("percent of all waits")
    right.set_title("distribution", fontsize=10)
    _finish(figure, (left, right), path)


def adapters(figures: dict[str, Any], path: Path) -> None:
    """Left: tokens per second. Right: milliseconds a step, median and 99th percentile."""
    counts = [int(name) for name in figures["batch_32"] if name != "base"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
    cases = [figures["batch_32"][str(count)] for count in counts]
    base = figures["batch_32"]["base"]
    left.plot(counts, [each["tokens_per_s"] for each in cases], "o-", color=CHUNKED, label="with adapters")
    left.axhline(base["tokens_per_s"], color=QUIET, linestyle="--", label="base model alone")
    left.set_ylabel("tokens per second, batch of 32")
    right.plot(counts, [each["step_ms_p50"] for each in cases], "o-", color=CHUNKED, label="median")
    right.plot(counts, [each["step_ms_p99"] for each in cases], "o:", color=WHOLE, label="99th percentile")
    right.axhline(base["step_ms_p50"], color=QUIET, linestyle="--", label="base model alone, median")
    right.set_ylabel("ms per token, batch of 32")
    for axis in (left, right):
        axis.set_xscale("log")
        axis.set_xlabel("adapters (rank 8, all linears), one chosen at random per request")
        axis.set_ylim(bottom=0)
        axis.legend(frameon=False, loc="lower left")
    _finish(figure, (left, right), path)


def _finish(figure: Any, axes: tuple[Any, ...], path: Path) -> None:
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="#e5e5e5", linewidth=0.7)
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    plt.close(figure)


def main() -> None:
    """Draw what there is a measurement of."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", type=Path, default=ROOT / "build" / "bench")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "assets")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, draw, picture in (
        ("flywheel", between_tokens, "between-tokens.png"),
        ("lora", adapters, "adapters.png"),
    ):
        source = options.bench / f"{name}.json"
        if not source.is_file():
            raise SystemExit(f"{source} is not there: python -m tests.bench.run {name}")
        draw(json.loads(source.read_text()), options.out / picture)


if __name__ == "__main__":
    main()
