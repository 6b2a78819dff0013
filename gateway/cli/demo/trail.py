"""What one answer leaves behind in the gateway's log, checked against what the application itself saw."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from attest.appraise import AttestedRuntime
from attest.protocol import paths
from gateway.audit.record import DecisionRecord, OutcomeRecord
from gateway.audit.verify import read_entries, verify_log
from gateway.cli.demo.ask import Asked, Tap


@dataclass(frozen=True)
class Claim:
    """Something that is true if ``held``.

    Args:
        text: the claim.
        held: whether it held.
        detail: figures.
    """

    text: str
    held: bool
    detail: str = ""


def check(log: Path, asked: Asked, tap: Tap, runtime: AttestedRuntime) -> Iterator[Claim]:
    """The claims about receipt and log.

    Args:
        log: the gateway's log.
        asked: the answer.
        tap: hashes of what the application sent and got.
        runtime: the verdict that we reached ourselves, beside the gateway's.
    """
    decision, outcome = _entries(log, asked.headers.get(paths.REQUEST_ID_HEADER, ""))
    receipt_id = asked.headers.get(paths.RECEIPT_ID_HEADER, "")
    yield Claim(
        "its receipt, signed inside the runtime, was checked before its end came through",
        outcome is not None and bool(receipt_id) and outcome.receipt_id == receipt_id,
        receipt_id,
    )
    yield Claim(
        "it covers exactly the bytes that the application sent and got",
        outcome is not None
        and outcome.request_digest == tap.request_digest
        and outcome.response_digest == tap.answer_digest,
        f"sha256 {tap.request_digest[7:15]}.. and {tap.answer_digest[7:15]}..",
    )
    yield Claim(
        "the decision was on disk before anything was sent",
        decision is not None
        and outcome is not None
        and decision.verdict == "allow"
        and decision.time <= outcome.time,
        "" if decision is None else f"rules: {', '.join(decision.rules)}",
    )
    yield Claim(
        "it names the statement that the answer names, and the policies that the runtime states",
        decision is not None
        and decision.statement_digest == asked.headers.get(paths.STATEMENT_HEADER)
        and decision.policy_digest == runtime.statement.policy_digest,
    )
    summary = verify_log(log)
    yield Claim(
        "the log verifies offline, link by link",
        sum(summary.sequences.values()) == 1,
        f"{summary.entries} entries",
    )


def sent_prompts(log: Path) -> int:
    """How many prompts the log says were let out.

    Raises:
        LogRefused: if it does not verify.
    """
    return sum(verify_log(log).sequences.values())


def _entries(log: Path, request_id: str) -> tuple[DecisionRecord | None, OutcomeRecord | None]:
    """The decision about one request, and its outcome if that came later and points at it."""
    decision: DecisionRecord | None = None
    at = -1
    for entry in read_entries(log):
        match entry.record:
            case DecisionRecord(request_id=found) as record if found == request_id:
                decision, at = record, entry.index
            case OutcomeRecord(request_id=found) as record if (
                found == request_id and record.decision_index == at
            ):
                return decision, record
            case _:
                pass
    return decision, None
