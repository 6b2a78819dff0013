"""Choose the next token of many sequences at once, each by its own parameters and its own randomness.

Order: log-probabilities to report (of the model's own distribution, before anything), penalties, the guide,
then temperature, top-k, top-p, min-p, and a draw by the request's own generator. Every operation is row by
row, so a request's draws do not depend on its neighbours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from runtime.engine.base import PromptLogprobs, SamplingParams, TokenGuide, TopLogprobs

_HEAD = 1024
"""Sorting a vocabulary for each token costs more than a layer; its head almost always suffices."""


@dataclass(frozen=True, repr=False)
class Choice:
    """A chosen token, with what the request asked to know of it."""

    token_id: int
    logprob: float | None
    top_logprobs: TopLogprobs | None


class Sampler:
    """One sequence's parameters, randomness, form, and what it has generated.

    Args:
        params: of the request.
        guide: what keeps the answer to a form, if anything does.
    """

    def __init__(self, params: SamplingParams, guide: TokenGuide | None = None) -> None:
        self.params = params
        self.guide = guide
        self.generated: Counter[int] = Counter()
        self._generator = torch.Generator()
        if params.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(params.seed & ((1 << 63) - 1))

    @property
    def penalised(self) -> bool:
        """Whether what was generated changes what is likely."""
        params = self.params
        return bool(self.generated) and (params.presence_penalty != 0 or params.frequency_penalty != 0)

    def point(self) -> float:
        """The next number of the request's own randomness, from 0 to 1, exclusive."""
        return float(torch.rand((), generator=self._generator, dtype=torch.float64))


def choose(logits: Tensor, samplers: Sequence[Sampler]) -> list[Choice | None]:
    """The next token of each row.

    Args:
        logits: (T, vocabulary) float32; changed in place.
        samplers: one per row.

    Returns:
        One per row; None where the row is not finite, or where the guide allows nothing.
    """
    sound = _finite(logits)
    reported = _reported_rows(logits, samplers)
    _penalise(logits, [row for row, sampler in enumerate(samplers) if sampler.penalised], samplers)
    for row, sampler in enumerate(samplers):
        if sampler.guide is not None and not _guide(logits[row], sampler.guide):
            sound[row] = False
    tokens = _tokens(logits, samplers)
    chosen: list[Choice | None] = []
    for row, (token, sampler) in enumerate(zip(tokens, samplers, strict=True)):
        if not sound[row]:
            chosen.append(None)
            continue
        sampler.generated[token] += 1
        if sampler.guide is not None:
            sampler.guide.advance(token)
        if row in reported:
            logprobs, top = reported[row]
            chosen.append(Choice(token, float(logprobs[token]), top))
        else:
            chosen.append(Choice(token, None, None))
    return chosen


def _finite(logits: Tensor) -> list[bool]:
    """Of each row: one NaN or infinity makes its sum one."""
    if logits.device.type != "cpu":
        return list(torch.isfinite(logits.sum(dim=1)).tolist())
    with np.errstate(invalid="ignore", over="ignore"):
        # To wake torch's threads costs more than the sum, and they then spin where the kernels' are wanted.
        return list(np.isfinite(logits.numpy().sum(axis=1)).tolist())


def score(logits: Tensor, following: Sequence[int], count: int) -> PromptLogprobs:
    """What a prompt's rows say of the tokens that follow them.

    Args:
        logits: (T, vocabulary).
        following: the token after each row.
        count: alternatives to report.
    """
    logprobs = torch.log_softmax(logits.double(), dim=1)
    own = logprobs.gather(1, torch.tensor(following, device=logits.device).unsqueeze(1))
    ranks = (logprobs > own).sum(dim=1) + 1
    values, ids = torch.topk(logprobs, count, dim=1)
    rows = zip(own.flatten().tolist(), ranks.tolist(), ids.tolist(), values.tolist(), strict=True)
    return tuple(
        (logprob, rank, tuple(zip(row_ids, row_values, strict=True)))
        for logprob, rank, row_ids, row_values in rows
    )


def _reported_rows(logits: Tensor, samplers: Sequence[Sampler]) -> dict[int, tuple[Tensor, TopLogprobs]]:
    reported: dict[int, tuple[Tensor, TopLogprobs]] = {}
    for row, sampler in enumerate(samplers):
        count = sampler.params.logprobs
        if count is not None:
            logprobs = torch.log_softmax(logits[row].double(), dim=0)
            values, ids = torch.topk(logprobs, min(count, len(logprobs)))
            reported[row] = logprobs, tuple(zip(ids.tolist(), values.tolist(), strict=True))
    return reported


def _penalise(logits: Tensor, rows: Sequence[int], samplers: Sequence[Sampler]) -> None:
    if not rows:
        return
    entries = [
        (
            row,
            token,
            -(samplers[row].params.presence_penalty + samplers[row].params.frequency_penalty * count),
        )
        for row in rows
        for token, count in samplers[row].generated.items()
    ]
    at, tokens, amounts = zip(*entries, strict=True)
    device = logits.device
    indices = (torch.tensor(at, device=device), torch.tensor(tokens, device=device))
    logits.index_put_(indices, torch.tensor(amounts, dtype=logits.dtype, device=device), accumulate=True)


def _guide(logits: Tensor, guide: TokenGuide) -> bool:
    """Leave only what may follow; whether anything may."""
    mask = guide.allowed()
    if mask is None:
        return True
    bits = np.frombuffer(mask, dtype=np.uint8)
    # What the mask does not reach is denied too.
    denied = np.unpackbits(bits, count=len(logits), bitorder="little") == 0
    if denied.all():
        return False
    if logits.device.type == "cpu":
        # One row is too little for torch's threads: to wake them costs more than the work.
        logits.numpy()[denied] = -np.inf
    else:
        logits.masked_fill_(torch.from_numpy(denied).to(logits.device), float("-inf"))
    return True


def _tokens(logits: Tensor, samplers: Sequence[Sampler]) -> list[int]:
    greedy = [row for row, sampler in enumerate(samplers) if sampler.params.greedy]
    plain = [row for row, sampler in enumerate(samplers) if _plain(sampler.params)]
    filtered = [
        row
        for row, sampler in enumerate(samplers)
        if not sampler.params.greedy and not _plain(sampler.params)
    ]
    tokens = [0] * len(samplers)
    for rows, pick in ((greedy, _likeliest), (plain, _draw), (filtered, _draw_filtered)):
        if rows:
            part = logits if len(rows) == len(samplers) else logits[torch.tensor(rows, device=logits.device)]
            for row, token in zip(rows, pick(part, [samplers[row] for row in rows]), strict=True):
                tokens[row] = token
    return tokens


def _plain(params: SamplingParams) -> bool:
    return not params.greedy and params.top_k == 0 and params.top_p >= 1 and params.min_p == 0


def _likeliest(logits: Tensor, _: Sequence[Sampler]) -> list[int]:
    if logits.device.type == "cpu":
        return list(
            logits.numpy().argmax(axis=1).tolist()
        )  # numpy promises the first of equals, torch does not
    return list(logits.argmax(dim=1).tolist())


def _probabilities(logits: Tensor, samplers: Sequence[Sampler]) -> Tensor:
    temperatures = [sampler.params.temperature for sampler in samplers]
    scale = torch.tensor(temperatures, dtype=torch.float64, device=logits.device).unsqueeze(1)
    wide = logits.double()
    wide -= wide.amax(dim=1, keepdim=True)  # else a temperature of 1e-310 makes two infinities, of which NaN
    return torch.softmax(wide.div_(scale), dim=1)


def _draw(logits: Tensor, samplers: Sequence[Sampler]) -> list[int]:
    return _at_points(_probabilities(logits, samplers), samplers).tolist()


def _at_points(weights: Tensor, samplers: Sequence[Sampler]) -> Tensor:
    """(T,) columns, drawn by (T, n) weights that need not sum to one."""
    cumulative = weights.cumsum(dim=1)
    points = torch.tensor([sampler.point() for sampler in samplers], dtype=torch.float64)
    totals = cumulative[:, -1:].contiguous()
    points = points.to(weights.device).unsqueeze(1) * totals
    columns = torch.searchsorted(cumulative, points, right=True)
    # The point may round up to the very end, behind which nothing has weight. A row of NaN ends nowhere: its
    # request is refused after this, and must not take the others of the step with it.
    last = torch.searchsorted(cumulative, totals).clamp_(max=weights.shape[1] - 1)
    return columns.minimum(last).squeeze(1)


def _draw_filtered(logits: Tensor, samplers: Sequence[Sampler]) -> list[int]:
    probabilities = _probabilities(logits, samplers)
    size = min(_HEAD, probabilities.shape[1])
    ordered, ids = torch.topk(probabilities, size, dim=1)
    short = [row for row, sampler in enumerate(samplers) if not _enough(ordered[row], probabilities, sampler)]
    columns = _at_points(_kept(ordered, samplers), samplers)
    tokens: list[int] = ids.gather(1, columns.unsqueeze(1)).flatten().tolist()
    for row in short:  # a flat distribution: its whole length, for this row alone
        everything, all_ids = torch.sort(probabilities[row], descending=True, stable=True)
        column = int(_at_points(_kept(everything.unsqueeze(0), [samplers[row]]), [samplers[row]]))
        tokens[row] = int(all_ids[column])
    return tokens


def _enough(head: Tensor, probabilities: Tensor, sampler: Sampler) -> bool:
    """Whether the filters keep nothing beyond the likeliest tokens."""
    params = sampler.params
    return (
        len(head) == probabilities.shape[1]
        or 0 < params.top_k <= len(head)
        or bool(head.sum() >= params.top_p)
        or bool(head[-1] < params.min_p * head[0])
    )


def _kept(ordered: Tensor, samplers: Sequence[Sampler]) -> Tensor:
    """(T, n) probabilities, likeliest first, with those filtered out set to zero."""

    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=ordered.device).unsqueeze(1)

    width = ordered.shape[1]
    top_k = column([float(sampler.params.top_k or width) for sampler in samplers])
    kept = torch.where(torch.arange(width, device=ordered.device) < top_k, ordered, 0.0)
    totals = kept.sum(dim=1, keepdim=True).where(column([float(s.params.top_k) for s in samplers]) > 0, 1.0)
    top_p = column([s.params.top_p if s.params.top_p < 1 else float("inf") for s in samplers])
    before = kept.cumsum(dim=1) - kept
    kept = torch.where(before < top_p * totals, kept, 0.0)
    kept = torch.where(kept >= column([s.params.min_p for s in samplers]) * ordered[:, :1], kept, 0.0)
    kept[:, 0] = ordered[:, 0]  # the likeliest always stays
    return kept
