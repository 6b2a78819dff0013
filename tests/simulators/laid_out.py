"""A model laid out and a cache beside it, to run pieces of sequences by hand."""

from __future__ import annotations

from pathlib import Path

import torch

from runtime.engine.run.batch import Piece
from runtime.engine.run.runner import Kernels, load_runner
from runtime.engine.run.weights import WeightMode
from runtime.model.loaded import open_model

PAGE = 8


class LaidOut:
    """A runner with a cache of 200 pages.

    Args:
        path: of the model.
        mode: of its weights.
        kernels: whose.
        page_size: of the cache.
        threads: of the runner.
    """

    def __init__(
        self,
        path: Path,
        mode: WeightMode = "float32",
        kernels: Kernels = "auto",
        page_size: int = PAGE,
        threads: int | None = None,
    ) -> None:
        opened = open_model(path)
        self.base_model_digest = opened.base_model_digest
        self.page_size = page_size
        self.runner = load_runner(opened.architecture, opened.weights, mode, kernels=kernels, threads=threads)
        self.cache = self.runner.cache(200, page_size)

    def run(self, *pieces: Piece) -> torch.Tensor:
        """Logits of the pieces' rows."""
        with torch.inference_mode():
            batch = self.runner.batch(pieces, self.cache)
            return self.runner.logits(self.runner.forward(batch, self.cache))

    def logits(self, tokens: list[int], pieces: list[int], first_page: int = 1) -> torch.Tensor:
        """Logits of every position of one sequence, the tokens given in ``pieces``."""
        rows, start = [], 0
        pages = list(range(first_page, first_page - (-len(tokens) // self.page_size)))
        for size in pieces:
            rows.append(self.run(Piece(tokens[start : start + size], start, pages, size)))
            start += size
        assert start == len(tokens)
        return torch.cat(rows)
