"""The same runtime on the mock TEE: the only door of this side to ``attest.mock``.

Everything is real but the hardware's root, which is the mock vendor's of this installation, so its verdict
says MOCK wherever it is shown (P8). For demonstrations and tests this runtime can also lie, on purpose and
by name, and it can play the host that writes down every byte it is sent.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from rich.console import Console
from rich.panel import Panel
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from attest.attesters.base import Attester
from attest.digest import sha256_digest
from attest.mock.attester import MockAttester
from attest.mock.faults import FAULTS, Fault, apply_bundle_fault
from attest.mock.installation import installed_machine
from attest.mock.world import MockWorld
from attest.protocol import paths
from attest.refusal import Refused
from runtime import settings as runtime_settings
from runtime.api.served import ServedModel
from runtime.attestation import Attestation, Served
from runtime.engine.base import EngineInfo
from runtime.engine.stub import StubEngine, StubSettings
from runtime.engine.stub_text import ByteDecoder, ByteTokenizer
from runtime.identity import Epoch, RuntimeIdentity
from runtime.listening import listen
from runtime.loading import load_embedding_model, load_served_model
from runtime.model.store import stored_model
from runtime.serve import AttestationOf, compose
from runtime.settings import ModelSettings, ServeSettings

if TYPE_CHECKING:
    from runtime.model.loaded import Progress

STUB_TEXT: Final = "This is a fixed answer: no model runs behind the stub engine. "
_STUB_CONTEXT: Final = 32_768


def serve(
    model: ModelSettings,
    settings: ServeSettings,
    *,
    stub: bool = False,
    fault: str | None = None,
    record_bytes: Path | None = None,
    policy_folder: Path | None = None,
    progress: Progress | None = None,
) -> None:
    """Serve ``model`` on the mock TEE, until a signal.

    Args:
        model: what to serve.
        settings: how to run.
        stub: answer a fixed text, without loading the model whose digests are stated, nor its adapters.
        fault: a name in ``attest.mock.faults``: lie so.
        record_bytes: append every byte received to this file.
        policy_folder: whose digest the statement names.
        progress: told how far loading is.

    Raises:
        Refused: ``fault-unknown``; the model is not here.
        OSError: the port is taken, or the recording cannot be written.
    """
    lie = None if fault is None else _fault(fault)
    _banner(lie, record_bytes)
    if stub:
        served = replace(stub_model(model.name), embedder=load_embedding_model(model))
    else:
        served = load_served_model(model, progress=progress)
    attester = MockAttester(installed_machine(runtime_settings.home(), settings.tee, settings.gpus))
    app = compose(
        served, attester, settings, policy_folder=policy_folder, attestation_of=_attestation_of(attester, lie)
    )
    with contextlib.ExitStack() as opened:
        protocol: type[H11Protocol] | str = "h11"
        if record_bytes is not None:
            protocol = recording_protocol(opened.enter_context(record_bytes.open("ab", buffering=0)))
        ready = {"fault": fault}
        listen(lying(app, lie), settings, model=served.name, mock=True, ready=ready, protocol=protocol)


def stub_model(name: str, settings: StubSettings | None = None) -> ServedModel:
    """The stub engine under a model's name; states that model's digests if it was pulled."""
    try:
        record = stored_model(runtime_settings.home(), name).record
        digests = record.base_model_digest, record.tokenizer_digest
    except Refused:
        digests = sha256_digest(b"sealgate-stub-model"), sha256_digest(b"sealgate-stub-tokenizer")
    tokens = tuple(STUB_TEXT.encode())
    return ServedModel(
        engine=StubEngine(
            settings or StubSettings(token_ids=tokens, tokens=len(tokens)),
            info=EngineInfo("stub", name, _STUB_CONTEXT, "none"),
        ),
        tokenizer=ByteTokenizer(),
        new_decoder=ByteDecoder,
        base_model_digest=digests[0],
        tokenizer_digest=digests[1],
        created=int(time.time()),
    )


class LyingAttestation(Attestation):
    """Evidence with one named lie in it.

    Args:
        attester: of the mock TEE.
        identity: whose keys the honest part names.
        served: what the honest part says.
        fault: the lie's name.
    """

    def __init__(self, attester: MockAttester, identity: RuntimeIdentity, served: Served, fault: str) -> None:
        super().__init__(attester, identity, served)
        self._machine = attester.machine
        self._fault = fault

    def bundle(self, epoch: Epoch, nonce: str) -> bytes:
        """The lying answer to ``nonce``."""
        world = MockWorld(
            machine=self._machine,
            statement=self.statement(epoch, None),
            keyset=epoch.keyset,
        )
        return apply_bundle_fault(self._fault, world, nonce)


def lying(app: ASGIApp, lie: Fault | None) -> ASGIApp:
    """``app`` behind a host that acts out a channel fault; as it is for any other."""
    if lie is None or lie.level != "channel":
        return app
    return ReplayingHost(app) if lie.name == "replayed-answer" else TruncatingHost(app)


class TruncatingHost:
    """A host that drops the last part of every sealed answer, and ends the HTTP message properly.

    Args:
        app: the honest runtime.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on all but the end."""

        async def cutting(message: Message) -> None:
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send({**message, "body": b""} if last else message)

        await self._app(scope, receive, cutting if _is_sealed(scope) else send)


class ReplayingHost:
    """A host that answers every sealed request after the first with the first one's answer.

    Args:
        app: the honest runtime.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._first: list[Message] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Record, or replay."""
        if not _is_sealed(scope):
            await self._app(scope, receive, send)
            return
        if self._first is not None:
            await _drain(receive)
            for message in self._first:
                await send(dict(message))
            return
        recorded: list[Message] = []

        async def recording(message: Message) -> None:
            recorded.append(dict(message))
            await send(message)

        await self._app(scope, receive, recording)
        self._first = recorded


def recording_protocol(file: IO[bytes]) -> type[H11Protocol]:
    """Uvicorn's HTTP protocol, writing down every byte of every connection before it is parsed.

    Args:
        file: unbuffered, so that what was received is on it at once.
    """

    class RecordingProtocol(H11Protocol):
        """What a host sees."""

        def data_received(self, data: bytes) -> None:
            file.write(data)
            super().data_received(data)

    return RecordingProtocol


def _attestation_of(attester: MockAttester, lie: Fault | None) -> AttestationOf:
    if lie is None or lie.level != "bundle":
        return Attestation

    def make(_: Attester, identity: RuntimeIdentity, served: Served) -> Attestation:
        return LyingAttestation(attester, identity, served, lie.name)

    return make


def _fault(name: str) -> Fault:
    try:
        return FAULTS[name]
    except KeyError:
        raise Refused("fault-unknown", expected=", ".join(sorted(FAULTS))) from None


def _is_sealed(scope: Scope) -> bool:
    return bool(scope["type"] == "http" and scope["path"] == paths.SEALED_PATH)


async def _drain(receive: Receive) -> None:
    while (message := await receive())["type"] == "http.request" and message.get("more_body", False):
        pass


def _banner(lie: Fault | None, record_bytes: Path | None) -> None:
    lines = ["This runtime stands on a software TEE. It protects nothing from the machine it runs on."]
    if lie is not None:
        lines.append(f"It LIES on purpose: {lie.name} ({lie.title}).")
    if record_bytes is not None:
        lines.append(f"It RECORDS every byte it receives: {record_bytes}")
    Console(stderr=True).print(
        Panel("\n".join(lines), title="MOCK TEE, DEVELOPMENT ONLY", style="bold red", expand=False)
    )
