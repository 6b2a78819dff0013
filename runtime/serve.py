"""Composition root of the serving image: inference behind the seal.

    model + attester -> keys -> evidence, sealed API -> a listening socket

It runs in a TEE with real hardware; ``runtime.dev`` composes the same parts on the mock one.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import socket
import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp

from attest.attesters.azure import AzureSnpAttester
from attest.attesters.base import Attester, ComposedAttester, CpuAttester
from attest.attesters.nvidia import NvidiaAttester
from attest.attesters.snp import SnpAttester
from attest.attesters.tdx import TdxAttester
from attest.evidence.cpu import CpuKind
from policies.bundle import load_bundle
from runtime.api.outer import create_outer_app
from runtime.api.served import ServedEmbedder, ServedModel
from runtime.attestation import Attestation, Served
from runtime.identity import RuntimeIdentity
from runtime.settings import ServeSettings

if TYPE_CHECKING:
    from runtime.engine.adapters import AdapterSettings
    from runtime.engine.run.weights import WeightMode
    from runtime.model.loaded import Progress

_BACKLOG: Final = 2048
_GRACE_S: Final = 5
_KEEP_ALIVE_S: Final = 60

EngineName = Literal["sealgate", "vllm"]
AttestationOf = Callable[[Attester, RuntimeIdentity, Served], Attestation]


def now() -> datetime:
    """The clock of the whole runtime, aware."""
    return datetime.now(UTC)


def load_served_model(
    name: str,
    *,
    engine: EngineName = "sealgate",
    weights: WeightMode = "bf16",
    max_batch: int = 64,
    threads: int | None = None,
    adapters: AdapterSettings | None = None,
    embedding_model: str | None = None,
    progress: Progress | None = None,
) -> ServedModel:
    """Load a pulled model, or one at a path, behind the engine, and the embedding model beside it.

    The embedding model is read first: what is wrong with it shows before the minutes that the other may take.

    Raises:
        Refused: ``model-not-pulled``, ``model-not-found``, ``model-digest-mismatch``; ``adapter-folder``,
            ``adapter-memory``; ``model-kind``.
        Unsupported: ``vllm-not-installed``, ``vllm-weights``.
    """
    embedder = load_embedding_model(embedding_model, threads=threads)
    if engine == "vllm":
        served = _vllm_model(name, weights=weights, max_batch=max_batch, threads=threads, progress=progress)
        return replace(served, embedder=embedder)
    # torch takes seconds to import: not before it is known that a model is wanted.
    from runtime.engine.chunked import ChunkedEngine  # noqa: PLC0415
    from runtime.engine.lora.catalogue import open_adapters  # noqa: PLC0415
    from runtime.engine.settings import EngineSettings  # noqa: PLC0415
    from runtime.guide.guides import Guides, vocabulary  # noqa: PLC0415
    from runtime.model.loaded import open_model  # noqa: PLC0415
    from runtime.model.tokenizer import IncrementalDecoder  # noqa: PLC0415

    opened = open_model(name, progress=progress)
    tokenizer = opened.tokenizer  # not ``opened``, which holds the weights as they were read
    settings = EngineSettings(weights, threads=threads, max_running=max_batch)
    catalogue, store = None, None
    if adapters is not None:
        catalogue, store = open_adapters(adapters, opened, settings)
    return ServedModel(
        engine=ChunkedEngine(opened, settings, adapters=store),
        tokenizer=tokenizer,
        new_decoder=lambda: IncrementalDecoder(tokenizer),
        base_model_digest=opened.base_model_digest,
        tokenizer_digest=opened.tokenizer_digest,
        created=int(time.time()),
        guides=Guides(vocabulary(tokenizer.backend, tokenizer.eos_ids)),
        adapters=catalogue,
        embedder=embedder,
    )


def load_embedding_model(name: str | None, *, threads: int | None) -> ServedEmbedder | None:
    """The embedding model, if one is wanted.

    Raises:
        Refused: as for the other model, and ``model-kind``.
        Unsupported, Malformed: the folder is not one that is run here.
    """
    if name is None:
        return None
    from runtime.embed.embedder import load_embedder  # noqa: PLC0415 torch, as below

    return load_embedder(name, threads=threads)


def _vllm_model(
    name: str, *, weights: WeightMode, max_batch: int, threads: int | None, progress: Progress | None
) -> ServedModel:
    """The same model behind vLLM, which holds answers to no form and runs no adapter here."""
    from runtime.engine.backends.vllm import VllmEngine, VllmSettings  # noqa: PLC0415 torch, as above
    from runtime.model.loaded import open_model  # noqa: PLC0415 the same
    from runtime.model.tokenizer import IncrementalDecoder  # noqa: PLC0415 the same

    opened = open_model(name, progress=progress)
    tokenizer = opened.tokenizer
    return ServedModel(
        engine=VllmEngine(opened, VllmSettings(weights, threads=threads, max_running=max_batch)),
        tokenizer=tokenizer,
        new_decoder=lambda: IncrementalDecoder(tokenizer),
        base_model_digest=opened.base_model_digest,
        tokenizer_digest=opened.tokenizer_digest,
        created=int(time.time()),
    )


def compose(
    served: ServedModel,
    attester: Attester,
    settings: ServeSettings,
    *,
    policy_folder: Path | None = None,
    attestation_of: AttestationOf = Attestation,
    clock: Callable[[], datetime] = now,
) -> ASGIApp:
    """The outer app with everything behind it; keys are made here.

    Args:
        served: what to serve; its engine starts and stops with the app.
        attester: of the TEE.
        settings: how to run.
        policy_folder: whose digest the statement names; None for this version's defaults.
        attestation_of: makes the evidence; the development server may lie here.
        clock: the time, aware.
    """
    identity = RuntimeIdentity(
        lifetime=settings.key_lifetime,
        overlap=settings.key_overlap,
        replay_capacity=settings.replay_capacity,
        max_tenants=settings.max_tenants,
        clock=clock,
    )
    facts = Served(
        policy_digest=load_bundle(policy_folder).digest,
        base_model_digest=served.base_model_digest,
        tokenizer_digest=served.tokenizer_digest,
        runtime_image=settings.runtime_image,
        key_scope=settings.key_scope,
        region=settings.region,
        self_check=served.engine.info.self_check,
        embedding_model_digest=None if served.embedder is None else served.embedder.digest,
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        await served.engine.start()
        if served.embedder is not None:
            await served.embedder.start()
        try:
            yield
        finally:
            if served.embedder is not None:
                await served.embedder.stop()
            await served.engine.stop()
            if served.adapters is not None:
                await asyncio.to_thread(served.adapters.close)

    return create_outer_app(
        settings=settings,
        served=served,
        identity=identity,
        attestation=attestation_of(attester, identity, facts),
        clock=clock,
        lifespan=lifespan,
    )


class AnnouncingServer(uvicorn.Server):
    """uvicorn, printing one JSON line on standard output when it listens.

    Args:
        config: of uvicorn.
        ready: further members of that line.
        listener: the socket.
    """

    def __init__(self, config: uvicorn.Config, ready: Mapping[str, Any], listener: socket.socket) -> None:
        super().__init__(config)
        self._ready = ready
        self._listener = listener

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then announce."""
        await super().startup(sockets)
        if not self.should_exit:
            # What is here now stays to the end: the collector need not go through it again and again.
            gc.collect()
            gc.freeze()
            line = {"ready": True, "port": self._listener.getsockname()[1], **self._ready}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()


def server_config(
    app: ASGIApp, *, protocol: type[Any] | str = "h11", lifespan: Literal["on", "off"] = "on"
) -> uvicorn.Config:
    """How a runtime is served: by parsers without memory errors, and saying as little as possible.

    Args:
        app: what to serve.
        protocol: uvicorn's HTTP protocol class.
        lifespan: whether starting and stopping ``app`` is the server's to do.
    """
    return uvicorn.Config(
        app,
        http=protocol,
        loop="asyncio",  # by default uvicorn takes uvloop where it is installed
        ws="none",
        proxy_headers=False,  # the host's word on who asks is worth nothing
        log_config=None,
        access_log=False,  # who asks when is more than the host's log needs
        server_header=False,
        date_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
        lifespan=lifespan,
    )


def run(
    app: ASGIApp, settings: ServeSettings, *, ready: Mapping[str, Any], protocol: type[Any] | str = "h11"
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        app: the outer app.
        settings: where to listen.
        ready: further members of the ready line.
        protocol: uvicorn's HTTP protocol class.

    Raises:
        OSError: the port is taken.
    """
    logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG) as listener:
        # Accepted sockets inherit it; asyncio sets it itself only where the protocol was named. Without it a
        # streamed event waits for the peer's delayed acknowledgement, 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            AnnouncingServer(server_config(app, protocol=protocol), ready, listener).run(sockets=[listener])
        except KeyboardInterrupt:  # uvicorn raises the signal again once it has shut down
            return


def serve(
    model: str,
    settings: ServeSettings,
    *,
    engine: EngineName = "sealgate",
    weights: WeightMode = "bf16",
    max_batch: int = 64,
    threads: int | None = None,
    adapters: AdapterSettings | None = None,
    embedding_model: str | None = None,
    policy_folder: Path | None = None,
    progress: Progress | None = None,
) -> None:
    """Serve ``model`` from inside a confidential guest, until a signal.

    Raises:
        Refused: the model is not here, or not what it should be.
        OSError: the port is taken.
    """
    served = load_served_model(
        model,
        engine=engine,
        weights=weights,
        max_batch=max_batch,
        threads=threads,
        adapters=adapters,
        embedding_model=embedding_model,
        progress=progress,
    )
    app = compose(served, hardware_attester(settings), settings, policy_folder=policy_folder)
    facts = {"tee": settings.tee, "gpus": settings.gpus, "mock": False}
    run(app, settings, ready={"model": served.name, **facts})


def hardware_attester(settings: ServeSettings) -> Attester:
    """The attester of this machine's TEE and, where there are GPUs, of each of them.

    Raises:
        AttesterFailure: GPUs are to be asked, and NVIDIA's library is not installed.
    """
    attesters: dict[CpuKind, type[CpuAttester]] = {
        "snp": SnpAttester,
        "tdx": TdxAttester,
        "azure-snp": AzureSnpAttester,
    }
    cpu = attesters[settings.tee]()
    return ComposedAttester(cpu, NvidiaAttester() if settings.gpus else None)
