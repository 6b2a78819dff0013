"""Nothing reaches the kernels that they would read or write out of bounds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.engine.lora.batch import LoraBatch
from runtime.engine.lora.shape import BaseShape
from runtime.engine.lora.tables import LoraTables, Placed
from runtime.engine.run.batch import Piece
from runtime.engine.run.native.adapters import NativeTables
from runtime.engine.run.native.decoder import NativeRunner
from runtime.engine.run.native.step import NativeStep
from tests.simulators.random_weights import RandomWeights, small

PAGE, PAGES, VOCABULARY = 8, 20, 50


def step(*pieces: Piece) -> NativeStep:
    return NativeStep(pieces, PAGE, PAGES, VOCABULARY)


@pytest.fixture(scope="module")
def runner(native: None) -> NativeRunner:
    return NativeRunner(small(), RandomWeights(), "float32", 2)


@pytest.mark.parametrize(
    "piece",
    [
        Piece([-1], 0, [1]),
        Piece([VOCABULARY], 0, [1]),
        Piece([1 << 40], 0, [1]),
        Piece([1], 0, [-1]),
        Piece([1], 0, [PAGES]),
        Piece([1] * 9, 0, [1]),
        Piece([1], 8, [1]),
        Piece([1], 0, []),
        Piece([1], -1, [1]),
        Piece([], 0, [1], 0),
        Piece([1, 2], 0, [1], 3),
        Piece([1, 2], 0, [1], -1),
    ],
    ids=[
        *("a token before the first", "a token after the last", "a token of 41 bits"),
        *("a page before the first", "a page after the last", "a short table", "a table that ends before"),
        *("no table", "a position before the first", "no tokens", "others' logits", "fewer logits than none"),
    ],
)
def test_a_piece_that_cannot_be(piece: Piece) -> None:
    sound = Piece([1, 2, 3], 0, [3])
    step(sound)
    for pieces in ((piece,), (sound, piece), (piece, sound)):
        with pytest.raises(ValueError, match=r"outside|ends before|without tokens"):
            step(*pieces)


def test_a_step_of_nothing() -> None:
    with pytest.raises(ValueError, match="without tokens"):
        step()


def test_what_a_step_writes_does_not_name_its_tokens() -> None:
    assert repr(step(Piece([17, 18], 0, [1]))) == "NativeStep(2 rows, 1 pieces)"


numbers = st.integers(-3, 60)
piece = st.builds(
    Piece,
    st.lists(numbers, max_size=20),
    st.integers(-2, 40),
    st.lists(st.integers(-1, 21), max_size=8),
    numbers,
)


@settings(max_examples=300)
@given(pieces=st.lists(piece, max_size=4))
def test_what_is_let_through_lies_within(pieces: list[Piece]) -> None:
    """Every index that the kernels follow, followed here."""
    try:
        made = step(*pieces)
    except ValueError:
        return
    assert made.rows == sum(len(each.tokens) for each in pieces) > 0
    assert len(made.piece_rows) == len(made.piece_pages) == len(pieces) + 1
    assert made.piece_rows[0] == made.piece_pages[0] == 0
    assert made.piece_rows[-1] == made.rows == len(made.tokens) == len(made.positions)
    assert made.piece_pages[-1] == len(made.pages)
    for index, each in enumerate(pieces):
        for row in range(made.piece_rows[index], made.piece_rows[index + 1]):
            position = int(made.positions[row])
            assert position == each.start + row - made.piece_rows[index] >= 0
            at = made.piece_pages[index] + position // PAGE
            assert at < made.piece_pages[index + 1]
            assert made.pages[at] == each.pages[position // PAGE]
            assert 0 <= made.pages[at] < PAGES
            assert made.tokens[row] == each.tokens[row - made.piece_rows[index]]
            assert 0 <= made.tokens[row] < VOCABULARY
    fresh = {page for each in pieces for page in each.pages[-(-each.start // PAGE) : -(-each.end // PAGE)]}
    assert set(made.fresh_pages) == fresh
    wanted = range(made.rows) if made.logit_rows is None else made.logit_rows.tolist()
    assert all(0 <= row < made.rows for row in wanted)


def test_a_step_for_another_cache(runner: NativeRunner) -> None:
    """Of more pages, or of larger ones."""
    made = runner.batch([Piece([1], 0, [15])], runner.cache(16, PAGE))
    for other in (runner.cache(15, PAGE), runner.cache(16, PAGE // 2), runner.cache(16, 2 * PAGE)):
        with pytest.raises(ValueError, match="another cache"):
            runner.forward(made, other)


def test_hidden_states_of_another_step(runner: NativeRunner) -> None:
    cache = runner.cache(4, PAGE)
    found = runner.prepare(runner.batch([Piece([1, 2], 0, [1])], cache), cache)
    right = torch.zeros(2, 40)
    runner.block(0, right, found)
    for wrong in (torch.zeros(1, 40), torch.zeros(2, 39), torch.zeros(2, 40).double(), torch.zeros(40, 2).T):
        with pytest.raises(ValueError, match="hidden states"):
            runner.block(0, wrong, found)


def test_tokens_that_have_no_embedding(runner: NativeRunner) -> None:
    assert runner.embedded(torch.tensor([0, 49], dtype=torch.int32)).shape == (2, 40)
    for wrong in (-1, 50):
        with pytest.raises(ValueError, match="outside"):
            runner.embedded(torch.tensor([3, wrong]))


def _batch(runner: NativeRunner, units: tuple[int, ...], rows: int, **changes: int) -> LoraBatch:
    shape = BaseShape.of(small(**changes) if changes else runner.architecture)
    groups = tuple((group.name, len(units)) for group in shape.groups)
    return LoraBatch(LoraTables(shape, 3, torch.float32), [(Placed("a", units, groups), rows)])


def test_adapters_that_are_not_the_steps(runner: NativeRunner) -> None:
    """Of other rows, of another base, or of places that the tables do not have."""
    cache = runner.cache(4, PAGE)
    made = runner.batch([Piece([1, 2], 0, [1])], cache)
    runner.forward(made, cache, _batch(runner, (0, 2), 2))
    for wrong, reason in (
        (_batch(runner, (0,), 1), "another step"),
        (_batch(runner, (0,), 3), "another step"),
        (_batch(runner, (0,), 2, intermediate_size=64), "another base"),
        (_batch(runner, (0,), 2, layers=1), "another base"),
        (_batch(runner, (3,), 2), "outside its tables"),
        (_batch(runner, (-1,), 2), "outside its tables"),
    ):
        with pytest.raises(ValueError, match=reason):
            runner.forward(made, cache, wrong)


def test_more_linears_in_a_group_than_the_kernels_know() -> None:
    sound = BaseShape.of(small())
    group = sound.groups[0]
    wide = type(group)(group.name, (*group.targets, "more"), group.inputs, (*group.outputs, 16))
    tables = LoraTables(BaseShape(sound.layers, (wide, *sound.groups[1:])), 1, torch.float32)
    with pytest.raises(ValueError, match="4 linears"):
        NativeTables(tables)
