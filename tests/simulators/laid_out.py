"""A model laid out and a cache beside it, to run pieces of sequences by hand."""

from __future__ import annotations

from pathlib import Path

import torch

from runtime.engine.run.batch import Piece, StepBatch
from runtime.engine.run.cache import PagedCache
from runtime.engine.run.model import LlamaRunner
from runtime.engine.run.weights import WeightMode
from runtime.model.loaded import open_model

PAGE = 8


class LaidOut:
    """A runner with a cache of 200 pages of 8.

    Args:
        path: of the model.
        mode: of its weights.
    """

    def __init__(self, path: Path, mode: WeightMode = "float32") -> None:
        opened = open_model(path)
        self.base_model_digest = opened.base_model_digest
        self.runner = LlamaRunner(opened.architecture, opened.weights, mode)
        self.cache = PagedCache(opened.architecture, 200, PAGE, self.runner.dtype, self.runner.device)

    def run(self, *pieces: Piece) -> torch.Tensor:
        """Logits of the pieces' rows."""
        with torch.inference_mode():
            batch = StepBatch.of(pieces, PAGE, self.runner.dtype, self.runner.device)
            return self.runner.logits(self.runner.forward(batch, self.cache))

    def logits(self, tokens: list[int], pieces: list[int]) -> torch.Tensor:
        """Logits of every position of one sequence, the tokens given in ``pieces``."""
        rows, start = [], 0
        pages = list(range(1, -(-len(tokens) // PAGE) + 1))
        for size in pieces:
            rows.append(self.run(Piece(tokens[start : start + size], start, pages, size)))
            start += size
        assert start == len(tokens)
        return torch.cat(rows)
