"""``sealgate collateral``: fetch what judging a runtime takes, look at it, and carry it across an air gap."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from attest.collateral.archive import MAX_ARCHIVE_BYTES, export_cache, import_archive
from attest.collateral.cache import Cache
from attest.collateral.complete import complete
from attest.collateral.entry import Entry
from attest.collateral.fetch import Fetcher
from attest.collateral.items import Item
from attest.collateral.source import Online
from attest.evidence.bundle import MAX_BUNDLE_BYTES, Bundle
from attest.refusal import Malformed
from gateway.cli.check_table import when
from gateway.cli.output import Output
from gateway.cli.verify.fetch import fetch_evidence
from gateway.settings import load_settings
from gateway.trust.collateral import fetch_settings


class _Told(Fetcher):
    """A fetcher that tells what it is asking for."""

    def __init__(self, output: Output, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._output = output

    def fetch(self, item: Item) -> bytes:
        self._output.tell(f"[faint]asking {item.service} for[/] {item.key}")
        return super().fetch(item)


def pull(target: str, *, as_json: bool = False) -> None:
    """Fetch everything that judging a runtime's evidence takes.

    Args:
        target: a runtime's URL, or a saved bundle.
        as_json: one document instead of a table.

    Raises:
        Refused: ``collateral-*`` for what could not be had; nothing stands in for it.
    """
    output = Output(as_json=as_json)
    settings = load_settings()
    cache, now = Cache(settings.collateral_dir), datetime.now(UTC)
    fetcher = _Told(output, fetch_settings(settings, None))
    try:
        complete(Bundle.parse(_evidence(target)), Online(cache, fetcher), now)
    finally:
        fetcher.close()
    _show(output, list(cache.entries()))


def export(path: Path, *, as_json: bool = False) -> None:
    """Write the cache to one file."""
    output = Output(as_json=as_json)
    cache = Cache(load_settings().collateral_dir)
    document = export_cache(cache)
    path.write_bytes(document)
    if as_json:
        output.document({"file": str(path), "bytes": len(document), "entries": len(list(cache.entries()))})
    else:
        output.say(f"{len(list(cache.entries()))} entries, {len(document):,} bytes in {path}")


def import_(path: Path, *, as_json: bool = False) -> None:
    """Read a file that ``export`` wrote, all of it or nothing."""
    output = Output(as_json=as_json)
    if path.stat().st_size > MAX_ARCHIVE_BYTES:
        raise Malformed("archive-too-large", f"at most {MAX_ARCHIVE_BYTES} bytes")
    cache = Cache(load_settings().collateral_dir)
    _show(output, import_archive(path.read_bytes(), cache, now=datetime.now(UTC)))


def show(*, as_json: bool = False) -> None:
    """List what is in the cache."""
    _show(Output(as_json=as_json), list(Cache(load_settings().collateral_dir).entries()))


def _evidence(target: str) -> bytes:
    if target.startswith(("http://", "https://")):
        return fetch_evidence(target, secrets.token_hex(32))
    path = Path(target)
    if path.stat().st_size > MAX_BUNDLE_BYTES:
        raise Malformed("bundle-too-large", f"at most {MAX_BUNDLE_BYTES} bytes")
    return path.read_bytes()


def _show(output: Output, entries: Sequence[Entry]) -> None:
    if output.as_json:
        output.document(
            {
                "entries": [
                    {"key": each.key, "digest": each.digest, "fetched_at": each.fetched_at.isoformat()}
                    for each in entries
                ]
            }
        )
        return
    if not entries:
        output.say("nothing: this evidence brings all that judging it takes, or nothing was fetched yet")
        return
    table = Table("what", "fetched", "digest", box=None, header_style="faint", pad_edge=False)
    for each in entries:
        table.add_row(each.key, when(each.fetched_at), each.digest[:23] + "…")
    output.stdout.print(table)
