"""How the fixed prompts advance: as they would in the engine, among each other.

Three steps: all but two tokens of each prompt, the longest cut in half; the next token of each beside the
longest's second half; and the last of each, all decoding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from runtime.engine.run.batch import Piece
from runtime.engine.run.runner import Cache, Runner


class Plan:
    """The prompts' tokens and pages.

    Args:
        prompts: at least two, each of three tokens or more.
        page_size: positions in a page.
    """

    def __init__(self, prompts: Sequence[Sequence[int]], page_size: int) -> None:
        self._prompts = prompts
        self._page_size = page_size
        self._blocks = -(-max(map(len, prompts)) // page_size)
        self._firsts = [sum(map(len, prompts[:index])) for index in range(len(prompts))]

    def cache(self, runner: Runner) -> Cache:
        """Room for all prompts."""
        pages = 1 + self._blocks * len(self._prompts)
        cache: Cache = runner.cache(pages, self._page_size)
        return cache

    def whole(self, runner: Runner, cache: Cache) -> Any:
        """One step that reads every prompt at once, with logits of every row."""
        ends = [(0, len(prompt)) for prompt in self._prompts]
        return self._batch(runner, cache, dict(enumerate(ends)))

    def steps(self, runner: Runner, cache: Cache) -> Iterator[tuple[Tensor, Any]]:
        """Each step's rows, as numbered over all prompts, and the step."""
        longest = max(range(len(self._prompts)), key=lambda index: len(self._prompts[index]))
        done = dict.fromkeys(range(len(self._prompts)), 0)
        for step in range(3):
            spans = {}
            for index, prompt in enumerate(self._prompts):
                first = len(prompt) // 2 if index == longest else len(prompt) - 2
                end = (first, len(prompt) - 1, len(prompt))[step]
                spans[index] = (done[index], end)
                done[index] = end
            spans = dict(
                sorted(spans.items(), key=lambda item: item[1][1] - item[1][0] > 1)
            )  # decoding first
            rows = [torch.arange(start, end) + self._firsts[index] for index, (start, end) in spans.items()]
            yield torch.cat(rows), self._batch(runner, cache, spans)

    def _batch(self, runner: Runner, cache: Cache, spans: dict[int, tuple[int, int]]) -> Any:
        pieces = [
            Piece(
                self._prompts[index][start:end],
                start,
                range(1 + self._blocks * index, 1 + self._blocks * (index + 1)),
                end - start,
            )
            for index, (start, end) in spans.items()
        ]
        return runner.batch(pieces, cache)
