"""A row's bits do not depend on its company, on how its prompt was cut, on pages or on threads."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from runtime.engine.lora.adapter import AdapterLimits, read_adapter
from runtime.engine.lora.shape import BaseShape
from runtime.engine.lora.tables import LoraTables, Placed
from runtime.engine.run.batch import Piece
from runtime.engine.run.native.cache import NativeCache
from runtime.engine.run.native.decoder import NativeRunner
from runtime.engine.run.weights import WEIGHT_MODES, WeightMode
from tests.simulators.lora_runs import Run, greedy
from tests.simulators.peft_adapters import adapter_files, lora_tensors, peft_config
from tests.simulators.random_weights import RandomWeights, small

pytestmark = pytest.mark.usefixtures("native")

HEADS = {
    "4 over 2 of 8": small(),
    "1 over 1 of 8": small(heads=1, kv_heads=1),
    "4 over 4 of 24": small(heads=4, kv_heads=4, head_dim=24, query_key_norm=True),
    "7 over 1 of 64": small(heads=7, kv_heads=1, head_dim=64, hidden_size=33, intermediate_size=47),
    "6 over 3 of 128": small(heads=6, kv_heads=3, head_dim=128, layers=1, hidden_size=130),
    "13 over 1 of 8": small(heads=13, kv_heads=1, layers=1),
}
PAGE_SIZES = (1, 2, 8, 16, 24, 32)
LENGTH = 45


@functools.cache
def runner_of(heads: str, mode: WeightMode, threads: int) -> NativeRunner:
    return NativeRunner(HEADS[heads], RandomWeights(biases=True), mode, threads)


def tokens(seed: int, count: int = LENGTH) -> list[int]:
    return torch.randint(0, 50, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def run(runner: NativeRunner, cache: NativeCache, *pieces: Piece) -> Tensor:
    """Logits of the rows that they are wanted of."""
    return runner.logits(runner.forward(runner.batch(pieces, cache), cache))


def pages_of(count: int, page_size: int, first: int = 1) -> list[int]:
    """A table as scattered as it can be."""
    pages = list(range(first, first - (-count // page_size)))
    return pages[::2] + pages[1::2][::-1]


@functools.cache
def alone(heads: str, mode: WeightMode, seed: int) -> Tensor:
    """Logits of a whole sequence in one step, by one thread."""
    runner = runner_of(heads, mode, 1)
    cache = runner.cache(9, 16)
    return run(runner, cache, Piece(tokens(seed), 0, pages_of(LENGTH, 16), LENGTH))


def in_pieces(
    runner: NativeRunner,
    page_size: int,
    cuts: dict[int, list[int]],
    order: Callable[[int], int] = int,
) -> dict[int, Tensor]:
    """Several sequences, each cut at places of its own, their pieces in the same steps."""
    per = -(-LENGTH // page_size)
    cache = runner.cache(1 + per * len(cuts), page_size)
    tables = {seed: pages_of(LENGTH, page_size, 1 + per * index) for index, seed in enumerate(cuts)}
    bounds = {seed: [0, *sorted(each), LENGTH] for seed, each in cuts.items()}
    rows: dict[int, list[Tensor]] = {seed: [] for seed in cuts}
    for step in range(max(map(len, bounds.values())) - 1):
        now = sorted((seed for seed in cuts if step + 1 < len(bounds[seed])), key=order)
        pieces = []
        for seed in now:
            start, end = bounds[seed][step : step + 2]
            pieces.append(Piece(tokens(seed)[start:end], start, tables[seed], end - start))
        found = run(runner, cache, *pieces).split([len(piece.tokens) for piece in pieces])
        for seed, part in zip(now, found, strict=True):
            rows[seed].append(part)
    return {seed: torch.cat(parts) for seed, parts in rows.items()}


@pytest.mark.parametrize("mode", WEIGHT_MODES)
@pytest.mark.parametrize("heads", HEADS)
def test_whole_in_pieces_and_in_company_over_pages_of_any_size(heads: str, mode: WeightMode) -> None:
    for threads, page_size in enumerate(PAGE_SIZES):
        runner = runner_of(heads, mode, 1 + threads % 3)
        found = in_pieces(runner, page_size, {1: []})
        assert torch.equal(found[1], alone(heads, mode, 1))
        found = in_pieces(runner, page_size, {1: [13, 14, 32], 2: [1, 2, 3, 40], 3: [], 4: [44]})
        for seed, logits in found.items():
            assert torch.equal(logits, alone(heads, mode, seed)), (page_size, seed)


@settings(max_examples=40)
@given(
    heads=st.sampled_from(list(HEADS)),
    mode=st.sampled_from(WEIGHT_MODES),
    page_size=st.integers(1, 48),
    threads=st.integers(1, 3),
    cuts=st.dictionaries(
        st.integers(1, 4), st.sets(st.integers(1, LENGTH - 1), max_size=6).map(sorted), min_size=1
    ),
    turned=st.booleans(),
)
def test_cut_and_mixed_at_will(
    heads: str, mode: WeightMode, page_size: int, *, threads: int, cuts: dict[int, list[int]], turned: bool
) -> None:
    runner = runner_of(heads, mode, threads)
    found = in_pieces(runner, page_size, cuts, lambda seed: -seed if turned else seed)
    for seed, logits in found.items():
        assert torch.equal(logits, alone(heads, mode, seed))


@pytest.mark.parametrize("mode", WEIGHT_MODES)
def test_a_prefix_that_was_found_is_as_good_as_one_computed(mode: WeightMode) -> None:
    """Two sequences share the pages of their common beginning."""
    runner = runner_of("4 over 2 of 8", mode, 2)
    cache = runner.cache(12, 8)
    shared, tail = tokens(1), tokens(2, 10)
    run(runner, cache, Piece(shared, 0, [1, 2, 3, 4, 5, 6], 0))
    found = run(
        runner, cache, Piece(tail, 32, [1, 2, 3, 4, 7, 8], 10), Piece(shared[32:], 32, [1, 2, 3, 4, 9, 10])
    )
    other = runner.cache(12, 8)
    computed = run(runner, other, Piece(shared[:32] + tail, 0, [6, 5, 4, 3, 2, 1], 10))
    assert torch.equal(found[:10], computed)
    assert torch.equal(found[10], alone("4 over 2 of 8", mode, 1)[-1])


@pytest.mark.parametrize("mode", WEIGHT_MODES)
def test_a_page_is_cleared_when_it_is_used_again(mode: WeightMode) -> None:
    """Nothing that a stranger left, NaN or not, is kept or counts; the null page stays zeros."""
    runner = runner_of("4 over 2 of 8", mode, 1)
    cache = runner.cache(9, 16)
    cache._pool[:, 1:] = math.nan
    pages = pages_of(LENGTH, 16)
    first = run(runner, cache, Piece(tokens(1)[:17], 0, pages, 17))
    rest = run(runner, cache, Piece(tokens(1)[17:], 17, pages, LENGTH - 17))
    assert torch.equal(torch.cat((first, rest)), alone("4 over 2 of 8", mode, 1))
    assert not cache._pool[:, 0].any()
    used = LENGTH - 32
    keys, values = cache._pool[:, pages[2]].view(2, 2, 2, -1).unbind(1)
    assert not keys.view(2, 2, 8, 16)[..., used:].any()
    assert not values.view(2, 2, 16, 8)[:, :, used:].any()


@pytest.mark.parametrize("mode", WEIGHT_MODES)
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_sequence_that_is_no_number_is_nobody_elses(mode: WeightMode, poison: float) -> None:
    """By a token whose embedding is none: its own rows come out so, and no bit of the others' moves."""
    name, shape = "model.embed_tokens.weight", HEADS["4 over 2 of 8"]
    table = RandomWeights().take(name, (shape.vocab_size, shape.hidden_size))
    table[49, 3] = poison
    head = RandomWeights().take("lm_head.weight", (shape.vocab_size, shape.hidden_size))
    source = RandomWeights(changes={name: table, "lm_head.weight": head})
    runner = NativeRunner(shape, source, mode, 2)
    clean = [[token % 49 for token in tokens(seed)] for seed in (1, 2, 3)]

    def logits(middle: list[int]) -> Tensor:
        cache = runner.cache(40, 8)
        sequences = [clean[0], middle, clean[2]]
        steps = [
            [
                Piece(each[start:end], start, range(1 + 8 * index, 9 + 8 * index), end - start)
                for index, each in enumerate(sequences)
            ]
            for start, end in ((0, 20), (20, 21), (21, LENGTH))
        ]
        made = [run(runner, cache, *pieces).view(3, -1, shape.vocab_size) for pieces in steps]
        return torch.cat(made, dim=1)

    sound, bad = logits(clean[1]), logits([*clean[1][:5], 49, *clean[1][6:]])
    for index in (0, 2):
        assert torch.equal(sound[index], bad[index])
    assert not bad[1, 5].isfinite().any()


KINDS = ((1, None), (4, ("q_proj", "v_proj")), (8, None), (16, ("o_proj", "down_proj")), (33, None))


def placed(shape: BaseShape, tables: LoraTables) -> list[Placed]:
    """Ranks from 1 to 33, all linears or a few."""
    found = []
    for seed, (rank, targets) in enumerate(KINDS):
        tensors = lora_tensors(shape, rank, seed=seed, targets=targets)
        adapter = read_adapter(
            adapter_files(tensors, peft_config(rank)),
            shape,
            base_model_digest="sha256:base",
            limits=AdapterLimits(),
            dtype=tables.dtype,
        )
        place = tables.place(adapter.digest, adapter.weights)
        assert place is not None
        found.append(place)
    return found


@pytest.mark.parametrize("mode", WEIGHT_MODES)
@pytest.mark.parametrize("heads", ["4 over 2 of 8", "7 over 1 of 64"])
def test_adapters_of_mixed_ranks_beside_each_other(heads: str, mode: WeightMode) -> None:
    """Each as alone, bit for bit, whole or in pieces, with the base among them; and each matters."""
    runner = runner_of(heads, mode, 2)
    shape = BaseShape.of(runner.architecture)
    tables = LoraTables(shape, 20, runner.adapter_dtype)
    runs = [
        Run(tokens(index, 5 + 9 * index), each) for index, each in enumerate([*placed(shape, tables), None])
    ]
    single = [greedy(runner, tables, [each], 4)[0] for each in runs]
    plain = [greedy(runner, tables, [Run(each.prompt, None)], 1)[0] for each in runs[:-1]]
    for chunk in (3, 1 << 20):
        for one, found in zip(single, greedy(runner, tables, runs, 4, chunk), strict=True):
            assert found.tokens == one.tokens
            assert torch.equal(found.logits, one.logits)
    for one, base in zip(single, plain, strict=False):
        assert not torch.equal(one.logits[0], base.logits[0])


def test_two_runners_in_two_threads() -> None:
    """Each with threads of its own."""
    wrong: list[str] = []

    def work(mode: WeightMode, seed: int) -> None:
        expected = alone("4 over 2 of 8", mode, seed)
        for _ in range(30):
            found = in_pieces(runner_of("4 over 2 of 8", mode, 2), 8, {seed: [3, 30]})
            if not torch.equal(found[seed], expected):
                wrong.append(mode)

    jobs: list[tuple[WeightMode, int]] = [("bf16", 1), ("int8", 2)]
    for mode, seed in jobs:
        alone("4 over 2 of 8", mode, seed)
        runner_of("4 over 2 of 8", mode, 2)
    threads = [threading.Thread(target=work, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not wrong
