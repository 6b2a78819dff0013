"""The command tree: names, options and help. What a command does is in the module that it imports.

Imports inside the functions are the point of this module: ``sealgate --help`` loads none of it, and
``sealgate keys list`` loads no verifier.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from gateway.cli.verify.command import verify

_PLAIN = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""For commands that hand every argument on, ``--help`` too."""
EPILOG = (
    "Exit codes: 0 held, 1 our fault or unreachable, 2 usage, 10 refused, 20 unsupported, 30 malformed, "
    "130 interrupted."
)

app = typer.Typer(
    name="sealgate",
    help="Use an AI runtime that you need not trust until it has proved what it is.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
keys = typer.Typer(help="API keys of this gateway.", no_args_is_help=True)
config = typer.Typer(help="Settings: file, then environment, then flags.", no_args_is_help=True)
audit = typer.Typer(help="The audit log.", no_args_is_help=True)
collateral = typer.Typer(help="What judging evidence takes, from the vendors.", no_args_is_help=True)
reference = typer.Typer(help="Reference values: what is accepted.", no_args_is_help=True)
runtime_views = typer.Typer(
    add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False, epilog=EPILOG
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Model = Annotated[
    str, typer.Option(help="Model that the runtime loads: a pulled name, a .gguf file or a folder.")
]
TrustFile = Annotated[Path | None, typer.Option("--trust", help="Trust file: whose signatures count.")]
ReferenceFile = Annotated[
    Path | None,
    typer.Option("--reference", "--policy", help="Reference values: what must have been signed."),
]


class EngineName(StrEnum):
    """What makes the tokens."""

    SEALGATE = "sealgate"
    STUB = "stub"


Tee = Annotated[Literal["snp", "tdx", "azure-snp"], typer.Option(help="The mock machine's CPU TEE.")]
Gpus = Annotated[int, typer.Option(min=0, max=8, help="Mock GPUs; 4 and 8 are boards with switches.")]
Engine = Annotated[EngineName, typer.Option(help="The model's engine, or a stub that needs no model.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"sealgate {version('sealgate')}")
        raise typer.Exit


@app.callback()
def root(
    home: Annotated[
        Path | None,
        typer.Option(help="Where models, keys and the log are kept [SEALGATE_HOME].", show_default=False),
    ] = None,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool,
        typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Use an AI runtime that you need not trust until it has proved what it is."""
    if home is not None:
        # Children inherit it, so that all processes of one command agree where home is.
        os.environ["SEALGATE_HOME"] = str(home.expanduser().resolve())


@app.command(rich_help_panel="Start here")
def demo(
    *,
    model: Model = "smollm2",
    engine: Engine = EngineName.SEALGATE,
    prompt: Annotated[str | None, typer.Option(help="Ask this instead of the built-in question.")] = None,
    tee: Tee = "snp",
    gpus: Gpus = 1,
    as_json: Json = False,
) -> None:
    """Get an answer through a verified runtime, then watch liars being refused."""
    from gateway.cli.demo.play import play
    from gateway.cli.dev_world import Machine
    from gateway.cli.up import RuntimeChoice

    play(RuntimeChoice(model, engine.value, machine=Machine(tee, gpus)), prompt=prompt, as_json=as_json)


@app.command(rich_help_panel="Start here")
def up(
    *,
    model: Model = "smollm2",
    engine: Engine = EngineName.SEALGATE,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port of the gateway.")] = None,
    runtime_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the runtime; 0: any.")] = 0,
    tee: Tee = "snp",
    gpus: Gpus = 0,
    adapters: Annotated[
        Path | None, typer.Option(help="Folder of PEFT folders to serve.", exists=True, file_okay=False)
    ] = None,
    embedding_model: Annotated[
        str | None, typer.Option(help="Serve embeddings by this model too: a pulled one, or a folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a gateway and a runtime (mock TEE, for development) in this terminal until Ctrl-C."""
    from gateway.cli.dev_world import Machine
    from gateway.cli.up import RuntimeChoice
    from gateway.cli.up import up as run

    choice = RuntimeChoice(model, engine.value, runtime_port, Machine(tee, gpus), adapters, embedding_model)
    run(choice, port=port, as_json=as_json)


@app.command(rich_help_panel="Start here")
def chat(
    prompt: Annotated[
        str | None, typer.Argument(help="What to ask; '-' or a pipe reads it from standard input.")
    ] = None,
    *,
    model: Annotated[
        str | None, typer.Option(help="Which model to ask.", show_default="the only one")
    ] = None,
    gateway_url: Annotated[
        str | None, typer.Option("--gateway", help="Gateway to ask.", show_default="from the settings")
    ] = None,
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 512,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="0 is greedy.")] = 0.7,
    as_json: Json = False,
) -> None:
    """Ask through the gateway and see what the answer rests on. Key: SEALGATE_API_KEY, or this home's own."""
    from gateway.cli.chat import chat as run
    from gateway.cli.conversation import ChatOptions

    options = ChatOptions(model=model, system=system, max_tokens=max_tokens, temperature=temperature)
    run(prompt, options, gateway_url=gateway_url, as_json=as_json)


@app.command(rich_help_panel="Start here")
def doctor(as_json: Json = False) -> None:
    """Look at this machine: what it can do, what is missing, and what to do about it."""
    from gateway.cli.doctor import doctor as run

    run(as_json=as_json)


app.command(rich_help_panel="Trust")(verify)


@collateral.command("pull")
def collateral_pull(
    target: Annotated[str, typer.Argument(help="Runtime's URL, or a saved evidence bundle.")],
    as_json: Json = False,
) -> None:
    """Fetch certificates, lists and golden values that judging this runtime takes, into the cache."""
    from gateway.cli.collateral import pull

    pull(target, as_json=as_json)


@collateral.command("list")
def collateral_list(as_json: Json = False) -> None:
    """Show what is in the cache."""
    from gateway.cli.collateral import show

    show(as_json=as_json)


@collateral.command("export")
def collateral_export(
    path: Annotated[Path, typer.Argument(help="File to write.")], as_json: Json = False
) -> None:
    """Write the cache to one file, for a machine without a network."""
    from gateway.cli.collateral import export

    export(path, as_json=as_json)


@collateral.command("import")
def collateral_import(
    path: Annotated[Path, typer.Argument(help="File that 'export' wrote.", exists=True, dir_okay=False)],
    as_json: Json = False,
) -> None:
    """Read such a file into the cache: all of it, or nothing."""
    from gateway.cli.collateral import import_

    import_(path, as_json=as_json)


@reference.command("init")
def reference_init(
    source: Annotated[str, typer.Option("--from", help="Runtime's URL, or a saved evidence bundle.")],
    *,
    out: Annotated[Path | None, typer.Option(help="File to write.", show_default="standard output")] = None,
    name: Annotated[str, typer.Option(help="Name of the values, for people.")] = "drafted values",
    days: Annotated[int, typer.Option(min=1, max=365, help="Days until the values end.")] = 30,
    trust: TrustFile = None,
    at: Annotated[
        str | None, typer.Option(help="Judge as of this moment (RFC 3339).", show_default="now")
    ] = None,
) -> None:
    """Draft reference values that accept exactly this runtime, everything pinned. Read them before use."""
    from attest.draft import Draft
    from gateway.cli.reference import init

    init(source, Draft(name=name, days=days), out=out, trust=trust, at=at)


@reference.command("export-skr")
def reference_export_skr(
    path: Annotated[Path, typer.Argument(help="Release policy to write, JSON.")],
    *,
    reference: ReferenceFile = None,
    issuer: Annotated[
        str | None, typer.Option(help="Azure Attestation instance.", show_default="the quorum's")
    ] = None,
    policy_hash: Annotated[
        list[str] | None, typer.Option(help="Its accepted policy.", show_default="the quorum's")
    ] = None,
    kind: Annotated[Literal["raw", "azurevm"], typer.Option(help="Kind of token.")] = "raw",
) -> None:
    """Write the key release policy (Azure Key Vault, Managed HSM) of reference values."""
    from gateway.cli.skr import export_skr

    export_skr(path, reference=reference, issuer=issuer, policy_hashes=policy_hash or [], kind=kind)


@reference.command("import-skr")
def reference_import_skr(
    path: Annotated[Path, typer.Argument(help="Release policy to read.", exists=True, dir_okay=False)],
    as_json: Json = False,
) -> None:
    """Show what a key release policy accepts, as lines for reference values."""
    from gateway.cli.skr import import_skr

    import_skr(path, as_json=as_json)


@audit.command("verify")
def audit_verify(
    path: Annotated[
        Path | None, typer.Argument(help="Log file.", show_default="this gateway's own log")
    ] = None,
    head: Annotated[
        str | None, typer.Option(help="Hash of an entry that the log must contain, noted earlier.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check the log offline: each link of its chain, no gap, no edit, nothing missing up to a known head."""
    from gateway.cli.audit import verify as run

    run(path, head=head, as_json=as_json)


@app.command(rich_help_panel="Serve")
def gateway(
    *,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0: any.")] = None,
    runtime_url: Annotated[str | None, typer.Option(help="The runtime to verify and use.")] = None,
    trust: TrustFile = None,
    reference: ReferenceFile = None,
    allow_mock: Annotated[
        bool | None,
        typer.Option(
            "--allow-mock/--no-allow-mock", help="Let policies send to a mock runtime: development only."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Serve the OpenAI-compatible API to applications. Flags go over environment and config file."""
    from gateway.cli.serve import serve

    flags = {
        "host": host,
        "port": port,
        "runtime_url": runtime_url,
        "trust_file": trust,
        "reference_file": reference,
        "allow_mock": allow_mock,
    }
    serve({name: value for name, value in flags.items() if value is not None}, as_json=as_json)


@app.command(rich_help_panel="Serve", context_settings=_PLAIN, add_help_option=False)
def runtime(context: typer.Context) -> None:
    """Serve a model inside a TEE, or with --dev in a mock one; 'runtime top' watches one that serves."""
    from gateway.cli.processes import become_runtime

    if context.args[:1] == ["top"]:
        code = runtime_views(args=context.args[1:], prog_name="sealgate runtime top", standalone_mode=False)
        raise typer.Exit(code if isinstance(code, int) else 0)  # 130 where it was interrupted
    become_runtime("serve", *context.args)


@runtime_views.command()
def runtime_top(
    *,
    url: Annotated[str, typer.Option(help="The runtime's address.")] = "http://127.0.0.1:8443",
    once: Annotated[bool, typer.Option("--once", help="Print one frame and end.")] = False,
    interval: Annotated[float, typer.Option(min=0.5, max=3600, help="Seconds between frames.")] = 2.0,
    as_json: Json = False,
) -> None:
    """Watch a runtime: pace, latencies, queue, memory, adapters. A view of /metrics; 'q' ends it."""
    from gateway.cli.top.command import top

    top(url, once=once, interval_s=interval, as_json=as_json)


@app.command(rich_help_panel="Manage", context_settings=_PLAIN, add_help_option=False)
def model(context: typer.Context) -> None:
    """Pull and list models: 'sealgate model pull smollm2'. 'sealgate model --help' has its commands."""
    from gateway.cli.processes import become_runtime

    become_runtime("model", *context.args)


@keys.command("create")
def keys_create(
    name: Annotated[str, typer.Argument(help="Who will use it.")],
    group: Annotated[list[str] | None, typer.Option(help="Group for policies; may be repeated.")] = None,
    as_json: Json = False,
) -> None:
    """Create an API key. It is shown once: at rest there is only its hash."""
    from gateway.cli.keys import create

    create(name, tuple(group or ()), as_json=as_json)


@keys.command("list")
def keys_list(as_json: Json = False) -> None:
    """List all keys, revoked ones too."""
    from gateway.cli.keys import show_all

    show_all(as_json=as_json)


@keys.command("revoke")
def keys_revoke(
    key_id: Annotated[str, typer.Argument(help="The id that 'keys list' shows.")], as_json: Json = False
) -> None:
    """Revoke a key for good, from the next request on."""
    from gateway.cli.keys import revoke

    revoke(key_id, as_json=as_json)


@config.command("explain")
def config_explain(as_json: Json = False) -> None:
    """Show each setting, its value, and where the value comes from."""
    from gateway.cli.config import explain

    explain(as_json=as_json)


app.add_typer(keys, name="keys", rich_help_panel="Manage")
app.add_typer(config, name="config", rich_help_panel="Manage")
app.add_typer(reference, name="reference", rich_help_panel="Trust")
app.add_typer(collateral, name="collateral", rich_help_panel="Trust")
app.add_typer(audit, name="audit", rich_help_panel="Trust")
