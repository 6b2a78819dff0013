"""The real runtime in process: production composition on the mock TEE, with a stub or a given engine."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from starlette.types import ASGIApp

from attest.digest import sha256_digest
from attest.evidence.bundle import Bundle
from attest.keyset import Keyset
from attest.mock.attester import MockAttester
from attest.mock.machine import MockMachine, MockSnpCpu
from attest.mock.snp_report import MockLaunch
from attest.mock.vendor import MockVendor
from attest.mock.world import MockWorld
from attest.reference import ReferenceValues
from attest.statement import Statement
from attest.trust import TrustRoots
from runtime.api.served import ServedModel
from runtime.attestation import Attestation, Served
from runtime.engine.base import EngineInfo
from runtime.engine.stub import StubEngine, StubSettings
from runtime.engine.stub_text import ByteDecoder, ByteTokenizer
from runtime.identity import RuntimeIdentity
from runtime.serve import compose
from runtime.settings import ServeSettings
from tests.simulators.running_gateway import listening

TEXT = b"Grass is green. "
MODEL = "stub"


@dataclass
class RealRuntime:
    """A runtime of ``vendor``; each ``app`` has keys of its own, as after a restart.

    Args:
        vendor: the mock vendor.
        stub: what the engine says, and how fast.
        settings: of the runtime.
        served: in place of the stub; good for one ``app``.
    """

    vendor: MockVendor
    stub: StubSettings = field(default_factory=lambda: StubSettings(token_ids=tuple(TEXT), tokens=len(TEXT)))
    settings: ServeSettings = field(default_factory=ServeSettings)
    engines: list[StubEngine] = field(default_factory=list)
    served: ServedModel | None = None
    _made: list[tuple[RuntimeIdentity, Served]] = field(default_factory=list)

    @property
    def _machine(self) -> MockMachine:
        return MockMachine(MockSnpCpu(self.vendor, MockLaunch()))

    def app(self) -> ASGIApp:
        """A freshly started runtime."""
        served = self.served or self._stub()

        def attestation(attester: MockAttester, identity: RuntimeIdentity, facts: Served) -> Attestation:
            self._made.append((identity, facts))
            return Attestation(attester, identity, facts)

        return compose(
            served,
            MockAttester(self._machine),
            self.settings,
            attestation_of=attestation,  # type: ignore[arg-type]  # of the mock attester, which it is given
        )

    def _stub(self) -> ServedModel:
        engine = StubEngine(self.stub, info=EngineInfo("stub", MODEL, 4096, "none"))
        self.engines.append(engine)
        return ServedModel(
            engine=engine,
            tokenizer=ByteTokenizer(),
            new_decoder=ByteDecoder,
            base_model_digest=sha256_digest(b"model"),
            tokenizer_digest=sha256_digest(b"tokenizer"),
            created=int(time.time()),
        )

    @property
    def trust(self) -> TrustRoots:
        """Roots that accept it."""
        return self._world().trust()

    @property
    def reference(self) -> ReferenceValues:
        """Reference values that accept it; call after ``app``."""
        not_after = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
        return self._world().reference(not_after=not_after)

    @property
    def keyset(self) -> Keyset:
        """The keys of the latest app."""
        return self._made[-1][0].current().keyset

    def _world(self) -> MockWorld:
        identity, facts = self._made[-1]
        attester = MockAttester(self._machine)
        bundle = Bundle.parse(Attestation(attester, identity, facts).bundle(identity.current(), "0" * 64))
        return MockWorld(
            machine=self._machine,
            statement=Statement.parse(bundle.statement),
            keyset=self.keyset,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Start one on a free port."""
        async with listening(self.app()) as url:
            yield url
