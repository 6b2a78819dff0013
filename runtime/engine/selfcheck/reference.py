"""What is to come out: the plain decoder over plain float32 weights, for a few fixed prompts.

It runs while the weights are loaded, on each as it passes by, so that nothing is read twice and no more than
one block of plain weights is held.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from runtime.engine.selfcheck.plain import Norms, PlainDecoder
from runtime.model.architecture import Architecture
from runtime.model.weight_source import WeightSource

HEAD: Final = "head"

_EMBEDDING = "model.embed_tokens.weight"
_NORM = "model.norm.weight"
_HEAD_WEIGHT = "lm_head.weight"
_GROUPS: Final = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "o": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
_KEPT_ROWS = 8
"""Rows of every product that are kept, to ask each packed weight for the same."""


@dataclass(frozen=True, repr=False)
class Expected:
    """What one fused projection makes of a few rows.

    Args:
        name: ``3.gate_up``, or ``head``.
        rows: (K, in).
        result: (K, out).
    """

    name: str
    rows: Tensor
    result: Tensor

    def __repr__(self) -> str:
        return f"Expected({self.name})"


@dataclass(frozen=True, repr=False)
class Reference:
    """The plain decoder's results.

    Args:
        prompts: token ids.
        embedded: (R, H) rows of the embedding.
        norms: of each block.
        last_norm: (H,).
        kept: (K,) the rows whose products were kept.
        products: of every projection.
        tokens: the likeliest next token after each kept row.
        margins: by how much it beats the next, in standard deviations of the row's logits.
    """

    prompts: tuple[tuple[int, ...], ...]
    embedded: Tensor
    norms: tuple[Norms, ...]
    last_norm: Tensor
    kept: Tensor
    products: tuple[Expected, ...]
    tokens: tuple[int, ...]
    margins: tuple[float, ...]

    def __repr__(self) -> str:
        return f"Reference({len(self.embedded)} rows, {len(self.products)} products)"


class ReferenceSource:
    """A weight source that computes the reference from what is taken of it.

    Args:
        source: the weights.
        architecture: of the model.
        prompts: token ids.
    """

    def __init__(
        self, source: WeightSource, architecture: Architecture, prompts: Sequence[Sequence[int]]
    ) -> None:
        self._source = source
        self._shape = architecture
        self._prompts = tuple(map(tuple, prompts))
        self._decoder = PlainDecoder(architecture, self._prompts)
        self._kept = _kept_rows(self._prompts)
        self._embedded: Tensor | None = None
        self._hidden = torch.empty(0)
        self._seen: dict[str, Tensor] = {}
        self._norms: list[Norms] = []
        self._products: list[Expected] = []

    def has(self, name: str) -> bool:
        """See ``WeightSource``."""
        return self._source.has(name)

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """See ``WeightSource``."""
        weight = self._source.take(name, shape)
        if self._embedded is None and name == _EMBEDDING:
            ids = torch.tensor([token for prompt in self._prompts for token in prompt])
            self._embedded = self._hidden = weight[ids].float()
        else:
            self._seen[name] = weight
        if self._embedded is not None:
            self._advance()
        return weight

    def finish(self) -> Reference:
        """The reference, when all weights have been taken.

        Raises:
            RuntimeError: some have not.
        """
        if self._embedded is None or len(self._norms) < self._shape.layers or _NORM not in self._seen:
            raise RuntimeError("not all weights were taken")
        last_norm = self._seen[_NORM].float()
        rows = self._decoder.normalised(self._hidden[self._kept], last_norm)
        name = _HEAD_WEIGHT if self._source.has(_HEAD_WEIGHT) else _EMBEDDING
        weight = self._seen.get(name)
        if weight is None:
            weight = self._source.take(name, (self._shape.vocab_size, self._shape.hidden_size))
        logits = rows @ weight.float().T
        self._seen.clear()
        best = logits.topk(2, dim=1)
        margins = relative(best.values[:, 0] - best.values[:, 1], logits.std(dim=1))
        return Reference(
            prompts=self._prompts,
            embedded=self._embedded,
            norms=tuple(self._norms),
            last_norm=last_norm,
            kept=self._kept,
            products=(*self._products, Expected(HEAD, rows, logits)),
            tokens=tuple(best.indices[:, 0].tolist()),
            margins=tuple(margins.tolist()),
        )

    def _advance(self) -> None:
        """Run the blocks whose weights are all here; they are then let go."""
        while len(self._norms) < self._shape.layers:
            layer = len(self._norms)
            names = tuple(self._names(layer))
            if not all(name in self._seen for name in names):
                return
            prefix = len(f"model.layers.{layer}.")
            block = {name[prefix:]: self._seen.pop(name).float() for name in names}
            norms = Norms(
                block["input_layernorm.weight"],
                block["post_attention_layernorm.weight"],
                block.get("self_attn.q_norm.weight"),
                block.get("self_attn.k_norm.weight"),
            )
            self._norms.append(norms)
            self._hidden = self._decoder.block(layer, self._hidden, norms, self._product(block))

    def _names(self, layer: int) -> Iterator[str]:
        """The weights of a block."""
        prefix = f"model.layers.{layer}"
        yield from (f"{prefix}.input_layernorm.weight", f"{prefix}.post_attention_layernorm.weight")
        if self._shape.query_key_norm:
            yield from (f"{prefix}.self_attn.q_norm.weight", f"{prefix}.self_attn.k_norm.weight")
        for linear in (name for group in _GROUPS.values() for name in group):
            yield f"{prefix}.{linear}.weight"
            if self._source.has(f"{prefix}.{linear}.bias"):
                yield f"{prefix}.{linear}.bias"

    def _product(self, block: dict[str, Tensor]) -> _PlainProduct:
        return _PlainProduct(block, self._kept, self._products)


class _PlainProduct:
    """Products of one block's plain weights, each written down."""

    def __init__(self, block: dict[str, Tensor], kept: Tensor, products: list[Expected]) -> None:
        self._block, self._kept, self._products = block, kept, products

    def __call__(self, name: str, x: Tensor) -> Tensor:
        parts = []
        for linear in _GROUPS[name.partition(".")[2]]:
            part = x @ self._block[f"{linear}.weight"].T
            bias = self._block.get(f"{linear}.bias")
            parts.append(part if bias is None else part + bias)
        result = torch.cat(parts, dim=1)
        self._products.append(Expected(name, x[self._kept], result[self._kept]))
        return result


def relative(part: Tensor, whole: Tensor) -> Tensor:
    """``part / whole``, elementwise: nothing is 0 of nothing, and anything else is endlessly more than that.

    A projection may be all zeros. What should be nothing then is right if it is nothing, and wrong otherwise.
    """
    return torch.where((part == 0) & (whole == 0), 0.0, part / whole)


def _kept_rows(prompts: Sequence[Sequence[int]]) -> Tensor:
    """Each prompt's last row, and others evenly spread."""
    ends, rows = [], 0
    for prompt in prompts:
        rows += len(prompt)
        ends.append(rows - 1)
    spread = [rows * index // _KEPT_ROWS for index in range(1, _KEPT_ROWS)]
    return torch.tensor(sorted(list(dict.fromkeys([*ends, *spread]))[:_KEPT_ROWS]))
