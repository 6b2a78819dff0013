"""A tiny base model's shape."""

from __future__ import annotations

import pytest

from runtime.engine.lora.shape import BaseShape
from runtime.model.architecture import Architecture


@pytest.fixture(scope="session")
def tiny_shape() -> BaseShape:
    """Of two layers, with grouped queries."""
    return BaseShape.of(
        Architecture(
            layers=2,
            hidden_size=32,
            intermediate_size=48,
            heads=4,
            kv_heads=2,
            head_dim=8,
            vocab_size=64,
            context_length=64,
            rms_eps=1e-5,
            rope_theta=1e4,
        )
    )
