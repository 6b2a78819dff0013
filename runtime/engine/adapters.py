"""What the API needs of adapters: plain data and a protocol, without the engine's libraries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class AdapterRefused(Exception):
    """An adapter is there and cannot be used.

    Args:
        code: of the check that refused, kebab-case (docs/reference/refusal-codes.md).
        rule: what would have been accepted, for a person; never weights.
    """

    def __init__(self, code: str, rule: str = "") -> None:
        self.code = code
        self.rule = rule
        super().__init__(code)


@dataclass(frozen=True)
class AdapterFacts:
    """An adapter that was read and checked.

    Args:
        digest: over what it computes; what the engine and receipts name it by.
        rank: the largest of its linears.
    """

    digest: str
    rank: int


@dataclass(frozen=True, kw_only=True)
class AdapterSettings:
    """Which adapters to serve, and what they may take.

    Args:
        folder: of PEFT folders; each one's name is its adapter's.
        memory_bytes: for the adapters in memory: half of it for those ready to run, half for those at hand.
        max_rank: of any linear of any adapter.

    Raises:
        ValueError: a value is out of its range.
    """

    folder: Path
    memory_bytes: int = 1 << 30
    max_rank: int = 64

    def __post_init__(self) -> None:
        if self.memory_bytes < 1 or self.max_rank < 1:
            raise ValueError("memory_bytes and max_rank must be at least 1")


class Adapters(Protocol):
    """The adapters of one runtime, by name."""

    @property
    def max_rank(self) -> int:
        """Of any linear of any adapter."""

    def names(self) -> list[str]:
        """What can be asked for, in order; also what turns out to be unusable once it is read."""

    def known(self, name: str) -> AdapterFacts | None:
        """What is known of an adapter without reading it: something once it has been asked for."""

    async def find(self, name: str) -> AdapterFacts | None:
        """The adapter of this name, read and checked if it has not been; None if there is none.

        Raises:
            AdapterRefused: it is there, and cannot be used with this model.
        """

    def close(self) -> None:
        """Overwrite all of them; for after the engine has stopped."""
