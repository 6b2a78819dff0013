"""Sealgate's engine: continuous batching, prompts in chunks, paged keys and values, on one worker thread.

A step is three verbs. *Schedule* plans which sequences advance and by how many tokens (``schedule``); *run*
puts all their rows through the model in one pass (``run``); *collect* chooses a token for each sequence
whose tokens are all run, hands it to its consumer and ends what is complete. Sequences join, leave and are
preempted between steps.

The lock is held to plan and to count, never while the model runs. What ends during a step keeps its pages,
and its adapter, until the step is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import secrets
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from runtime.engine.base import (
    EngineInfo,
    EngineRefusal,
    EngineStats,
    FinishReason,
    GenerateRequest,
    PromptLogprobs,
    TokenOutput,
    check_request,
)
from runtime.engine.lora.batch import LoraBatches
from runtime.engine.lora.lease import Lease
from runtime.engine.lora.store import AdapterStore
from runtime.engine.lora.tables import Placed
from runtime.engine.run.batch import Piece, StepBatch
from runtime.engine.run.cache import PagedCache, page_bytes
from runtime.engine.run.model import LlamaRunner
from runtime.engine.run.sampler import Choice, Sampler, choose, score
from runtime.engine.run.weights import WeightMode
from runtime.engine.schedule.budget import BudgetSettings
from runtime.engine.schedule.pages import IntegrityError
from runtime.engine.schedule.scheduler import Scheduler
from runtime.engine.schedule.sequence import Owner, Sequence, State
from runtime.engine.schedule.settings import SchedulerSettings
from runtime.engine.schedule.step import Outcome, Refusal, RunFailed, Sampled, Scheduled, Step
from runtime.engine.selfcheck.check import fixed_prompts, self_check
from runtime.engine.selfcheck.reference import ReferenceSource
from runtime.engine.telemetry import AdapterFigure, AdaptersFigures, Meter, PageFigures, Telemetry
from runtime.model.loaded import OpenModel

_LOG = logging.getLogger(__name__)

BACKEND = "sealgate"
_SCORED_ROWS = 64
"""Prompt rows whose logits exist at once."""
_AUDIT_PAUSE_S = 0.0005
"""Between the parts of an audit, for whoever waits for the lock."""
_BUSIEST = 16
"""Adapters whose figures are shown one by one."""


@dataclass(frozen=True)
class EngineSettings:
    """How the engine runs.

    Args:
        mode: of the weights.
        device: of the model.
        threads: for the matrix products; by default what torch chooses.
        kv_bytes: memory for keys and values, taken as it is first used.
        page_size: positions in a page.
        max_running: sequences decoded together.
        max_waiting: sequences queued beyond those.
        max_wait_s: refuse whoever would wait longer for a first token; None refuses nobody for it.
        prefix_cache: whether a tenant's computed prompts are kept for its later ones.
        budget: of a step.
    """

    mode: WeightMode = "bf16"
    device: str = "cpu"
    threads: int | None = None
    kv_bytes: int = 1 << 30
    page_size: int = 16
    max_running: int = 64
    max_waiting: int = 1024
    max_wait_s: float | None = None
    prefix_cache: bool = True
    budget: BudgetSettings = field(default_factory=BudgetSettings)


@dataclass(repr=False)
class _Live:
    """What belongs to a sequence beside the scheduler's books."""

    request: GenerateRequest
    sequence: Sequence
    sampler: Sampler
    deliver: Callable[[TokenOutput | EngineRefusal], None]
    lease: Lease | None
    placed: Placed | None
    last_token_at: float
    """Or when the request came, before its first."""
    scored: PromptLogprobs = ()

    @property
    def first_scored_row(self) -> int | None:
        """The prompt's next row whose logits are to be reported; None if there is none."""
        params = self.request.params
        row = params.prompt_logprobs_from - 1 + len(self.scored)
        wanted = params.prompt_logprobs is not None and self.sequence.generated == 0
        wanted = wanted and row < self.sequence.prompt_tokens - 1
        return row if wanted else None


@dataclass(frozen=True)
class _Work:
    """One step's items, with what is theirs; taken under the lock."""

    step: Step
    live: tuple[_Live, ...]
    pieces: tuple[Piece, ...]


class ChunkedEngine:
    """The ``Engine`` of Sealgate.

    Args:
        opened: the model; its weights are taken here and not kept.
        settings: see there.
        adapters: the store, and the batches over its tables; None serves the base model alone.
        clock: seconds, monotonic; deadlines are on it.

    Raises:
        Unsupported, Malformed: as the weights do.
        SelfCheckFailed: it does not compute what the model says.
    """

    def __init__(
        self,
        opened: OpenModel,
        settings: EngineSettings | None = None,
        *,
        adapters: tuple[AdapterStore, LoraBatches] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings or EngineSettings()
        self._clock = clock
        chosen = self.settings
        shape = opened.architecture
        source = ReferenceSource(opened.weights, shape, fixed_prompts(opened.tokenizer, shape.context_length))
        self.runner = LlamaRunner(shape, source, chosen.mode, chosen.device)
        self._self_check = self_check(
            self.runner,
            source.finish(),
            page_size=chosen.page_size,
            base_model_digest=opened.base_model_digest,
        )
        pages = 1 + chosen.kv_bytes // page_bytes(shape, chosen.page_size, self.runner.dtype)
        self._cache = PagedCache(shape, pages, chosen.page_size, self.runner.dtype, self.runner.device)
        self._scheduler = Scheduler(  # guarded by _changed
            SchedulerSettings(
                pages=pages,
                page_size=chosen.page_size,
                max_running=chosen.max_running,
                max_waiting=chosen.max_waiting,
                max_wait_s=chosen.max_wait_s,
                budget=chosen.budget,
                prefix_cache=chosen.prefix_cache,
            ),
            secrets.token_bytes(32),
        )
        context = min(shape.context_length, self._scheduler.pool.usable * chosen.page_size)
        self.info = EngineInfo(BACKEND, opened.name, context, chosen.mode, self._self_check.digest)
        self._eos_ids = opened.tokenizer.eos_ids
        self._store = None if adapters is None else adapters[0]
        self._batches = None if adapters is None else adapters[1]
        self._live: dict[str, _Live] = {}  # guarded by _changed
        self._leaving: list[_Live] = []  # guarded by _changed: ended in the step that is out
        self._counts: Counter[str] = Counter()  # guarded by _changed
        self._meter = Meter()  # guarded by _changed
        self._added = 0  # guarded by _changed
        self._changed = threading.Condition()
        self._stopping = False  # guarded by _changed
        self._worker: threading.Thread | None = None

    async def start(self) -> None:
        """Start the worker thread.

        Raises:
            RuntimeError: it runs already.
        """
        if self._worker is not None:
            raise RuntimeError("the engine runs already")
        self._worker = threading.Thread(target=self._work, name="engine", daemon=True)
        self._worker.start()

    async def stop(self) -> None:
        """End every sequence with ``engine_stopped``, and wait for the worker."""
        with self._changed:
            self._stopping = True
            self._end_all("engine_stopped")
            self._changed.notify()
        worker, self._worker = self._worker, None
        if worker is not None:
            await asyncio.to_thread(worker.join)

    def stats(self) -> EngineStats:
        """Counters, free of content."""
        adapters = self._adapter_figures()
        with self._changed:
            counts = self._scheduler.counts
            return EngineStats(
                running=len(self._scheduler.running),
                waiting=len(self._scheduler.waiting),
                finished=counts.finished,
                cancelled=counts.cancelled - self._counts["stopped"],
                failed=counts.failed + self._counts["stopped"],
                prompt_tokens=counts.prompt_rows,
                completion_tokens=self._counts["completion_tokens"],
                steps=counts.steps,
                preemptions=counts.preemptions,
                telemetry=Telemetry.of(
                    self._meter,
                    rows_limit=self.settings.budget.step_rows,
                    pages=self._page_figures(),
                    adapters=adapters,
                    self_check=self._self_check.figures,
                ),
            )

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[TokenOutput]:
        """Continue ``request``; see ``Engine.generate``.

        Raises:
            EngineRefusal: as the protocol says.
        """
        with self._counting_refusals():
            asked_at = self._clock()
            self._check(request)
            outputs: asyncio.Queue[TokenOutput | EngineRefusal] = asyncio.Queue()
            lease = await self._lease(request)
            live = _live(request, _from_thread(asyncio.get_running_loop(), outputs), lease, asked_at)
            try:
                self._add(live)
            except BaseException:
                if lease is not None:
                    lease.release()
                raise
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
                    if self._live.get(request.request_id) is live:
                        self._scheduler.cancel(request.request_id)
                        self._sweep()

    def verify(self) -> None:
        """Check the scheduler's books, at any time.

        Raises:
            IntegrityError: they do not balance.
        """
        with self._changed:
            self._scheduler.verify()

    @contextlib.contextmanager
    def _counting_refusals(self) -> Iterator[None]:
        try:
            yield
        except EngineRefusal as refusal:
            with self._changed:
                self._meter.refusals[refusal.code] += 1
            raise

    def _page_figures(self) -> PageFigures:
        """The caller holds the lock."""
        pool, cache, size = self._scheduler.pool, self._scheduler.cache, self.settings.page_size
        return PageFigures(
            capacity=pool.usable,
            page_tokens=size,
            used=pool.usable - pool.free - cache.idle,
            cached=cache.idle,
            tokens_looked_up=cache.counts.looked_up * size,
            tokens_found=cache.counts.found * size,
        )

    def _adapter_figures(self) -> AdaptersFigures | None:
        if self._store is None:
            return None
        stats, counts = self._store.stats(), self._store.counts()
        figures = {
            digest: AdapterFigure(each.loaded, each.evicted, each.hot_bytes)
            for digest, each in counts.items()
        }
        busiest = heapq.nlargest(_BUSIEST, counts, key=lambda digest: counts[digest].acquired)
        return AdaptersFigures(
            registered=stats.registered,
            hot=stats.hot,
            placed=stats.placed,
            pinned=stats.pinned,
            waiting=stats.waiting,
            tables_bytes=stats.tables_bytes,
            failed_loads=sum(each.failed for each in counts.values()),
            every=sum(figures.values(), AdapterFigure()),
            busiest={digest: figures[digest] for digest in busiest},
        )

    def _check(self, request: GenerateRequest) -> None:
        check_request(request, self.info)
        vocabulary = self.runner.architecture.vocab_size
        if not all(0 <= token < vocabulary for token in request.prompt_token_ids):
            raise EngineRefusal(
                "invalid_parameter", f"a prompt token is outside the {vocabulary} of the model"
            )
        if request.adapter_digest is not None and self._store is None:
            raise EngineRefusal("adapter_not_found", request.adapter_digest)

    async def _lease(self, request: GenerateRequest) -> Lease | None:
        """The request's adapter, ready to run."""
        if request.adapter_digest is None or self._store is None:
            return None
        lease = self._store.acquire(request.adapter_digest, tenant=request.tenant)
        try:
            await asyncio.wrap_future(lease.future)
        except BaseException:
            lease.release()
            raise
        return lease

    def _add(self, live: _Live) -> None:
        with self._changed:
            if self._stopping or self._worker is None:
                raise EngineRefusal("engine_stopped")
            try:
                self._scheduler.add(live.sequence, self._clock())
            except Refusal as refusal:
                raise EngineRefusal(refusal.code, refusal.detail, refusal.retry_after) from None
            self._live[live.sequence.id] = live
            self._added += 1
            self._changed.notify()

    # -- the worker ---------------------------------------------------------------------------------------

    def _work(self) -> None:
        """Steps while there is work, sleeps while there is none."""
        if self.settings.threads is not None:
            torch.set_num_threads(self.settings.threads)
        with torch.inference_mode():
            while (work := self._next()) is not None:
                self._step(work)

    def _next(self) -> _Work | None:
        with self._changed:
            while not self._stopping:
                step = self._scheduler.schedule(self._clock())
                self._sweep()  # those past their deadline
                if step is not None:
                    live = tuple(self._live[item.sequence.id] for item in step.items)
                    pieces = tuple(map(_piece, step.items, live))
                    return _Work(step, live, pieces)
                if self._audit():
                    self._changed.wait()
        return None

    def _audit(self) -> bool:
        """With nothing to do, check that no page was lost: an engine whose books are wrong serves nobody.

        The lock is let go of between the parts, so that a request waits for one of them at most; it ends
        the audit, and the next idle moment begins a new one.

        Returns:
            Whether there is still nothing to do.
        """
        added = self._added
        try:
            for _ in self._scheduler.audit():
                self._changed.wait(_AUDIT_PAUSE_S)
                if self._added != added or self._stopping:
                    return False
            self._meter.audits_passed += 1
        except IntegrityError:
            self._meter.audits_failed += 1
            _LOG.exception("the page books do not balance: the engine stops")
            self._stopping = True
            self._end_all("engine_failed")
        return True

    def _step(self, work: _Work) -> None:
        try:
            outcomes, choices = self._sample(work, self._run(work))
        except Exception as error:  # noqa: BLE001 whatever broke, nobody may be left waiting
            # The message could quote tensors or tokens: the kind of error must do.
            _LOG.error("a step of %d sequences failed: %s", len(work.live), type(error).__name__)
            with self._changed:
                self._scheduler.abandon(work.step, "engine_failed")
                self._leave()
            return
        self._collect(work, outcomes, choices)

    def _run(self, work: _Work) -> Tensor:
        """Hidden states of the rows that logits are wanted of."""
        runner = self.runner
        batch = StepBatch.of(work.pieces, self.settings.page_size, runner.dtype, runner.device)
        adapters = None
        if self._batches is not None:
            spans = [
                (live.placed, len(piece.tokens)) for live, piece in zip(work.live, work.pieces, strict=True)
            ]
            adapters = self._batches.of(spans)
        return runner.forward(batch, self._cache, adapters)

    def _sample(self, work: _Work, hidden: Tensor) -> tuple[list[Outcome], list[Choice | None]]:
        """Outcomes and choices per item, from the hidden states of ``_run``."""
        last_rows: list[int] = []
        samplers: list[Sampler] = []
        row = 0
        for item, live, piece in zip(work.step.items, work.live, work.pieces, strict=True):
            self._score(live, piece, hidden[row : row + piece.logits])
            row += piece.logits
            if item.samples:
                last_rows.append(row - 1)
                samplers.append(live.sampler)
        if not samplers:
            return [None] * len(work.live), [None] * len(work.live)
        every = len(last_rows) == len(hidden)
        chosen = iter(choose(self.runner.logits(hidden if every else hidden[last_rows]), samplers))
        choices = [next(chosen) if item.samples else None for item in work.step.items]
        outcomes: list[Outcome] = [
            self._outcome(live, choice) if item.samples else None
            for item, live, choice in zip(work.step.items, work.live, choices, strict=True)
        ]
        return outcomes, choices

    def _score(self, live: _Live, piece: Piece, hidden: Tensor) -> None:
        """Keep what the prompt's rows say of its tokens, as far as it was asked for."""
        row = live.first_scored_row
        count = live.request.params.prompt_logprobs
        prompt = live.request.prompt_token_ids
        end = min(piece.end, len(prompt) - 1)
        while row is not None and count is not None and row < end:
            stop = min(end, row + _SCORED_ROWS)
            at = row - (piece.end - piece.logits)
            logits = self.runner.logits(hidden[at : at + stop - row])
            live.scored += score(logits, prompt[row + 1 : stop + 1], count)
            row = stop

    def _outcome(self, live: _Live, choice: Choice | None) -> Outcome:
        if choice is None:
            return RunFailed("engine_failed" if live.sampler.guide is None else "guide_failed")
        params = live.request.params
        ends = choice.token_id in self._eos_ids and not params.ignore_eos
        return Sampled(choice.token_id, "stop" if ends or choice.token_id in params.stop_token_ids else None)

    def _collect(self, work: _Work, outcomes: list[Outcome], choices: list[Choice | None]) -> None:
        """Advance the books, then deliver: a consumer never reads counters older than its token."""
        with self._changed:
            alive = [not live.sequence.ended for live in work.live]
            now = self._clock()
            self._scheduler.collect(work.step, outcomes, now)
            self._meter.stepped(now - work.step.scheduled_at, work.step.rows, work.step.budget)
            deliveries = [
                (live, _output(live, choice))
                for live, choice, was_alive in zip(work.live, choices, alive, strict=True)
                if was_alive and choice is not None
            ]
            self._counts["completion_tokens"] += len(deliveries)
            for live, output in deliveries:
                live.deliver(output)
                self._meter.token(now - live.last_token_at, first=live.sequence.generated == 1)
                live.last_token_at = now
            self._leave()

    def _sweep(self) -> None:
        """Take leave of what has ended; the caller holds the lock."""
        for sequence in self._scheduler.take_ended():
            live = self._live.pop(sequence.id)
            if sequence.state is State.FAILED:
                live.deliver(EngineRefusal(sequence.end_code or "engine_failed"))
            if sequence.in_step:
                self._leaving.append(live)
            elif live.lease is not None:
                live.lease.release()

    def _leave(self) -> None:
        """After a step: also those that ended during it; the caller holds the lock."""
        self._sweep()
        for live in self._leaving:
            if live.lease is not None:
                live.lease.release()
        self._leaving.clear()

    def _end_all(self, code: str) -> None:
        """End everything with a code; the caller holds the lock."""
        for live in list(self._live.values()):
            if self._scheduler.cancel(live.sequence.id):
                self._counts["stopped"] += 1
                live.deliver(EngineRefusal(code))
        self._sweep()


def _live(
    request: GenerateRequest,
    deliver: Callable[[TokenOutput | EngineRefusal], None],
    lease: Lease | None,
    asked_at: float,
) -> _Live:
    params = request.params
    scoring = params.prompt_logprobs is not None
    sequence = Sequence(
        request.request_id,
        Owner(request.tenant, request.label_domain, request.adapter_digest),
        request.prompt_token_ids,
        params.max_tokens,
        priority=request.priority,
        weight=request.weight,
        deadline=request.deadline,
        prefix_limit=params.prompt_logprobs_from - 1 if scoring else None,
    )
    placed = None if lease is None else lease.future.result()
    return _Live(request, sequence, Sampler(params, request.guide), deliver, lease, placed, asked_at)


def _piece(item: Scheduled, live: _Live) -> Piece:
    """The rows of an item, as the scheduler has them now."""
    sequence, end = item.sequence, item.start + item.count
    logits = int(item.samples)
    row = live.first_scored_row
    if row is not None and row < end:
        logits = end - max(row, item.start)
    return Piece(sequence.tokens[item.start : end], item.start, sequence.pages, logits)


def _output(live: _Live, choice: Choice) -> TokenOutput:
    sequence = live.sequence
    reason: FinishReason | None = None
    if sequence.state is State.FINISHED:
        reason = "stop" if sequence.end_code == "stop" else "length"
    scored: PromptLogprobs | None = None
    if live.request.params.prompt_logprobs is not None and sequence.generated == 1:
        scored, live.scored = live.scored, ()
    return TokenOutput(choice.token_id, choice.logprob, choice.top_logprobs, reason, scored)


def _from_thread(
    loop: asyncio.AbstractEventLoop, queue: asyncio.Queue[TokenOutput | EngineRefusal]
) -> Callable[[TokenOutput | EngineRefusal], None]:
    """A function that another thread may call to put into ``queue``."""

    def deliver(output: TokenOutput | EngineRefusal) -> None:
        with contextlib.suppress(RuntimeError):  # the consumer's loop may close while a step ends
            loop.call_soon_threadsafe(queue.put_nowait, output)

    return deliver
