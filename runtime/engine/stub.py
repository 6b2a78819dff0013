"""An engine without a model, for measuring everything around the model.

It emits a fixed cycle of token ids at a set pace and obeys the whole ``Engine`` contract, so that a
benchmark of the channel or the gateway measures only those.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

from runtime.engine.base import (
    EngineInfo,
    EngineRefusal,
    EngineStats,
    GenerateRequest,
    TokenOutput,
    check_request,
)
from runtime.engine.telemetry import Meter, Telemetry

_COUNTS = (
    *("running", "waiting", "finished", "cancelled", "failed"),
    *("prompt_tokens", "completion_tokens", "steps"),
)


@dataclass(frozen=True)
class StubSettings:
    """What the stub emits.

    Args:
        token_ids: the cycle of tokens handed out.
        tokens: the sequence ends with "stop" after this many; None runs to ``max_tokens``.
        first_token_s: seconds before the first token.
        token_interval_s: seconds between tokens.
    """

    token_ids: tuple[int, ...] = (1,)
    tokens: int | None = None
    first_token_s: float = 0.0
    token_interval_s: float = 0.0


class StubEngine:
    """Hands out tokens at a set pace.

    Args:
        settings: what to emit and how fast.
        info: what to claim to be.
    """

    def __init__(
        self,
        settings: StubSettings | None = None,
        *,
        info: EngineInfo | None = None,
    ) -> None:
        self._settings = settings or StubSettings()
        self.info = info or EngineInfo("stub", "stub", 1 << 20, "none")
        self._running = False
        self._counts = dict.fromkeys(_COUNTS, 0)
        self._meter = Meter()

    async def start(self) -> None:
        """Take requests from now on."""
        self._running = True

    async def stop(self) -> None:
        """Refuse requests from now on; running ones end at their next token."""
        self._running = False

    def stats(self) -> EngineStats:
        """Counters, free of content."""
        return EngineStats(**self._counts, telemetry=Telemetry.of(self._meter))

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[TokenOutput]:
        """Emit the cycle.

        Raises:
            EngineRefusal: as the protocol says.
        """
        try:
            check_request(request, self.info)
        except EngineRefusal as refusal:
            self._meter.refusals[refusal.code] += 1
            raise
        last = time.monotonic()
        self._count(running=1, prompt_tokens=len(request.prompt_token_ids))
        ended = "cancelled"
        try:
            total = min(self._settings.tokens or request.params.max_tokens, request.params.max_tokens)
            for index in range(total):
                await self._pace(index)
                if not self._running:
                    ended = "failed"
                    self._meter.refusals["engine_stopped"] += 1
                    raise EngineRefusal("engine_stopped")
                if index == total - 1:
                    ended = "finished"
                now = time.monotonic()
                self._meter.token(now - last, first=index == 0)
                last = now
                self._count(completion_tokens=1, steps=1)
                yield self._output(request, index, total)
        finally:
            self._count(running=-1, **{ended: 1})

    async def _pace(self, index: int) -> None:
        delay = self._settings.token_interval_s if index else self._settings.first_token_s
        if delay:
            await asyncio.sleep(delay)

    def _output(self, request: GenerateRequest, index: int, total: int) -> TokenOutput:
        cycle = self._settings.token_ids
        token_id = cycle[index % len(cycle)]
        output = TokenOutput(token_id)
        if request.params.logprobs is not None:
            output = replace(
                output, logprob=0.0, top_logprobs=((token_id, 0.0),) * min(1, request.params.logprobs)
            )
        count = request.params.prompt_logprobs
        if count is not None and index == 0:
            reported = request.prompt_token_ids[request.params.prompt_logprobs_from :]
            scored = tuple((0.0, 1, ((token, 0.0),) * min(1, count)) for token in reported)
            output = replace(output, prompt_logprobs=scored)
        if index < total - 1:
            return output
        return replace(output, finish_reason="length" if total == request.params.max_tokens else "stop")

    def _count(self, **changes: int) -> None:
        for name, change in changes.items():
            self._counts[name] += change
