"""Release policies from reference values, and reference values from release policies; nothing lost unsaid.

A key store knows equalities over a token's claims. Floors, lists of chips and devices are beyond it: what a
policy cannot say is returned beside it, for a person, because a key is then released to guests that our own
appraisal would refuse. The other way round, a policy is read only if every condition has a place in reference
values, and the keys that it leaves open are returned with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from attest.evidence.maa_claims import AttestationKind, TeeKind
from attest.keyrelease.claim_places import Accepted, claims_of, values_of
from attest.keyrelease.release_policy import ReleaseRule, Value, rule_for_guest
from attest.reference import ReferenceValues
from attest.refusal import Refused

CLAUSE: Final = "docs/how-to/azure-key-release.md"

_GUEST: Final = "x-ms-isolation-tee."
_MEASURED: Final[dict[TeeKind, str]] = {
    "sevsnpvm": "x-ms-sevsnpvm-launchmeasurement",
    "tdxvm": "tdx_mrtd",
}
_NEEDED: Final[dict[TeeKind, tuple[str, ...]]] = {
    "sevsnpvm": (
        "products",
        "signing_keys",
        "vmpls",
        "require_revocation_list",
        "min_guest_svn",
        "min_tcb",
    ),
    "tdxvm": ("mrconfigids", "mrowners", "mrownerconfigs", "min_tcb_evaluation_data_number"),
}
"""Keys without which a reference table says nothing, or says "unset"."""


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
        values: the table's other keys that the rule fixes.
        unsaid: the table's keys that the rule leaves open, and that a person must decide on.
    """

    issuer: str
    policy_hashes: frozenset[str]
    kind: AttestationKind
    tee: TeeKind
    measurements: frozenset[str]
    values: Mapping[str, Accepted]
    unsaid: tuple[str, ...]


def export_rules(
    reference: ReferenceValues, issuer: str, policy_hashes: frozenset[str], *, kind: str = "raw"
) -> Exported:
    """Rules that release a key to guests that ``reference`` accepts, as far as a key store can tell.

    Args:
        reference: what we accept.
        issuer: the instance of Azure Attestation.
        policy_hashes: accepted policies of that instance.
        kind: ``azurevm`` for guests of Azure that attest through their vTPM, ``raw`` for hardware reports.
            What ``reference`` accepts through a vTPM only gets no rule for raw reports.

    Raises:
        Malformed: ``release-policy-form``.
    """
    rules = []
    unsaid = ["vendors", "max_evidence_age_seconds", "not_after", "runtime"]
    if reference.snp is not None:
        accepted = _Accepted(
            "sevsnpvm", "snp", "measurements", reference.snp.measurements, reference.snp.values()
        )
        on_snp = kind if reference.azure is None else "azurevm"
        rules.append(_rule(accepted, issuer, policy_hashes, on_snp, unsaid))
    if reference.tdx is not None:
        accepted = _Accepted("tdxvm", "tdx", "mrtds", reference.tdx.mrtds, reference.tdx.values())
        rules.append(_rule(accepted, issuer, policy_hashes, kind, unsaid))
    unsaid += [name for name in ("azure", "gpu") if getattr(reference, name) is not None]
    return Exported(tuple(rules), tuple(unsaid))


@dataclass(frozen=True, slots=True)
class _Accepted:
    tee: TeeKind
    table: str
    key: str
    measured: frozenset[str]
    values: Mapping[str, Any]


def _rule(
    accepted: _Accepted, issuer: str, policy_hashes: frozenset[str], kind: str, unsaid: list[str]
) -> ReleaseRule:
    """The rule of one table; what it cannot say is added to ``unsaid``."""
    tee, values = accepted.tee, accepted.values
    outer: AttestationKind = "azurevm" if kind == "azurevm" else tee
    claims, said = claims_of(tee, values)
    # A rule asks for UpToDate alone; values that accept more are not said, though the rule is the stricter.
    strict = values.get("tcb_statuses") == ["UpToDate"]
    said |= {accepted.key} | ({"tcb_statuses"} if strict else set())
    unsaid += [f"{accepted.table}.{name}" for name in values if name not in said]
    base = rule_for_guest(
        issuer,
        outer,
        tee,
        policy_hashes=policy_hashes,
        measurements=frozenset(map(bytes.fromhex, accepted.measured)),
    )
    return ReleaseRule(issuer, base.claims | {_place(outer) + name: claims[name] for name in claims})


def _place(kind: AttestationKind) -> str:
    return _GUEST if kind == "azurevm" else ""


def import_rule(rule: ReleaseRule) -> Imported:
    """What a rule accepts.

    Raises:
        Refused: ``release-policy-claim`` for a claim that reference values have no place for, one that is
            missing, or one with another value: a rule read in part would accept more than it says.
    """
    kinds = rule.claims.get("x-ms-attestation-type", frozenset())
    for kind in ("sevsnpvm", "tdxvm"):
        for outer in ("azurevm", kind):
            measured = rule.claims.get(_place(outer) + _MEASURED[kind])
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
    place = _place(kind)
    here = {name.removeprefix(place): rule.claims[name] for name in rule.claims if name.startswith(place)}
    values, read = values_of(tee, here)
    different = sorted(
        name
        for name in ours.claims.keys() | rule.claims.keys()
        if ours.claims.get(name) != rule.claims.get(name)
        and not (name.startswith(place) and name.removeprefix(place) in read)
    )
    if different:
        raise Refused(
            "release-policy-claim",
            CLAUSE,
            expected="the claims of a guest rule, each with its value",
            got=f"otherwise: {', '.join(different)}",
        )
    unsaid = tuple(key for key in _NEEDED[tee] if key not in values)
    return Imported(rule.authority, hashes, kind, tee, measurements, values, unsaid)


def _texts(values: frozenset[Value]) -> frozenset[str]:
    return frozenset(value for value in values if isinstance(value, str))
