"""The demo's claims about receipt and log: each falls when what it is about is not so."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx2
import pytest

from attest.appraise import AttestedRuntime
from attest.protocol import paths
from gateway.audit.log import AuditLog
from gateway.audit.record import DecisionRecord, OutcomeRecord
from gateway.cli.demo.ask import Asked, Tap
from gateway.cli.demo.trail import check

REQUEST, ANSWER = b'{"model":"m"}', b"data: [DONE]\n\n"
POLICIES = "sha256:" + "22" * 32
STATEMENT = "sha256:" + "33" * 32
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

DECISION = DecisionRecord(
    time=NOW,
    tenant="tenant-1",
    actor="key_1",
    action="send_prompt",
    request_id="req_1",
    verdict="allow",
    rules=("permit-verified-reader",),
    policy_digest=POLICIES,
    facts={"attested": True},
    statement_digest=STATEMENT,
)
OUTCOME = OutcomeRecord(
    time=NOW + timedelta(seconds=1),
    tenant="tenant-1",
    actor="key_1",
    action="send_prompt",
    request_id="req_1",
    decision_index=0,
    outcome="answered",
    statement_digest=STATEMENT,
    receipt_id="rcpt-1",
    request_digest=f"sha256:{hashlib.sha256(REQUEST).hexdigest()}",
    response_digest=f"sha256:{hashlib.sha256(ANSWER).hexdigest()}",
)
HEADERS = {
    paths.REQUEST_ID_HEADER: "req_1",
    paths.RECEIPT_ID_HEADER: "rcpt-1",
    paths.STATEMENT_HEADER: STATEMENT,
}


def tapped(request: bytes = REQUEST, answer: bytes = ANSWER) -> Tap:
    """A tap through which one request and its answer went."""
    tap = Tap()
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=httpx2.ByteStream(answer)))
    with httpx2.Client(transport=transport, event_hooks={"response": [tap.hook]}) as client:
        assert client.post("http://gateway.test/", content=request).content == answer
    return tap


def claims(
    folder: Path,
    *,
    decision: DecisionRecord = DECISION,
    outcome: OutcomeRecord | None = OUTCOME,
    headers: dict[str, str] = HEADERS,
    tap: Tap | None = None,
    policies: str = POLICIES,
) -> list[bool]:
    path = folder / "log.jsonl"
    log = AuditLog.open(path)
    log.append_sync(decision)
    if outcome is not None:
        log.append_sync(outcome)
    log.close()
    runtime = SimpleNamespace(statement=SimpleNamespace(policy_digest=policies))
    asked = Asked(headers=dict(headers))
    return [claim.held for claim in check(path, asked, tap or tapped(), cast("AttestedRuntime", runtime))]


def test_all_claims_hold_of_a_whole_trail(tmp_path: Path) -> None:
    assert claims(tmp_path) == [True] * 5


@pytest.mark.parametrize(
    ("changed", "falls"),
    [
        (lambda: {"outcome": None}, {0, 1, 2}),
        (lambda: {"outcome": replace(OUTCOME, receipt_id="rcpt-2")}, {0}),
        (lambda: {"headers": {**HEADERS, paths.RECEIPT_ID_HEADER: ""}}, {0}),
        (lambda: {"tap": tapped(answer=ANSWER + b"\n")}, {1}),
        (lambda: {"tap": tapped(request=REQUEST + b" ")}, {1}),
        (lambda: {"decision": replace(DECISION, time=NOW + timedelta(hours=1))}, {2}),
        (lambda: {"decision": replace(DECISION, statement_digest="sha256:" + "44" * 32)}, {3}),
        (lambda: {"policies": "sha256:" + "55" * 32}, {3}),
        (lambda: {"headers": {**HEADERS, paths.REQUEST_ID_HEADER: "req_2"}}, {0, 1, 2, 3}),
    ],
    ids=["no-outcome", "receipt", "header", "answer", "request", "time", "statement", "policies", "asked"],
)
def test_a_claim_falls_with_what_it_is_about(
    tmp_path: Path, changed: Callable[[], dict[str, Any]], falls: set[int]
) -> None:
    held = claims(tmp_path, **changed())
    assert {index for index, holds in enumerate(held) if not holds} == falls


def test_a_denied_prompt_is_no_sent_prompt(tmp_path: Path) -> None:
    """The log counts what was let out; a trail without it does not hold."""
    held = claims(tmp_path, decision=replace(DECISION, verdict="deny"), outcome=None)
    assert held[4] is False
