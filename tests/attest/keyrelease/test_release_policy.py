"""Release policies: what is written is what is read, and nothing is read in part."""

from __future__ import annotations

import json
from typing import Any

import pytest

from attest.evidence.maa_claims import AttestationKind, TeeKind
from attest.keyrelease.release_policy import (
    Number,
    ReleaseRule,
    export_policy,
    parse_policy,
    rule_for_guest,
)
from attest.mock.maa import POLICY_HASH
from attest.refusal import Malformed, Refused

ISSUER = "https://sharedweu.weu.attest.azure.net"
MEASUREMENT = b"\xab" * 48


def rule(kind: AttestationKind = "azurevm", tee: TeeKind = "sevsnpvm", *measurements: bytes) -> ReleaseRule:
    """A rule for one guest."""
    return rule_for_guest(
        ISSUER,
        kind,
        tee,
        policy_hashes=frozenset({POLICY_HASH}),
        measurements=frozenset(measurements or {MEASUREMENT}),
    )


def code(data: bytes) -> str:
    """How reading refuses."""
    with pytest.raises(Refused) as caught:
        parse_policy(data)
    return caught.value.code


def document(*conditions: Any, **changed: Any) -> bytes:
    """A policy of one authority."""
    authority = {"authority": ISSUER, "allOf": list(conditions)}
    return json.dumps({"version": "1.0.0", "anyOf": [authority]} | changed).encode()


def test_the_rule_names_all_that_must_not_be_otherwise() -> None:
    """Kind, policy, Secure Boot, compliance, debug, migration and measurement are all in the policy."""
    text = json.loads(export_policy((rule(),)))
    (authority,) = text["anyOf"]
    assert authority["authority"] == ISSUER
    assert {each["claim"]: each["equals"] for each in authority["allOf"]} == {
        "secureboot": True,
        "x-ms-attestation-type": "azurevm",
        "x-ms-policy-hash": POLICY_HASH,
        "x-ms-isolation-tee.x-ms-attestation-type": "sevsnpvm",
        "x-ms-isolation-tee.x-ms-compliance-status": "azure-compliant-cvm",
        "x-ms-isolation-tee.x-ms-sevsnpvm-is-debuggable": False,
        "x-ms-isolation-tee.x-ms-sevsnpvm-migration-allowed": False,
        "x-ms-isolation-tee.x-ms-sevsnpvm-launchmeasurement": MEASUREMENT.hex(),
    }
    raw = rule("tdxvm", "tdxvm").claims
    assert set(raw) == {
        "x-ms-attestation-type",
        "x-ms-policy-hash",
        "dbgstat",
        "attester_tcb_status",
        "tdx_mrtd",
    }


def test_a_round_trip() -> None:
    """Several rules, and several values of a claim, come back as they were."""
    rules = (rule("azurevm", "sevsnpvm", MEASUREMENT, bytes(48)), rule("tdxvm", "tdxvm"), rule("sevsnpvm"))
    assert parse_policy(export_policy(rules)) == rules
    assert export_policy(parse_policy(export_policy(rules))) == export_policy(rules)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "release-policy-not-json"),
        (b"{}", "release-policy-members"),
        (document(), "release-policy-form"),
        (document({"claim": "a", "equals": "b"}, version="0.2"), "release-policy-construct"),
        (document({"claim": "a", "equals": "b"}, anyOf=[]), "release-policy-form"),
        (document({"claim": "a", "equals": "b"}, anyOf=[5]), "release-policy-members"),
        (document({"claim": "a", "equals": "b"}, allOf=[]), "release-policy-members"),
        (document({"claim": "a", "greater": "b"}), "release-policy-construct"),
        (document({"claim": "a", "equals": 5.0}), "release-policy-bad-number"),
        (document({"claim": "a", "equals": None}), "release-policy-construct"),
        (document({"claim": "a", "equals": -1}), "release-policy-form"),
        (document({"claim": "a", "equals": 1 << 32}), "release-policy-form"),
        (document({"claim": "a", "equals": "b", "not": True}), "release-policy-construct"),
        (document({"claim": 5, "equals": "b"}), "release-policy-construct"),
        (document(5), "release-policy-construct"),
        (document({"claim": "a", "equals": "b"}, {"claim": "a", "equals": "c"}), "release-policy-construct"),
        (document({"anyOf": []}), "release-policy-form"),
        (
            document({"anyOf": [{"claim": "a", "equals": "b"}, {"claim": "c", "equals": "d"}]}),
            "release-policy-construct",
        ),
        (document({"anyOf": [{"anyOf": [{"claim": "a", "equals": "b"}]}]}), "release-policy-construct"),
        (document({"claim": "a b", "equals": "c"}), "release-policy-form"),
        (document({"claim": "a", "equals": ""}), "release-policy-form"),
        (document({"claim": "a", "equals": "\u00e9"}), "release-policy-form"),
        (document(*({"claim": f"a{n}", "equals": "b"} for n in range(65))), "release-policy-form"),
        (
            json.dumps(
                {"version": "1.0.0", "anyOf": [{"authority": 5, "allOf": [{"claim": "a", "equals": "b"}]}]}
            ).encode(),
            "release-policy-form",
        ),
        (
            json.dumps(
                {
                    "version": "1.0.0",
                    "anyOf": [{"authority": "http://a", "allOf": [{"claim": "a", "equals": "b"}]}],
                }
            ).encode(),
            "release-policy-form",
        ),
    ],
)
def test_what_is_not_read(data: bytes, expected: str) -> None:
    """A condition that is not understood is never left out."""
    assert code(data) == expected


def test_policies_that_release_to_nobody_or_anybody() -> None:
    """No rule, a rule without claims, and a rule without measurements are refused."""
    for make in (
        lambda: export_policy(()),
        lambda: ReleaseRule(ISSUER, {}),
        lambda: rule_for_guest(
            ISSUER, "azurevm", "sevsnpvm", policy_hashes=frozenset({"h"}), measurements=frozenset()
        ),
        lambda: rule_for_guest(
            ISSUER, "azurevm", "sevsnpvm", policy_hashes=frozenset(), measurements=frozenset({MEASUREMENT})
        ),
    ):
        with pytest.raises(Malformed) as caught:
            make()
        assert caught.value.code == "release-policy-form"


def test_a_number_is_no_truth_value() -> None:
    """Python takes 1 for True; a key store does not."""
    number, truth = (parse_policy(document({"claim": "a", "equals": value})) for value in (1, True))
    assert number[0].claims == {"a": frozenset({Number(1)})}
    assert number != truth
    assert json.loads(export_policy(number))["anyOf"][0]["allOf"] == [{"claim": "a", "equals": 1}]
    untyped: Any = frozenset({1})
    with pytest.raises(Malformed, match="release-policy-form"):
        ReleaseRule(ISSUER, {"a": untyped})
