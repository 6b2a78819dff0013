"""``sealgate audit``: check the log offline."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.audit.chain import LogRefused
from gateway.audit.file import AuditUnavailable
from gateway.audit.verify import KnownHead, LogSummary, verify_log
from gateway.cli.failure import Exit, Failure
from gateway.cli.output import Output
from gateway.settings import load_settings

_HEAD = re.compile(r"(?P<index>\d{1,18}):(?P<hash>sha256:[0-9a-f]{64})", re.ASCII)


def verify(path: Path | None, *, head: str | None = None, as_json: bool = False) -> None:
    """Check every line of a log.

    Args:
        path: the log; None is this gateway's own.
        head: ``INDEX:sha256:HASH`` of an entry noted earlier.
        as_json: print one JSON document.

    Raises:
        Failure: exit code 10 with the first bad line, 1 if there is no log, 2 for a head that is none.
    """
    output = Output(as_json=as_json)
    log = path or load_settings().audit_file
    known = None if head is None else _known_head(head)
    try:
        with output.working(f"reading {log}"):
            summary = verify_log(log, head=known)
    except LogRefused as refusal:
        raise Failure(
            f"refused: line {refusal.line} of {log}: {refusal}",
            "nothing from that line on can be relied on; keep the file as it is",
            code=refusal.code,
            exit_code=refusal.exit_code,
        ) from refusal
    except AuditUnavailable as error:
        raise Failure(
            f"no log can be read at {log}", "a gateway makes one at its first start", code=error.code
        ) from error
    if as_json:
        output.document(_document(summary, log, known))
    else:
        _show(summary, log, known, output)


def _known_head(text: str) -> KnownHead:
    match = _HEAD.fullmatch(text)
    if match is None:
        raise Failure(
            "--head is the index and the hash of an entry",
            "for example --head 41:sha256:..., as 'sealgate audit verify' printed it earlier",
            code="usage",
            exit_code=Exit.USAGE,
        )
    return KnownHead(int(match["index"]), match["hash"])


def _document(summary: LogSummary, log: Path, known: KnownHead | None) -> dict[str, object]:
    return {
        "ok": True,
        "log": str(log),
        "entries": summary.entries,
        "head": None if summary.entries == 0 else f"{summary.entries - 1}:{summary.head}",
        "sequences": dict(summary.sequences),
        "torn_bytes": summary.torn_bytes,
        "against_known_head": known is not None,
    }


def _show(summary: LogSummary, log: Path, known: KnownHead | None, output: Output) -> None:
    sent = sum(summary.sequences.values())
    output.say(f"[good]{output.symbols.good} the log holds[/]")
    facts = [
        ("log", str(log)),
        ("entries", f"{summary.entries}, {sent} prompts sent by {len(summary.sequences)} gateway keys"),
    ]
    if summary.torn_bytes:
        facts.append(("unfinished", f"{summary.torn_bytes} bytes after the last whole line"))
    output.facts(facts)
    if summary.entries:
        output.line("head", f"{summary.entries - 1}:{summary.head}")
    if known is None:
        output.say(
            "[faint]note the head elsewhere: with --head, a log cut short or written anew shows too[/]"
        )
