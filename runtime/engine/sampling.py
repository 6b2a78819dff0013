"""Choose the next token from logits.

Order: penalties, log-probabilities to report (of the model's own distribution, before anything), then
temperature, top-k, top-p, min-p, and a draw by the request's own generator.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from runtime.engine.base import SamplingParams

_LIKELIEST = 1024
"""Sorting a vocabulary for each token costs more than a layer; its head almost always suffices."""


class NotFiniteError(Exception):
    """The model computed no distribution: its logits hold NaN or infinity."""


@dataclass(frozen=True, repr=False)
class Choice:
    """A chosen token, with what the request asked to know of it."""

    token_id: int
    logprob: float | None
    top_logprobs: tuple[tuple[int, float], ...] | None


class Sampler:
    """One sequence's choices: its parameters, its randomness, and what it has generated.

    Args:
        params: of the request.
    """

    def __init__(self, params: SamplingParams) -> None:
        self._params = params
        self._generated: Counter[int] = Counter()
        self._generator = torch.Generator()
        if params.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(params.seed & ((1 << 63) - 1))

    def choose(self, logits: Tensor) -> Choice:
        """The next token, from (vocabulary,) float32 logits.

        Raises:
            NotFiniteError: the model is broken.
        """
        if not bool(torch.isfinite(logits).all()):
            raise NotFiniteError
        penalised = self._penalised(logits)
        token_id = _likeliest(penalised) if self._params.greedy else self._draw(penalised)
        self._generated[token_id] += 1
        return _reported(token_id, logits, self._params.logprobs)

    def _penalised(self, logits: Tensor) -> Tensor:
        presence, frequency = self._params.presence_penalty, self._params.frequency_penalty
        if not self._generated or (presence == 0 and frequency == 0):
            return logits
        ids = torch.tensor(list(self._generated.keys()))
        counts = torch.tensor(list(self._generated.values()), dtype=logits.dtype)
        return logits.index_add(0, ids, -(presence + frequency * counts))

    def _draw(self, logits: Tensor) -> int:
        ids, probabilities = candidates(logits, self._params)
        cumulative = probabilities.cumsum(0)
        point = torch.rand((), generator=self._generator, dtype=torch.float64) * cumulative[-1]
        index = int(torch.searchsorted(cumulative, point, right=True))
        chosen = min(index, len(probabilities) - 1)  # the point may round up to the very end
        return chosen if ids is None else int(ids[chosen])


def candidates(logits: Tensor, params: SamplingParams) -> tuple[Tensor | None, Tensor]:
    """What may be drawn, and how likely.

    Args:
        logits: (vocabulary,) after penalties.
        params: temperature above 0.

    Returns:
        (token ids or None for the whole vocabulary in order, their float64 probabilities, not
        normalised after filtering). Filtered candidates are likeliest first.
    """
    scaled = logits.double() / params.temperature
    probabilities = torch.softmax(scaled, dim=0)
    if params.top_k == 0 and params.top_p >= 1 and params.min_p == 0:
        return None, probabilities
    ordered, ids = _head(probabilities, params)
    kept = len(ordered)
    if params.top_k:
        kept = min(kept, params.top_k)
    if params.top_p < 1:
        total = ordered[:kept].sum() if params.top_k else 1.0
        before = ordered[:kept].cumsum(0) - ordered[:kept]
        kept = max(1, int((before < params.top_p * total).sum()))
    if params.min_p:
        kept = max(1, int((ordered[:kept] >= params.min_p * ordered[0]).sum()))
    return ids[:kept], ordered[:kept]


def _head(probabilities: Tensor, params: SamplingParams) -> tuple[Tensor, Tensor]:
    """The likeliest tokens in order: enough of them that the filters keep nothing beyond."""
    size = min(_LIKELIEST, len(probabilities))
    ordered, ids = torch.topk(probabilities, size)
    enough = (
        size == len(probabilities)
        or 0 < params.top_k <= size
        or bool(ordered.sum() >= params.top_p)
        or bool(ordered[-1] < params.min_p * ordered[0])
    )
    if enough:
        return ordered, ids
    everything, all_ids = torch.sort(probabilities, descending=True, stable=True)
    return everything, all_ids


def _likeliest(logits: Tensor) -> int:
    return int(logits.numpy().argmax())  # numpy promises the first of equals, torch does not


def _reported(token_id: int, logits: Tensor, count: int | None) -> Choice:
    if count is None:
        return Choice(token_id, None, None)
    logprobs = torch.log_softmax(logits.double(), dim=0)
    values, ids = torch.topk(logprobs, min(count, len(logprobs)))
    top = tuple(zip(ids.tolist(), values.tolist(), strict=True))
    return Choice(token_id, float(logprobs[token_id]), top)
