"""Release policies of Azure Key Vault and Managed HSM, to and from what a token must say.

A key marked exportable has a policy: ``anyOf`` authorities (issuers of tokens), and under each ``allOf`` the
claims that a token must have. The key store checks the token by itself, so a policy that is laxer than our
own reference values is a way around them; hence both are written from one ``ReleaseRule``, and a policy with
any construct that this module does not know is refused rather than read in part.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from attest import strict_json
from attest.evidence.maa_claims import AttestationKind, TeeKind
from attest.refusal import Malformed, Refused

MAX_POLICY_BYTES: Final = 64 * 1024
CLAUSE: Final = "Azure Key Vault, key release policy grammar"

_NAME: Final = "release-policy"
_VERSION: Final = "1.0.0"
_MAX_ITEMS: Final = 64
_AUTHORITY: Final = re.compile(r"https://[a-z0-9.-]{1,253}", re.ASCII)
_CLAIM: Final = re.compile(r"[A-Za-z0-9_.-]{1,200}", re.ASCII)
_VALUE: Final = re.compile(r"[\x21-\x7e]{1,256}", re.ASCII)
_NUMBERS: Final = range(1 << 32)


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number that a claim must be. Its own type, since Python's ``1`` and ``True`` are equal."""

    value: int


Value = str | bool | Number
Alternatives = frozenset[Value]


@dataclass(frozen=True, slots=True)
class ReleaseRule:
    """What a token of one issuer must say.

    Args:
        authority: the issuer.
        claims: name, with dots into nested objects, to the accepted values.

    Raises:
        Malformed: ``release-policy-form``.
    """

    authority: str
    claims: dict[str, Alternatives]

    def __post_init__(self) -> None:
        right = _AUTHORITY.fullmatch(self.authority) and 0 < len(self.claims) <= _MAX_ITEMS
        for claim, values in self.claims.items():
            right = right and _CLAIM.fullmatch(claim) and 0 < len(values) <= _MAX_ITEMS
            right = right and all(map(_has_form, values))
        if not right:
            raise Malformed(
                "release-policy-form", "an authority, claim or value of another form", clause=CLAUSE
            )


def rule_for_guest(
    issuer: str,
    kind: AttestationKind,
    tee: TeeKind,
    *,
    policy_hashes: frozenset[str],
    measurements: frozenset[bytes],
) -> ReleaseRule:
    """The rule that releases a key to the guests that ``verify_maa`` and the appraisal accept, and no others.

    Args:
        issuer: address of the attestation service's instance.
        kind: ``azurevm``, or that of the TEE for a raw report.
        tee: the hardware.
        policy_hashes: accepted ``x-ms-policy-hash`` values.
        measurements: accepted launch measurements (SEV-SNP) or MRTD values (TDX), 48 bytes.

    Raises:
        Malformed: ``release-policy-form``: a list is empty, or a value is of another form.
    """
    place = "x-ms-isolation-tee." if kind == "azurevm" else ""
    claims: dict[str, Alternatives] = {
        "x-ms-attestation-type": frozenset({kind}),
        "x-ms-policy-hash": frozenset(policy_hashes),
    }
    if kind == "azurevm":
        claims |= {
            "secureboot": frozenset({True}),
            f"{place}x-ms-attestation-type": frozenset({tee}),
            f"{place}x-ms-compliance-status": frozenset({"azure-compliant-cvm"}),
        }
    measured = frozenset(value.hex() for value in measurements)
    if tee == "sevsnpvm":
        claims |= {
            f"{place}x-ms-sevsnpvm-is-debuggable": frozenset({False}),
            f"{place}x-ms-sevsnpvm-migration-allowed": frozenset({False}),
            f"{place}x-ms-sevsnpvm-launchmeasurement": measured,
        }
    else:
        claims |= {
            f"{place}dbgstat": frozenset({"disabled"}),
            f"{place}attester_tcb_status": frozenset({"UpToDate"}),
            f"{place}tdx_mrtd": measured,
        }
    return ReleaseRule(issuer, claims)


def export_policy(rules: tuple[ReleaseRule, ...]) -> bytes:
    """The policy document, JSON: a token of any of these rules releases the key.

    Raises:
        Malformed: ``release-policy-form`` if there is no rule: such a policy would be a key's last.
    """
    if not 0 < len(rules) <= _MAX_ITEMS:
        raise Malformed("release-policy-form", f"{len(rules)} rules", clause=CLAUSE)
    authorities = [
        {
            "authority": rule.authority,
            "allOf": [_condition(claim, rule.claims[claim]) for claim in sorted(rule.claims)],
        }
        for rule in rules
    ]
    return strict_json.canonical({"version": _VERSION, "anyOf": authorities})


def parse_policy(data: bytes) -> tuple[ReleaseRule, ...]:
    """Read a policy document as ``export_policy`` writes them, in any order of conditions.

    Raises:
        Malformed: ``release-policy-*``.
        Refused: ``release-policy-construct``: a condition that this reader does not know, or that says
            of one claim twice what it must be.
    """
    document = strict_json.loads(data, name=_NAME, max_bytes=MAX_POLICY_BYTES)
    document = strict_json.members_exactly(document, frozenset({"version", "anyOf"}), name=_NAME)
    if document["version"] != _VERSION:
        raise Refused("release-policy-construct", CLAUSE, expected=f"version {_VERSION}", got="another")
    rules = []
    for authority in _items(document["anyOf"]):
        members = strict_json.members_exactly(authority, frozenset({"authority", "allOf"}), name=_NAME)
        claims: dict[str, Alternatives] = {}
        for condition in _items(members["allOf"]):
            claim, values = _read_condition(condition)
            if claim in claims:
                raise Refused("release-policy-construct", CLAUSE, expected="each claim once", got="one twice")
            claims[claim] = values
        if not isinstance(members["authority"], str):
            raise Malformed("release-policy-form", "an authority that is no text", clause=CLAUSE)
        rules.append(ReleaseRule(members["authority"], claims))
    return tuple(rules)


def _has_form(value: Value) -> bool:
    match value:
        case Number(number):
            return number in _NUMBERS
        case str():
            return _VALUE.fullmatch(value) is not None
    return isinstance(value, bool)


def _condition(claim: str, values: Alternatives) -> dict[str, Any]:
    equals = [
        {"claim": claim, "equals": value.value if isinstance(value, Number) else value}
        for value in sorted(values, key=str)
    ]
    return equals[0] if len(equals) == 1 else {"anyOf": equals}


def _read_condition(condition: Any) -> tuple[str, Alternatives]:
    if isinstance(condition, dict) and condition.keys() == {"anyOf"}:
        read = [_read_equals(each) for each in _items(condition["anyOf"])]
        if len({claim for claim, _ in read}) != 1:
            raise Refused(
                "release-policy-construct", CLAUSE, expected="alternatives of one claim", got="of several"
            )
        return read[0][0], frozenset(value for _, value in read)
    claim, value = _read_equals(condition)
    return claim, frozenset({value})


def _read_equals(condition: Any) -> tuple[str, Value]:
    match condition:
        case {"claim": str() as claim, "equals": (str() | bool()) as value} if len(condition) == 2:  # noqa: PLR2004 - the two named
            return claim, value
        case {"claim": str() as claim, "equals": int() as number} if len(condition) == 2:  # noqa: PLR2004 - the two named
            return claim, Number(number)
    raise Refused("release-policy-construct", CLAUSE, expected="claim and equals", got="another condition")


def _items(value: Any) -> list[Any]:
    if not isinstance(value, list) or not 0 < len(value) <= _MAX_ITEMS:
        raise Malformed("release-policy-form", "no list, or one that is empty or too long", clause=CLAUSE)
    return value
