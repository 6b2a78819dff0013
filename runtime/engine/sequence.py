"""One running request, as the engine sees it: a few counters, a cache, and where outputs go."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from runtime.engine.base import EngineRefusal, GenerateRequest, TokenOutput
from runtime.engine.sampling import Sampler
from runtime.model.llama import KvCache


class State(Enum):
    """Where a sequence is in its life; it only moves down this list."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"


class Sequence:
    """A request with its progress.

    ``computed`` tokens are in the cache; those of ``tokens`` beyond are still to be run. A prompt being
    read has many of them, a decoding sequence exactly one: that is all that tells the two apart.

    Args:
        request: what to continue.
        deliver: called from the engine's thread with each output, or with why there will be none.
    """

    def __init__(
        self, request: GenerateRequest, deliver: Callable[[TokenOutput | EngineRefusal], None]
    ) -> None:
        self.request = request
        self.deliver = deliver
        self.sampler = Sampler(request.params)
        self.tokens = list(request.prompt_token_ids)
        self.computed = 0
        self.cache: KvCache | None = None
        self.state = State.WAITING

    def __repr__(self) -> str:
        return f"Sequence({self.request.request_id}, {self.state.value}, {self.computed}/{len(self.tokens)})"

    @property
    def pending(self) -> int:
        """Tokens still to be run through the model."""
        return len(self.tokens) - self.computed

    @property
    def generated(self) -> int:
        """Tokens chosen so far."""
        return len(self.tokens) - len(self.request.prompt_token_ids)

    @property
    def capacity(self) -> int:
        """Positions its cache needs: the last token chosen is never run."""
        return len(self.request.prompt_token_ids) + self.request.params.max_tokens - 1
