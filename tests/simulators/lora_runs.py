"""Run sequences of several adapters in the same steps, as the engine does, without its scheduling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from runtime.engine.lora.batch import LoraBatches
from runtime.engine.lora.tables import LoraTables, Placed
from runtime.engine.run.batch import Piece
from runtime.engine.run.runner import Runner

PAGE = 16


@dataclass(frozen=True)
class Run:
    """A prompt and the adapter to run it with; None for the base."""

    prompt: Sequence[int]
    adapter: Placed | None


@dataclass(frozen=True)
class Result:
    """What came of a run: the tokens chosen, and the (tokens, vocabulary) logits they were chosen from."""

    tokens: list[int]
    logits: Tensor


def greedy(
    runner: Runner, tables: LoraTables, runs: Sequence[Run], tokens: int, chunk: int = 1 << 30
) -> list[Result]:
    """Continue all runs together.

    Args:
        runner: the base.
        tables: where the adapters lie.
        runs: what to continue.
        tokens: how many each.
        chunk: prompt rows per step and run.
    """
    capacity = max(len(run.prompt) for run in runs) + tokens
    per_run = -(-capacity // PAGE)
    cache = runner.cache(1 + per_run * len(runs), PAGE)
    pages = [range(1 + index * per_run, 1 + (index + 1) * per_run) for index in range(len(runs))]
    sequences = [list(run.prompt) for run in runs]
    computed = [0] * len(runs)
    logits: list[list[Tensor]] = [[] for _ in runs]
    batches = LoraBatches(tables)
    with torch.inference_mode():
        while any(len(each) < tokens for each in logits):
            active = [index for index, each in enumerate(logits) if len(each) < tokens]
            counts = {index: min(chunk, len(sequences[index]) - computed[index]) for index in active}
            order = sorted(active, key=lambda index: counts[index] > 1)  # decoding ones first
            pieces = [
                Piece(
                    sequences[index][computed[index] : computed[index] + counts[index]],
                    computed[index],
                    pages[index],
                    int(computed[index] + counts[index] == len(sequences[index])),
                )
                for index in order
            ]
            step = runner.batch(pieces, cache)
            adapters = batches.of([(runs[index].adapter, counts[index]) for index in order])
            rows = iter(runner.logits(runner.forward(step, cache, adapters)))
            for index, piece in zip(order, pieces, strict=True):
                computed[index] += counts[index]
                if piece.logits:
                    row = next(rows)
                    logits[index].append(row)
                    sequences[index].append(int(row.argmax()))
    return [
        Result(sequence[len(run.prompt) :], torch.stack(rows))
        for run, sequence, rows in zip(runs, sequences, logits, strict=True)
    ]
