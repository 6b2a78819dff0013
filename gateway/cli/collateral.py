"""``sealgate collateral``: fetch what judging a runtime takes, look at it, and carry it across an air gap."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from rich.markup import escape
from rich.table import Table

from attest.collateral import items
from attest.collateral.archive import MAX_ARCHIVE_BYTES, export_cache, import_archive
from attest.collateral.cache import Cache
from attest.collateral.complete import complete
from attest.collateral.entry import Entry
from attest.collateral.fetch import Fetcher, FetchSettings
from attest.collateral.items import Item
from attest.collateral.source import CollateralSource, Online
from attest.evidence.bundle import MAX_BUNDLE_BYTES, Bundle
from attest.reference import ReferenceValues
from attest.refusal import Malformed
from gateway.cli.check_table import when
from gateway.cli.output import Output
from gateway.cli.verify.fetch import fetch_evidence
from gateway.settings import Settings, load_settings
from gateway.trust.collateral import fetch_settings

_AS_FRESH_AS_ITS_KIND: Final = timedelta(days=30)
"""Ask for everything that is not fresh by its own kind, though the evidence brought one along."""


class _Told(Fetcher):
    """A fetcher that tells what it is asking for."""

    def __init__(self, output: Output, settings: FetchSettings) -> None:
        super().__init__(settings)
        self._output = output

    def fetch(self, item: Item) -> bytes:
        self._output.tell(f"[faint]asking {escape(self.host_of(item))} for[/] {escape(item.key)}")
        return super().fetch(item)


class _Noted:
    """A source that remembers what it was asked for.

    Args:
        source: what it hands out.
    """

    def __init__(self, source: CollateralSource) -> None:
        self._source = source
        self.keys: set[str] = set()

    def find(self, item: Item, now: datetime) -> bytes | None:
        """As the source."""
        self.keys.add(item.key)
        return self._source.find(item, now)

    def get(self, item: Item, now: datetime) -> bytes:
        """As the source."""
        self.keys.add(item.key)
        return self._source.get(item, now)

    def fetched_at(self, item: Item) -> datetime | None:
        """As the source."""
        return self._source.fetched_at(item)


def pull(target: str, *, as_json: bool = False) -> None:
    """Fetch everything that judging a runtime's evidence takes, and the key sets that our quorum takes.

    Args:
        target: a runtime's URL, or a saved bundle.
        as_json: one document instead of a table.

    Raises:
        Refused: ``collateral-*`` for what could not be had; nothing stands in for it.
    """
    output = Output(as_json=as_json)
    settings = load_settings()
    cache, now = Cache(settings.collateral_dir), datetime.now(UTC)
    reference = _reference(settings)
    fetcher = _Told(output, fetch_settings(settings, reference))
    source = _Noted(Online(cache, fetcher, max_age=_AS_FRESH_AS_ITS_KIND))
    try:
        complete(Bundle.parse(_evidence(target)), source, now)
        for item in _key_sets(reference):
            source.get(item, now)
    finally:
        fetcher.close()
    _show(output, [entry for entry in cache.entries() if entry.key in source.keys])


def _reference(settings: Settings) -> ReferenceValues | None:
    """What we accept, if we have said so yet: evidence may be looked at before."""
    return ReferenceValues.load(settings.reference_file) if settings.reference_file.exists() else None


def _key_sets(reference: ReferenceValues | None) -> Iterator[Item]:
    quorum = None if reference is None else reference.quorum
    if quorum is not None and "nras" in quorum.services:
        yield items.nras_keys()
    if quorum is not None and "maa" in quorum.services:
        yield items.maa_keys(quorum.maa_issuer or "")


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
        output.document({"entries": [_as_document(each) for each in entries]})
        return
    if not entries:
        output.say("nothing: this evidence brings all that judging it takes, or nothing was fetched yet")
        return
    table = Table("what", "from", "fetched", "until", box=None, header_style="faint", pad_edge=False)
    for each in entries:
        until = "" if each.not_after is None else when(each.not_after)
        table.add_row(escape(each.key), escape(each.source), when(each.fetched_at), until)
    output.stdout.print(table)


def _as_document(entry: Entry) -> dict[str, str | None]:
    return {
        "key": entry.key,
        "digest": entry.digest,
        "source": entry.source,
        "fetched_at": entry.fetched_at.isoformat(),
        "not_after": None if entry.not_after is None else entry.not_after.isoformat(),
    }
