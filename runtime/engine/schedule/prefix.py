"""Whole pages computed once and used again by later sequences of the same owner.

A sequence's pages come and go through here. ``attach`` gives it the cached pages its tokens begin with,
``extend`` gives it fresh ones (dropping cached pages that nobody uses), ``publish`` offers its whole
computed pages to later sequences, ``detach`` takes all its pages back.

Only whole blocks are shared and a whole block is never written again, so no page is ever copied. If two
sequences computed the same block, the second lets go of its own and goes on with the first's: the block
table of a sequence names, for every published block, the page that the cache has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from runtime.engine.schedule.digests import PrefixDigest
from runtime.engine.schedule.idle import IdlePages
from runtime.engine.schedule.pages import IntegrityError, PagePool, slices
from runtime.engine.schedule.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Share:
    """How the cache is divided between tenants.

    Args:
        per_tenant: whether it is. If not, the least recently used page of all goes first.
        protected: part of all pages (0 to 1) that is set aside in equal parts for the idle pages of those
            tenants that have some: a tenant's part is never dropped for another's sake, unless that other's
            sequence is the only one running and could not go on.
    """

    per_tenant: bool = True
    protected: float = 0.25


@dataclass(slots=True)
class PrefixCounts:
    """Since start: blocks of prompts looked up and found, and pages dropped to make room."""

    looked_up: int = 0
    found: int = 0
    dropped: int = 0


class PrefixCache:
    """Cached blocks by name, over the pages of a pool.

    Args:
        pool: whose pages.
        key: for the names; 16 to 64 random bytes, new in each process.
        share: see there.
        enabled: whether blocks are kept at all. If not, every page is freed with its sequence.
    """

    def __init__(
        self, pool: PagePool, key: bytes, share: Share | None = None, *, enabled: bool = True
    ) -> None:
        share = share or Share()
        self.pool = pool
        self.counts = PrefixCounts()
        self._enabled = enabled
        self._name = PrefixDigest(key)
        self._idle = IdlePages(int(share.protected * pool.usable) if share.per_tenant else None)
        self._page_of: dict[bytes, int] = {}
        self._cached: dict[int, tuple[bytes, str]] = {}  # page: its block's name, and its tenant

    @property
    def cached(self) -> int:
        """Pages that a later sequence may find."""
        return len(self._cached)

    @property
    def idle(self) -> int:
        """Cached pages that no sequence uses: dropped when room is needed."""
        return self._idle.count

    def idle_of(self, tenant: str) -> int:
        """Idle pages of one tenant (of all, where the cache is not divided)."""
        return self._idle.of(tenant)

    def attach(self, sequence: Sequence) -> None:
        """Give a sequence without pages the cached ones its tokens begin with, and count them computed.

        At least one token stays to be run, so that there are logits to choose the next one from.
        """
        if not self._enabled:
            return
        size = self.pool.page_size
        limit = (len(sequence.tokens) - 1) // size
        if sequence.prefix_limit is not None:
            limit = min(limit, sequence.prefix_limit // size)
        pages = sequence.pages
        for block in range(limit):
            page = self._page_of.get(self._digest(sequence, block))
            if page is None:
                break
            if self.pool.hold(page) == 2:  # noqa: PLR2004 the cache and this sequence: it was idle
                self._idle.remove(sequence.owner.tenant, page)
            pages.append(page)
        sequence.cached_blocks = len(pages)
        sequence.computed = len(pages) * size

    def count(self, sequence: Sequence) -> None:
        """Count the blocks that a sequence looked up and found when it was attached."""
        self.counts.looked_up += (len(sequence.tokens) - 1) // self.pool.page_size
        self.counts.found += sequence.cached_blocks

    def extend(self, sequence: Sequence, pages: int, *, reserve: int = 0, last_resort: bool = False) -> bool:
        """Give a sequence fresh pages, all or none; whether it got them.

        Args:
            sequence: whose block table grows.
            pages: how many.
            reserve: how many more there must be for it to get any.
            last_resort: whether other tenants' protected pages may go too.
        """
        tenant = sequence.owner.tenant
        lacking = pages - self.pool.free
        if lacking + reserve > 0:
            spare = self._idle.count if last_resort else self._idle.spare(tenant)
            if lacking + reserve > spare:
                return False
            for page in self._idle.pop(tenant, lacking, force=last_resort):
                self._drop(page)
        take = self.pool.take
        for _ in range(pages):
            sequence.pages.append(take())
        return True

    def publish(self, sequence: Sequence) -> None:
        """Offer the whole computed pages of a sequence that are not cached yet."""
        if not self._enabled:
            return
        tenant = sequence.owner.tenant
        for block in range(sequence.cached_blocks, sequence.computed // self.pool.page_size):
            digest = self._digest(sequence, block)
            own = sequence.pages[block]
            page = self._page_of.setdefault(digest, own)
            if page == own:
                self.pool.hold(page)
                self._cached[page] = (digest, tenant)
            else:  # computed twice: one is enough
                if self.pool.hold(page) == 2:  # noqa: PLR2004 the cache and this sequence: it was idle
                    self._idle.remove(tenant, page)
                sequence.pages[block] = page
                self.pool.release(own)
            sequence.cached_blocks = block + 1

    def detach(self, sequence: Sequence, *, keep: bool = True) -> None:
        """Take all pages of a sequence back; the published ones stay cached, the others are free.

        Args:
            sequence: whose; it has computed nothing afterwards.
            keep: whether they do. If not, those that nobody else uses are forgotten.
        """
        idle = [
            page
            for page in reversed(sequence.pages)  # a block before the one it continues: see IdlePages
            if self.pool.release(page) == 1 and page in self._cached
        ]
        if not keep:
            for page in idle:
                self._drop(page)
        elif idle:
            self._idle.add(sequence.owner.tenant, idle)
        sequence.pages = []
        sequence.computed = 0
        sequence.cached_blocks = 0

    def clear(self) -> list[int]:
        """Forget every idle page; which they were, so that whoever has the memory can zero it."""
        pages = list(self._idle)
        for page in pages:
            self._idle.remove(self._cached[page][1], page)
            self._drop(page)
        return pages

    def verify(self, sequences: Iterable[Sequence]) -> None:
        """All of ``audit`` at once."""
        for _ in self.audit(sequences):
            pass

    def audit(self, sequences: Iterable[Sequence]) -> Iterator[None]:
        """Check the books against the block tables of all sequences that hold pages.

        Each pause comes after a small part; whoever lets anything change in one asks anew.

        Raises:
            IntegrityError: a page is lost, held by nobody known, idle while used or used while idle; a
                sequence has too few pages, or one of another owner.
        """
        holders = [0] * (1 + self.pool.usable)
        for part in slices(self._cached):
            for page in part:
                holders[page] += 1
            yield
        for sequence in sequences:
            for page in sequence.pages:
                holders[page] += 1
            self._verify_table(sequence)
            yield
        yield from self.pool.audit(holders)
        yield from self._audit_names()
        yield from self._audit_idle(holders)

    def _audit_names(self) -> Iterator[None]:
        if len(self._cached) != len(self._page_of):
            raise IntegrityError("cached pages and names differ")
        for part in slices(self._cached):
            if any(self._page_of.get(self._cached[page][0]) != page for page in part):
                raise IntegrityError("cached pages and names differ")
            yield

    def _audit_idle(self, holders: list[int]) -> Iterator[None]:
        """Idle are exactly the pages that only the cache holds, each once."""
        seen = bytearray(len(holders))
        for part in slices(self._idle):
            if any(page not in self._cached or holders[page] != 1 for page in part):
                raise IntegrityError("the idle pages are not those that only the cache holds")
            for page in part:
                seen[page] = 1
            yield
        alone = 0
        for part in slices(self._cached):
            alone += sum(holders[page] == 1 for page in part)
            yield
        if not seen.count(1) == self._idle.count == alone:
            raise IntegrityError("the idle pages are not those that only the cache holds")

    def _verify_table(self, sequence: Sequence) -> None:
        if self.pool.blocks(sequence.computed) > len(sequence.pages):
            raise IntegrityError(f"{sequence} has {len(sequence.pages)} pages")
        # Named anew from its tokens: a page of another owner or other tokens cannot have this name.
        digest = self._name.owner(sequence.owner)
        size = self.pool.page_size
        for block in range(sequence.cached_blocks):
            digest = self._name.block(digest, sequence.tokens[block * size : (block + 1) * size])
            if self._cached.get(sequence.pages[block]) != (digest, sequence.owner.tenant):
                raise IntegrityError(f"{sequence} holds a page that is not its block {block}")

    def _digest(self, sequence: Sequence, block: int) -> bytes:
        """The name of a whole block; kept with the sequence, block by block."""
        digests = sequence.digests
        size = self.pool.page_size
        while len(digests) <= block:
            start = len(digests) * size
            parent = digests[-1] if digests else self._name.owner(sequence.owner)
            digests.append(self._name.block(parent, sequence.tokens[start : start + size]))
        return digests[block]

    def _drop(self, page: int) -> None:
        digest, _ = self._cached.pop(page)
        del self._page_of[digest]
        self.pool.release(page)
        self.counts.dropped += 1
