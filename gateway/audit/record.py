"""What is told to the log: three kinds of record, each valid by construction.

``DecisionRecord`` is written before an effect, ``OutcomeRecord`` after it, ``AdministrationRecord`` for acts
on the gateway itself. They are facts as the gateway knows them; the log adds index, sequence and chain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from attest.refusal import Malformed
from gateway.audit import forms

Verdict = Literal["allow", "deny"]
Outcome = Literal["answered", "not-sent", "refused", "interrupted", "failed", "cancelled"]
Act = Literal[
    "key-created", "key-revoked", "gateway-started", "gateway-stopped", "policies-loaded", "log-recovered"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """A decision and the facts it was made from. Written, and durable, before anything is sent.

    Args:
        time: of the decision, aware UTC; kept to the millisecond.
        tenant: thumbprint of the gateway's signing key.
        actor: id of the API key, a pseudonym of whoever uses it.
        action: what was asked for; an allowed ``send_prompt`` takes the tenant's next sequence number.
        request_id: names the request in headers and other entries.
        verdict: what the policies said.
        rules: ids of the rules that decided.
        policy_digest: of the bundle that was asked.
        facts: ``DecisionRequest.facts``.
        statement_digest: of the runtime that would be sent to; None without a live verdict.
        refusal: code of the check that refused the runtime, where there is no verdict.

    Raises:
        Malformed: ``audit-id``, ``audit-code``, ``audit-digest``, ``audit-time``, ``audit-fact``,
            ``audit-list``, ``audit-count``, ``audit-choice``.
    """

    time: datetime
    tenant: str
    actor: str
    action: str
    request_id: str
    verdict: Verdict
    rules: tuple[str, ...]
    policy_digest: str
    facts: Mapping[str, Any] = field(repr=False)
    statement_digest: str | None = None
    refusal: str | None = None

    def __post_init__(self) -> None:
        forms.require_time(self.time)
        forms.require_id("tenant", self.tenant)
        forms.require_id("actor", self.actor)
        forms.require_code("action", self.action)
        forms.require_id("request_id", self.request_id)
        _require_choice("verdict", self.verdict, get_args(Verdict))
        forms.require_ids("rules", self.rules)
        forms.require_digest("policy_digest", self.policy_digest)
        forms.require_facts(self.facts)
        if self.statement_digest is not None:
            forms.require_digest("statement_digest", self.statement_digest)
        if self.refusal is not None:
            forms.require_code("refusal", self.refusal)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeRecord:
    """How an allowed act ended.

    Args:
        time: of the end, aware UTC.
        tenant: as in the decision.
        actor: as in the decision.
        action: as in the decision.
        request_id: as in the decision.
        decision_index: index of the decision's entry.
        outcome: ``answered`` only if the receipt verified; ``not-sent`` if nothing left the gateway;
            ``refused`` if what came back was not accepted; ``interrupted`` if it stopped half-way.
        code: error or refusal code, where it was not answered.
        statement_digest: of the runtime that answered.
        receipt_id: of the verified receipt.
        request_digest: of the request's bytes as sealed.
        response_digest: of the response's bytes, as in the receipt.
        answer_label_id: label of the answer.
        prompt_tokens: as in the receipt.
        completion_tokens: as in the receipt.

    Raises:
        Malformed: as ``DecisionRecord``.
    """

    time: datetime
    tenant: str
    actor: str
    action: str
    request_id: str
    decision_index: int
    outcome: Outcome
    code: str | None = None
    statement_digest: str | None = None
    receipt_id: str | None = None
    request_digest: str | None = None
    response_digest: str | None = None
    answer_label_id: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    def __post_init__(self) -> None:
        forms.require_time(self.time)
        forms.require_id("tenant", self.tenant)
        forms.require_id("actor", self.actor)
        forms.require_code("action", self.action)
        forms.require_id("request_id", self.request_id)
        forms.require_count("decision_index", self.decision_index)
        _require_choice("outcome", self.outcome, get_args(Outcome))
        if self.code is not None:
            forms.require_code("code", self.code)
        if self.receipt_id is not None:
            forms.require_id("receipt_id", self.receipt_id)
        for name in ("statement_digest", "request_digest", "response_digest", "answer_label_id"):
            if getattr(self, name) is not None:
                forms.require_digest(name, getattr(self, name))
        for name in ("prompt_tokens", "completion_tokens"):
            if getattr(self, name) is not None:
                forms.require_count(name, getattr(self, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class AdministrationRecord:
    """An act on the gateway itself.

    Args:
        time: of the act, aware UTC.
        actor: who did it, e.g. ``svc:gateway`` or ``svc:cli``.
        act: what was done.
        subject: id of what it was done to, e.g. of an API key.
        digest: a digest that belongs to it, e.g. of the policies loaded.
        count: a number that belongs to it, e.g. of bytes set aside by a recovery.

    Raises:
        Malformed: as ``DecisionRecord``.
    """

    time: datetime
    actor: str
    act: Act
    subject: str | None = None
    digest: str | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        forms.require_time(self.time)
        forms.require_id("actor", self.actor)
        _require_choice("act", self.act, get_args(Act))
        if self.subject is not None:
            forms.require_id("subject", self.subject)
        if self.digest is not None:
            forms.require_digest("digest", self.digest)
        if self.count is not None:
            forms.require_count("count", self.count)


AuditRecord = DecisionRecord | OutcomeRecord | AdministrationRecord


def _require_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise Malformed("audit-choice", f"{name} is none of {list(choices)}")
