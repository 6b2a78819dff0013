"""Records to log, and a log that is closed whatever a test does with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.log import AuditLog
from gateway.audit.record import DecisionRecord, OutcomeRecord

NOW = datetime(2026, 3, 1, 12, 0, 0, 123000, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def decision() -> Callable[..., DecisionRecord]:
    """Builds an allowed ``send_prompt``; keyword arguments change it."""

    def build(**changes: Any) -> DecisionRecord:
        values: dict[str, Any] = {
            "time": NOW,
            "tenant": "tenant-1",
            "actor": "key_1",
            "action": "send_prompt",
            "request_id": "req-1",
            "verdict": "allow",
            "rules": ("permit-verified-reader",),
            "policy_digest": DIGEST,
            "facts": {"attested": True, "model": "smollm2", "groups": ("a", "b"), "max_tokens": 5},
            "statement_digest": DIGEST,
        }
        return DecisionRecord(**(values | changes))

    return build


@pytest.fixture
def outcome() -> Callable[..., OutcomeRecord]:
    """Builds the outcome of the first entry; keyword arguments change it."""

    def build(**changes: Any) -> OutcomeRecord:
        values: dict[str, Any] = {
            "time": NOW,
            "tenant": "tenant-1",
            "actor": "key_1",
            "action": "send_prompt",
            "request_id": "req-1",
            "decision_index": 0,
            "outcome": "answered",
            "receipt_id": "rcpt-1",
            "response_digest": DIGEST,
            "prompt_tokens": 3,
            "completion_tokens": 0,
        }
        return OutcomeRecord(**(values | changes))

    return build


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log under test is."""
    return tmp_path / "audit" / "log.jsonl"


@pytest.fixture
def open_log(path: Path) -> Iterator[Callable[[], AuditLog]]:
    """Opens the log at ``path``; what a test leaves open is closed after it."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(AuditLog.open(path, clock=lambda: NOW))
