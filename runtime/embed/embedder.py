"""The embedding model as the API uses it: texts of many tenants in, in turns, one piece of work at a time.

A piece is a part of one request, so a text's vector does not depend on other requests, bit for bit. After
each piece the next tenant has its turn: a request of thousands of texts delays the others by one piece each.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import torch

from attest.refusal import Refused
from runtime import settings
from runtime.embed.encoder import Encoder
from runtime.embed.figures import EmbedderFigures, EmbedderMeter
from runtime.embed.folder import EmbeddingFolder, read_embedding_folder
from runtime.embed.job import Job
from runtime.embed.selfcheck import check_embedder
from runtime.engine.base import EngineRefusal
from runtime.model.registry import KNOWN
from runtime.model.store import stored_model
from runtime.model.tokenizer import Tokenizer

PIECE_TOKENS: Final = 512
"""In one pass: enough to keep the processor busy, little enough to wait for."""

MAX_WAITING_TOKENS: Final = 1 << 20
TENANT_WAITING_TOKENS: Final = 1 << 18
"""Of one tenant: a quarter, so that no one tenant can close the door for all."""

NICENESS: Final = 10
"""Of an embedder's threads: beside busy ones of the engine they get about a tenth of a core, else all of it.

The scheduler of the system does it: as often as the engine has work, at once, and nobody starves.
"""

_NICEST: Final = 19

_FIRST_RATE: Final = 1000.0
"""Tokens a second, until measured."""


class Embedder:
    """A served embedding model.

    Args:
        folder: what was read.
        name: what clients ask for.
        threads: of a pass; None takes torch's default.
        niceness: of these threads beyond the process's: how far they give way to the engine's.

    Raises:
        Unsupported, Malformed: as ``Encoder``.
        SelfCheckFailed: it does not compute what the model says.
    """

    backend: Final = "sealgate"

    def __init__(
        self, folder: EmbeddingFolder, name: str, *, threads: int | None = None, niceness: int = NICENESS
    ) -> None:
        self.name = name
        self._pass_threads = threads or torch.get_num_threads()
        self._niceness = niceness
        self.digest = folder.digest
        self.dimensions = folder.shape.hidden_size
        self.context_length = folder.max_tokens
        self.max_request_tokens = TENANT_WAITING_TOKENS
        self.created = int(time.time())
        self.tokenizer = Tokenizer(
            backend=folder.backend,
            chat_template=None,
            eos_ids=frozenset(),
            vocab_size=folder.shape.vocab_size,
        )
        self._encoder = Encoder(folder)
        self._check = check_embedder(self._encoder, folder, self.tokenizer)
        self._meter = EmbedderMeter()
        self._waiting: OrderedDict[str, deque[Job]] = OrderedDict()
        self._some = asyncio.Event()
        self._rate = _FIRST_RATE
        self._threads: ThreadPoolExecutor | None = None
        self._working: asyncio.Task[None] | None = None

    @property
    def self_check(self) -> str:
        """Digest of the check that it passed."""
        return self._check.digest

    def figures(self) -> EmbedderFigures:
        """Counters, free of content."""
        return self._meter.read(self._check.figures)

    def __repr__(self) -> str:
        return f"Embedder({self.name}, {self.digest})"

    async def start(self) -> None:
        """Take requests from now on."""
        self._some = asyncio.Event()  # of this event loop
        self._threads = ThreadPoolExecutor(1, "embedder", initializer=self._prepare_thread)
        self._working = asyncio.create_task(self._work(self._threads))

    async def stop(self) -> None:
        """End every waiting request with ``engine_stopped``. May be called twice."""
        if self._working is None or self._threads is None:
            return
        self._working.cancel()
        await asyncio.gather(self._working, return_exceptions=True)
        for job in [job for jobs in self._waiting.values() for job in jobs]:
            job.fail("engine_stopped")
        self._waiting.clear()
        await asyncio.to_thread(self._threads.shutdown)
        self._working = self._threads = None

    async def embed(self, texts: Sequence[Sequence[int]], *, tenant: str) -> list[list[float]]:
        """The vectors of texts, each of length 1. Cancelling it gives the rest of the work up.

        Args:
            texts: token ids of each, 1 to ``context_length``; ``max_request_tokens`` together.
            tenant: whose turn it uses.

        Raises:
            EngineRefusal: ``engine_overloaded``, ``engine_stopped``, ``engine_failed``.
        """
        with self._meter.refusals():
            if self._working is None:
                raise EngineRefusal("engine_stopped")
            job = Job(texts, asyncio.get_running_loop().create_future())
            self._admit(tenant, job.left)
            with self._meter.request():
                await self._served(job, tenant)
        return job.vectors

    async def _served(self, job: Job, tenant: str) -> None:
        jobs = self._waiting.setdefault(tenant, deque())
        jobs.append(job)
        self._some.set()
        try:
            await job.done
        finally:
            if job in jobs:
                jobs.remove(job)

    def _admit(self, tenant: str, tokens: int) -> None:
        own = sum(job.left for job in self._waiting.get(tenant, ()))
        everyone = sum(job.left for jobs in self._waiting.values() for job in jobs)
        if own + tokens > TENANT_WAITING_TOKENS or everyone + tokens > MAX_WAITING_TOKENS:
            raise EngineRefusal("engine_overloaded", retry_after=(own or everyone) / self._rate)

    async def _work(self, threads: ThreadPoolExecutor) -> None:
        while True:
            await self._some.wait()
            turn = next(iter(self._waiting), None)
            if turn is None:
                self._some.clear()
            elif not self._waiting[turn]:
                del self._waiting[turn]
            else:
                await self._advance(self._waiting[turn], threads)
                self._waiting.move_to_end(turn)

    async def _advance(self, jobs: deque[Job], threads: ThreadPoolExecutor) -> None:
        """One piece of a tenant's first request."""
        job = jobs[0]
        if job.done.done():  # given up by whoever asked
            jobs.popleft()
            return
        piece, began = job.piece(PIECE_TOKENS), time.monotonic()
        try:
            vectors = await asyncio.get_running_loop().run_in_executor(threads, self._vectors, piece)
        except Exception:  # noqa: BLE001 - whatever it is, it is this request's failure; a trace may hold content
            job.fail("engine_failed")
            return
        tokens, seconds = sum(map(len, piece)), time.monotonic() - began
        self._meter.passed(len(piece), tokens, seconds)
        self._rate = tokens / max(seconds, 1e-6)
        job.add(vectors)

    def _prepare_thread(self) -> None:
        """The threads that torch starts for this one's products inherit its niceness."""
        niceness = os.getpriority(os.PRIO_PROCESS, 0) + self._niceness
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(niceness, _NICEST))
        torch.set_num_threads(self._pass_threads)

    def _vectors(self, piece: list[Sequence[int]]) -> list[list[float]]:
        embedded = self._encoder.embed(piece)
        if not bool(embedded.isfinite().all()):
            raise ArithmeticError
        vectors: list[list[float]] = embedded.tolist()
        return vectors


def load_embedder(path_or_name: str, *, threads: int | None = None, niceness: int = NICENESS) -> Embedder:
    """Load a pulled embedding model by name, or a sentence-transformers folder by path.

    A pulled model must have the digests it was pinned to. Any other is taken as it is: its digest goes into
    the runtime's statement.

    Args:
        path_or_name: names of pulled models win over paths.
        threads: of a pass; None takes torch's default.
        niceness: of these threads.

    Raises:
        Refused: ``model-not-pulled``, ``model-not-found``, ``model-digest-mismatch``, ``model-kind``.
        Unsupported, Malformed: as ``read_embedding_folder``.
        SelfCheckFailed: it does not compute what the model says.
    """
    known = KNOWN.get(path_or_name)
    if known is None:
        folder = read_embedding_folder(Path(path_or_name))
        return Embedder(folder, folder.name, threads=threads, niceness=niceness)
    if known.kind != "embed":
        raise Refused("model-kind", expected="a model that makes embeddings", got=known.name)
    stored = stored_model(settings.home(), known.name)
    folder = read_embedding_folder(stored.folder)
    if folder.digest != known.digest:
        raise Refused("model-digest-mismatch", expected=known.digest, got=folder.digest)
    return Embedder(folder, known.name, threads=threads, niceness=niceness)
