"""The CUDA kernels compute what the reference does, in Triton's interpreter; they await hardware."""

from __future__ import annotations

import importlib

import pytest
import torch

from runtime.engine.lora import kernels
from runtime.engine.lora.batch import LoraBatches
from runtime.engine.lora.shape import BaseShape
from runtime.engine.lora.tables import GroupWeights, LoraTables, Placed


def test_the_fused_kernels_agree_with_weighted_sums(
    tiny_shape: BaseShape, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mixed units, rows without an adapter, and strided outputs."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    pytest.importorskip("triton", reason="Triton comes with CUDA builds of torch")
    fused = importlib.import_module("runtime.engine.lora.triton_kernels")
    torch.manual_seed(3)
    tables = LoraTables(tiny_shape, 8, torch.float32)
    placed: list[Placed | None] = [None]
    for units in (1, 2, 3):
        weights = {
            group.name: GroupWeights(
                torch.randn(2, units, *group.down_shape), torch.randn(2, units, *group.up_shape)
            )
            for group in tiny_shape.groups
        }
        placed.append(tables.place(str(units), weights))
    for choice in ([1, 1], [0, 2, 1, 3], [3, 0], [2]):
        batch = LoraBatches(tables).of([(placed[index], 1) for index in choice])
        assert batch is not None
        for group in tiny_shape.groups:
            bags = batch._plans[group.name].bags
            assert bags is not None
            x = torch.randn(len(choice), group.inputs)
            y = torch.randn(len(choice), sum(group.outputs) + 3)
            other = y.clone()
            kernels.add_bags(tables.layers[1][group.name], bags, x, y[:, :-3])
            fused.add_bags(tables.layers[1][group.name], bags, x, other[:, :-3])
            torch.testing.assert_close(other, y, atol=1e-4, rtol=1e-4)
