"""Pages are shared by whoever may share them, and by nobody else."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.engine.schedule.digests import PrefixDigest
from runtime.engine.schedule.idle import IdlePages
from runtime.engine.schedule.pages import IntegrityError, PagePool
from runtime.engine.schedule.prefix import PrefixCache, Share
from runtime.engine.schedule.sequence import Owner, Sequence

KEY = bytes(range(16))
PAGE = 4
TEXT = st.text(max_size=4)


def cache_of(pages: int, share: Share | None = None) -> PrefixCache:
    """A cache over so many usable pages."""
    return PrefixCache(PagePool(pages + 1, PAGE), KEY, share)


def run(cache: PrefixCache, owner: Owner, prompt: list[int], **options: int) -> Sequence:
    """A sequence that has computed its whole prompt."""
    sequence = Sequence("s", owner, prompt, 1, **options)
    cache.attach(sequence)
    sequence.reused = sequence.computed
    assert cache.extend(sequence, cache.pool.blocks(len(prompt)) - len(sequence.pages), last_resort=True)
    sequence.computed = len(prompt)
    cache.publish(sequence)
    return sequence


def test_the_same_owner_finds_whole_blocks() -> None:
    """As many whole blocks as are equal, but never the last token."""
    cache = cache_of(20)
    first = run(cache, Owner("a"), [1] * 10)
    second = run(cache, Owner("a"), [1] * 8 + [2, 2])
    assert (first.reused, second.reused) == (0, 8)
    assert first.pages[:2] == second.pages[:2]
    assert run(cache, Owner("a"), [1] * 8).reused == 4


@pytest.mark.parametrize(
    ("one", "other"),
    list(
        itertools.combinations(
            [
                Owner("a"),
                Owner("b"),
                Owner("a", "x"),
                Owner("a", "", ""),
                Owner("a", "", "x"),
                Owner("ax"),
                Owner("", "ax"),
            ],
            2,
        )
    ),
    ids=repr,
)
def test_no_two_owners_share(one: Owner, other: Owner) -> None:
    """Tenant, label domain and adapter all count, and where one ends and the next begins does too."""
    cache = cache_of(20)
    first = run(cache, one, [1] * 9)
    second = run(cache, other, [1] * 9)
    assert second.reused == 0
    assert not set(first.pages) & set(second.pages)
    cache.verify([first, second])


@given(
    st.builds(Owner, TEXT, TEXT, st.none() | TEXT),
    st.builds(Owner, TEXT, TEXT, st.none() | TEXT),
    st.lists(st.integers(0, (1 << 32) - 1), max_size=4),
    st.lists(st.integers(0, (1 << 32) - 1), max_size=4),
)
def test_names_are_equal_for_equals_only(
    one: Owner, other: Owner, tokens: list[int], others: list[int]
) -> None:
    """Owner and tokens decide the name, and a block's name is never an owner's."""
    names = PrefixDigest(KEY)
    first = names.block(names.owner(one), tokens)
    second = names.block(names.owner(other), others)
    assert (first == second) == ((one, tokens) == (other, others))
    assert names.owner(one) != first
    assert first != PrefixDigest(KEY[::-1]).block(PrefixDigest(KEY[::-1]).owner(one), tokens)


def test_a_short_key_is_no_key() -> None:
    """The names of blocks need a key worth the name."""
    with pytest.raises(ValueError, match="short"):
        PrefixDigest(bytes(15))


def test_a_block_computed_twice_is_kept_once() -> None:
    """Who computes what another has published goes on with the other's page."""
    cache = cache_of(20)
    first, second = (Sequence(name, Owner("a"), [1] * 9, 1) for name in "xy")
    for sequence in (first, second):
        cache.attach(sequence)
        cache.extend(sequence, 3)
        sequence.computed = 8
    free = cache.pool.free
    cache.publish(first)
    cache.publish(second)
    assert second.pages[:2] == first.pages[:2]
    assert cache.pool.free == free + 2
    cache.verify([first, second])


def test_wanted_rows_are_computed_again() -> None:
    """Positions whose logits are wanted are not taken from the cache."""
    cache = cache_of(20)
    run(cache, Owner("a"), [1] * 16)
    assert run(cache, Owner("a"), [1] * 16, prefix_limit=9).reused == 8
    assert run(cache, Owner("a"), [1] * 16, prefix_limit=0).reused == 0


def test_the_past_of_a_block_outlives_it() -> None:
    """Room is made from the end of a prefix, so that what stays can still be found."""
    cache = cache_of(5)
    cache.detach(run(cache, Owner("a"), [1] * 16))
    cache.detach(run(cache, Owner("a"), [2] * 12))  # three pages: one is free, two are made
    assert run(cache, Owner("a"), [1] * 12).reused == 8


def test_least_recently_used_goes_first() -> None:
    """A prefix used again stays longer than one used before it."""
    cache = cache_of(4)
    cache.detach(run(cache, Owner("a"), [1] * 4))
    cache.detach(run(cache, Owner("a"), [2] * 4))
    cache.detach(run(cache, Owner("a"), [1] * 5))
    cache.detach(run(cache, Owner("a"), [3] * 12))
    assert run(cache, Owner("a"), [2] * 5).reused == 0


def test_a_failed_sequence_leaves_nothing() -> None:
    """What a sequence computed that then failed is not found by the next."""
    cache = cache_of(20)
    cache.detach(run(cache, Owner("a"), [1] * 9), keep=False)
    assert cache.pool.free == 20
    assert run(cache, Owner("a"), [1] * 9).reused == 0


def test_all_idle_pages_can_be_forgotten() -> None:
    """They are named, for zeroing, and free; those in use stay."""
    cache = cache_of(20)
    used = run(cache, Owner("a"), [1] * 9)
    cache.detach(run(cache, Owner("b"), [1] * 9))
    assert len(cache.clear()) == 2
    assert cache.pool.free == 20 - len(used.pages)
    cache.verify([used])


def test_a_flood_spares_the_other_tenant() -> None:
    """One tenant's many prompts drop its own pages; another's prefix is still there."""
    for share, kept in ((Share(), 12), (Share(per_tenant=False), 0)):
        cache = cache_of(24, share)
        cache.detach(run(cache, Owner("quiet"), [1] * 12))
        for flood in range(2, 40):
            cache.detach(run(cache, Owner("loud"), [flood] * 16))
        assert run(cache, Owner("quiet"), [1] * 13).reused == kept


def test_running_sequences_do_not_take_a_protected_part() -> None:
    """A tenant's part stays though others could use the pages, but for a sequence that runs alone."""
    cache = cache_of(16, Share(protected=0.5))
    cache.detach(run(cache, Owner("quiet"), [1] * 32))
    running = Sequence("s", Owner("loud"), [2] * 60, 1)
    assert not cache.extend(running, 9)
    assert cache.extend(running, 8)
    assert cache.idle_of("quiet") == 8
    assert not cache.extend(running, 1)
    assert cache.extend(running, 1, last_resort=True)
    cache.verify([running])


def test_a_tenant_may_take_its_own_part() -> None:
    """What is protected is protected from others."""
    cache = cache_of(16, Share(protected=1.0))
    cache.detach(run(cache, Owner("a"), [1] * 64))
    assert cache.extend(Sequence("s", Owner("a"), [2] * 60, 1), 16)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 6), st.booleans()), max_size=60))
def test_whoever_has_most_gives(events: list[tuple[str, int, bool]]) -> None:
    """At every drop the largest queue is cut, and the counts agree with the queues."""
    idle = IdlePages(0)
    sizes = dict.fromkeys("abc", 0)
    page = 0
    for tenant, count, takes in events:
        if not takes:
            idle.add(tenant, range(page, page + count))
            sizes[tenant] += count
            page += count
        elif any(sizes.values()):
            (dropped,) = idle.pop(tenant, 1)
            assert dropped not in set(idle)
            shrunk = [name for name in sizes if idle.of(name) != sizes[name]]
            assert len(shrunk) == 1
            assert sizes[shrunk[0]] == max(sizes.values())
            sizes[shrunk[0]] -= 1
        assert idle.count == sum(sizes.values()) == len(list(idle))


def test_the_pool_notices_what_cannot_be() -> None:
    """A page let go of twice, a free page shared, and books that do not balance."""
    pool = PagePool(4, PAGE)
    page = pool.take()
    assert page != 0
    pool.release(page)
    with pytest.raises(IntegrityError, match="nobody holds"):
        pool.release(page)
    with pytest.raises(IntegrityError, match="cannot be shared"):
        pool.hold(page)
    with pytest.raises(IntegrityError, match="holders"):
        pool.verify({page: 1})


def test_verification_notices_a_page_of_another() -> None:
    """A block table that names another owner's page, or too few pages, does not pass."""
    cache = cache_of(20)
    one, other = run(cache, Owner("a"), [1] * 9), run(cache, Owner("b"), [1] * 9)
    one.pages[0], other.pages[0] = other.pages[0], one.pages[0]
    with pytest.raises(IntegrityError, match="not its block"):
        cache.verify([one, other])
    one.pages[0], other.pages[0] = other.pages[0], one.pages[0]
    one.computed = 13
    with pytest.raises(IntegrityError, match="pages"):
        cache.verify([one, other])


def test_an_audit_goes_in_small_parts() -> None:
    """Of 20,000 pages, used, idle and free, no part looks at more than 1,024 entries of one book."""
    cache = cache_of(20_000)
    gone = [run(cache, Owner("gone"), [n] * 9) for n in range(3_000)]
    for sequence in gone:
        cache.detach(sequence)
    running = [run(cache, Owner("a"), [n, *[1] * 8]) for n in range(3_000)]
    parts = sum(1 for _ in cache.audit(running))
    assert parts >= len(running) + cache.pool.usable // 1_024 + 3 * (cache.cached // 1_024)


def test_an_audit_finds_what_is_in_the_last_part() -> None:
    """A page that two names have, a name too many, an idle page too many or too few."""
    cache = cache_of(20_000)
    for sequence in [run(cache, Owner("gone"), [n] * 9) for n in range(3_000)]:
        cache.detach(sequence)
    cache.verify([])
    page, (digest, tenant) = next(reversed(cache._cached.items()))
    cache._page_of[digest] = page + 1
    with pytest.raises(IntegrityError, match="names"):
        cache.verify([])
    cache._page_of[digest] = page
    cache._page_of[b"more"] = page
    with pytest.raises(IntegrityError, match="names"):
        cache.verify([])
    del cache._page_of[b"more"]
    cache._idle.remove(tenant, page)
    with pytest.raises(IntegrityError, match="idle"):
        cache.verify([])
    cache._idle.add(tenant, [page, cache.pool.usable])
    with pytest.raises(IntegrityError, match="idle"):
        cache.verify([])
