"""What one step computes, as the kernels read it: flat arrays, checked before they are believed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain

import numpy as np
import torch

from runtime.engine.run.batch import Piece, logit_rows
from runtime.engine.run.native.library import CStep


class NativeStep:
    """One step: R rows, the pieces' tokens in order. Its arrays live as long as it does.

    Args:
        pieces: at least one.
        page_size: of the cache.
        pages: of the cache.
        vocabulary: of the model.

    Raises:
        ValueError: a token or a page does not exist, a block table is too short, or logits are wanted of
            another piece's rows: the kernels do not check.
    """

    def __init__(self, pieces: Sequence[Piece], page_size: int, pages: int, vocabulary: int) -> None:
        if not pieces or any(
            piece.start < 0 or not 0 <= piece.logits <= len(piece.tokens) > 0 for piece in pieces
        ):
            raise ValueError("a piece without tokens, before its sequence, or with others' logits")
        self.made_for = (page_size, pages)
        tables = [piece.pages[: -(-piece.end // page_size)] for piece in pieces]
        if any(len(table) * page_size < piece.end for table, piece in zip(tables, pieces, strict=True)):
            raise ValueError("a block table ends before its piece")
        self.rows = sum(len(piece.tokens) for piece in pieces)
        self.tokens = np.fromiter(chain.from_iterable(piece.tokens for piece in pieces), np.int64, self.rows)
        positions = chain.from_iterable(range(piece.start, piece.end) for piece in pieces)
        self.positions = np.fromiter(positions, np.int32, self.rows)
        self.piece_rows = _firsts([len(piece.tokens) for piece in pieces])
        self.piece_pages = _firsts([len(table) for table in tables])
        self.pages = np.fromiter(chain.from_iterable(tables), np.int32, int(self.piece_pages[-1]))
        _require_within(self.tokens, vocabulary)
        _require_within(self.pages, pages)
        self.fresh_pages = tuple(
            page
            for piece, table in zip(pieces, tables, strict=True)
            for page in table[-(-piece.start // page_size) :]
        )
        wanted = list(logit_rows(pieces))
        self.logit_rows = None if len(wanted) == self.rows else torch.tensor(wanted, dtype=torch.int64)

    def __repr__(self) -> str:
        return f"NativeStep({self.rows} rows, {len(self.piece_rows) - 1} pieces)"

    def struct(self) -> CStep:
        """Over this step's arrays, without adapters."""
        return CStep(
            rows=self.rows,
            pieces=len(self.piece_rows) - 1,
            tokens=self.tokens.ctypes.data,
            positions=self.positions.ctypes.data,
            piece_rows=self.piece_rows.ctypes.data,
            piece_pages=self.piece_pages.ctypes.data,
            pages=self.pages.ctypes.data,
        )


def _firsts(sizes: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.array([0, *accumulate(sizes)], dtype=np.int32)


def _require_within(indices: np.ndarray[tuple[int], np.dtype[np.generic]], limit: int) -> None:
    if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < limit:
        raise ValueError(f"an index is outside {limit}")
