"""A whole runtime on the stub engine, in this process, with keys and a clock that tests can reach."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from starlette.types import ASGIApp

from attest.attesters.base import NO_DEVICES, DeviceAnswers
from attest.digest import sha256_digest
from attest.evidence.cpu import CpuKind, SnpCollateral, SnpEvidence
from runtime.api.outer import create_outer_app
from runtime.api.served import ServedModel
from runtime.attestation import Attestation, Served
from runtime.engine.base import Engine, EngineInfo
from runtime.engine.stub import StubEngine, StubSettings
from runtime.engine.stub_text import ByteDecoder, ByteTokenizer
from runtime.identity import RuntimeIdentity
from runtime.settings import ServeSettings
from tests.simulators.sealing_client import SealingClient

START = datetime(2026, 6, 1, 12, tzinfo=UTC)


class Clock:
    """A clock that stands still until moved."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        """The time, aware."""
        return self.now

    def pass_by(self, **time: float) -> None:
        """Move on, by the arguments of ``timedelta``."""
        self.now += timedelta(**time)


class PaperAttester:
    """Evidence that no verifier would take; what is tested here is what surrounds it."""

    kind: Final[CpuKind] = "snp"

    def cpu_evidence(self, report_data: bytes) -> SnpEvidence:
        """The report data itself for a report."""
        return SnpEvidence(report_data, SnpCollateral(leaf=b"leaf"))

    def device_answers(self, nonce: bytes) -> DeviceAnswers:  # noqa: ARG002 - nobody is asked
        """None."""
        return NO_DEVICES


def served_by(engine: Engine) -> ServedModel:
    """A byte-token model on ``engine``."""
    return ServedModel(
        engine=engine,
        tokenizer=ByteTokenizer(),
        new_decoder=ByteDecoder,
        base_model_digest=sha256_digest(b"model"),
        tokenizer_digest=sha256_digest(b"tokenizer"),
        created=1_700_000_000,
    )


def stub_engine(text: str = "Hello, world", *, context: int = 4096, **paces: Any) -> StubEngine:
    """Says ``text``, one byte a token, and stops."""
    tokens = tuple(text.encode())
    settings = StubSettings(token_ids=tokens, tokens=len(tokens), **paces)
    return StubEngine(settings, info=EngineInfo("stub", "stub", context, "none"))


@dataclass
class StubRuntime:
    """The runtime and the handles on it."""

    app: ASGIApp
    engine: Any
    identity: RuntimeIdentity
    attestation: Attestation
    clock: Clock

    @classmethod
    async def started(
        cls, engine: Any = None, *, served: ServedModel | None = None, **settings: Any
    ) -> StubRuntime:
        """With the engine running; ``served`` replaces the stub's text too."""
        served = served or served_by(engine or stub_engine())
        await served.engine.start()
        return cls.around(served, **settings)

    @classmethod
    def around(cls, served: ServedModel, **settings: Any) -> StubRuntime:
        """Around an engine that its owner starts and stops."""
        clock = Clock()
        options = replace(ServeSettings(), **settings)
        identity = RuntimeIdentity(
            lifetime=options.key_lifetime,
            overlap=options.key_overlap,
            replay_capacity=options.replay_capacity,
            max_tenants=options.max_tenants,
            clock=clock,
        )
        facts = Served(
            policy_digest=sha256_digest(b"policy"),
            base_model_digest=served.base_model_digest,
            tokenizer_digest=served.tokenizer_digest,
            runtime_image=options.runtime_image,
            key_scope=options.key_scope,
            region=options.region,
        )
        attestation = Attestation(PaperAttester(), identity, facts)
        app = create_outer_app(
            settings=options, served=served, identity=identity, attestation=attestation, clock=clock
        )
        return cls(app, served.engine, identity, attestation, clock)

    def client(self, **options: Any) -> SealingClient:
        """A tenant that has verified the current keys."""
        return SealingClient(self.app, self.identity.current().keyset, self.clock, **options)
