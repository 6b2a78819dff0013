"""One request's texts on their way to vectors, piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from runtime.engine.base import EngineRefusal


@dataclass(eq=False, repr=False)
class Job:
    """One request's texts, and their vectors so far.

    Args:
        texts: token ids of each.
        done: when it has all its vectors, or a refusal instead.
    """

    texts: Sequence[Sequence[int]]
    done: asyncio.Future[None]
    vectors: list[list[float]] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Tokens still to be run."""
        return sum(map(len, self.texts[len(self.vectors) :]))

    def piece(self, room: int) -> list[Sequence[int]]:
        """The next texts: at least one, and as many as have ``room`` tokens together."""
        taken: list[Sequence[int]] = []
        for text in self.texts[len(self.vectors) :]:
            room -= len(text)
            if taken and room < 0:
                break
            taken.append(text)
        return taken

    def add(self, vectors: list[list[float]]) -> None:
        """Of the next texts; the last ones end it."""
        self.vectors.extend(vectors)
        if len(self.vectors) == len(self.texts) and not self.done.done():
            self.done.set_result(None)

    def fail(self, code: str) -> None:
        """End it with a refusal, unless it has ended."""
        if not self.done.done():
            self.done.set_exception(EngineRefusal(code))
