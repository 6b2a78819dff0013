"""Walk through all kernels at odd shapes, in a process of its own whose library watches its memory.

Run: python -m tests.simulators.native_walk LIBRARY
"""

from __future__ import annotations

import sys

import torch

from runtime.engine.lora.batch import LoraBatch
from runtime.engine.lora.shape import BaseShape
from runtime.engine.lora.tables import LoraTables, Placed
from runtime.engine.run.batch import Piece
from runtime.engine.run.native import library as module
from runtime.engine.run.native.cache import NativeCache
from runtime.engine.run.native.decoder import NativeRunner
from runtime.engine.run.native.library import CCache, Team
from runtime.engine.run.native.linear import NativeLinear
from runtime.engine.run.weights import WEIGHT_MODES, WeightMode
from tests.simulators.random_weights import RandomWeights, small

SHAPES = (
    small(),
    small(heads=7, kv_heads=1, head_dim=24, hidden_size=33, intermediate_size=47, vocab_size=17, layers=1),
    small(heads=13, kv_heads=13, head_dim=8, hidden_size=65, intermediate_size=3, query_key_norm=True),
    small(heads=2, kv_heads=1, head_dim=128, hidden_size=130, intermediate_size=64, layers=1),
)


def on_the_heap(cache: NativeCache) -> None:
    """Give a cache a pool whose ends are watched: the mapped one's are not."""
    old = cache.struct
    cache._pool = cache._pool.clone()
    cache.struct = CCache(cache._pool.data_ptr(), old.layer_stride, old.page_size, old.format)


def products(mode: WeightMode, team: Team) -> None:
    """Of every remainder of a panel, a pair, a group and a strip."""
    for outputs, columns in ((1, 1), (15, 63), (16, 64), (17, 65), (65, 1), (70, 131)):
        bias = torch.randn(outputs)
        for given in (None, bias):
            linear = NativeLinear(torch.randn(outputs, columns), given, mode, team)
            for rows in range(1, 15):
                linear(torch.randn(rows, columns))


def steps(mode: WeightMode, threads: int) -> None:
    """Whole, in pieces, decoding; the last page full or not; with adapters in the tables' last places."""
    for architecture in SHAPES:
        runner = NativeRunner(architecture, RandomWeights(biases=True), mode, threads)
        shape = BaseShape.of(architecture)
        tables = LoraTables(shape, 5, runner.adapter_dtype)
        placed = Placed("last", (4, 0), tuple((group.name, 2) for group in shape.groups))
        last = architecture.vocab_size - 1
        for page_size in (1, 3, 8, 16):
            cache = runner.cache(2 + 2 * -(-40 // page_size), page_size)
            on_the_heap(cache)
            first, second = range(cache.pages - 1, 0, -2), range(cache.pages - 2, 0, -2)
            for start, ends in ((0, (19, 32)), (32, (33, 33)), (33, (40, 34))):
                pieces = [Piece([last] * (ends[0] - min(start, 19)), min(start, 19), first)]
                if start != 33:
                    pieces.append(Piece([0] * (ends[1] - start), start, second, 0))
                step = runner.batch(pieces, cache)
                spans = [(placed, len(pieces[0].tokens)), (None, step.rows - len(pieces[0].tokens))]
                adapters = LoraBatch(tables, spans)
                runner.logits(runner.forward(step, cache, adapters if page_size != 3 else None))
        runner.embedded(torch.tensor([0, last]))


def main() -> None:
    """Walk."""
    path = sys.argv[1]
    module._path = lambda: path  # type: ignore[assignment]  # the library that is watched
    torch.manual_seed(1)
    for mode in WEIGHT_MODES:
        for threads in (1, 3):
            products(mode, Team(threads))
            steps(mode, threads)
    sys.stdout.write("walked\n")


if __name__ == "__main__":
    main()
