"""What a Llama-family model looks like: the numbers its weights are shaped by.

Both sources of models (GGUF metadata and a Hugging Face ``config.json``) end here, and here their
numbers are bounded, before a single weight is allocated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from attest.refusal import Malformed

# Far above any published model of the family; a product of two of these still fits in memory arithmetic.
_BOUNDS = {
    "layers": 1024,
    "hidden_size": 1 << 17,
    "intermediate_size": 1 << 19,
    "heads": 1024,
    "kv_heads": 1024,
    "head_dim": 1024,
    "vocab_size": 1 << 21,
    "context_length": 1 << 24,
}


@dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are stretched for long contexts.

    Args:
        kind: ``"linear"`` or ``"llama3"``.
        factor: every (linear) or the low (llama3) frequencies are divided by it.
        low_freq_factor: llama3 only.
        high_freq_factor: llama3 only.
        original_context: llama3 only: the context length before stretching.

    Raises:
        Malformed: ``model-dimensions`` if a factor is out of range.
    """

    kind: str
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192

    def __post_init__(self) -> None:
        if not 1 <= self.factor < math.inf or not 0 < self.low_freq_factor < self.high_freq_factor < math.inf:
            raise Malformed("model-dimensions", "a rope scaling factor is out of range")
        if not 1 <= self.original_context <= _BOUNDS["context_length"]:
            raise Malformed("model-dimensions", "the rope's original context is out of range")


@dataclass(frozen=True)
class Architecture:
    """The shape of a Llama, Qwen2 or Qwen3 model.

    Args:
        layers: number of decoder blocks.
        hidden_size: width of the residual stream.
        intermediate_size: width inside the gated MLP.
        heads: query heads.
        kv_heads: key and value heads; divides ``heads``.
        head_dim: width of a head; even, for rotary embedding.
        vocab_size: rows of the embedding.
        context_length: positions the model was trained for.
        rms_eps: added to the mean square in RMSNorm.
        rope_theta: base of the rotary frequencies.
        rope_scaling: how they are stretched, if they are.
        query_key_norm: whether each query and key head is normalised before it is turned (Qwen3).

    Raises:
        Malformed: ``model-dimensions`` if a number is out of bounds or they contradict each other.
    """

    layers: int
    hidden_size: int
    intermediate_size: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    context_length: int
    rms_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None = None
    query_key_norm: bool = False

    def __post_init__(self) -> None:
        for name, limit in _BOUNDS.items():
            value = getattr(self, name)
            if not 1 <= value <= limit:
                raise Malformed("model-dimensions", f"{name} {value}, from 1 to {limit}")
        if self.heads % self.kv_heads:
            raise Malformed("model-dimensions", f"{self.heads} heads over {self.kv_heads} key heads")
        if self.head_dim % 2:
            raise Malformed("model-dimensions", f"head_dim {self.head_dim} is odd")
        if not 0 <= self.rms_eps < 1 or not 1 <= self.rope_theta < math.inf:
            raise Malformed("model-dimensions", "rms_eps or rope_theta out of range")

    @property
    def query_width(self) -> int:
        """Rows of the query projection."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Rows of the key projection, and of the value projection."""
        return self.kv_heads * self.head_dim
