"""One request as the scheduler sees it: token ids, a few counters, and the pages that hold them.

``computed`` tokens have their keys and values in ``pages``; those of ``tokens`` beyond are still to be run.
A prompt being read has many of them, a decoding sequence exactly one: that is all that tells the two apart.

The scheduler alone changes a sequence. Whoever runs its rows reads ``tokens`` and ``pages``, keeps what it
needs beside it (a sampler, a consumer) under ``id``, and learns of its end by ``state`` and ``end_code``.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from enum import Enum
from typing import NamedTuple


class State(Enum):
    """Where a sequence is in its life.

    A running one goes back to waiting when its pages are needed by one before it, and is then run again
    from its tokens. The last three are final: it holds no page, or none after the step it is in.
    """

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"


class Owner(NamedTuple):
    """Whose computed pages a sequence may share: those of exactly the same owner, nobody else's.

    Args:
        tenant: thumbprint of the tenant's key.
        label_domain: the label under which cached work may be reused.
        adapter_digest: the adapter it runs with, None for the base model.
    """

    tenant: str
    label_domain: str = ""
    adapter_digest: str | None = None


class Sequence:
    """A request with its progress.

    Args:
        sequence_id: unique among the waiting and the running; may appear in logs.
        owner: see there.
        prompt: at least one token id, each below 2**32.
        max_tokens: it ends after this many generated tokens, at least 1.
        priority: from -8 to 8; higher goes first.
        weight: the tenant's share against other tenants' where both wait; above 0.
        deadline: at this time, on the clock of ``now``, it ends with ``deadline_exceeded``.
        prefix_limit: positions from here on are run even where a cached page has them, for one who wants
            the logits of prompt tokens; None where only the last row's are wanted.

    Attributes:
        tokens: prompt and generated.
        computed: how many of them are in ``pages``.
        pages: block table. Entries of whole computed pages may change between steps (for an equal page
            that is shared), so it is to be read anew for each step.
        state: see there.
        end_code: why it ended: ``stop``, ``length``, ``cancelled``, ``deadline_exceeded``, or what the
            runner gave; None before.
        reused: prompt tokens found in cached pages when it last started.
        preemptions: how often its pages were taken back.
        arrived: when it was added, on the clock of ``now``.
        started: when it first got pages.
        order: its number among all ever added.
        digests: of its whole token blocks, as far as they were needed.
        cached_blocks: how many of its leading blocks the prefix cache holds.
        in_step: whether a step that is out covers it, so that its pages are still written.
    """

    __slots__ = (
        "arrived",
        "cached_blocks",
        "computed",
        "deadline",
        "digests",
        "end_code",
        "id",
        "in_step",
        "max_tokens",
        "order",
        "owner",
        "pages",
        "preemptions",
        "prefix_limit",
        "priority",
        "prompt_tokens",
        "reused",
        "started",
        "state",
        "tokens",
        "weight",
    )

    def __init__(
        self,
        sequence_id: str,
        owner: Owner,
        prompt: SequenceOf[int],
        max_tokens: int,
        *,
        priority: int = 0,
        weight: float = 1.0,
        deadline: float | None = None,
        prefix_limit: int | None = None,
    ) -> None:
        self.id = sequence_id
        self.owner = owner
        self.tokens = list(prompt)
        self.prompt_tokens = len(self.tokens)
        self.max_tokens = max_tokens
        self.priority = priority
        self.weight = weight
        self.deadline = deadline
        self.prefix_limit = prefix_limit
        self.computed = 0
        self.pages: list[int] = []
        self.state = State.WAITING
        self.end_code: str | None = None
        self.reused = 0
        self.preemptions = 0
        self.arrived = 0.0
        self.started = 0.0
        self.order = 0
        self.digests: list[bytes] = []
        self.cached_blocks = 0
        self.in_step = False

    def __repr__(self) -> str:
        return f"Sequence({self.id}, {self.state.value}, {self.computed}/{len(self.tokens)})"

    @property
    def pending(self) -> int:
        """Tokens still to be run through the model."""
        return len(self.tokens) - self.computed

    @property
    def generated(self) -> int:
        """Tokens chosen so far."""
        return len(self.tokens) - self.prompt_tokens

    @property
    def capacity(self) -> int:
        """Positions it needs at most: the last token chosen is never run."""
        return self.prompt_tokens + self.max_tokens - 1

    @property
    def rank(self) -> tuple[int, int]:
        """Its place when pages are short, lowest first; never changes, and no two are equal."""
        return -self.priority, self.order

    @property
    def ended(self) -> bool:
        """Whether its state is final."""
        return self.state is not State.WAITING and self.state is not State.RUNNING
