"""The embedding model as the API uses it: texts of many tenants in, in turns, one piece of work at a time.

A piece is a part of one request, so a text's vector does not depend on other requests, bit for bit. After
each piece the next tenant has its turn: a request of thousands of texts delays the others by one piece each.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import torch

from attest.refusal import Refused
from runtime import settings
from runtime.embed.encoder import Encoder
from runtime.embed.folder import EmbeddingFolder, read_embedding_folder
from runtime.engine.base import EngineRefusal
from runtime.model.registry import KNOWN
from runtime.model.store import stored_model
from runtime.model.tokenizer import Tokenizer

PIECE_TOKENS: Final = 512
"""In one pass: enough to keep the processor busy, little enough to wait for."""

MAX_WAITING_TOKENS: Final = 1 << 20
TENANT_WAITING_TOKENS: Final = 1 << 18
"""Of one tenant: a quarter, so that no one tenant can close the door for all."""

_FIRST_RATE: Final = 1000.0
"""Tokens a second, until measured."""


@dataclass(eq=False, repr=False)
class _Job:
    """One request's texts, and their vectors so far."""

    texts: Sequence[Sequence[int]]
    done: asyncio.Future[None]
    vectors: list[list[float]] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Tokens still to be run."""
        return sum(map(len, self.texts[len(self.vectors) :]))

    def piece(self) -> list[Sequence[int]]:
        """The next texts: at least one, and as many as fit ``PIECE_TOKENS``."""
        taken: list[Sequence[int]] = []
        room = PIECE_TOKENS
        for text in self.texts[len(self.vectors) :]:
            room -= len(text)
            if taken and room < 0:
                break
            taken.append(text)
        return taken


class Embedder:
    """A served embedding model.

    Args:
        folder: what was read.
        name: what clients ask for.
        threads: of a pass; None takes torch's default.
    """

    backend: Final = "sealgate"

    def __init__(self, folder: EmbeddingFolder, name: str, *, threads: int | None = None) -> None:
        self.name = name
        self._pass_threads = threads or torch.get_num_threads()
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
        self._waiting: OrderedDict[str, deque[_Job]] = OrderedDict()
        self._some = asyncio.Event()
        self._rate = _FIRST_RATE
        self._threads: ThreadPoolExecutor | None = None
        self._working: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"Embedder({self.name}, {self.digest})"

    async def start(self) -> None:
        """Take requests from now on."""
        self._some = asyncio.Event()  # of this event loop
        self._threads = ThreadPoolExecutor(
            1, "embedder", initializer=torch.set_num_threads, initargs=(self._pass_threads,)
        )
        self._working = asyncio.create_task(self._work(self._threads))

    async def stop(self) -> None:
        """End every waiting request with ``engine_stopped``. May be called twice."""
        if self._working is None or self._threads is None:
            return
        self._working.cancel()
        await asyncio.gather(self._working, return_exceptions=True)
        for job in [job for jobs in self._waiting.values() for job in jobs]:
            _fail(job, EngineRefusal("engine_stopped"))
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
        if self._working is None:
            raise EngineRefusal("engine_stopped")
        job = _Job(texts, asyncio.get_running_loop().create_future())
        self._admit(tenant, job.left)
        jobs = self._waiting.setdefault(tenant, deque())
        jobs.append(job)
        self._some.set()
        try:
            await job.done
        finally:
            if job in jobs:
                jobs.remove(job)
        return job.vectors

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

    async def _advance(self, jobs: deque[_Job], threads: ThreadPoolExecutor) -> None:
        """One piece of a tenant's first request."""
        job = jobs[0]
        if job.done.done():  # given up by whoever asked
            jobs.popleft()
            return
        piece, began = job.piece(), time.monotonic()
        try:
            vectors = await asyncio.get_running_loop().run_in_executor(threads, self._vectors, piece)
        except Exception:  # noqa: BLE001 - whatever it is, it is this request's failure; a trace may hold content
            _fail(job, EngineRefusal("engine_failed"))
            return
        self._rate = sum(map(len, piece)) / max(time.monotonic() - began, 1e-6)
        job.vectors.extend(vectors)
        if len(job.vectors) == len(job.texts) and not job.done.done():
            job.done.set_result(None)

    def _vectors(self, piece: list[Sequence[int]]) -> list[list[float]]:
        embedded = self._encoder.embed(piece)
        if not bool(embedded.isfinite().all()):
            raise ArithmeticError
        vectors: list[list[float]] = embedded.tolist()
        return vectors


def _fail(job: _Job, refusal: EngineRefusal) -> None:
    if not job.done.done():
        job.done.set_exception(refusal)


def load_embedder(path_or_name: str, *, threads: int | None = None) -> Embedder:
    """Load a pulled embedding model by name, or a sentence-transformers folder by path.

    A pulled model must have the digests it was pinned to. Any other is taken as it is: its digest goes into
    the runtime's statement.

    Args:
        path_or_name: names of pulled models win over paths.
        threads: of a pass; None takes torch's default.

    Raises:
        Refused: ``model-not-pulled``, ``model-not-found``, ``model-digest-mismatch``, ``model-kind``.
        Unsupported, Malformed: as ``read_embedding_folder``.
    """
    known = KNOWN.get(path_or_name)
    if known is None:
        folder = read_embedding_folder(Path(path_or_name))
        return Embedder(folder, folder.name, threads=threads)
    if known.kind != "embed":
        raise Refused("model-kind", expected="a model that makes embeddings", got=known.name)
    stored = stored_model(settings.home(), known.name)
    folder = read_embedding_folder(stored.folder)
    if folder.digest != known.digest:
        raise Refused("model-digest-mismatch", expected=known.digest, got=folder.digest)
    return Embedder(folder, known.name, threads=threads)
