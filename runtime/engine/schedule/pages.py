"""The pages of the key-value cache, as numbers with holders.

A page is free, or held: once by each sequence whose block table names it, and once by the prefix cache if
that may hand it out again. What no one holds is free at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar

_Entry = TypeVar("_Entry")

NULL_PAGE = 0
"""Pads block tables on the device, so it is never given out."""
_SLICE = 1024
"""Entries that an audit checks between pauses: well below 2 ms."""


class IntegrityError(Exception):
    """The books do not balance: a page is lost, free while held, or held by nobody that is known."""


class PagePool:
    """Who holds which page.

    Args:
        pages: how many there are, the null page included.
        page_size: positions in each.
    """

    def __init__(self, pages: int, page_size: int) -> None:
        if pages <= 1 or page_size < 1:
            raise ValueError(f"{pages} pages of {page_size}")
        self.page_size = page_size
        self.usable = pages - 1
        self._free = list(range(self.usable, NULL_PAGE, -1))
        self._holders = [0] * pages

    @property
    def free(self) -> int:
        """Pages that nobody holds."""
        return len(self._free)

    def take(self) -> int:
        """A free page, held once. There must be one."""
        page = self._free.pop()
        self._holders[page] = 1
        return page

    def hold(self, page: int) -> int:
        """Hold a page once more; how many holders it has then."""
        holders = self._holders[page] + 1
        if holders == 1:
            raise IntegrityError(f"page {page} is free and cannot be shared")
        self._holders[page] = holders
        return holders

    def release(self, page: int) -> int:
        """Let go of a page; how many holders are left. At none it is free."""
        holders = self._holders[page] - 1
        if holders < 0:
            raise IntegrityError(f"page {page} is let go of, but nobody holds it")
        self._holders[page] = holders
        if holders == 0:
            self._free.append(page)
        return holders

    def blocks(self, positions: int) -> int:
        """Pages that this many positions need."""
        return -(-positions // self.page_size)

    def verify(self, expected: Mapping[int, int]) -> None:
        """All of ``audit`` at once, for holders by page; absent pages have none."""
        for _ in self.audit([expected.get(page, 0) for page in range(len(self._holders))]):
            pass

    def audit(self, expected: Sequence[int]) -> Iterator[None]:
        """Compare with who should hold what, with pauses in which nothing may change.

        Args:
            expected: each page's holders, as counted from block tables and cache.

        Raises:
            IntegrityError: on the first difference.
        """
        free = bytearray(len(self._holders))  # not a set: growing one takes longer than any other part
        for part in slices(self._free):
            for page in part:
                if free[page] or page == NULL_PAGE:
                    raise IntegrityError("a page is free twice, or the null page is free")
                free[page] = 1
            yield
        for pages in slices(range(len(self._holders))):
            for page in pages:
                if self._holders[page] != expected[page]:
                    raise IntegrityError(
                        f"page {page} has {self._holders[page]} holders, {expected[page]} are known"
                    )
                if page != NULL_PAGE and (expected[page] == 0) != free[page]:
                    raise IntegrityError(f"page {page} has {expected[page]} holders and is on the wrong list")
            yield


def slices(entries: Iterable[_Entry]) -> Iterator[list[_Entry]]:
    """``entries`` in the parts that an audit checks between pauses."""
    rest = iter(entries)
    while part := list(islice(rest, _SLICE)):
        yield part
