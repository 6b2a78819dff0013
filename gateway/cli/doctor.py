"""``sealgate doctor``: what this machine can do, what is missing, and what to do about it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from attest.reference import ReferenceValues
from attest.refusal import Refused
from attest.trust import TrustRoots
from gateway.cli import machine
from gateway.cli.check_table import valid_for, when
from gateway.cli.failure import Failure
from gateway.cli.machine import Finding, State
from gateway.cli.output import Output
from gateway.identity.api_keys import ApiKeyStore
from gateway.settings import Settings, load_settings

_STYLES = {State.GOOD: "good", State.NOTE: "note", State.BAD: "bad"}


def doctor(*, as_json: bool = False) -> None:
    """Look and report.

    Raises:
        Failure: exit code 1 if something needs mending.
    """
    output = Output(as_json=as_json)
    with output.working("looking around"):
        findings = list(look(load_settings(), now=datetime.now(UTC)))
    bad = [finding for finding in findings if finding.state is State.BAD]
    if as_json:
        output.document({"ok": not bad, "findings": [finding.as_dict() for finding in findings]})
    else:
        _show(findings, output)
        output.say()
        output.say(_summary(len(bad), output))
    if bad:
        raise Failure("", code="needs_mending")


def look(settings: Settings, *, now: datetime) -> Iterator[Finding]:
    """Everything there is to find."""
    yield from machine.software()
    yield from machine.hardware()
    yield machine.disk(settings.home)
    yield from machine.trusted_hardware()
    yield from models(settings.home)
    yield from trust(settings.trust_file, settings.reference_file, now=now)
    yield keys(settings.keys_file)
    yield port(settings.host, settings.port)
    yield Finding("gateway", "clock", State.GOOD, when(now), "every check of a date rests on it")


def models(home: Path) -> Iterator[Finding]:
    """Which models are pulled."""
    names = sorted(record.parent.name for record in (home / "models").glob("*/model.json"))
    if names:
        yield Finding("models", "pulled", State.GOOD, ", ".join(names))
    else:
        yield Finding(
            "models", "pulled", State.NOTE, "none", "'sealgate model pull smollm2' fetches a small one"
        )


def trust(trust_file: Path, reference_file: Path, *, now: datetime) -> Iterator[Finding]:
    """Whether the two files that a verdict needs are there, readable and in date."""
    try:
        roots = TrustRoots.load(trust_file)
        names = ["AMD"] if roots.amd else []
        names += ["MOCK"] if roots.mock else []
        yield Finding("trust", "roots", State.GOOD, f"{' and '.join(names)}, {trust_file}")
    except (OSError, Refused) as error:
        yield _unusable("roots", trust_file, error)
    try:
        reference = ReferenceValues.load(reference_file)
    except (OSError, Refused) as error:
        yield _unusable("reference values", reference_file, error)
        return
    left = valid_for(reference.not_after, now)
    state = State.BAD if left == "ended" else State.GOOD
    hint = "write new ones: ended values accept nothing" if state is State.BAD else ""
    yield Finding("trust", "reference values", state, f"{reference.name}, valid for {left}", hint)


def keys(path: Path) -> Finding:
    """Whether an application could log in."""
    if not path.exists():
        return Finding("gateway", "API keys", State.NOTE, "none", "'sealgate keys create NAME' makes one")
    store = ApiKeyStore(path)
    try:
        active = sum(info.revoked_at is None for info in store.all())
    finally:
        store.close()
    return Finding("gateway", "API keys", State.GOOD if active else State.NOTE, f"{active} active")


def port(host: str, number: int) -> Finding:
    """Whether the gateway's port is free, or what the gateway itself seems to hold."""
    if number == 0:
        return Finding("gateway", "port", State.GOOD, "any free one")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError as error:
            return Finding(
                "gateway",
                "port",
                State.NOTE,
                f"{host}:{number}: {error.strerror}",
                "a gateway runs already, or choose another with --port",
            )
    return Finding("gateway", "port", State.GOOD, f"{host}:{number} is free")


def _unusable(name: str, path: Path, error: OSError | Refused) -> Finding:
    if isinstance(error, FileNotFoundError):
        hint = "'sealgate up' writes a development pair; docs/reference/ describes the real ones"
        return Finding("trust", name, State.NOTE, f"none at {path}", hint)
    return Finding("trust", name, State.BAD, f"{path}: {error}", "nothing is accepted until it can be read")


def _show(findings: list[Finding], output: Output) -> None:
    signs = {
        State.GOOD: output.symbols.good,
        State.NOTE: output.symbols.note,
        State.BAD: output.symbols.bad,
    }
    area = ""
    grid = Table.grid(padding=(0, 2))
    for column in ("sign", "name"):
        grid.add_column(column, no_wrap=True)
    grid.add_column("value", overflow="fold")
    for finding in findings:
        if finding.area != area:
            area = finding.area
            grid.add_row("", f"[head]{area}[/]", "")
        style = _STYLES[finding.state]
        value = escape(finding.value)
        if finding.hint and finding.state is not State.GOOD:
            value += f"\n[faint]{escape(finding.hint)}[/]"
        grid.add_row(f"[{style}]{signs[finding.state]}[/]", escape(finding.name), value)
    output.stdout.print(grid)


def _summary(bad: int, output: Output) -> str:
    if bad:
        return f"[bad]{output.symbols.bad} {bad} to mend[/]"
    return f"[good]{output.symbols.good} ready[/] {output.symbols.dash} 'sealgate demo' shows it"
