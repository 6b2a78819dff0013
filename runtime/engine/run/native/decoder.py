"""The Llama, Qwen2 and Qwen3 decoders by the kernels: all blocks of a step in one call.

Same interface as ``runtime.engine.run.model.LlamaRunner``. Activations are float32; keys and values float16
under narrow weights, float32 under wide ones. A row's logits are the same bits alone, in a batch, in pieces
and behind a cached prefix, in every weight mode.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attest.refusal import Unsupported
from runtime.engine.lora.batch import LoraBatch
from runtime.engine.lora.shape import BaseShape
from runtime.engine.run.batch import Piece
from runtime.engine.run.layout import Block, Loader
from runtime.engine.run.native.adapters import NativeAdapters
from runtime.engine.run.native.cache import NativeCache
from runtime.engine.run.native.library import FORMATS, CBlock, CModel, CScratch, CStep, Team, library
from runtime.engine.run.native.linear import NativeLinear
from runtime.engine.run.native.step import NativeStep
from runtime.engine.run.weights import WeightMode
from runtime.model.architecture import Architecture
from runtime.model.rope import rope_frequencies
from runtime.model.weight_source import WeightSource

_LANES = 8


@dataclass(frozen=True)
class Prepared:
    """A step, and where its keys and values are kept."""

    step: NativeStep
    struct: CStep
    cache: NativeCache


class NativeRunner:
    """A decoder with its weights, laid out for this CPU.

    Args:
        architecture: what the weights must be shaped like.
        source: the weights; not kept.
        mode: how they are held.
        threads: that compute; by default as many as torch uses.

    Raises:
        Malformed: as ``source.take`` does.
        Unsupported: ``native-kernels``: they are not built here, or do not know such heads.
    """

    def __init__(
        self,
        architecture: Architecture,
        source: WeightSource,
        mode: WeightMode,
        threads: int | None = None,
    ) -> None:
        if not knows(architecture):
            raise Unsupported(
                "native-kernels", expected="heads of whole vectors", got=str(architecture.head_dim)
            )
        self.architecture = architecture
        self.mode = mode
        self.device = torch.device("cpu")
        self.dtype = torch.float32
        self.cache_dtype = torch.float32 if mode == "float32" else torch.float16
        self.adapter_dtype = torch.float32 if mode == "float32" else torch.bfloat16
        self._team = Team(threads or torch.get_num_threads())
        self._adapters = NativeAdapters(BaseShape.of(architecture))
        self._scratch = torch.empty(0)
        self._frequencies = rope_frequencies(architecture).contiguous()
        load = Loader(architecture, source, _norm_of, self._linear_of)
        self._embedding = self._table_of(load.table())
        self._blocks = [load.block(layer) for layer in range(architecture.layers)]
        self._last_norm = load.last_norm()
        self._head = load.head()
        self.table_bytes = self._embedding.nbytes
        self.weight_bytes = self.table_bytes + sum(linear.bytes for _, linear in self.linears())
        self._structs = (CBlock * architecture.layers)(*map(_block_struct, self._blocks))
        self._model = self._model_struct()

    def cache(self, pages: int, page_size: int) -> NativeCache:
        """Keys and values of all sequences, in so many pages."""
        return NativeCache(self.architecture, pages, page_size, self.cache_dtype)

    def batch(self, pieces: Sequence[Piece], cache: NativeCache) -> NativeStep:
        """A step of this runner over the pages of ``cache``."""
        return NativeStep(pieces, cache.page_size, cache.pages, self.architecture.vocab_size)

    def forward(self, step: NativeStep, cache: NativeCache, adapters: LoraBatch | None = None) -> Tensor:
        """Run the rows through all blocks, writing their keys and values to the cache.

        Returns:
            (T, H) normalised hidden states of ``step.logit_rows``.
        """
        found = self.prepare(step, cache)
        cache.clear(step.fresh_pages)
        if adapters is not None:
            if sum(rows for _, rows in adapters.spans) != step.rows:
                raise ValueError("the adapters are those of another step")
            self._adapters.fill(found.struct, adapters)
        hidden = torch.empty((step.rows, self.architecture.hidden_size))
        library().sg_embed(self._model, step.tokens.ctypes.data, step.rows, hidden.data_ptr())
        self._run(found, 0, self.architecture.layers, hidden)
        return self._normalised(hidden if step.logit_rows is None else hidden[step.logit_rows])

    def prepare(self, step: NativeStep, cache: NativeCache) -> Prepared:
        """What all blocks of a step share.

        Raises:
            ValueError: the step was made for another cache.
        """
        if step.made_for != (cache.page_size, cache.pages):
            raise ValueError("the step was made for another cache")
        return Prepared(step, step.struct(), cache)

    def block(self, layer: int, hidden: Tensor, found: Prepared) -> Tensor:
        """(R, H) through one decoder block; ``hidden`` is changed in place and returned."""
        self._run(found, layer, layer + 1, hidden)
        return hidden

    def linears(self) -> Iterator[tuple[str, NativeLinear]]:
        """Every laid-out product with its name: ``3.gate_up``, and ``head``."""
        for layer, block in enumerate(self._blocks):
            yield f"{layer}.qkv", block.qkv
            yield f"{layer}.o", block.output
            yield f"{layer}.gate_up", block.gate_up
            yield f"{layer}.down", block.down
        yield "head", self._head

    def embedded(self, token_ids: Tensor) -> Tensor:
        """(R,) tokens to (R, H)."""
        token_ids = token_ids.long().contiguous()
        if len(token_ids) and not 0 <= int(token_ids.min()) <= int(token_ids.max()) < self._model.vocabulary:
            raise ValueError("a token is outside the vocabulary")
        hidden = torch.empty((len(token_ids), self.architecture.hidden_size))
        library().sg_embed(self._model, token_ids.data_ptr(), len(token_ids), hidden.data_ptr())
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """(T, H) hidden states to (T, vocabulary) float32."""
        return self._head(hidden)

    def _run(self, found: Prepared, first: int, last: int, hidden: Tensor) -> None:
        shape = (found.step.rows, self.architecture.hidden_size)
        if hidden.shape != shape or hidden.dtype != self.dtype or not hidden.is_contiguous():
            raise ValueError("the hidden states are not the step's")
        floats = library().sg_scratch_floats(self._model, found.struct, self._team.threads)
        if len(self._scratch) < floats:
            self._scratch = torch.empty(floats)
        library().sg_blocks(
            self._team.handle,
            self._model,
            found.cache.struct,
            found.struct,
            CScratch(self._scratch.data_ptr(), len(self._scratch)),
            first,
            last,
            hidden.data_ptr(),
        )

    def _normalised(self, x: Tensor) -> Tensor:
        out = torch.empty_like(x)
        library().sg_norm(
            x.data_ptr(),
            self._last_norm.data_ptr(),
            self.architecture.rms_eps,
            len(x),
            self.architecture.hidden_size,
            out.data_ptr(),
        )
        return out

    def _linear_of(self, weight: Tensor, bias: Tensor | None) -> NativeLinear:
        return NativeLinear(weight, bias, self.mode, self._team)

    def _table_of(self, table: Tensor) -> Tensor:
        return table.to(torch.float32 if self.mode == "float32" else torch.float16).contiguous()

    def _model_struct(self) -> CModel:
        shape = self.architecture
        return CModel(
            layers=shape.layers,
            hidden=shape.hidden_size,
            intermediate=shape.intermediate_size,
            heads=shape.heads,
            kv_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            vocabulary=shape.vocab_size,
            embedding_format=FORMATS[self._embedding.dtype],
            rms_eps=shape.rms_eps,
            embedding=self._embedding.data_ptr(),
            frequencies=self._frequencies.data_ptr(),
            last_norm=self._last_norm.data_ptr(),
            blocks=self._structs,
        )


def knows(architecture: Architecture) -> bool:
    """Whether the kernels have heads of such a width."""
    return architecture.head_dim % _LANES == 0


def _norm_of(weight: Tensor) -> Tensor:
    return weight.float().contiguous()


def _block_struct(block: Block[Tensor, NativeLinear]) -> CBlock:
    def at(norm: Tensor | None) -> int | None:
        return None if norm is None else norm.data_ptr()

    return CBlock(
        qkv=block.qkv.struct,
        output=block.output.struct,
        gate_up=block.gate_up.struct,
        down=block.down.struct,
        input_norm=at(block.input_norm),
        mlp_norm=at(block.mlp_norm),
        query_norm=at(block.query_norm),
        key_norm=at(block.key_norm),
    )
