"""An entry of the log as bytes: an OCSF event, canonical, with one way to be written.

The event is OCSF's *API Activity* (class 6003) with the *security control* profile; what OCSF has no place
for is under ``unmapped``. It is RFC 8785 JSON. Reading is the inverse of writing and nothing else: an event
is accepted exactly if writing what was read gives the same bytes, so no member can be added, left out or
respelt unseen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from attest.refusal import Malformed
from attest.strict_json import loads
from gateway.audit.forms import require_count, require_digest
from gateway.audit.record import AdministrationRecord, AuditRecord, DecisionRecord, OutcomeRecord, Verdict

MAX_EVENT_BYTES = 0xFFFF  # the most that C2SP tlog-tiles gives an entry, so a log of that form can hold it

_ACTIVITY_OTHER = 99
_API_ACTIVITY = 6003
_CONSTANT = {
    "activity_id": _ACTIVITY_OTHER,
    "category_uid": 6,
    "class_uid": _API_ACTIVITY,
    "severity_id": 1,
    "type_uid": _API_ACTIVITY * 100 + _ACTIVITY_OTHER,
}
_METADATA = {
    "log_name": "sealgate-audit-v1",
    "product": {"name": "Sealgate", "vendor_name": "Sealgate"},
    "profiles": ["security_control"],
    "version": "1.9.0",
}
_ACTION_ID: Mapping[Verdict, int] = {"allow": 1, "deny": 2}
_VERDICT: Mapping[int, Verdict] = {number: verdict for verdict, number in _ACTION_ID.items()}
_SUCCESS, _FAILURE = 1, 2
_OUTCOME_DETAILS = (
    "statement_digest",
    "receipt_id",
    "request_digest",
    "response_digest",
    "answer_label_id",
    "prompt_tokens",
    "completion_tokens",
)
_DECISION_DETAILS = ("statement_digest", "refusal")
_ACT_DETAILS = ("subject", "digest", "count")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Event:
    """A record in its place.

    Args:
        index: number of the entry in the log, from 0.
        previous: hash of the entry before, ``sha256:`` and 64 zeros for the first.
        tenant_sequence: on an allowed ``send_prompt``, the tenant's next number, from 1; else None.
        record: what happened.
    """

    index: int
    previous: str
    tenant_sequence: int | None
    record: AuditRecord


def encode(event: Event) -> bytes:
    """The canonical bytes of ``event``."""
    document = _CONSTANT | _body(event.record)
    document["metadata"] |= {"sequence": event.index}
    document["unmapped"]["previous"] = event.previous
    if event.tenant_sequence is not None:
        document["unmapped"]["tenant_sequence"] = event.tenant_sequence
    # All names and values are ASCII without controls, and all numbers integers (gateway/audit/forms.py), so
    # the C encoder's sorted compact form is RFC 8785 already; a test compares the two.
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def decode(data: bytes) -> Event:
    """The event that ``data`` is the canonical encoding of.

    Raises:
        Malformed: ``audit-event-*`` of the strict JSON reader, ``audit-event-members``,
            ``audit-event-not-canonical``, and the codes of the records.
    """
    document = loads(data, name="audit-event", max_bytes=MAX_EVENT_BYTES)
    try:
        event = _event(document)
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise Malformed("audit-event-members", "a member is missing or of a wrong type") from error
    if encode(event) != data:
        raise Malformed("audit-event-not-canonical", "not the bytes that this event is written as")
    return event


def _body(record: AuditRecord) -> dict[str, Any]:
    match record:
        case DecisionRecord():
            return _common(record, record.action, record.tenant, record.request_id) | _decision_body(record)
        case OutcomeRecord():
            return _common(record, record.action, record.tenant, record.request_id) | _outcome_body(record)
        case AdministrationRecord():
            return _common(record, record.act, None, None) | {
                "status_id": _SUCCESS,
                "unmapped": {"kind": "administration"} | _present(record, _ACT_DETAILS),
            }


def _common(record: AuditRecord, operation: str, tenant: str | None, request: str | None) -> dict[str, Any]:
    api: dict[str, Any] = {"operation": operation}
    metadata: dict[str, Any] = dict(_METADATA)
    if request is not None:
        api["request"] = {"uid": request}
    if tenant is not None:
        metadata["tenant_uid"] = tenant
    return {
        "actor": {"user": {"uid": record.actor}},
        "api": api,
        "metadata": metadata,
        "time": (record.time - _EPOCH) // timedelta(milliseconds=1),
    }


def _decision_body(record: DecisionRecord) -> dict[str, Any]:
    details = {"kind": "decision", "facts": dict(record.facts), "policy_digest": record.policy_digest}
    return {
        "action_id": _ACTION_ID[record.verdict],
        "authorizations": [
            {"decision": record.verdict, "policy": {"uid": rule, "version": record.policy_digest}}
            for rule in record.rules
        ],
        "status_id": _SUCCESS if record.verdict == "allow" else _FAILURE,
        "unmapped": details | _present(record, _DECISION_DETAILS),
    }


def _outcome_body(record: OutcomeRecord) -> dict[str, Any]:
    details = {"kind": "outcome", "decision_index": record.decision_index, "outcome": record.outcome}
    body: dict[str, Any] = {
        "status_id": _SUCCESS if record.outcome == "answered" else _FAILURE,
        "unmapped": details | _present(record, _OUTCOME_DETAILS),
    }
    if record.code is not None:
        body["status_code"] = record.code
    return body


def _present(record: AuditRecord, names: tuple[str, ...]) -> dict[str, Any]:
    values = {name: getattr(record, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _event(document: Mapping[str, Any]) -> Event:
    unmapped = document["unmapped"]
    sequence = unmapped.get("tenant_sequence")
    if sequence is not None:
        require_count("tenant_sequence", sequence, least=1)
    require_count("index", document["metadata"]["sequence"])
    require_digest("previous", unmapped["previous"])
    return Event(
        index=document["metadata"]["sequence"],
        previous=unmapped["previous"],
        tenant_sequence=sequence,
        record=_RECORDS[unmapped["kind"]](document, unmapped),
    )


def _decision(document: Mapping[str, Any], unmapped: Mapping[str, Any]) -> AuditRecord:
    return DecisionRecord(
        **_about(document),
        verdict=_VERDICT[document["action_id"]],
        rules=tuple(item["policy"]["uid"] for item in document["authorizations"]),
        policy_digest=unmapped["policy_digest"],
        facts={name: _fact(value) for name, value in unmapped["facts"].items()},
        **_read(unmapped, _DECISION_DETAILS),
    )


def _outcome(document: Mapping[str, Any], unmapped: Mapping[str, Any]) -> AuditRecord:
    return OutcomeRecord(
        **_about(document),
        decision_index=unmapped["decision_index"],
        outcome=unmapped["outcome"],
        code=document.get("status_code"),
        **_read(unmapped, _OUTCOME_DETAILS),
    )


def _administration(document: Mapping[str, Any], unmapped: Mapping[str, Any]) -> AuditRecord:
    return AdministrationRecord(
        time=_time(document),
        actor=document["actor"]["user"]["uid"],
        act=document["api"]["operation"],
        **_read(unmapped, _ACT_DETAILS),
    )


def _about(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "time": _time(document),
        "tenant": document["metadata"]["tenant_uid"],
        "actor": document["actor"]["user"]["uid"],
        "action": document["api"]["operation"],
        "request_id": document["api"]["request"]["uid"],
    }


def _time(document: Mapping[str, Any]) -> datetime:
    require_count("time", document["time"])
    return _EPOCH + timedelta(milliseconds=document["time"])


def _read(unmapped: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: unmapped.get(name) for name in names}


def _fact(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


_RECORDS: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any]], AuditRecord]] = {
    "decision": _decision,
    "outcome": _outcome,
    "administration": _administration,
}
