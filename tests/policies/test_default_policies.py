"""Each default rule does something that no other rule does: removing it changes an answer.

The forbids are tested beside a permit for everything, because that is what they are for: the one default
permit already asks for all that they ask for.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from policies.bundle import DEFAULT_FOLDER, PolicyBundle, load_bundle
from policies.decision import DecisionRequest
from policies.engine import NO_PERMIT, PolicySet
from policies.labels import PUBLIC, Label

ANYTHING = b"""
@id("permit-anything") @reason("A careless rule of a site.")
permit (principal, action, resource);
"""
ACTIONS = [
    "retrieve",
    "release_answer",
    "call_tool",
    "upload_adapter",
    "use_adapter",
    "release_key",
    "submit_dataset",
    "start_job",
    "release_adapter",
    "declassify",
    "read_log",
]

# One fact each that the rule forbids and no other rule minds.
FORBIDDEN: dict[str, dict[str, Any]] = {
    "forbid-unattested-runtime": {"runtime": {"attested": False}, "label": PUBLIC},
    "forbid-mock-runtime": {"runtime": {"is_mock": True, "vendor": "mock"}},
    "forbid-unresolved-label": {"label": Label(unresolved=frozenset({"call-1"}))},
    "forbid-unlisted-reader": {"label": Label(owners=(("org:acme", frozenset()),))},
    "forbid-other-purpose": {"label": Label(purposes=frozenset({"support"}))},
    "forbid-other-region": {"label": Label(regions=frozenset({"us"}))},
    "forbid-longer-retention": {"label": Label(retention_seconds=0), "runtime": {"keeps_seconds": 60}},
    "forbid-flagged-practice": {
        "label": Label(flags=frozenset({"no-cache"})),
        "runtime": {"practices": frozenset({"cache"})},
    },
}

Ask = Callable[..., DecisionRequest]


def _careless(*, without: str = "") -> PolicySet:
    """The defaults beside a permit for everything, less one rule."""
    bundle = load_bundle()
    files = [(name, _less(text, without)) for name, text in bundle.policies]
    return PolicySet(replace(bundle, policies=(*files, ("site.cedar", ANYTHING))))


def _less(text: bytes, rule: str) -> bytes:
    rules = re.split(rb"(?=^@id)", text, flags=re.MULTILINE)
    return b"".join(part for part in rules if not rule or not part.startswith(f'@id("{rule}")'.encode()))


def test_every_default_rule_is_tested_here() -> None:
    assert PolicySet.load().rules.keys() == {"permit-verified-reader", *FORBIDDEN}


def test_a_verified_reader_is_permitted_by_one_rule(ask: Ask) -> None:
    decision = PolicySet.load().decide(ask())
    assert (decision.verdict, decision.rules) == ("allow", ("permit-verified-reader",))


def test_without_the_permit_nothing_goes_out(ask: Ask) -> None:
    bundle = load_bundle()
    files = tuple((name, _less(text, "permit-verified-reader")) for name, text in bundle.policies)
    decision = PolicySet(PolicyBundle(bundle.schema, files)).decide(ask())
    assert (decision.verdict, decision.rules, decision.reasons) == ("deny", (), (NO_PERMIT,))


@pytest.mark.parametrize("rule", FORBIDDEN)
def test_a_forbid_overrules_a_careless_permit_and_is_missed_when_removed(rule: str, ask: Ask) -> None:
    request = ask(**FORBIDDEN[rule])
    decision = _careless().decide(request)
    assert (decision.verdict, decision.rules) == ("deny", (rule,))
    assert decision.reasons == (PolicySet.load().rules[rule],)
    without = _careless(without=rule).decide(request)
    assert without.verdict == "allow"
    assert "permit-anything" in without.rules


@pytest.mark.parametrize("rule", sorted(FORBIDDEN.keys() - {"forbid-mock-runtime"}))
def test_the_permit_alone_lets_none_of_it_out(rule: str, ask: Ask) -> None:
    """The defaults do not rest on the forbids, but for the mock: the permit asks for the same."""
    bundle = load_bundle()
    only = b"".join(
        part
        for _, text in bundle.policies
        for part in re.split(rb"(?=^@id)", text, flags=re.MULTILINE)
        if part.startswith(b'@id("permit-')
    )
    decision = PolicySet(PolicyBundle(bundle.schema, (("only.cedar", only),))).decide(ask(**FORBIDDEN[rule]))
    assert decision.reasons == (NO_PERMIT,)


def test_a_mock_may_be_allowed(ask: Ask) -> None:
    decision = PolicySet.load().decide(ask(runtime={"is_mock": True}, allow_mock=True))
    assert decision.verdict == "allow"


@pytest.mark.parametrize("action", ACTIONS)
def test_no_default_permits_another_action(action: str, ask: Ask) -> None:
    decision = PolicySet.load().decide(replace(ask(), action=action))
    assert decision.verdict == "deny"


def test_the_readme_has_one_row_for_each_rule() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \|", (DEFAULT_FOLDER / "README.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(PolicySet.load().rules)
