"""``sealgate keys``: the API keys of this gateway."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from gateway.cli.check_table import when
from gateway.cli.failure import Exit, Failure
from gateway.cli.output import Output
from gateway.identity.api_keys import ApiKeyInfo, ApiKeyStore
from gateway.settings import load_settings


def create(name: str, groups: tuple[str, ...], *, as_json: bool = False) -> None:
    """Create a key and show it, this once.

    Raises:
        Failure: ``usage`` for a name or group that cannot be one.
    """
    output = Output(as_json=as_json)
    with _store() as store:
        try:
            new = store.create(name, groups=groups, now=datetime.now(UTC))
        except ValueError as error:
            raise Failure(
                str(error),
                "for example: sealgate keys create 'notes app'",
                code="usage",
                exit_code=Exit.USAGE,
            ) from error
    if as_json:
        output.document({"ok": True, "secret": new.secret, **_document(new.info)})
        return
    output.tell(f"[good]{output.symbols.good}[/] key for {escape(name)}, id {new.info.id}")
    output.say(new.secret)
    output.tell("[faint]it is shown this once: keep it where the application reads its secrets[/]")


def show_all(*, as_json: bool = False) -> None:
    """List the keys."""
    output = Output(as_json=as_json)
    with _store() as store:
        infos = store.all()
    if as_json:
        output.document({"ok": True, "keys": [_document(info) for info in infos]})
    elif not infos:
        output.tell("no keys yet: 'sealgate keys create NAME' makes one")
    else:
        output.stdout.print(_table(infos))


def revoke(key_id: str, *, as_json: bool = False) -> None:
    """Revoke one key.

    Raises:
        Failure: ``unknown_key``.
    """
    output = Output(as_json=as_json)
    with _store() as store:
        try:
            info = store.revoke(key_id, now=datetime.now(UTC))
        except KeyError as error:
            raise Failure(
                "there is no key with this id", "'sealgate keys list' shows the ids", code="unknown_key"
            ) from error
    if as_json:
        output.document({"ok": True, **_document(info)})
    else:
        output.say(f"[good]{output.symbols.good}[/] {info.id} ({escape(info.name)}) is revoked")


@contextmanager
def borrowed_key(path: Path, name: str) -> Iterator[str]:
    """A key of one's own gateway, revoked when the block ends.

    Whoever can write the key file can make keys; this saves the newcomer the step. Keys of the same name
    that a killed process left behind are revoked first.
    """
    store = ApiKeyStore(path)
    try:
        for info in store.all():
            if info.name == name and info.revoked_at is None:
                store.revoke(info.id, now=datetime.now(UTC))
        new = store.create(name, now=datetime.now(UTC))
        try:
            yield new.secret
        finally:
            store.revoke(new.info.id, now=datetime.now(UTC))
    finally:
        store.close()


@contextmanager
def _store() -> Iterator[ApiKeyStore]:
    store = ApiKeyStore(load_settings().keys_file)
    try:
        yield store
    finally:
        store.close()


def _document(info: ApiKeyInfo) -> dict[str, Any]:
    return {
        "id": info.id,
        "prefix": info.prefix,
        "name": info.name,
        "groups": list(info.groups),
        "created_at": info.created_at.isoformat(),
        "revoked_at": None if info.revoked_at is None else info.revoked_at.isoformat(),
    }


def _table(infos: list[ApiKeyInfo]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="faint")
    for heading in ("id", "key", "name", "groups", "created", "state"):
        table.add_column(heading, overflow="fold")
    for info in infos:
        state = "[good]active[/]" if info.revoked_at is None else f"[faint]revoked {when(info.revoked_at)}[/]"
        table.add_row(
            info.id,
            f"{info.prefix}...",
            escape(info.name),
            ", ".join(info.groups),
            when(info.created_at),
            state,
        )
    return table
