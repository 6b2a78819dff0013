"""Who asks what and when: the Azure 2023 traces, scaled to a small machine, with trouble mixed in.

The conversation and the code service's hours are laid over each other. Arrivals are thinned by chance, which
keeps their bursts, and lengths are divided. Whom the traces do not name is made up: tenants, an adapter per
request (a few are popular), and what goes wrong.
"""

from __future__ import annotations

import csv
import gzip
import random
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

TRACES = ("azure_llm_2023_conv.csv.gz", "azure_llm_2023_code.csv.gz")
TENANTS = 8
LONGEST_PROMPT, LONGEST_ANSWER = 1800, 160
VOCABULARY = range(1000, 40_000)

Kind = Literal["plain", "checked", "cancelled", "unknown-adapter", "too-long", "absurd"]
KINDS: dict[Kind, float] = {
    "plain": 0.60,
    "checked": 0.25,
    "cancelled": 0.12,
    "unknown-adapter": 0.01,
    "too-long": 0.01,
    "absurd": 0.01,
}


@dataclass(frozen=True)
class Ask:
    """A request to come.

    Args:
        number: names it.
        at: seconds after the load begins.
        kind: what is to happen.
        tenant: who asks.
        adapter: which of the adapters, by index; None for the base.
        prompt: token ids.
        tokens: to generate, to the end.
        cancel_after: tokens after which the client hangs up.
        reference: which of the answers made beforehand this one must repeat.
    """

    number: int
    at: float
    kind: Kind
    tenant: str
    adapter: int | None
    prompt: list[int]
    tokens: int
    cancel_after: int | None = None
    reference: int | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Arrival:
    """A line of a trace: seconds since its first, tokens in and out."""

    at: float
    prompt: int
    tokens: int


@dataclass(frozen=True)
class Scale:
    """How the traces are fitted to a machine.

    Args:
        shrink: divides lengths.
        rate: requests per second, on average.
        seconds: of the traces' beginning.
    """

    shrink: int
    rate: float
    seconds: float


def arrivals(folder: Path, scale: Scale, chance: random.Random) -> list[Arrival]:
    """Both traces over each other, thinned and shortened."""
    lines: list[tuple[datetime, int, int]] = []
    for name in TRACES:
        with gzip.open(folder / name, "rt") as stream:
            for row in csv.DictReader(stream):
                moment = datetime.fromisoformat(row["TIMESTAMP"][:26])
                lines.append((moment, int(row["ContextTokens"]), int(row["GeneratedTokens"])))
    lines.sort()
    first, last = lines[0][0], lines[-1][0]
    kept = scale.rate / (len(lines) / (last - first).total_seconds())
    return [
        Arrival(
            at,
            min(LONGEST_PROMPT, max(4, prompt // scale.shrink)),
            min(LONGEST_ANSWER, max(2, tokens // scale.shrink)),
        )
        for moment, prompt, tokens in lines
        if (at := (moment - first).total_seconds()) <= scale.seconds and chance.random() < kept
    ]


def references(count: int, adapters: int, chance: random.Random) -> list[Ask]:
    """Requests whose answers are made alone, before the load: short and long, with adapters and without."""
    return [
        Ask(
            index,
            0.0,
            "checked",
            f"tenant-{index % TENANTS}",
            None if index % 5 == 0 else chance.randrange(adapters),
            some_tokens((8, 30, 90, 220)[index % 4], chance),
            24,
            reference=index,
        )
        for index in range(count)
    ]


def asks(came: list[Arrival], checked: list[Ask], adapters: int, chance: random.Random) -> list[Ask]:
    """A request per arrival."""
    kinds, weights = zip(*KINDS.items(), strict=True)
    popularity = [1 / (1 + index) ** 0.8 for index in range(adapters)]
    made: list[Ask] = []
    for number, arrival in enumerate(came):
        kind = chance.choices(kinds, weights)[0]
        if kind == "checked":
            one = chance.choice(checked)
            made.append(Ask(**{**one.plain(), "number": number, "at": arrival.at}))
            continue
        adapter = None if chance.random() < 0.1 else chance.choices(range(adapters), popularity)[0]
        made.append(
            Ask(
                number,
                arrival.at,
                kind,
                f"tenant-{chance.randrange(TENANTS)}",
                adapter,
                some_tokens(arrival.prompt, chance),
                arrival.tokens,
                chance.randrange(1, max(2, arrival.tokens)) if kind == "cancelled" else None,
            )
        )
    return made


def some_tokens(count: int, chance: random.Random) -> list[int]:
    """Token ids without sense: what a prompt says does not change what it costs."""
    return [chance.choice(VOCABULARY) for _ in range(count)]
