"""Release policies from reference values, and reference values from release policies; nothing lost unsaid.

A key store knows equalities over a token's claims. Floors, lists of chips and devices are beyond it: what a
policy cannot say is returned beside it, for a person, because a key is then released to guests that our own
appraisal would refuse. The other way round, a policy is read only if every condition has a place in reference
values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from attest.evidence.maa_claims import AttestationKind, TeeKind
from attest.keyrelease.release_policy import ReleaseRule, Value, rule_for_guest
from attest.reference import ReferenceValues
from attest.refusal import Refused

CLAUSE: Final = "docs/how-to/azure-key-release.md"

_GUEST: Final = "x-ms-isolation-tee."
_MEASURED: Final[dict[TeeKind, str]] = {
    "sevsnpvm": "x-ms-sevsnpvm-launchmeasurement",
    "tdxvm": "tdx_mrtd",
}


@dataclass(frozen=True, slots=True)
class Exported:
    """A policy's rules, and what they leave out.

    Args:
        rules: one for each TEE that the reference values accept.
        unsaid: tables and keys of the reference values that no release policy can express.
    """

    rules: tuple[ReleaseRule, ...]
    unsaid: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Imported:
    """What one rule accepts, in the words of reference values.

    Args:
        issuer: for ``quorum.maa_issuer``.
        policy_hashes: for ``quorum.maa_policy_hashes``.
        kind: of the token.
        tee: the hardware: its table is ``snp`` or ``tdx``.
        measurements: for ``snp.measurements`` or ``tdx.mrtds``.
    """

    issuer: str
    policy_hashes: frozenset[str]
    kind: AttestationKind
    tee: TeeKind
    measurements: frozenset[str]


def export_rules(
    reference: ReferenceValues, issuer: str, policy_hashes: frozenset[str], *, kind: str = "raw"
) -> Exported:
    """Rules that release a key to guests that ``reference`` accepts, as far as a key store can tell.

    Args:
        reference: what we accept.
        issuer: the instance of Azure Attestation.
        policy_hashes: accepted policies of that instance.
        kind: ``azurevm`` for guests of Azure that attest through their vTPM, ``raw`` for hardware reports.

    Raises:
        Malformed: ``release-policy-form``.
    """
    rules = []
    unsaid = ["vendors", "max_evidence_age_seconds", "not_after", "runtime"]
    accepted: list[tuple[TeeKind, frozenset[str]]] = []
    if reference.snp is not None:
        accepted.append(("sevsnpvm", reference.snp.measurements))
        said = {"measurements"}
        unsaid += [f"snp.{name}" for name in reference.snp.values() if name not in said]
    if reference.tdx is not None:
        accepted.append(("tdxvm", reference.tdx.mrtds))
        said = {"mrtds"} | ({"tcb_statuses"} if reference.tdx.tcb_statuses == {"UpToDate"} else set())
        unsaid += [f"tdx.{name}" for name in reference.tdx.values() if name not in said]
    unsaid += ["gpu"] if reference.gpu is not None else []
    for tee, measured in accepted:
        rules.append(
            rule_for_guest(
                issuer,
                "azurevm" if kind == "azurevm" else tee,
                tee,
                policy_hashes=policy_hashes,
                measurements=frozenset(bytes.fromhex(value) for value in measured),
            )
        )
    return Exported(tuple(rules), tuple(unsaid))


def import_rule(rule: ReleaseRule) -> Imported:
    """What a rule accepts.

    Raises:
        Refused: ``release-policy-claim`` for a claim that reference values have no place for, one that is
            missing, or one with another value: a rule read in part would accept more than it says.
    """
    kinds = rule.claims.get("x-ms-attestation-type", frozenset())
    for kind in ("sevsnpvm", "tdxvm"):
        for outer in ("azurevm", kind):
            place = _GUEST if outer == "azurevm" else ""
            measured = rule.claims.get(place + _MEASURED[kind])
            if kinds == {outer} and measured is not None:
                return _exactly(rule, outer, kind, _texts(measured))
    raise Refused("release-policy-claim", CLAUSE, expected="a measurement of a known TEE", got="none")


def _exactly(
    rule: ReleaseRule, kind: AttestationKind, tee: TeeKind, measurements: frozenset[str]
) -> Imported:
    """Whatever the rule says must be what we would have written for the same guests."""
    hashes = _texts(rule.claims.get("x-ms-policy-hash", frozenset()))
    try:
        measured = frozenset(bytes.fromhex(value) for value in measurements)
    except ValueError as error:
        raise Refused(
            "release-policy-claim", CLAUSE, expected="hex measurements", got="other text"
        ) from error
    ours = rule_for_guest(rule.authority, kind, tee, policy_hashes=hashes, measurements=measured)
    different = sorted(
        name
        for name in ours.claims.keys() | rule.claims.keys()
        if ours.claims.get(name) != rule.claims.get(name)
    )
    if different:
        raise Refused(
            "release-policy-claim",
            CLAUSE,
            expected="the claims of a guest rule, each with its value",
            got=f"otherwise: {', '.join(different)}",
        )
    return Imported(rule.authority, hashes, kind, tee, measurements)


def _texts(values: frozenset[Value]) -> frozenset[str]:
    return frozenset(value for value in values if isinstance(value, str))
