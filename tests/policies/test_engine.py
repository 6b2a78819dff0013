"""The wrapper around Cedar: what it refuses to load, and that any doubt denies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cedarpy
import pytest

from policies.bundle import PolicyBundle, load_bundle
from policies.decision import DecisionRequest, Denied, Entity
from policies.engine import FAILED, PolicySet
from policies.refusal import MalformedPolicies

Ask = Callable[..., DecisionRequest]
PERMIT = '@id("permit-anything") @reason("Anything.")\npermit (principal, action, resource);\n'


def _set(*texts: str) -> PolicySet:
    files = tuple((f"{number}.cedar", text.encode()) for number, text in enumerate(texts))
    return PolicySet(PolicyBundle(load_bundle().schema, files))


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("policies-syntax", "permit (principal"),
        ("policies-syntax", PERMIT + "forbid (principal, action, resource) when { context. };"),
        ("policies-rule-id", PERMIT.replace('@id("permit-anything") ', "")),
        ("policies-rule-id", PERMIT.replace("permit-anything", "")),
        ("policies-rule-id", PERMIT.replace("permit-anything", "Permit Anything")),
        ("policies-rule-id", PERMIT.replace("permit-anything", "a" * 65)),
        ("policies-rule-reason", PERMIT.replace(' @reason("Anything.")', "")),
        ("policies-duplicate-rule", PERMIT + PERMIT),
        ("policies-template", '@id("x") @reason("x") permit (principal == ?principal, action, resource);'),
        ("policies-invalid", PERMIT.replace(";", " when { context.no_such_fact };")),
        ("policies-invalid", PERMIT.replace(";", " when { resource.attested == 1 };")),
        ("policies-invalid", PERMIT.replace("action,", 'action == Sealgate::Action::"send_promt",')),
        ("policies-invalid", PERMIT.replace("resource)", "resource is Sealgate::Runtim)")),
        # Present in some requests only, so reading it unasked is an error at decision time.
        ("policies-invalid", PERMIT.replace("action,", 'action == Sealgate::Action::"send_prompt",').replace(
            ";", ' when { context.label_regions.contains("eu") };')),
    ],
)  # fmt: skip
def test_a_rule_that_cannot_be_relied_on_is_not_loaded(code: str, text: str) -> None:
    with pytest.raises(MalformedPolicies) as caught:
        _set(text)
    assert caught.value.code == code
    assert caught.value.exit_code == 30


def test_an_id_is_taken_once_in_all_files() -> None:
    with pytest.raises(MalformedPolicies) as caught:
        _set(PERMIT, PERMIT)
    assert caught.value.code == "policies-duplicate-rule"


def test_a_file_that_is_not_utf8_is_not_loaded() -> None:
    bundle = PolicyBundle(load_bundle().schema, (("a.cedar", b"\xff"),))
    with pytest.raises(MalformedPolicies) as caught:
        PolicySet(bundle)
    assert caught.value.code == "policies-syntax"


def test_an_error_beside_an_allow_denies(ask: Ask) -> None:
    """Cedar itself skips a forbid that errs and allows: this test fails if the wrapper trusts its answer."""
    overflow = """@id("forbid-overflow") @reason("Overflows.")
        forbid (principal, action == Sealgate::Action::"send_prompt", resource)
        when { context.max_tokens * 9223372036854775807 > 0 };"""
    policies = _set(PERMIT, overflow)
    assert policies.decide(ask(max_tokens=1)).rules == ("forbid-overflow",)
    decision = policies.decide(ask(max_tokens=2))
    assert (decision.verdict, decision.rules, decision.reasons) == ("deny", (), (FAILED,))


def test_an_error_beside_an_allow_is_really_what_cedar_gives() -> None:
    """The premise of the test above, on Cedar alone."""
    every = "(principal, action, resource)"
    text = f"permit {every}; forbid {every} when {{ context.n * 2 > 0 }};"
    uid = {"type": "T", "id": "x"}
    request = {"principal": uid, "action": uid | {"type": "Action"}, "resource": uid, "context": {"n": 2**62}}
    answer = cedarpy.is_authorized(request, text, [])
    assert answer.allowed
    assert answer.diagnostics.errors


@pytest.mark.parametrize("change", ["unknown", "missing", "wrong-type", "float", "huge"])
def test_facts_that_do_not_fit_the_schema_deny(change: str, ask: Ask) -> None:
    """A rule that permits everything needs no fact, so only the schema can notice."""
    request = ask()
    context = dict(request.context)
    if change == "unknown":
        context["surprise"] = True
    elif change == "missing":
        del context["stream"]
    elif change == "wrong-type":
        context["obstacles"] = (1,)  # type: ignore[assignment]  # the attack
    elif change == "float":
        context["max_tokens"] = 1.5  # type: ignore[assignment]  # the attack
    else:
        context["max_tokens"] = 2**63
    assert _set(PERMIT).decide(request).verdict == "allow"
    decision = _set(PERMIT).decide(replace(request, context=context))
    assert (decision.verdict, decision.reasons) == ("deny", (FAILED,))


@pytest.mark.parametrize(
    "resource",
    [
        Entity("Runtime", "r", {}),
        Entity("Runtime", "r", {"attested": "yes"}),
        Entity("Tool", "r", {}),
        Entity("Nothing", "r", {}),
    ],
)
def test_a_resource_that_does_not_fit_the_schema_denies(resource: Entity, ask: Ask) -> None:
    decision = _set(PERMIT).decide(replace(ask(), resource=resource))
    assert (decision.verdict, decision.reasons) == ("deny", (FAILED,))


@pytest.mark.parametrize("action", ["", "send_promt", 'x"::', "retrieve"])
def test_an_action_that_does_not_fit_denies(action: str, ask: Ask) -> None:
    decision = _set(PERMIT).decide(replace(ask(), action=action))
    assert (decision.verdict, decision.reasons) == ("deny", (FAILED,))


@pytest.mark.parametrize("key_id", ["", 'k"1', "a\nb", "\u202e", "x" * 10_000])
def test_odd_identifiers_are_data_and_not_syntax(key_id: str, ask: Ask) -> None:
    one_key = """@id("forbid-key") @reason("One key.")
        forbid (principal == Sealgate::ApiKey::"key_1", action, resource);"""
    policies = _set(PERMIT, one_key)
    assert policies.decide(ask(key_id=key_id)).verdict == "allow"
    assert policies.decide(ask()).verdict == "deny"


def test_rules_see_groups(ask: Ask) -> None:
    policies = _set(
        '@id("permit-group") @reason("The group may.")\n'
        'permit (principal in Sealgate::Group::"support", action, resource);'
    )
    assert policies.decide(ask()).rules == ("permit-group",)
    assert policies.decide(ask(groups=("sales",))).verdict == "deny"


def test_all_deciding_rules_are_named_in_order(ask: Ask) -> None:
    policies = _set(*(PERMIT.replace("permit-anything", name) for name in ("z-rule", "a-rule", "m-rule")))
    assert policies.decide(ask()).rules == ("a-rule", "m-rule", "z-rule")


def test_a_denial_stops_and_says_why(ask: Ask) -> None:
    PolicySet.load().decide(ask()).require_allowed()
    with pytest.raises(Denied) as caught:
        PolicySet.load().decide(ask(runtime={"is_mock": True})).require_allowed()
    assert (caught.value.code, caught.value.rules) == ("policy-denied", ("forbid-mock-runtime",))
    assert "mock" in str(caught.value)


def test_a_decision_names_the_bundle_that_was_asked(ask: Ask) -> None:
    assert PolicySet.load().decide(ask()).policy_digest == load_bundle().digest
    assert _set(PERMIT).decide(ask()).policy_digest != load_bundle().digest


def test_a_kept_decision_is_the_answer_to_the_same_facts_only(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cedar is asked once per set of facts, and again as soon as any one of them differs, in kind too."""
    asked: list[object] = []
    evaluate = cedarpy.is_authorized

    def counting(question: object, *rest: object, **named: object) -> object:
        asked.append(question)
        return evaluate(question, *rest, **named)

    monkeypatch.setattr(cedarpy, "is_authorized", counting)
    policies = PolicySet.load()
    allowed = policies.decide(ask())
    assert allowed.allowed
    assert policies.decide(ask()) == allowed
    assert len(asked) == 1
    changed = [
        ask(key_id="key_2"),
        ask(groups=("sales",)),
        ask(runtime={"runtime_id": "sha256:" + "c" * 64}),
        ask(runtime={"is_mock": True}),
        ask(stream=False),
        ask(max_tokens=1),
        ask(max_tokens=True),
        ask(purpose="training"),
        replace(ask(), action="write_memory"),
    ]
    decisions = [policies.decide(request) for request in changed]
    assert len(asked) == 1 + len(changed)
    assert not decisions[3].allowed
    assert decisions[5].allowed
    assert not decisions[6].allowed
    assert PolicySet.load().decide(ask()) == allowed
    assert len(asked) == 2 + len(changed)


def test_long_questions_are_not_kept(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """What callers can make long would otherwise fill the memory."""
    policies = PolicySet.load()
    asked: list[str] = []
    evaluated = policies._evaluated
    monkeypatch.setattr(policies, "_evaluated", lambda text: asked.append(text) or evaluated(text))
    long = ask(groups=tuple(f"g{number}" for number in range(2000)))
    assert policies.decide(long) == policies.decide(long)
    assert len(asked) == 2
