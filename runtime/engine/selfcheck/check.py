"""Does this process compute what the model says? Asked after loading, before the first request.

1. Every packed product gives what the plain weights give, within the weight mode's rounding: a mis-built
   kernel, a wrong packing, scale or order, a damaged weight.
2. The engine, with pages, chunks, mixed batches and decoding, gives what the plain decoder gives *with the
   same packed products*, so that the mode's rounding cancels and the bound is tight: wrong rotations,
   masks, pages, norms, order.
3. The engine's likeliest tokens are the plain decoder's wherever that was not close.
4. For a model that is pinned, the plain decoder's tokens are the recorded ones: what both got wrong, and
   a tokenizer that is not the model's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Protocol

import torch
from torch import Tensor

from attest import digest, strict_json
from runtime.engine.run.runner import Runner
from runtime.engine.run.weights import WeightMode
from runtime.engine.selfcheck.failure import SelfCheckFailed
from runtime.engine.selfcheck.plain import PlainDecoder
from runtime.engine.selfcheck.plan import Plan
from runtime.engine.selfcheck.recorded import RECORDED
from runtime.engine.selfcheck.reference import Reference, relative
from runtime.engine.telemetry import SelfCheckFigures

TEXTS: Final = (
    "The capital of France is",
    "One, two, three, four, five,",
    "The sun rises in the east and sets in the west. The sun rises in the east and sets in the",
)
"""A statement, a series and a repetition: three kinds whose next token is not close."""

_FORMAT = "sealgate-self-check-v1"
_CLOSE = 0.01
"""Margins, in standard deviations of logits, below which another machine's float32 might choose otherwise."""


@dataclass(frozen=True)
class Bounds:
    """The largest deviations that pass; each several times what sound engines were seen to have.

    Args:
        embedding: of a token's, relative to it.
        row: of a product's row, relative to the row.
        output: of one output over all rows, relative to a usual output.
        block: of what a block adds to a row, relative to that.
        middle: the same, of the middle one of all rows.
        whole: of the middle one of all rows' last hidden states, relative to it. Wide for torch's int8: two
            sound ways to compute differ in which steps they round to, and thirty blocks make much of that.
        margin: standard deviations of logits by which a token must win for another to be an error.
    """

    embedding: float
    row: float
    output: float
    block: float
    middle: float
    whole: float
    margin: float


BOUNDS: Final[dict[tuple[WeightMode, torch.dtype, torch.dtype], Bounds]] = {
    ("float32", torch.float32, torch.float32): Bounds(1e-6, 1e-4, 1e-3, 1e-3, 1e-3, 1e-3, 0.05),
    ("bf16", torch.float32, torch.float32): Bounds(5e-3, 5e-3, 0.05, 1e-3, 1e-3, 1e-3, 0.1),
    ("bf16", torch.bfloat16, torch.bfloat16): Bounds(0.01, 0.03, 0.3, 0.05, 0.03, 0.15, 0.5),
    ("int8", torch.float32, torch.float32): Bounds(5e-3, 0.3, 0.8, 0.15, 0.02, 0.6, 2.0),
    ("bf16", torch.float32, torch.float16): Bounds(5e-3, 5e-3, 0.05, 5e-3, 2e-3, 5e-3, 0.1),
    ("int8", torch.float32, torch.float16): Bounds(5e-3, 0.05, 0.3, 5e-3, 2e-3, 5e-3, 0.5),
}
"""By mode, what activations are held in, and keys and values: float16 under Sealgate's own kernels."""


class Encoder(Protocol):
    """Of a tokenizer."""

    def encode(self, text: str) -> list[int]:
        """Token ids."""
        ...


@dataclass(frozen=True)
class SelfCheck:
    """A check that passed.

    Args:
        digest: names prompts, weight mode and tokens; the statement's member ``self_check``.
        figures: for the metrics.
    """

    digest: str
    figures: SelfCheckFigures


def fixed_prompts(tokenizer: Encoder, context_length: int) -> tuple[tuple[int, ...], ...]:
    """The prompts of the check in a model's tokens, as far as its context goes."""
    return tuple(tuple(tokenizer.encode(text)[:context_length]) for text in TEXTS)


def self_check(runner: Runner, reference: Reference, *, page_size: int, base_model_digest: str) -> SelfCheck:
    """Check an engine's runner.

    Args:
        runner: with its weights laid out.
        reference: made while they were loaded.
        page_size: of the engine's cache.
        base_model_digest: names what was recorded of the model.

    Raises:
        SelfCheckFailed: it computes something else.
    """
    began = time.monotonic()
    bounds = BOUNDS[runner.mode, runner.dtype, runner.cache_dtype]
    plan = Plan(reference.prompts, page_size)
    with torch.inference_mode():
        states = _plain_states(runner, reference)
        worst = [
            _check_embedding(runner, reference, bounds),
            _check_products(runner, reference, bounds),
            _check_blocks(runner, plan, states, bounds),
            _check_whole(runner, plan, reference, states, bounds),
        ]
    made = transcript_digest(runner.mode, reference)
    recorded = RECORDED.get(base_model_digest)
    if recorded is not None and recorded[runner.mode] != made:
        raise SelfCheckFailed("the digest of prompts and tokens", 1.0, 0.0)
    return SelfCheck(made, SelfCheckFigures(time.monotonic() - began, max(worst)))


def transcript_digest(mode: WeightMode, reference: Reference) -> str:
    """``sha256:`` of what was asked and what is to come out."""
    transcript = {
        "format": _FORMAT,
        "weights": mode,
        "prompts": [list(prompt) for prompt in reference.prompts],
        "rows": reference.kept.tolist(),
        "tokens": [
            token if margin > _CLOSE else None
            for token, margin in zip(reference.tokens, reference.margins, strict=True)
        ],
    }
    return digest.sha256_digest(strict_json.canonical(transcript))


def _check_embedding(runner: Runner, reference: Reference, bounds: Bounds) -> float:
    wrong = _embedded(runner, reference) - reference.embedded
    error = float(relative(wrong.norm(dim=1), reference.embedded.norm(dim=1)).max())
    _require("the embedding", error, bounds.embedding)
    return error / bounds.embedding


def _check_products(runner: Runner, reference: Reference, bounds: Bounds) -> float:
    linears = dict(runner.linears())
    worst = 0.0
    for expected in reference.products:
        got = linears[expected.name](expected.rows.to(runner.device, runner.dtype)).float().cpu()
        wrong = got - expected.result
        usual = expected.result.norm() / expected.result.shape[1] ** 0.5
        row = float(relative(wrong.norm(dim=1), expected.result.norm(dim=1)).max())
        output = float(relative(wrong.norm(dim=0).max(), usual))
        _require(f"product {expected.name}", row, bounds.row)
        _require(f"an output of product {expected.name}", output, bounds.output)
        worst = max(worst, row / bounds.row, output / bounds.output)
    return worst


def _check_blocks(runner: Runner, plan: Plan, states: Sequence[Tensor], bounds: Bounds) -> float:
    """Each block over pages, pieces and mixed batches, given what the plain decoder gave it."""
    cache = plan.cache(runner)
    errors: list[list[Tensor]] = [[] for _ in states[1:]]
    for rows, batch in plan.steps(runner, cache):
        found = runner.prepare(batch, cache)
        for layer, (before, after) in enumerate(pairwise(states)):
            given = before[rows].to(runner.device, runner.dtype)
            got = runner.block(layer, given, found).float().cpu()
            change = (after[rows] - before[rows]).norm(dim=1)
            errors[layer].append(relative((got - after[rows]).norm(dim=1), change))
    worst = 0.0
    for layer, parts in enumerate(errors):
        each = torch.cat(parts)
        largest, middle = float(each.max()), float(each.median())
        _require(f"block {layer}", largest, bounds.block)
        _require(f"block {layer}, for most rows,", middle, bounds.middle)
        worst = max(worst, largest / bounds.block, middle / bounds.middle)
    return worst


def _check_whole(
    runner: Runner, plan: Plan, reference: Reference, states: Sequence[Tensor], bounds: Bounds
) -> float:
    """All blocks in a row, the last norm, and the tokens."""
    wanted = PlainDecoder(runner.architecture, reference.prompts).normalised(states[-1], reference.last_norm)
    cache = plan.cache(runner)
    hidden = runner.forward(plan.whole(runner, cache), cache)
    got = hidden.float().cpu()
    _require_finite("the last hidden state", got)
    error = float(relative((got - wanted).norm(dim=1), wanted.norm(dim=1)).median())
    _require("the last hidden state", error, bounds.whole)
    logits = runner.logits(hidden[reference.kept.to(runner.device)])
    _require_finite("a row of logits", logits)
    tokens = logits.argmax(dim=1).tolist()
    for token, expected, margin in zip(tokens, reference.tokens, reference.margins, strict=True):
        if token != expected:
            _require("a token that was not close", margin, bounds.margin)
    return error / bounds.whole


def _embedded(runner: Runner, reference: Reference) -> Tensor:
    ids = torch.tensor([token for prompt in reference.prompts for token in prompt], device=runner.device)
    return runner.embedded(ids).float().cpu()


def _plain_states(runner: Runner, reference: Reference) -> list[Tensor]:
    """(R, H) before each block and after the last, of the plain decoder over the runner's own products."""
    linears = dict(runner.linears())

    def product(name: str, x: Tensor) -> Tensor:
        return linears[name](x.to(runner.device, runner.dtype)).float().cpu()

    decoder = PlainDecoder(runner.architecture, reference.prompts)
    states = [_embedded(runner, reference)]
    for layer, norms in enumerate(reference.norms):
        states.append(decoder.block(layer, states[-1], norms, product))
    return states


def _require_finite(what: str, values: Tensor) -> None:
    """Of every row: the middle one, or the place of the largest, does not tell."""
    if not bool(values.isfinite().all()):
        raise SelfCheckFailed(what, math.nan, 0.0)


def _require(what: str, error: float, allowed: float) -> None:
    if not error <= allowed:  # not so for NaN either
        raise SelfCheckFailed(what, error, allowed)
