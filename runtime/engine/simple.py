"""A small engine: continuous batching on one worker thread, a private cache per sequence.

A step is three verbs. *Schedule* picks which sequences advance and by how many tokens; *run* puts all
their rows through the model in one pass; *collect* chooses a token for each sequence whose pending
tokens are all run, hands it to its consumer and ends what is complete. Sequences join and leave between
steps. Nothing is shared between sequences: no prefix cache, no pages, so no tenant can observe another
but by the time a step takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Callable

import torch
from torch import Tensor

from runtime.engine.base import (
    EngineInfo,
    EngineRefusal,
    EngineStats,
    FinishReason,
    GenerateRequest,
    TokenOutput,
    check_request,
)
from runtime.engine.sampling import Choice, NotFiniteError
from runtime.engine.scheduler import Limits, Scheduled, Scheduler
from runtime.engine.sequence import Sequence, State
from runtime.model.llama import Segment
from runtime.model.loaded import LoadedModel

_LOG = logging.getLogger(__name__)


class SimpleEngine:
    """The ``Engine`` that runs a model on this machine's CPU.

    Args:
        loaded: the model.
        max_batch: sequences decoded together.
        threads: for the matrix products; by default what torch chooses.
        limits: overrides ``max_batch`` and the scheduler's other bounds.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        max_batch: int = 8,
        threads: int | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.info = EngineInfo("simple", loaded.name, loaded.context_length, loaded.dtype)
        self._model = loaded.model
        self._eos_ids = loaded.tokenizer.eos_ids
        self._threads = threads
        self._scheduler = Scheduler(limits or Limits(max_batch=max_batch))  # guarded by _changed
        self._counts: Counter[str] = Counter()  # guarded by _changed
        self._changed = threading.Condition()
        self._stopping = False  # guarded by _changed
        self._worker: threading.Thread | None = None

    async def start(self) -> None:
        """Start the worker thread."""
        self._worker = threading.Thread(target=self._work, name="engine", daemon=True)
        self._worker.start()

    async def stop(self) -> None:
        """End every sequence with ``engine_stopped``, and wait for the worker."""
        with self._changed:
            self._stopping = True
            self._end_all(State.FAILED, "engine_stopped")
            self._changed.notify()
        worker, self._worker = self._worker, None
        if worker is not None:
            await asyncio.to_thread(worker.join)

    def stats(self) -> EngineStats:
        """Counters, free of content."""
        with self._changed:
            return EngineStats(
                running=len(self._scheduler.running),
                waiting=len(self._scheduler.waiting),
                finished=self._counts[State.FINISHED.value],
                cancelled=self._counts[State.CANCELLED.value],
                failed=self._counts[State.FAILED.value],
                prompt_tokens=self._counts["prompt_tokens"],
                completion_tokens=self._counts["completion_tokens"],
                steps=self._counts["steps"],
            )

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[TokenOutput]:
        """Continue ``request``; see ``Engine.generate``.

        Raises:
            EngineRefusal: as the protocol says.
        """
        self._check(request)
        outputs: asyncio.Queue[TokenOutput | EngineRefusal] = asyncio.Queue()
        sequence = Sequence(request, _from_thread(asyncio.get_running_loop(), outputs))
        with self._changed:
            if self._stopping or self._worker is None:
                raise EngineRefusal("engine_stopped")
            self._scheduler.add(sequence)
            self._changed.notify()
        try:
            while True:
                output = await outputs.get()
                if isinstance(output, EngineRefusal):
                    raise output
                yield output
                if output.finish_reason is not None:
                    return
        finally:
            with self._changed:
                self._end(sequence, State.CANCELLED)  # changes nothing for one that has ended

    def _check(self, request: GenerateRequest) -> None:
        check_request(request, self.info)
        if request.adapter_digest is not None:
            raise EngineRefusal("adapter_not_found", request.adapter_digest)
        if request.guide is not None or request.params.prompt_logprobs is not None:
            raise EngineRefusal("invalid_parameter", "guides and prompt_logprobs need the other engine")
        vocabulary = self._model.architecture.vocab_size
        if not all(0 <= token < vocabulary for token in request.prompt_token_ids):
            raise EngineRefusal(
                "invalid_parameter", f"a prompt token is outside the {vocabulary} of the model"
            )

    def _work(self) -> None:
        """The worker: steps while there is work, sleeps while there is none."""
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        with torch.inference_mode():
            while (step := self._next_step()) is not None:
                self._step(step)

    def _next_step(self) -> list[Scheduled] | None:
        with self._changed:
            while not self._stopping:
                step = self._scheduler.schedule()
                if step:
                    return step
                self._changed.wait()
        return None

    def _step(self, step: list[Scheduled]) -> None:
        try:
            self._collect(step, self._run(step))
        except Exception as error:  # noqa: BLE001 whatever broke, nobody may be left waiting
            # The message could quote tensors or tokens: the kind of error must do.
            _LOG.error("a step of %d sequences failed: %s", len(step), type(error).__name__)
            with self._changed:
                for scheduled in step:
                    self._end(scheduled.sequence, State.FAILED, "engine_failed")

    def _run(self, step: list[Scheduled]) -> Tensor:
        """Logits (complete sequences, vocabulary) after running the scheduled rows."""
        tokens: list[int] = []
        segments: list[Segment] = []
        last_rows: list[int] = []
        for scheduled in step:
            sequence, rows = scheduled.sequence, scheduled.rows
            # A sequence cancelled since it was scheduled has lost its cache: it runs on a fresh one, unread.
            cache = sequence.cache or self._model.new_cache(sequence.capacity)
            sequence.cache = cache
            tokens += sequence.tokens[sequence.computed : sequence.computed + rows]
            segments.append(Segment(cache, rows))
            if rows == sequence.pending:
                last_rows.append(len(tokens) - 1)
        hidden = self._model.forward(torch.tensor(tokens), segments)
        return self._model.logits(hidden[torch.tensor(last_rows, dtype=torch.int64)])

    def _collect(self, step: list[Scheduled], logits: Tensor) -> None:
        """Advance the counters, and choose and deliver a token for each complete sequence."""
        rows = iter(logits)
        prompt_rows = sum(each.rows for each in step if each.sequence.generated == 0)
        with self._changed:  # before anything is delivered, so that a consumer never reads older counters
            self._counts.update(steps=1, prompt_tokens=prompt_rows)
        for scheduled in step:
            sequence = scheduled.sequence
            complete = scheduled.rows == sequence.pending
            sequence.computed += scheduled.rows
            if complete:
                self._choose(sequence, next(rows))

    def _choose(self, sequence: Sequence, logits: Tensor) -> None:
        try:
            choice = sequence.sampler.choose(logits)
        except NotFiniteError:
            with self._changed:
                self._end(sequence, State.FAILED, "engine_failed")
            return
        sequence.tokens.append(choice.token_id)
        reason = self._finish_reason(sequence, choice)
        output = TokenOutput(choice.token_id, choice.logprob, choice.top_logprobs, reason)
        with self._changed:
            if sequence.state is not State.RUNNING:  # cancelled during the step
                return
            self._counts["completion_tokens"] += 1
            if reason is not None:
                self._end(sequence, State.FINISHED)
        sequence.deliver(output)

    def _finish_reason(self, sequence: Sequence, choice: Choice) -> FinishReason | None:
        params = sequence.request.params
        if choice.token_id in self._eos_ids and not params.ignore_eos:
            return "stop"
        if choice.token_id in params.stop_token_ids:
            return "stop"
        return "length" if sequence.generated == params.max_tokens else None

    def _end(self, sequence: Sequence, state: State, code: str | None = None) -> None:
        """End a sequence once; the caller holds the lock."""
        if self._scheduler.remove(sequence, state):
            self._counts[state.value] += 1
            if code is not None:
                sequence.deliver(EngineRefusal(code))

    def _end_all(self, state: State, code: str) -> None:
        for sequence in (*self._scheduler.running, *self._scheduler.waiting):
            self._end(sequence, state, code)


def _from_thread(
    loop: asyncio.AbstractEventLoop, queue: asyncio.Queue[TokenOutput | EngineRefusal]
) -> Callable[[TokenOutput | EngineRefusal], None]:
    """A function that another thread may call to put into ``queue``."""

    def deliver(output: TokenOutput | EngineRefusal) -> None:
        with contextlib.suppress(RuntimeError):  # the consumer's loop may close while a step ends
            loop.call_soon_threadsafe(queue.put_nowait, output)

    return deliver
