"""The runner computes what transformers does: whole, in pieces, in company, in each mode."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from attest.refusal import Unsupported
from runtime.engine.run.batch import Piece, StepBatch
from runtime.engine.run.runner import Kernels
from runtime.engine.run.weights import Int8Linear, WeightMode, linear_for
from tests.simulators.laid_out import PAGE, LaidOut
from tests.simulators.tiny_models import save_folder, tiny_config

FAMILIES = {
    "llama": ("llama", {}),
    "llama with biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama tied": ("llama", {"tie_word_embeddings": True}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"head_dim": 32}),
}


def tokens(count: int, seed: int = 5) -> list[int]:
    return torch.randint(3, 300, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def reference_logits(reference: Any, ids: Sequence[int]) -> torch.Tensor:
    with torch.inference_mode():
        return reference(torch.tensor([list(ids)])).logits[0]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory, kernels: Kernels) -> tuple[LaidOut, Any]:
    folder = tmp_path_factory.mktemp("llama")
    reference = save_folder(folder, tiny_config("llama"))
    return LaidOut(folder, kernels=kernels), reference


@pytest.mark.parametrize("name", FAMILIES)
def test_the_logits_of_transformers(tmp_path: Path, name: str, kernels: Kernels) -> None:
    """Whole; in pieces; then token by token over scattered pages."""
    family, changes = FAMILIES[name]
    reference = save_folder(tmp_path, tiny_config(family, **changes))
    world = LaidOut(tmp_path, kernels=kernels)
    ids = tokens(90)
    expected = reference_logits(reference, ids)
    pages = [7, 3, 12, 5, 30, 2, 9, 21, 4, 1, 17, 8]
    torch.testing.assert_close(world.run(Piece(ids, 0, pages, 90)), expected, rtol=1e-4, atol=1e-4)
    parts = [(0, 13), (13, 40), (40, 41), (41, 80)] + [(i, i + 1) for i in range(80, 90)]
    rows = [world.run(Piece(ids[a:b], a, pages, b - a)) for a, b in parts]
    torch.testing.assert_close(torch.cat(rows), expected, rtol=1e-4, atol=1e-4)


def test_many_lengths_in_one_step(llama: tuple[LaidOut, Any]) -> None:
    """Decoding rows of very different lengths fall into several groups, beside pieces of prompts."""
    world, reference = llama
    lengths = [3, 150, 70, 8, 16, 17, 149, 2]
    prompts = [tokens(length, seed) for seed, length in enumerate(lengths)]
    tables, first = [], 1
    for length in lengths:
        tables.append(list(range(first, first + -(-length // PAGE))))
        first = tables[-1][-1] + 1
    for ids, pages in zip(prompts, tables, strict=True):
        if len(ids) > 1:
            world.run(Piece(ids[:-1], 0, pages, 0))
    late, late_pages = tokens(60, 99), list(range(first, first + 8))
    world.run(Piece(late[:20], 0, late_pages, 0))
    new, new_pages = tokens(25, 98), list(range(first + 8, first + 12))
    step = [Piece(ids[-1:], len(ids) - 1, pages) for ids, pages in zip(prompts, tables, strict=True)]
    step += [Piece(late[20:], 20, late_pages), Piece(new, 0, new_pages, 3)]
    batch = world.runner.batch(step, world.cache)
    if isinstance(batch, StepBatch):
        assert len(batch.groups) > 1
        assert len(batch.chunks) == 2
    found = world.run(*step)
    expected = [reference_logits(reference, ids)[-1:] for ids in [*prompts, late]]
    expected.append(reference_logits(reference, new)[-3:])
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-4)


def test_two_sequences_share_pages(llama: tuple[LaidOut, Any]) -> None:
    world, reference = llama
    ids = tokens(40)
    world.run(Piece(ids[:32], 0, [1, 2, 3, 4], 0))
    found = world.run(Piece(ids[32:], 32, [1, 2, 3, 4, 5]), Piece([9, 8], 32, [1, 2, 3, 4, 6]))
    torch.testing.assert_close(found[0], reference_logits(reference, ids)[-1], rtol=1e-4, atol=1e-4)
    other = reference_logits(reference, [*ids[:32], 9, 8])[-1]
    torch.testing.assert_close(found[1], other, rtol=1e-4, atol=1e-4)


def test_what_a_page_held_does_not_matter(llama: tuple[LaidOut, Any]) -> None:
    """Not even NaN, which a weight of zero would not hide; and the null page stays zero."""
    world, reference = llama
    ids = tokens(20)
    world.cache._pool[:, 40:60] = float("nan")
    found = world.run(Piece(ids[:19], 0, [41, 45, 50], 0)), world.run(Piece(ids[19:], 19, [41, 45, 50]))
    torch.testing.assert_close(found[1][0], reference_logits(reference, ids)[-1], rtol=1e-4, atol=1e-4)
    assert not world.cache._pool[:, 0].any()


@pytest.mark.parametrize("mode", ["bf16", "int8"])
def test_narrow_weights_are_near(tmp_path: Path, mode: WeightMode, kernels: Kernels) -> None:
    reference = save_folder(tmp_path, tiny_config("llama", attention_bias=True))
    ids = tokens(60)
    expected = reference_logits(reference, ids)
    found = LaidOut(tmp_path, mode, kernels).run(Piece(ids, 0, list(range(1, 9)), 60))
    error = (found - expected).norm() / expected.norm()
    assert error < {"bf16": 0.01, "int8": 0.12 if kernels == "torch" else 0.03}[mode]


@pytest.mark.parametrize("mode", ["float32", "bf16", "int8"])
def test_a_row_does_not_depend_on_the_others(mode: WeightMode) -> None:
    """Bit for bit in int8, whose sums are whole numbers; to rounding where a kernel differs by its rows."""
    random = torch.Generator().manual_seed(1)
    weight = torch.randn((96, 160), generator=random)
    linear = linear_for(mode, torch.device("cpu"))(weight, torch.randn(96, generator=random))
    rows = torch.randn((33, 160), generator=random)
    rows[5] *= 1000
    rows[6] = float("nan")
    together = linear(rows)
    for row in (0, 4, 5, 7, 32):
        alone = linear(rows[row : row + 1])[0]
        difference = (alone - together[row]).norm() / alone.norm()
        assert difference <= (0.0 if mode == "int8" else 1e-6)
    assert together[6].isnan().all()


def test_int8_sums_do_not_saturate() -> None:
    """The largest weights under the largest activations: 16 bits would overflow without a spare bit."""
    weight = torch.ones((64, 512))
    weight[1] = -1
    rows = torch.ones((3, 512))
    rows[1, ::2] = -1
    rows[2] = 0
    expected = rows @ weight.T
    torch.testing.assert_close(Int8Linear(weight, None)(rows), expected, rtol=0.02, atol=2.0)


def test_a_mode_the_device_lacks() -> None:
    with pytest.raises(Unsupported, match="weight-mode"):
        linear_for("int8", torch.device("cuda"))


def test_reprs_hold_no_tokens() -> None:
    piece = Piece([123, 124], 0, [1])
    assert repr(piece) == "Piece(2 from 0)"
    assert "123" not in repr(StepBatch.of([piece], PAGE, torch.float32, torch.device("cpu")))
