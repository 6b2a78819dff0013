"""``sealgate config``: which settings are in force, and why."""

from __future__ import annotations

from dataclasses import asdict

from rich import box
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from gateway import settings
from gateway.cli.output import Output

_WIDE = 120
"""Below this many columns four of them would be folded into ribbons, so rows are stacked."""


def explain(*, as_json: bool = False) -> None:
    """Print each setting, its value, and where the value comes from."""
    output = Output(as_json=as_json)
    rows = settings.explain()
    if as_json:
        output.document({"ok": True, "settings": [asdict(row) for row in rows]})
        return
    if output.stdout.width < _WIDE:
        for row in rows:
            source = "" if row.source == "default" else f"  [note]{escape(row.source)}[/]"
            output.say(f"[head]{row.name}[/] = {escape(row.value)}{source}")
            output.stdout.print(Padding(f"[faint]{escape(row.description)}[/]", (0, 0, 0, 2)))
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="faint")
    for heading in ("setting", "value", "from", "meaning"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "setting")
    for row in rows:
        table.add_row(row.name, escape(row.value), escape(row.source), f"[faint]{escape(row.description)}[/]")
    output.stdout.print(table)
