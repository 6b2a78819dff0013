"""Sealgate's engine: continuous batching, prompts in chunks, paged keys and values, on one worker thread.

A step is three verbs. *Schedule* plans which sequences advance and by how many tokens (``schedule``); *run*
puts all their rows through the model in one pass and chooses the tokens (``step_run``); *collect* hands each
token to its consumer and ends what is complete. Sequences join, leave and are preempted between steps.

The lock is held to plan and to count, never while the model runs. What ends during a step keeps its pages,
and its adapter, until the step is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator

import torch

from runtime.engine.base import (
    EngineInfo,
    EngineRefusal,
    EngineStats,
    GenerateRequest,
    TokenOutput,
    check_request,
)
from runtime.engine.figures import adapters_figures, page_figures
from runtime.engine.live import Live, into_queue
from runtime.engine.lora.batch import LoraBatches
from runtime.engine.lora.lease import Lease
from runtime.engine.lora.store import AdapterStore
from runtime.engine.roster import Roster
from runtime.engine.run.cache import page_bytes
from runtime.engine.run.runner import load_runner
from runtime.engine.run.sampler import Choice
from runtime.engine.schedule.pages import IntegrityError
from runtime.engine.schedule.scheduler import Scheduler
from runtime.engine.schedule.step import Outcome
from runtime.engine.selfcheck.check import fixed_prompts, self_check
from runtime.engine.selfcheck.reference import ReferenceSource
from runtime.engine.settings import EngineSettings
from runtime.engine.step_run import StepRunner, Work
from runtime.engine.telemetry import Meter, Telemetry
from runtime.model.loaded import OpenModel

_LOG = logging.getLogger(__name__)

BACKEND = "sealgate"
_AUDIT_PAUSE_S = 0.0005
"""Between the parts of an audit, for whoever waits for the lock."""


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
        self.runner = load_runner(
            shape, source, chosen.mode, chosen.device, threads=chosen.threads, kernels=chosen.kernels
        )
        self._self_check = self_check(
            self.runner,
            source.finish(),
            page_size=chosen.page_size,
            base_model_digest=opened.base_model_digest,
        )
        pages = 1 + chosen.kv_bytes // page_bytes(shape, chosen.page_size, self.runner.cache_dtype)
        cache = self.runner.cache(pages, chosen.page_size)
        self._store = None if adapters is None else adapters[0]
        batches = None if adapters is None else adapters[1]
        self._steps = StepRunner(self.runner, cache, batches, opened.tokenizer.eos_ids)
        bounds = chosen.of_scheduler(pages)
        self._scheduler = Scheduler(bounds, prefix_key=secrets.token_bytes(32))  # guarded by _changed
        context = min(shape.context_length, self._scheduler.pool.usable * chosen.page_size)
        self.info = EngineInfo(BACKEND, opened.name, context, chosen.mode, self._self_check.digest)
        self._roster = Roster(self._scheduler)  # guarded by _changed
        self._meter = Meter()  # guarded by _changed
        self._completion_tokens = 0  # guarded by _changed
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
            self._roster.end_all("engine_stopped")
            self._changed.notify()
        worker, self._worker = self._worker, None
        if worker is not None:
            await asyncio.to_thread(worker.join)

    def stats(self) -> EngineStats:
        """Counters, free of content."""
        adapters = None if self._store is None else adapters_figures(self._store)
        with self._changed:
            counts, stopped = self._scheduler.counts, self._roster.stopped
            return EngineStats(
                running=len(self._scheduler.running),
                waiting=len(self._scheduler.waiting),
                finished=counts.finished,
                cancelled=counts.cancelled - stopped,
                failed=counts.failed + stopped,
                prompt_tokens=counts.prompt_rows,
                completion_tokens=self._completion_tokens,
                steps=counts.steps,
                preemptions=counts.preemptions,
                telemetry=Telemetry.of(
                    self._meter,
                    rows_limit=self.settings.budget.step_rows,
                    pages=page_figures(self._scheduler, self.settings.page_size),
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
            deliver = into_queue(asyncio.get_running_loop(), outputs)
            live = Live.of(request, deliver, lease, asked_at)
            try:
                self._add(live)
            except BaseException:
                live.release()
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
                    self._roster.give_up(live)

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
        await lease.ready()
        return lease

    def _add(self, live: Live) -> None:
        with self._changed:
            if self._stopping or self._worker is None:
                raise EngineRefusal("engine_stopped")
            self._roster.add(live, self._clock())
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

    def _next(self) -> Work | None:
        with self._changed:
            while not self._stopping:
                step = self._scheduler.schedule(self._clock())
                self._roster.sweep()  # those past their deadline
                if step is not None:
                    return Work.of(step, self._roster.of(step))
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
            self._roster.end_all("engine_failed")
        return True

    def _step(self, work: Work) -> None:
        try:
            outcomes, choices = self._steps.run(work)
        except Exception as error:  # noqa: BLE001 whatever broke, nobody may be left waiting
            # The message could quote tensors or tokens: the kind of error must do.
            _LOG.error("a step of %d sequences failed: %s", len(work.live), type(error).__name__)
            with self._changed:
                self._scheduler.abandon(work.step, "engine_failed")
                self._roster.step_over()
            return
        self._collect(work, outcomes, choices)

    def _collect(self, work: Work, outcomes: list[Outcome], choices: list[Choice | None]) -> None:
        """Advance the books, then deliver: a consumer never reads counters older than its token."""
        with self._changed:
            alive = [not live.sequence.ended for live in work.live]
            now = self._clock()
            self._scheduler.collect(work.step, outcomes, now)
            self._meter.stepped(now - work.step.scheduled_at, work.step.rows, work.step.budget)
            deliveries = [
                (live, live.output(choice))
                for live, choice, was_alive in zip(work.live, choices, alive, strict=True)
                if was_alive and choice is not None
            ]
            self._completion_tokens += len(deliveries)
            for live, output in deliveries:
                live.deliver(output)
                self._meter.token(now - live.last_token_at, first=live.sequence.generated == 1)
                live.last_token_at = now
            self._roster.step_over()
