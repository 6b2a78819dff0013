"""``sealgate up``: a gateway and a runtime on the mock TEE, in one terminal, until Ctrl-C."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from rich.panel import Panel
from rich.text import Text

from gateway.cli.dev_world import (
    IMAGE,
    REGION,
    DevWorld,
    Machine,
    ModelDigests,
    model_digests,
    write_dev_world,
)
from gateway.cli.keys import borrowed_key
from gateway.cli.output import Output
from gateway.cli.processes import Child, Children, gateway_argv, interruptible, runtime_argv
from gateway.settings import Settings, load_settings

RUNTIME_DEADLINE_S = 120.0  # a cold disk, a large model
GATEWAY_DEADLINE_S = 30.0
_KEY_NAME = "sealgate up"


@dataclass(frozen=True)
class RuntimeChoice:
    """What the runtime serves, and where.

    Args:
        model: a pulled name, a ``.gguf`` file or a folder.
        engine: ``simple`` or ``stub``.
        port: 0 takes any.
        machine: what it stands on.
        adapters: folder of PEFT folders to serve beside the model; None for none.
        embedding_model: to serve beside the model, a pulled name or a folder; None for none.
    """

    model: str
    engine: str
    port: int = 0
    machine: Machine = field(default_factory=Machine)
    adapters: Path | None = None
    embedding_model: str | None = None

    def digests(self, home: Path) -> ModelDigests:
        """What the runtime will state of its model."""
        digests = model_digests(home, self.model, stub=self.engine == "stub")
        if self.embedding_model is None:
            return digests
        return replace(digests, embedding_model=model_digests(home, self.embedding_model).base_model)


def up(choice: RuntimeChoice, *, port: int | None, as_json: bool = False) -> None:
    """Run both until a signal, and end both.

    Args:
        choice: the runtime.
        port: of the gateway; None is the settings'.
        as_json: one line of JSON when both are ready.

    Raises:
        Failure: if one of them does not start or ends by itself.
    """
    output = Output(as_json=as_json)
    settings = load_settings({} if port is None else {"port": port})
    logs = settings.home / "logs"
    with interruptible(), ExitStack() as stack:
        world = write_dev_world(
            settings.home,
            settings.home,
            choice.digests(settings.home),
            machine=choice.machine,
            now=datetime.now(UTC),
        )
        children = stack.enter_context(Children())
        with output.working(f"runtime loads {choice.model}"):
            runtime = start_runtime(children, choice, logs / "runtime.log")
            serving = runtime.wait_ready(RUNTIME_DEADLINE_S)
            runtime_url = f"http://127.0.0.1:{serving['port']}"
        with output.working("gateway starts"):
            gateway = start_gateway(children, settings, world, runtime_url, logs / "gateway.log")
            ready = gateway.wait_ready(GATEWAY_DEADLINE_S)
        key = stack.enter_context(borrowed_key(settings.keys_file, _KEY_NAME))
        _announce(output, _Running(ready["url"], runtime_url, key, serving["model"], logs))
        try:
            children.watch()
        except KeyboardInterrupt:
            output.tell("[faint]stopping the gateway, then the runtime[/]")


def start_runtime(children: Children, choice: RuntimeChoice, log: Path, *extra: str) -> Child:
    """A runtime on the mock TEE.

    Args:
        children: whom it ends with.
        choice: what it serves.
        log: where its output goes.
        extra: further arguments, e.g. ``--fault NAME``.
    """
    serve = ["serve", "--dev", "--host", "127.0.0.1", "--port", str(choice.port), "--model", choice.model]
    stated = ["--engine", choice.engine, "--region", REGION, "--image", IMAGE]
    stands_on = ["--tee", choice.machine.tee, "--gpus", str(choice.machine.gpus)]
    tuned = () if choice.adapters is None else ("--adapters", str(choice.adapters.resolve()))
    embeds = () if choice.embedding_model is None else ("--embedding-model", choice.embedding_model)
    return children.start("runtime", runtime_argv(*serve, *stated, *stands_on, *tuned, *embeds, *extra), log)


def start_gateway(
    children: Children, settings: Settings, world: DevWorld, runtime_url: str, log: Path
) -> Child:
    """A gateway that trusts the development pair and lets policies send to the mock."""
    flags = ["--json", "--host", settings.host, "--port", str(settings.port), "--runtime-url", runtime_url]
    flags += ["--trust", str(world.trust_file), "--reference", str(world.reference_file), "--allow-mock"]
    return children.start("gateway", gateway_argv(*flags), log, env={"SEALGATE_HOME": str(settings.home)})


@dataclass(frozen=True, repr=False)
class _Running:
    gateway_url: str
    runtime_url: str
    key: str
    model: str
    logs: Path


def _announce(output: Output, running: _Running) -> None:
    base_url = f"{running.gateway_url}/v1"
    if output.as_json:
        output.document(
            {
                "ready": True,
                "base_url": base_url,
                "api_key": running.key,
                "model": running.model,
                "runtime_url": running.runtime_url,
                "mock": True,
            }
        )
        return
    symbols = output.symbols
    lines = [
        ("export OPENAI_BASE_URL=", f"{base_url}\n"),
        ("export OPENAI_API_KEY=", f"{running.key}\n\n"),
        ("model    ", f"{running.model}\n"),
        ("ask      ", "sealgate chat 'why is the sky blue?'\n"),
        ("verify   ", f"sealgate verify {running.runtime_url}\n"),
        ("logs     ", f"{running.logs}"),
    ]
    body = Text.assemble(*(part for name, value in lines for part in ((name, "faint"), value)))
    output.say(
        f"[good]{symbols.good} ready[/] {symbols.dash} [mock] MOCK [/] a software TEE: development only"
    )
    output.stdout.print(Panel(body, border_style="faint", padding=(0, 1)))
    output.say("[faint]the key ends with this command; Ctrl-C stops both[/]")
