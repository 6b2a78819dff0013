"""The figures as a frame of text, as wide as the terminal is."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from gateway.cli.top.figures import Figures

_NARROW = 72
_BAR = 24
_MEBIBYTE = 1 << 20
_HOUR, _MINUTE = 3600, 60


class Frame:
    """One frame.

    Args:
        url: of the runtime.
        figures: the latest; None before the first.
        trouble: why there is no newer one; empty if there is.
        keys: which keys do what; empty where none does anything.
    """

    def __init__(self, url: str, figures: Figures | None, *, trouble: str = "", keys: str = "") -> None:
        self._url, self._figures, self._trouble, self._keys = url, figures, trouble, keys

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """See rich."""
        yield Text.assemble(
            ("sealgate runtime top", "brand"), "  ", (self._url, "faint"), overflow="ellipsis"
        )
        if self._keys:  # not at the bottom, which a low terminal cuts off
            yield Text(self._keys, style="faint")
        if self._trouble:
            yield Text(self._trouble, style="bad", overflow="fold")
        if self._figures is not None:
            yield from _body(self._figures, narrow=options.max_width < _NARROW, ascii_only=options.ascii_only)


def _body(now: Figures, *, narrow: bool, ascii_only: bool) -> RenderResult:
    engine = f"{now.backend}, weights {now.weights}, up {_span(now.up_s)}, figures of {_span(now.window_s)}"
    yield Text(engine, style="faint", overflow="fold")
    left: RenderableType = _grid(
        ("generated", _rate(now.generated_per_s)),
        ("prompts read", _rate(now.read_per_s)),
        ("running / waiting", f"{now.running} / {now.waiting}"),
        ("preemptions", str(now.preemptions)),
    )
    right: RenderableType = _grid(
        ("first token p50 / p99", _pair(now.first_token_s)),
        ("between tokens", _pair(now.between_tokens_s)),
        ("step", _pair(now.step_s)),
        ("prefix hits", _percent(now.hit_rate)),
    )
    if narrow:
        yield Group(left, right)
    else:
        columns = Table.grid(padding=(0, 4))
        columns.add_row(left, right)
        yield columns
    yield _grid(*_bars(now, ascii_only=ascii_only))
    yield _grid(*_soundness(now))
    if now.adapters:
        yield from _adapters(now)


def _bars(now: Figures, *, ascii_only: bool) -> list[tuple[str, Text | str]]:
    rows: list[tuple[str, Text | str]] = []
    if now.rows_limit is not None:
        used = now.budget_used
        room = "idle" if used is None else f"{_percent(used)} of the room"
        note = f" {room}, at most {now.rows_limit} tokens a step"
        rows.append(("budget", Text.assemble(_bar(used or 0.0, 0.0, ascii_only=ascii_only), note)))
    total = sum(now.pages.values())
    if total:
        used, cached = now.pages.get("used", 0), now.pages.get("cached", 0)
        note = f" {used} used, {cached} cached, of {total}"
        bar = _bar(used / total, cached / total, ascii_only=ascii_only)
        rows.append(("pages", Text.assemble(bar, note)))
    return rows


def _soundness(now: Figures) -> list[tuple[str, Text | str]]:
    refused = ", ".join(f"{code} {count}" for code, count in now.refusals.items()) or "none"
    rows: list[tuple[str, Text | str]] = [("refusals", refused)]
    if now.self_check_s is not None:
        error = now.self_check_error or 0.0
        rows.append(("self-check", f"passed in {now.self_check_s:.2f} s, {error:.0%} of what is allowed"))
    if now.audits.get("failed"):
        rows.append(("audit", Text("FAILED: the engine serves nobody", style="bad")))
    return rows


def _adapters(now: Figures) -> Iterator[RenderableType]:
    states = ", ".join(f"{count} {state}" for state, count in now.adapters.items())
    memory = ", ".join(f"{place} {size // _MEBIBYTE} MiB" for place, size in now.adapter_bytes.items())
    yield _grid(("adapters", f"{states}; {memory}"))
    table = Table("adapter", "loads", "evictions", "MiB", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for each in now.busiest:
        size = f"{each.memory_bytes / _MEBIBYTE:.0f}"
        table.add_row(Text(each.name), str(each.loads), str(each.evictions), size)
    if now.busiest:
        yield table


def _grid(*rows: tuple[str, Text | str]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="faint", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(name, value if isinstance(value, Text) else Text(value))
    return grid


def _bar(first: float, second: float, *, ascii_only: bool) -> Text:
    full, light, empty = (
        ("#", "+", ".") if ascii_only else ("\N{FULL BLOCK}", "\N{MEDIUM SHADE}", "\N{LIGHT SHADE}")
    )
    one = round(min(1.0, first) * _BAR)
    two = min(_BAR - one, round(second * _BAR))
    return Text.assemble(
        (full * one, "bad" if first > 0.95 else "good"),  # noqa: PLR2004 nearly full
        (light * two, "note"),
        (empty * (_BAR - one - two), "faint"),
    )


def _pair(values: tuple[float | None, float | None]) -> str:
    return f"{_duration(values[0])} / {_duration(values[1])}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} tok/s"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _span(seconds: float) -> str:
    whole = int(seconds)
    if whole >= _HOUR:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _MINUTE} min {whole % _MINUTE} s" if whole >= _MINUTE else f"{whole} s"
