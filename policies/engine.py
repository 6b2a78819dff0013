"""Cedar behind a wrapper that cannot be asked carelessly.

Four traps of the engine are closed here, each with a test:

1. Without a schema, a forbid that errors is skipped and the request allowed: the schema is always passed.
2. An answer can be *allow* beside an error: any diagnostics error denies.
3. Rules without an ``@id`` are called ``policy0``: rules are loaded under their ids, which are demanded and
   unique, so that a log names them; each gives its ``@reason`` for people.
4. A template permits nothing until it is linked, so one in a bundle is a mistake: refused.

Engine messages can quote facts, so they never leave this module.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import cedarpy
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from policies.bundle import PolicyBundle, load_bundle
from policies.decision import Decision, DecisionRequest, Entity, Fact
from policies.refusal import MalformedPolicies

NO_PERMIT = "No policy permits this."
FAILED = "The policies could not be evaluated on this request."

_NAMESPACE = "Sealgate"
_RULE_ID = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_MAX_RULE_ID = 64
_KEPT_DECISIONS = 1024
_MAX_KEPT = 8192  # characters of a question whose answer is kept; usual ones have less than one thousand
_to_json = json.JSONEncoder(separators=(",", ":")).encode


class PolicySet:
    """Parsed, validated rules. Immutable, and safe to share between threads.

    Raises:
        MalformedPolicies: ``policies-syntax``, ``policies-template``, ``policies-rule-id``,
            ``policies-rule-reason``, ``policies-duplicate-rule``, ``policies-invalid`` (against the schema).
    """

    def __init__(self, bundle: PolicyBundle) -> None:
        self.digest = bundle.digest
        try:
            schema_text = bundle.schema.decode("utf-8")
            self._schema = cedarpy.Schema.from_str(schema_text)
            rules: dict[str, Any] = {}
            for name, text in bundle.policies:
                _add_rules(rules, name, text.decode("utf-8"), schema_text)
            document = {"staticPolicies": rules, "templates": {}, "templateLinks": []}
            self._policies = cedarpy.PolicySet.from_json_str(json.dumps(document))
        except ValueError as error:
            raise MalformedPolicies("policies-syntax", "a file does not parse") from error
        self._reasons = {rule: body["annotations"]["reason"] for rule, body in rules.items()}
        # Cedar is a function of the question and of rules that do not change, so an answer may be kept.
        self._kept = lru_cache(maxsize=_KEPT_DECISIONS)(self._evaluated)

    def __repr__(self) -> str:
        return f"PolicySet({len(self._reasons)} rules, {self.digest})"

    @classmethod
    def load(cls, folder: Path | None = None, *, signer: Ed25519PublicKey | None = None) -> PolicySet:
        """The rules in ``folder``, or the defaults; see ``load_bundle``.

        Raises:
            MalformedPolicies: as this class and ``load_bundle``.
            BundleRefused: as ``load_bundle``.
        """
        return cls(load_bundle(folder, signer=signer))

    @property
    def rules(self) -> Mapping[str, str]:
        """Every rule's id and reason."""
        return dict(self._reasons)

    def decide(self, request: DecisionRequest) -> Decision:
        """Ask. Never raises for what is in ``request``: what cannot be evaluated is denied."""
        try:
            # The facts as text, every one of them: what is spelt the same is the same question.
            asked = _to_json([_question(request), _entities(request)])
            return self._evaluated(asked) if len(asked) > _MAX_KEPT else self._kept(asked)
        except (ValueError, TypeError):
            return self._denied(FAILED)

    def _evaluated(self, asked: str) -> Decision:
        question, entities = json.loads(asked)
        answer = cedarpy.is_authorized(question, self._policies, entities, schema=self._schema)
        if answer.diagnostics.errors or answer.decision is cedarpy.Decision.NoDecision:
            return self._denied(FAILED)
        rules = tuple(sorted(answer.diagnostics.reasons))
        if not rules:
            return self._denied(NO_PERMIT)
        return Decision(
            verdict="allow" if answer.decision is cedarpy.Decision.Allow else "deny",
            rules=rules,
            reasons=tuple(self._reasons[rule] for rule in rules),
            policy_digest=self.digest,
        )

    def _denied(self, reason: str) -> Decision:
        return Decision(verdict="deny", rules=(), reasons=(reason,), policy_digest=self.digest)


def _add_rules(rules: dict[str, Any], name: str, text: str, schema: str) -> None:
    parsed = json.loads(cedarpy.policies_to_json_str(text))
    if parsed["templates"] or parsed["templateLinks"]:
        raise MalformedPolicies("policies-template", f"{name} holds a template")
    verdict = cedarpy.validate_policies(text, schema)
    if not verdict.validation_passed:
        raise MalformedPolicies("policies-invalid", f"{name}: {verdict.errors[0]}")
    for body in parsed["staticPolicies"].values():
        annotations = body.get("annotations", {})
        rule = annotations.get("id") or ""
        if len(rule) > _MAX_RULE_ID or not _RULE_ID.fullmatch(rule):
            raise MalformedPolicies("policies-rule-id", f"{name}: every rule needs a kebab-case @id")
        if not annotations.get("reason"):
            raise MalformedPolicies("policies-rule-reason", f"{name}: {rule} has no @reason")
        if rule in rules:
            raise MalformedPolicies("policies-duplicate-rule", f"{name}: {rule} is taken")
        rules[rule] = body


def _question(request: DecisionRequest) -> dict[str, Any]:
    return {
        "principal": _uid(request.principal.type, request.principal.id),
        "action": _uid("Action", request.action),
        "resource": _uid(request.resource.type, request.resource.id),
        "context": dict(request.context),
    }


def _entities(request: DecisionRequest) -> list[dict[str, Any]]:
    return [_entity(request.principal), _entity(request.resource)]


def _entity(entity: Entity) -> dict[str, Any]:
    attributes: Mapping[str, Fact] = entity.attributes
    return {
        "uid": _uid(entity.type, entity.id),
        "attrs": dict(attributes),
        "parents": [_uid("Group", group) for group in entity.groups],
    }


def _uid(kind: str, name: str) -> dict[str, str]:
    return {"type": f"{_NAMESPACE}::{kind}", "id": name}
