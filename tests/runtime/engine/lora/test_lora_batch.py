"""A row gets its adapter's change, the same whoever shares the step."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from runtime.engine.lora.adapter import Adapter, AdapterLimits, read_adapter
from runtime.engine.lora.batch import LoraBatches, Span
from runtime.engine.lora.kernels import DENSE_WORK
from runtime.engine.lora.shape import BaseShape, Group
from runtime.engine.lora.tables import LoraTables, Placed
from tests.simulators.peft_adapters import PREFIX, adapter_files, lora_tensors, peft_config

BASE = "sha256:base"


@dataclass(frozen=True)
class Kind:
    """An adapter to make."""

    rank: int
    targets: tuple[str, ...] | None = None
    ranks: dict[str, int] = field(default_factory=dict)


KINDS = (
    Kind(1),
    Kind(4, targets=("q_proj", "v_proj")),
    Kind(8),
    Kind(16, targets=("o_proj", "down_proj")),
    Kind(64),
    Kind(4, ranks={"k_proj": 20, "up_proj": 9}),
)


class World:
    """A few placed adapters of mixed ranks and targets, with their plain tensors."""

    def __init__(self, shape: BaseShape, dtype: torch.dtype = torch.float32) -> None:
        self.shape = shape
        self.tables = LoraTables(shape, 40, dtype)
        self.tensors = [
            lora_tensors(shape, kind.rank, seed=seed, targets=kind.targets, ranks=kind.ranks)
            for seed, kind in enumerate(KINDS)
        ]
        self.placed = [self._place(*each) for each in zip(KINDS, self.tensors, strict=True)]

    def _place(self, kind: Kind, tensors: dict[str, Tensor]) -> Placed:
        config = peft_config(kind.rank, rank_pattern=kind.ranks, lora_alpha=kind.rank * 2)
        adapter = read(self.shape, tensors, config, self.tables.dtype)
        placed = self.tables.place(adapter.digest, adapter.weights)
        assert placed is not None
        return placed

    def change(self, index: int, group: Group, layer: int, x: Tensor) -> Tensor:
        """What PEFT's formula adds to the fused output of ``x``."""
        parts: list[Tensor] = []
        for target, width in zip(group.targets, group.outputs, strict=True):
            name = f"{PREFIX}.{layer}.{target}.lora_"
            down = self.tensors[index].get(f"{name}A.weight")
            up = self.tensors[index].get(f"{name}B.weight")
            rank = KINDS[index].rank
            scaling = 2 * rank / KINDS[index].ranks.get(target.rpartition(".")[2], rank)
            parts.append(
                torch.zeros(len(x), width) if down is None or up is None else x @ down.T @ up.T * scaling
            )
        return torch.cat(parts, dim=1)


def read(
    shape: BaseShape, tensors: dict[str, Tensor], config: dict[str, object], dtype: torch.dtype
) -> Adapter:
    """An adapter of the test's base."""
    return read_adapter(
        adapter_files(tensors, config), shape, base_model_digest=BASE, limits=AdapterLimits(), dtype=dtype
    )


@pytest.fixture(scope="module")
def world(tiny_shape: BaseShape) -> World:
    return World(tiny_shape)


def spans_of(world: World, choices: list[tuple[int | None, int]]) -> list[Span]:
    """Indices of adapters to where they lie."""
    return [(None if index is None else world.placed[index], rows) for index, rows in choices]


def inputs(group: Group, rows: int) -> tuple[Tensor, Tensor]:
    """Random rows and projections."""
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, group.inputs, generator=generator)
    return x, torch.randn(rows, sum(group.outputs), generator=generator)


choice = st.tuples(st.none() | st.integers(0, len(KINDS) - 1), st.sampled_from([1, 1, 1, 2, 7, DENSE_WORK]))


@settings(max_examples=60)
@given(choices=st.lists(choice, min_size=1, max_size=8), layer=st.integers(0, 1))
def test_each_row_gets_the_change_of_its_own_adapter(
    world: World, choices: list[tuple[int | None, int]], layer: int
) -> None:
    """Whatever adapters, ranks, targets and numbers of rows a step mixes."""
    batch = LoraBatches(world.tables).of(spans_of(world, choices))
    for group in world.shape.groups:
        x, y = inputs(group, sum(rows for _, rows in choices))
        expected = y.clone()
        first = 0
        for index, rows in choices:
            if index is not None:
                part = slice(first, first + rows)
                expected[part] += world.change(index, group, layer, x[part])
            first += rows
        if batch is not None:
            batch.apply(group.name, layer, x, y)
        torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-4)


@settings(max_examples=40)
@given(
    choices=st.lists(st.none() | st.integers(0, len(KINDS) - 1), min_size=2, max_size=12),
    order=st.randoms(use_true_random=False),
)
def test_a_decoding_row_does_not_depend_on_its_neighbours(
    world: World, choices: list[int | None], order: Random
) -> None:
    """Bit for bit: alone, or in any order among others."""
    batches = LoraBatches(world.tables)
    for group in world.shape.groups:
        x, y = inputs(group, len(choices))
        alone = y.clone()
        for row, index in enumerate(choices):
            batch = batches.of(spans_of(world, [(index, 1)]))
            if batch is not None:
                batch.apply(group.name, 0, x[row : row + 1], alone[row : row + 1])
        rows = list(range(len(choices)))
        order.shuffle(rows)
        together = y[rows]
        batch = batches.of(spans_of(world, [(choices[row], 1) for row in rows]))
        if batch is not None:
            batch.apply(group.name, 0, x[rows], together)
        assert torch.equal(together, alone[rows])


def test_a_view_of_a_wider_projection_is_changed_in_place(world: World) -> None:
    """The runner may hand a slice with strided rows; what lies beside it stays."""
    group = world.shape.groups[0]
    x, y = inputs(group, 3)
    wide = torch.cat((y, torch.full((3, 5), 7.0)), dim=1)
    batch = LoraBatches(world.tables).of(spans_of(world, [(0, 1), (None, 1), (2, 1)]))
    assert batch is not None
    batch.apply("qkv", 1, x, wide[:, : y.shape[1]])
    batch.apply("qkv", 1, x, y)
    assert torch.equal(wide[:, : y.shape[1]], y)
    assert (wide[:, y.shape[1] :] == 7).all()


def test_a_step_without_adapters_costs_nothing(world: World) -> None:
    """There is no batch to apply."""
    assert LoraBatches(world.tables).of([(None, 3), (None, 1)]) is None


def test_a_plan_is_kept_while_the_step_looks_alike(world: World) -> None:
    """And is made anew for other rows, or for another adapter in the same place."""
    batches = LoraBatches(world.tables)
    spans = spans_of(world, [(0, 1), (1, 1)])
    first = batches.of(spans)
    assert batches.of(list(spans)) is first
    assert batches.of(spans_of(world, [(0, 1), (1, 2)])) is not first
    other = Placed("sha256:other", world.placed[0].units, world.placed[0].group_units)
    again = batches.of(spans)
    assert batches.of([(other, 1), spans[1]]) is not again


def test_bfloat16_differs_by_rounding_only(tiny_shape: BaseShape) -> None:
    """Activations and tables in bfloat16: within its precision of float32."""
    narrow = World(tiny_shape, torch.bfloat16)
    batch = LoraBatches(narrow.tables).of(spans_of(narrow, [(2, 1), (4, 1), (5, 1), (4, 16)]))
    assert batch is not None
    for group in tiny_shape.groups:
        x, _ = inputs(group, 19)
        y = torch.zeros(19, sum(group.outputs), dtype=torch.bfloat16)
        batch.apply(group.name, 0, x.bfloat16(), y)
        expected = torch.cat(
            [
                narrow.change(index, group, 0, x[rows])
                for index, rows in ((2, [0]), (4, [1]), (5, [2]), (4, range(3, 19)))
            ]
        )
        torch.testing.assert_close(y.float(), expected, atol=0.1, rtol=0.05)


def test_tables_that_indices_cannot_reach_are_refused(tiny_shape: BaseShape) -> None:
    """Before any memory is taken."""
    with pytest.raises(ValueError, match="at most"):
        LoraTables(tiny_shape, 1 << 30, torch.float32)
