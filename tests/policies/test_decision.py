"""What a request for a decision holds: the facts as evaluated, and nobody's name for the log."""

from __future__ import annotations

from collections.abc import Callable

from policies.codec import label_id
from policies.decision import DecisionRequest
from policies.labels import Label, Sensitivity

Ask = Callable[..., DecisionRequest]


def test_the_facts_for_the_log_are_all_that_rules_can_see(ask: Ask) -> None:
    request = ask()
    expected = {"groups", *request.resource.attributes, *request.context}
    assert request.facts.keys() == expected
    assert request.facts["label_owners"] == ("org:acme",)


def test_owners_who_are_persons_are_withheld_from_the_log_only(ask: Ask) -> None:
    owners = tuple((owner, frozenset[str]()) for owner in ("user:ann", "user:bob", "org:a"))
    request = ask(label=Label(owners=owners))
    assert request.facts["label_owners"] == ("org:a", "user:withheld")
    assert request.context["label_owners"] == ("org:a", "user:ann", "user:bob")


def test_the_label_is_there_as_plain_facts(ask: Ask) -> None:
    label = Label(
        purposes=frozenset({"support", "inference"}),
        regions=frozenset(),
        flags=frozenset({"no-log"}),
        sensitivity=Sensitivity(7, "722a5300-0000-4000-8000-000000000001"),
        unresolved=frozenset({"a", "b"}),
    )
    context = ask(label=label).context
    assert context["label_id"] == label_id(label)
    assert context["label_purposes"] == ("inference", "support")
    assert context["label_regions"] == ()
    assert context["label_flags"] == ("no-log",)
    assert context["label_sensitivity"] == 7
    assert context["label_unresolved"] == 2
    assert context["obstacles"] == ("unresolved", "region")


def test_what_is_not_restricted_is_absent(ask: Ask) -> None:
    context = ask().context
    assert "label_purposes" not in context
    assert "label_regions" not in context
    assert context["label_sensitivity"] == -1


def test_a_runtime_without_a_verdict_is_no_reader_whatever_it_claims(ask: Ask) -> None:
    assert ask(runtime={"attested": False}).context["obstacles"] == ("reader",)


def test_a_runtime_that_states_no_region_is_nowhere(ask: Ask) -> None:
    request = ask(runtime={"region": ""}, label=Label(regions=frozenset({"eu"})))
    assert request.context["obstacles"] == ("region",)
