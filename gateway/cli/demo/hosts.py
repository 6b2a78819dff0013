"""The processes of the demo: a runtime with a recording host, and a gateway of its own before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.cli.demo.stage import Stage
from gateway.cli.dev_world import DevWorld, is_pulled
from gateway.cli.keys import borrowed_key
from gateway.cli.processes import Child, Children
from gateway.cli.up import (
    GATEWAY_DEADLINE_S,
    RUNTIME_DEADLINE_S,
    RuntimeChoice,
    start_gateway,
    start_runtime,
)
from gateway.settings import Settings, load_settings


@dataclass(frozen=True, repr=False)
class Scene:
    """What all acts share.

    Args:
        stage: where it is shown.
        folder: scratch folder of this demo.
        settings: of the real home, where models and the mock vendor are.
        world: the development pair.
        choice: what the honest runtime serves.
        prompt: what must not leave unsealed.
    """

    stage: Stage
    folder: Path
    settings: Settings
    world: DevWorld
    choice: RuntimeChoice
    prompt: str

    def __repr__(self) -> str:
        return f"Scene({self.folder}, {self.choice})"


@dataclass(frozen=True, repr=False)
class Host:
    """A runtime, a gateway before it, and what can be seen of them.

    Args:
        runtime_url: the runtime's outer address.
        model: the name that the runtime serves.
        port: of the gateway.
        key: API key for it.
        recording: every byte that the runtime's host received.
        log: the gateway's audit log.
    """

    runtime_url: str
    model: str
    port: int
    key: str
    recording: Path
    log: Path

    def __repr__(self) -> str:
        return f"Host({self.runtime_url}, {self.recording})"


def liars_choice(honest: RuntimeChoice, home: Path) -> RuntimeChoice:
    """What a liar runs: it needs no model to lie, but must state an accepted one, to be refused for its lie.

    The stub knows the digests of pulled models only; for a model at a path the liar has to load it.
    """
    return replace(honest, engine="stub") if is_pulled(home, honest.model) else honest


def start_hosts(
    scene: Scene, children: Children, keys: ExitStack, arguments: Mapping[str, Sequence[str]]
) -> list[Host]:
    """Start all runtimes at once, then all gateways.

    Args:
        scene: what to serve, and where to keep what is recorded.
        children: whom the processes end with.
        keys: whom the API keys end with.
        arguments: further arguments of each runtime, by the name of its folder.

    Raises:
        Failure: if one does not become ready.
    """
    runtimes = {name: _start_recorded(scene, children, name, extra) for name, extra in arguments.items()}
    starting = []
    for name, runtime in runtimes.items():
        serving = runtime.wait_ready(RUNTIME_DEADLINE_S)
        settings = load_settings({"home": scene.folder / name, "port": 0})
        key = keys.enter_context(borrowed_key(settings.keys_file, "demo"))
        url = f"http://127.0.0.1:{serving['port']}"
        log = scene.folder / name / "gateway.log"
        gateway = start_gateway(children, settings, scene.world, url, log)
        starting.append((gateway, url, serving["model"], key, settings))
    return [
        Host(
            runtime_url=url,
            model=model,
            port=gateway.wait_ready(GATEWAY_DEADLINE_S)["port"],
            key=key,
            recording=_recording(settings.home),
            log=settings.audit_file,
        )
        for gateway, url, model, key, settings in starting
    ]


def _start_recorded(scene: Scene, children: Children, name: str, extra: Sequence[str]) -> Child:
    folder = scene.folder / name
    folder.mkdir()
    return start_runtime(
        children, scene.choice, folder / "runtime.log", "--record-bytes", str(_recording(folder)), *extra
    )


def _recording(folder: Path) -> Path:
    return folder / "host-saw.bin"
