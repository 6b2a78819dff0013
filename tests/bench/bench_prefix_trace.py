"""Hit rate of the prefix cache on the Mooncake conversation trace. Prints one JSON object.

Run: python -m tests.bench.bench_prefix_trace [--requests N]

The trace (Qin et al., FAST 2025: an hour of Kimi's conversations) names 512-token blocks by number. Each is
replayed as one page; a partial last block fills part of one. Rates are of all blocks of all prompts.

    one owner     memory unbounded, and bounded to three sizes, each against the trace's ceiling
    tenants       conversations dealt to 16 tenants, the busiest with 30 % of them, while a stranger floods
                  the cache with prompts that never come again, with and without per-tenant shares
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from runtime.engine.schedule.pages import PagePool
from runtime.engine.schedule.prefix import PrefixCache, Share
from runtime.engine.schedule.sequence import Owner, Sequence

TRACE = Path(__file__).resolve().parents[3] / "shared" / "data" / "traces" / "mooncake_conversation.jsonl.gz"
BLOCK_TOKENS = 512
PAGE = 4  # tokens that stand for the 512 of a block: enough for a partial one to be shorter
BOUNDS = (1_000, 10_000, 50_000)  # blocks; the trace has 182,790 distinct ones
TENANTS = 16
FLOOD = "flood"
_KEY = bytes(32)
_FLOOD_IDS = 1 << 24  # above every id of the trace


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request of the trace.

    Args:
        blocks: their numbers.
        rest: tokens of the last block in the replay, 1 to ``PAGE``.
    """

    blocks: tuple[int, ...]
    rest: int

    @property
    def tokens(self) -> list[int]:
        """The prompt as token ids."""
        whole = [block for block in self.blocks[:-1] for _ in range(PAGE)]
        return whole + [self.blocks[-1]] * self.rest


def read_trace(path: Path, limit: int | None = None) -> list[Prompt]:
    """The first requests of the trace, or all."""
    prompts = []
    with gzip.open(path) as lines:
        for line in lines:
            if len(prompts) == limit:
                break
            request = json.loads(line)
            rest = (request["input_length"] - 1) % BLOCK_TOKENS + 1
            prompts.append(Prompt(tuple(request["hash_ids"]), max(1, rest * PAGE // BLOCK_TOKENS)))
    return prompts


def ceiling(prompts: list[Prompt], tenant_of: Callable[[Prompt], str]) -> float:
    """The part of all blocks that the same tenant has sent before: no cache finds more."""
    seen: set[tuple[str, int]] = set()
    found = total = 0
    for prompt in prompts:
        names = [(tenant_of(prompt), block) for block in prompt.blocks]
        found += sum(name in seen for name in names)
        total += len(names)
        seen.update(names)
    return found / total


def one_owner(_prompt: Prompt) -> str:
    """All requests are of one tenant."""
    return "all"


def dealt(prompt: Prompt) -> str:
    """The tenant of a conversation: block 0 is the same in all, the next tells them apart."""
    shares = list(accumulate(1 / rank for rank in range(1, TENANTS + 1)))  # the busiest has 30 %
    conversation = prompt.blocks[min(1, len(prompt.blocks) - 1)]
    point = conversation * 0x9E3779B1 % (1 << 32) / (1 << 32) * shares[-1]
    return f"tenant-{next(rank for rank, share in enumerate(shares) if point <= share):02}"


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay found, by tenant: blocks found and blocks asked for; and processor time per block."""

    found: Counter[str]
    asked: Counter[str]
    microseconds_per_block: float

    @property
    def rate(self) -> float:
        """Of all tenants but the flood."""
        asked = sum(count for tenant, count in self.asked.items() if tenant != FLOOD)
        return sum(self.found.values()) / asked

    @property
    def worst(self) -> float:
        """Of the tenant that found least of what it asked for."""
        return min(self.found[tenant] / asked for tenant, asked in self.asked.items() if tenant != FLOOD)


def with_flood(prompts: list[Prompt]) -> Iterator[tuple[Prompt, bool]]:
    """After every request a stranger's of the same size, new from its first block on."""
    fresh = _FLOOD_IDS
    for prompt in prompts:
        yield prompt, False
        blocks = tuple(range(fresh, fresh + len(prompt.blocks)))
        fresh += len(blocks)
        yield Prompt(blocks, prompt.rest), True


def replay(
    prompts: list[Prompt],
    blocks: int,
    share: Share,
    tenant_of: Callable[[Prompt], str] = one_owner,
    *,
    flood: bool = False,
) -> Replay:
    """Run the prompts through a cache of so many blocks, one after the other.

    Args:
        prompts: in order.
        blocks: pages of the pool.
        share: of the cache between tenants.
        tenant_of: whose a prompt is.
        flood: whether a stranger fills the cache in between.
    """
    cache = PrefixCache(PagePool(blocks + 1, PAGE), _KEY, share)
    found: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    start = time.thread_time()
    for prompt, strange in with_flood(prompts) if flood else ((prompt, False) for prompt in prompts):
        tenant = FLOOD if strange else tenant_of(prompt)
        sequence = Sequence("replay", Owner(tenant), prompt.tokens, 1)
        cache.attach(sequence)
        found[tenant] += sequence.cached_blocks
        asked[tenant] += len(prompt.blocks)
        lacking = cache.pool.blocks(len(sequence.tokens)) - len(sequence.pages)
        if not cache.extend(sequence, lacking, last_resort=True):
            raise RuntimeError("a prompt is larger than the cache")
        sequence.computed = len(sequence.tokens)
        cache.publish(sequence)
        cache.detach(sequence)
    seconds = time.thread_time() - start
    cache.verify([])
    return Replay(found, asked, seconds / sum(asked.values()) * 1e6)


def measure(prompts: list[Prompt], bounds: tuple[int, ...] = BOUNDS) -> dict[str, object]:
    """All figures, in percent."""
    unbounded = sum(len(prompt.blocks) for prompt in prompts)
    free = replay(prompts, unbounded, Share())
    return {
        "requests": len(prompts),
        "blocks": unbounded,
        "ceiling": percent(ceiling(prompts, one_owner)),
        "unbounded": percent(free.rate),
        "microseconds_per_block": round(free.microseconds_per_block, 1),
        "bounded": {bound: percent(replay(prompts, bound, Share(per_tenant=False)).rate) for bound in bounds},
        "tenants": {
            "ceiling": percent(ceiling(prompts, dealt)),
            **{bound: tenants(prompts, bound) for bound in bounds},
        },
    }


def tenants(prompts: list[Prompt], bound: int) -> dict[str, object]:
    """All 16 tenants and the one worst off, alone and beside a flood, without and with shares."""
    figures: dict[str, object] = {}
    for flood in (False, True):
        for name, share in (("one_queue", Share(per_tenant=False)), ("shares", Share(protected=0.5))):
            run = replay(prompts, bound, share, dealt, flood=flood)
            figures[f"{name}{'_beside_flood' if flood else ''}"] = {
                "all": percent(run.rate),
                "worst": percent(run.worst),
            }
    return figures


def percent(part: float) -> float:
    """To two digits."""
    return round(100 * part, 2)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=None, help="only the first so many")
    print(json.dumps(measure(read_trace(TRACE, parser.parse_args().requests)), indent=2))


if __name__ == "__main__":
    main()
