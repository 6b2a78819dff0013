"""Composition root of the serving image: inference behind the seal.

    model + attester -> keys -> evidence, sealed API -> a listening socket

It runs in a TEE with real hardware; ``runtime.dev`` composes the same parts on the mock one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

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
from runtime.api.served import ServedModel
from runtime.attestation import Attestation, Served, stated_check
from runtime.identity import RuntimeIdentity
from runtime.listening import listen
from runtime.loading import load_served_model
from runtime.settings import ModelSettings, ServeSettings

if TYPE_CHECKING:
    from runtime.model.loaded import Progress

AttestationOf = Callable[[Attester, RuntimeIdentity, Served], Attestation]


def now() -> datetime:
    """The clock of the whole runtime, aware."""
    return datetime.now(UTC)


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
        self_check=stated_check(
            served.engine.info.self_check, None if served.embedder is None else served.embedder.self_check
        ),
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


def serve(
    model: ModelSettings,
    settings: ServeSettings,
    *,
    policy_folder: Path | None = None,
    progress: Progress | None = None,
) -> None:
    """Serve ``model`` from inside a confidential guest, until a signal.

    Args:
        model: what to serve.
        settings: how to run.
        policy_folder: whose digest the statement names.
        progress: told how far loading is.

    Raises:
        Refused: the model is not here, or not what it should be.
        OSError: the port is taken.
    """
    served = load_served_model(model, progress=progress)
    app = compose(served, hardware_attester(settings), settings, policy_folder=policy_folder)
    listen(app, settings, model=served.name, mock=False)


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
