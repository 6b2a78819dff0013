"""What one step computes, as tensors: made once on the host, read by every layer.

Rows of all sequences lie one after the other. Those at the front that advance by one token, the decoding
ones, attend together in groups of like length; each of the others, a piece of a prompt, attends by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor

from runtime.engine.schedule.pages import NULL_PAGE

_GROUP_TOKENS = 1 << 15
"""Positions that one group reads at once, padding included: bounds the copy that gathering makes."""
_LONGEST_OVER_SHORTEST = 2
"""Within a group; what is shorter goes to the next, so that padding at most doubles what is read."""
_SHORT_PAGES = 8
"""Up to this many pages padding costs less than another group."""


@dataclass(frozen=True, repr=False)
class Piece:
    """The next tokens of one sequence.

    Args:
        tokens: to run, at least one.
        start: the position of the first.
        pages: the sequence's block table, at least as far as the last token.
        logits: how many of the last tokens' rows to make logits for; 0 while a prompt is incomplete.
    """

    tokens: Sequence[int]
    start: int
    pages: Sequence[int]
    logits: int = 1

    def __repr__(self) -> str:
        return f"Piece({len(self.tokens)} from {self.start})"

    @property
    def end(self) -> int:
        """The position after the last token."""
        return self.start + len(self.tokens)


@dataclass(frozen=True, repr=False)
class DecodeGroup:
    """S decoding rows that attend together.

    Args:
        rows: which of the step's, (S,), or None for the first S in order.
        pages: (S * P,) block tables, padded with the null page.
        mask: (S, 1, 1, P * page_size), minus infinity beyond each sequence.
    """

    rows: Tensor | None
    pages: Tensor
    mask: Tensor


@dataclass(frozen=True, repr=False)
class Chunk:
    """Consecutive rows of one prompt.

    Args:
        rows: which of the step's.
        pages: (P,) that hold the prompt as far as the chunk's end; None if the chunk is all there is.
        mask: (r, P * page_size), minus infinity at what comes after each row; None with ``pages``.
    """

    rows: slice
    pages: Tensor | None
    mask: Tensor | None


@dataclass(frozen=True, repr=False)
class StepBatch:
    """One step: R rows of S sequences.

    Args:
        token_ids: (R,) int64.
        positions: (R,) int64.
        slots: (R,) int64, where each row's key and value go in the cache.
        fresh_pages: (F,) int64, pages whose first position is written now; None if there are none.
        groups: of the rows that decode.
        chunks: of the others.
        logit_rows: (T,) int64, the rows that logits are made for, in order; None for all R.
    """

    token_ids: Tensor
    positions: Tensor
    slots: Tensor
    fresh_pages: Tensor | None
    groups: tuple[DecodeGroup, ...]
    chunks: tuple[Chunk, ...]
    logit_rows: Tensor | None

    def __repr__(self) -> str:
        return f"StepBatch({len(self.token_ids)} rows, {len(self.groups)} groups, {len(self.chunks)} chunks)"

    @classmethod
    def of(
        cls, pieces: Sequence[Piece], page_size: int, dtype: torch.dtype, device: torch.device
    ) -> StepBatch:
        """The tensors of a step; the rows are the pieces' tokens in order.

        Args:
            pieces: at least one; the decoding ones first.
            page_size: of the cache.
            dtype: of the activations, thus of the masks.
            device: of the model.
        """
        positions = [position for piece in pieces for position in range(piece.start, piece.end)]
        slots = [
            piece.pages[position // page_size] * page_size + position % page_size
            for piece in pieces
            for position in range(piece.start, piece.end)
        ]
        fresh = [slot // page_size for slot in slots if slot % page_size == 0]
        wanted = list(logit_rows(pieces))
        decoding = list(takewhile(lambda piece: len(piece.tokens) == 1, pieces))

        def indices(values: Sequence[int]) -> Tensor:
            return torch.tensor(values, dtype=torch.int64, device=device)

        groups = [
            _group(pieces, rows, None if len(rows) == len(decoding) else indices(rows), page_size, dtype)
            for rows in _like_lengths([-(-piece.end // page_size) for piece in decoding], page_size)
        ]
        return cls(
            token_ids=indices([token for piece in pieces for token in piece.tokens]),
            positions=indices(positions),
            slots=indices(slots),
            fresh_pages=indices(fresh) if fresh else None,
            groups=tuple(
                DecodeGroup(group.rows, group.pages.to(device), group.mask.to(device)) for group in groups
            ),
            chunks=tuple(_chunks(pieces[len(decoding) :], len(decoding), page_size, dtype, device)),
            logit_rows=None if len(wanted) == len(positions) else indices(wanted),
        )


def logit_rows(pieces: Sequence[Piece]) -> Iterator[int]:
    """The rows that logits are made for, in order."""
    end = 0
    for piece in pieces:
        end += len(piece.tokens)
        yield from range(end - piece.logits, end)


def _like_lengths(pages: Sequence[int], page_size: int) -> list[list[int]]:
    """Rows by like numbers of pages, longest first; one group, in order, wherever that is cheap."""
    if not pages:
        return []
    longest = max(pages)
    alike = longest <= max(_SHORT_PAGES, _LONGEST_OVER_SHORTEST * min(pages))
    if alike and longest * len(pages) * page_size <= _GROUP_TOKENS:
        return [list(range(len(pages)))]
    groups: list[list[int]] = []
    for row in sorted(range(len(pages)), key=lambda row: -pages[row]):
        if groups:
            first = pages[groups[-1][0]]
            near = first <= max(_SHORT_PAGES, _LONGEST_OVER_SHORTEST * pages[row])
            if near and first * (len(groups[-1]) + 1) * page_size <= _GROUP_TOKENS:
                groups[-1].append(row)
                continue
        groups.append([row])
    return groups


def _group(
    pieces: Sequence[Piece],
    rows: Sequence[int],
    row_indices: Tensor | None,
    page_size: int,
    dtype: torch.dtype,
) -> DecodeGroup:
    ends = torch.tensor([pieces[row].end for row in rows])
    width = -(-int(ends.max()) // page_size)
    table = torch.full((len(rows), width), NULL_PAGE, dtype=torch.int64)
    for line, row in enumerate(rows):
        used = -(-pieces[row].end // page_size)
        table[line, :used] = torch.tensor(pieces[row].pages[:used])
    beyond = torch.arange(width * page_size) >= ends.unsqueeze(1)
    mask = torch.zeros(beyond.shape, dtype=dtype).masked_fill_(beyond, float("-inf"))
    return DecodeGroup(row_indices, table.flatten(), mask[:, None, None, :])


def _chunks(
    pieces: Sequence[Piece], first_row: int, page_size: int, dtype: torch.dtype, device: torch.device
) -> Iterator[Chunk]:
    for piece in pieces:
        rows = slice(first_row, first_row + len(piece.tokens))
        first_row = rows.stop
        if piece.start == 0:
            yield Chunk(rows, None, None)
            continue
        used = -(-piece.end // page_size)
        later = torch.arange(used * page_size) > torch.arange(piece.start, piece.end).unsqueeze(1)
        mask = torch.zeros(later.shape, dtype=dtype).masked_fill_(later, float("-inf"))
        yield Chunk(rows, torch.tensor(piece.pages[:used], device=device), mask.to(device))
