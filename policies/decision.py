"""What is asked of the policies and what they answer: plain data.

A ``DecisionRequest`` holds the facts exactly as they are evaluated, so that the log can record them and an
auditor can decide again. It never holds content: facts are identifiers, digests, booleans and counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from policies.codec import label_id
from policies.flow import Sink, obstacles
from policies.labels import Label
from policies.refusal import PolicyRefusal

Fact = bool | int | str | tuple[str, ...]


class Denied(PolicyRefusal):
    """The policies did not allow the request; ``rules`` names those that forbade it.

    Raised by ``Decision.require_allowed`` only, with code ``policy-denied``.
    """

    def __init__(self, decision: Decision) -> None:
        self.rules = decision.rules
        super().__init__("policy-denied", " ".join(decision.reasons))


@dataclass(frozen=True, slots=True)
class Entity:
    """A Cedar entity: ``type`` without its namespace, ``id``, attributes, and the ids of its groups."""

    type: str
    id: str
    attributes: Mapping[str, Fact] = field(default_factory=dict)
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DecisionRequest:
    """May ``principal`` do ``action`` to ``resource`` in this ``context``?"""

    action: str
    principal: Entity
    resource: Entity
    context: Mapping[str, Fact]

    @property
    def facts(self) -> dict[str, Fact]:
        """Every fact that the policies can see, flat, for the log; owners who are persons are withheld."""
        facts: dict[str, Fact] = {
            "groups": self.principal.groups,
            **self.resource.attributes,
            **self.context,
        }
        owners = facts.get("label_owners")
        if isinstance(owners, tuple):
            facts["label_owners"] = tuple(sorted({_without_person(owner) for owner in owners}))
        return facts


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer.

    Args:
        verdict: ``allow`` only if a permit matched, no forbid did, and nothing failed.
        rules: ids of the rules that decided, sorted; empty where no rule matched or evaluation failed.
        reasons: one sentence for each of them (their ``@reason``), or what failed.
        policy_digest: of the bundle that was asked.
    """

    verdict: Literal["allow", "deny"]
    rules: tuple[str, ...]
    reasons: tuple[str, ...]
    policy_digest: str

    @property
    def allowed(self) -> bool:
        """Whether the verdict is ``allow``; for display; a request's path calls ``require_allowed``."""
        return self.verdict == "allow"

    def require_allowed(self) -> None:
        """Go on only if allowed.

        Raises:
            Denied: ``policy-denied`` otherwise.
        """
        if self.verdict != "allow":
            raise Denied(self)


@dataclass(frozen=True, slots=True)
class RuntimeFacts:
    """What a live verdict establishes about the runtime that would receive the data.

    Args:
        runtime_id: names the instance, e.g. its keyset digest.
        atoms: the readers it is; ``enclave_atom(reference digest)`` while its verdict holds, else none.
        attested: whether a live verdict exists at all.
        vendor: ``amd``, ``mock`` ...
        is_mock: whether the verdict rests on the software TEE.
        region: as stated by the runtime; empty if it states none.
        model: the model it serves.
        practices: what it does with data beyond answering: ``cache``, ``log``, ``train``, ``embed``.
        keeps_seconds: how long it keeps data beyond the request.
    """

    runtime_id: str
    atoms: frozenset[str]
    attested: bool
    vendor: str
    is_mock: bool
    region: str
    model: str
    practices: frozenset[str] = frozenset()
    keeps_seconds: int = 0


def send_prompt(
    *,
    key_id: str,
    groups: tuple[str, ...],
    runtime: RuntimeFacts,
    label: Label,
    purpose: str,
    stream: bool,
    max_tokens: int,
    allow_mock: bool,
) -> DecisionRequest:
    """Ask whether a prompt with this label may go to this runtime.

    Args:
        key_id: id of the API key (never the key).
        groups: groups of that key.
        runtime: what its verdict says; a fresh one for every request.
        label: join of the labels of everything in the prompt.
        purpose: what the answer is for, e.g. ``inference``.
        stream: whether the answer is streamed.
        max_tokens: the most tokens asked for; 0 if the request leaves it to the runtime.
        allow_mock: the gateway's setting of that name.
    """
    sink = Sink(
        atoms=runtime.atoms if runtime.attested else frozenset(),
        purpose=purpose,
        region=runtime.region or None,
        keeps_seconds=runtime.keeps_seconds,
        practices=runtime.practices,
    )
    return DecisionRequest(
        action="send_prompt",
        principal=Entity("ApiKey", key_id, groups=groups),
        resource=Entity(
            "Runtime",
            runtime.runtime_id,
            {
                "attested": runtime.attested,
                "vendor": runtime.vendor,
                "is_mock": runtime.is_mock,
                "region": runtime.region,
                "model": runtime.model,
                "practices": tuple(sorted(runtime.practices)),
            },
        ),
        context={
            **_label_facts(label),
            "obstacles": tuple(obstacle.value for obstacle in obstacles(label, sink)),
            "purpose": purpose,
            "stream": stream,
            "max_tokens": max_tokens,
            "allow_mock": allow_mock,
        },
    )


def _without_person(owner: str) -> str:
    return "user:withheld" if owner.startswith("user:") else owner


def _label_facts(label: Label) -> dict[str, Fact]:
    facts: dict[str, Fact] = {
        "label_id": label_id(label),
        "label_owners": tuple(owner for owner, _ in label.owners),
        "label_integrity": int(label.integrity),
        "label_flags": tuple(sorted(label.flags)),
        "label_unresolved": len(label.unresolved),
        "label_sensitivity": -1 if label.sensitivity is None else label.sensitivity.priority,
    }
    if label.purposes is not None:
        facts["label_purposes"] = tuple(sorted(label.purposes))
    if label.regions is not None:
        facts["label_regions"] = tuple(sorted(label.regions))
    return facts
