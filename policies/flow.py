"""Whether labelled data may reach a sink, and if not, everything that stands in the way.

A sink is anything that takes data: a runtime, a tool, a cache, a log, a person. It is described by what it
is and does; the label says what it would have to be. Both the refusal (``flows_to``) and the facts given to
Cedar (``obstacles``) come from the one function here, so that they cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from policies.labels import Integrity, Label
from policies.refusal import FlowRefused

PRACTICES = {"no-train": "train", "no-cache": "cache", "no-log": "log", "no-embed": "embed"}


class Obstacle(StrEnum):
    """A reason why data must not flow, in the order in which they are reported."""

    UNRESOLVED = "unresolved"
    READER = "reader"
    PURPOSE = "purpose"
    REGION = "region"
    RETENTION = "retention"
    PRACTICE = "practice"
    INTEGRITY = "integrity"
    ENDORSEMENT = "endorsement"


@dataclass(frozen=True, slots=True)
class Sink:
    """Where data would go.

    Args:
        atoms: the identities of the one reader there; being any one of them suffices for an owner.
            Where several parties would read, ask once for each.
        purpose: what the data would be used for; None is unknown and satisfies no restriction.
        region: where it would be processed; None is unknown and satisfies no restriction.
        keeps_seconds: how long it would stay beyond the request; None is for ever.
        practices: what the sink does with it besides: ``train``, ``cache``, ``log``, ``embed``.
        min_integrity: the least origin that the sink may act on (a tool call may want ``USER``).
        required_endorsers: who must have vouched for the data.
    """

    atoms: frozenset[str]
    purpose: str | None = None
    region: str | None = None
    keeps_seconds: int | None = 0
    practices: frozenset[str] = frozenset()
    min_integrity: Integrity = Integrity.UNTRUSTED
    required_endorsers: frozenset[str] = frozenset()


def obstacles(label: Label, sink: Sink) -> tuple[Obstacle, ...]:
    """All that keeps ``label`` from ``sink``, in ``Obstacle``'s order; empty if it may flow."""
    blocked = {
        Obstacle.UNRESOLVED: bool(label.unresolved),
        Obstacle.READER: label.refused_by(sink.atoms) > 0,
        Obstacle.PURPOSE: label.purposes is not None and sink.purpose not in label.purposes,
        Obstacle.REGION: label.regions is not None and sink.region not in label.regions,
        Obstacle.RETENTION: _keeps_too_long(label.retention_seconds, sink.keeps_seconds),
        Obstacle.PRACTICE: any(PRACTICES[flag] in sink.practices for flag in label.flags),
        Obstacle.INTEGRITY: label.integrity < sink.min_integrity,
        Obstacle.ENDORSEMENT: label.endorsers is not None and not sink.required_endorsers <= label.endorsers,
    }
    return tuple(obstacle for obstacle in Obstacle if blocked[obstacle])


def flows_to(label: Label, sink: Sink) -> None:
    """Require that data with ``label`` may reach ``sink``.

    Raises:
        FlowRefused: ``flow-unresolved``, ``flow-reader``, ``flow-purpose``, ``flow-region``,
            ``flow-retention``, ``flow-practice``, ``flow-integrity``, ``flow-endorsement``: the first
            obstacle; the reason names them all.
    """
    found = obstacles(label, sink)
    if found:
        raise FlowRefused(f"flow-{found[0]}", f"the label forbids it by {', '.join(found)}")


def _keeps_too_long(allowed: int | None, kept: int | None) -> bool:
    if allowed is None:
        return False
    return kept is None or kept > allowed
