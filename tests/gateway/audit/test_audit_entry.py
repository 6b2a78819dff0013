"""An entry's bytes: canonical, closed, and with no room for content."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import rfc8785

from attest.refusal import Malformed
from gateway.audit.chain import GENESIS
from gateway.audit.entry import MAX_EVENT_BYTES, Event, decode, encode
from gateway.audit.forms import FACT_KINDS
from gateway.audit.record import AdministrationRecord, DecisionRecord, OutcomeRecord
from policies.decision import RuntimeFacts, send_prompt
from policies.labels import Label
from tests.gateway.audit.conftest import DIGEST, NOW

SECRET = "my salary is 4711"
Decision = Callable[..., DecisionRecord]
Outcome = Callable[..., OutcomeRecord]


def _events(decision: Decision, outcome: Outcome) -> list[Event]:
    return [
        Event(0, GENESIS, 1, decision()),
        Event(
            1,
            DIGEST,
            None,
            decision(verdict="deny", rules=(), statement_digest=None, refusal="vmpl-not-listed"),
        ),
        Event(
            2,
            DIGEST,
            None,
            outcome(code="runtime_interrupted", outcome="interrupted", answer_label_id=DIGEST),
        ),
        Event(3, DIGEST, None, outcome()),
        Event(
            4,
            DIGEST,
            None,
            AdministrationRecord(
                time=NOW, actor="svc:cli", act="key-created", subject="key_2", digest=DIGEST, count=0
            ),
        ),
    ]


def test_every_kind_is_read_back_and_is_canonical_json(decision: Decision, outcome: Outcome) -> None:
    for event in _events(decision, outcome):
        data = encode(event)
        assert decode(data) == event
        assert rfc8785.dumps(json.loads(data)) == data


def test_the_event_is_ocsf_api_activity(decision: Decision) -> None:
    document = json.loads(encode(Event(7, GENESIS, 3, decision())))
    assert document["type_uid"] == document["class_uid"] * 100 + document["activity_id"]
    assert document["time"] == 1772366400123
    assert document["metadata"]["sequence"] == 7
    assert document["authorizations"] == [
        {"decision": "allow", "policy": {"uid": "permit-verified-reader", "version": DIGEST}}
    ]
    assert document["actor"] == {"user": {"uid": "key_1"}}
    assert document["unmapped"]["tenant_sequence"] == 3


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d.update(message=SECRET),
        lambda d: d["unmapped"].update(prompt=SECRET),
        lambda d: d["unmapped"]["facts"].update(prompt=SECRET),
        lambda d: d["actor"]["user"].update(name="Ann"),
        lambda d: d["metadata"].update(uid="x"),
        lambda d: d["api"].update(response={}),
        lambda d: d["authorizations"][0].update(reason="x"),
        lambda d: d.pop("class_uid"),
        lambda d: d.update(class_uid=6004),
        lambda d: d.update(status_id=2),
        lambda d: d.update(action_id=2),
        lambda d: d.update(action_id=3),
        lambda d: d.pop("unmapped"),
        lambda d: d.update(unmapped=[]),
        lambda d: d["unmapped"].update(kind="other"),
        lambda d: d["unmapped"].update(refusal=None),
        lambda d: d["unmapped"].update(tenant_sequence=0),
        lambda d: d["unmapped"].update(tenant_sequence=True),
        lambda d: d["unmapped"].update(previous="x"),
        lambda d: d.update(time=-1),
        lambda d: d.update(time=2**53 - 1),
        lambda d: d.update(time="now"),
        lambda d: d["unmapped"].update(facts=[]),
        lambda d: d["authorizations"].append({}),
    ],
)
def test_an_event_with_anything_else_in_it_refuses(edit: Callable[[Any], Any], decision: Decision) -> None:
    document = json.loads(encode(Event(0, GENESIS, 1, decision())))
    edit(document)
    with pytest.raises(Malformed):
        decode(rfc8785.dumps(document))


@pytest.mark.parametrize(
    ("code", "respell"),
    [
        ("audit-event-not-canonical", lambda data: data.replace(b":", b": ", 1)),
        ("audit-event-not-canonical", lambda data: data.replace(b"smollm2", b"smollm\\u0032")),
        ("audit-event-duplicate-member", lambda data: data.replace(b'"time":', b'"time":1,"time":')),
        ("audit-event-bad-number", lambda data: data.replace(b'"severity_id":1', b'"severity_id":1.0')),
        ("audit-event-too-large", lambda data: data + b" " * MAX_EVENT_BYTES),
        ("audit-event-not-json", lambda data: data[:-1]),
    ],
)
def test_another_spelling_of_the_same_event_refuses(
    code: str, respell: Callable[[bytes], bytes], decision: Decision
) -> None:
    with pytest.raises(Malformed) as caught:
        decode(respell(encode(Event(0, GENESIS, 1, decision()))))
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("audit-id", {"tenant": SECRET}),
        ("audit-id", {"actor": "ann@acme.example"}),
        ("audit-id", {"actor": ""}),
        ("audit-id", {"actor": "x" * 129}),
        ("audit-id", {"request_id": "a\nb"}),
        ("audit-code", {"action": SECRET}),
        ("audit-code", {"action": "a" * 65}),
        ("audit-code", {"refusal": SECRET}),
        ("audit-choice", {"verdict": "maybe"}),
        ("audit-id", {"rules": (SECRET,)}),
        ("audit-list", {"rules": ["a"]}),
        ("audit-list", {"rules": ("a",) * 4097}),
        ("audit-digest", {"policy_digest": "sha256:" + "A" * 64}),
        ("audit-digest", {"statement_digest": SECRET}),
        ("audit-time", {"time": datetime(2026, 1, 1)}),  # noqa: DTZ001 - the attack
        ("audit-time", {"time": datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1)))}),
        ("audit-fact", {"facts": {"prompt": SECRET}}),
        ("audit-fact", {"facts": {"attested": 1}}),
        ("audit-id", {"facts": {"model": SECRET}}),
        ("audit-id", {"facts": {"groups": (SECRET,)}}),
        ("audit-list", {"facts": {"groups": "a"}}),
        ("audit-count", {"facts": {"max_tokens": True}}),
        ("audit-count", {"facts": {"max_tokens": -2}}),
        ("audit-count", {"facts": {"max_tokens": 2**53}}),
        ("audit-count", {"facts": {"max_tokens": 1.5}}),
        ("audit-fact", {"facts": {"label_owners": ("user:ann",)}}),
        ("audit-fact", {"facts": {"label_owners": (SECRET,)}}),
        ("audit-list", {"facts": {"label_owners": "org:a"}}),
    ],
)
def test_a_decision_has_no_room_for_content(code: str, changes: dict[str, Any], decision: Decision) -> None:
    with pytest.raises(Malformed) as caught:
        decision(**changes)
    assert caught.value.code == code
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("audit-code", {"code": SECRET}),
        ("audit-id", {"receipt_id": SECRET}),
        ("audit-choice", {"outcome": SECRET}),
        ("audit-count", {"decision_index": -1}),
        ("audit-count", {"prompt_tokens": SECRET}),
        ("audit-count", {"completion_tokens": -1}),
        ("audit-digest", {"statement_digest": SECRET}),
        ("audit-digest", {"request_digest": SECRET}),
        ("audit-digest", {"response_digest": SECRET}),
        ("audit-digest", {"answer_label_id": SECRET}),
        ("audit-id", {"tenant": SECRET}),
        ("audit-id", {"actor": SECRET}),
        ("audit-code", {"action": SECRET}),
        ("audit-id", {"request_id": SECRET}),
        ("audit-time", {"time": None}),
    ],
)
def test_an_outcome_has_no_room_for_content(code: str, changes: dict[str, Any], outcome: Outcome) -> None:
    with pytest.raises(Malformed) as caught:
        outcome(**changes)
    assert caught.value.code == code
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("audit-time", {"time": None}),
        ("audit-id", {"actor": SECRET}),
        ("audit-choice", {"act": SECRET}),
        ("audit-id", {"subject": SECRET}),
        ("audit-digest", {"digest": SECRET}),
        ("audit-count", {"count": SECRET}),
    ],
)
def test_an_administration_has_no_room_for_content(code: str, changes: dict[str, Any]) -> None:
    values: dict[str, Any] = {"time": NOW, "actor": "svc:cli", "act": "key-created"}
    with pytest.raises(Malformed) as caught:
        AdministrationRecord(**(values | changes))
    assert caught.value.code == code


def test_what_a_decision_is_made_from_can_be_logged(decision: Decision) -> None:
    """Every fact that rules can see has a form in the log, or a permitted request could not be written."""
    label = Label(
        owners=(("org:a", frozenset()), ("user:ann@acme", frozenset())),
        purposes=frozenset({"inference"}),
        regions=frozenset({"eu"}),
        flags=frozenset({"no-log"}),
        unresolved=frozenset({"x"}),
    )
    runtime = RuntimeFacts(
        "r", frozenset(), attested=True, vendor="mock", is_mock=True, region="", model="org/m:1"
    )
    request = send_prompt(
        key_id="k",
        groups=("g",),
        runtime=runtime,
        label=label,
        purpose="inference",
        stream=False,
        max_tokens=0,
        allow_mock=True,
    )
    event = Event(0, GENESIS, 1, decision(facts=request.facts))
    assert request.facts.keys() == FACT_KINDS.keys()
    assert decode(encode(event)) == event
    assert b"ann" not in encode(event)


def test_facts_stay_out_of_a_records_repr(decision: Decision) -> None:
    record = decision(facts={"model": "canary-model"})
    assert "canary-model" not in repr(record)
    assert replace(record, actor="key_2").actor == "key_2"
