"""The parts of a label: forms, canonical shape, and what a join keeps."""

from __future__ import annotations

from typing import Any

import pytest

from policies.labels import (
    MAX_RETENTION_SECONDS,
    PUBLIC,
    Integrity,
    Label,
    Sensitivity,
    enclave_atom,
    join,
    labelled,
)
from policies.refusal import MalformedLabel

GUID = "722a5300-0000-4000-8000-000000000001"
ENCLAVE = "enclave:sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("code", "parts"),
    [
        ("label-owner", {"owners": (("acme", frozenset()),)}),
        ("label-owner", {"owners": (("org:", frozenset()),)}),
        ("label-owner", {"owners": (("org:a b", frozenset()),)}),
        ("label-owner", {"owners": ((ENCLAVE, frozenset()),)}),
        ("label-owner", {"owners": (("org:a", frozenset()), ("org:a", frozenset()))}),
        ("label-reader", {"owners": (("org:a", frozenset({"org:b"})),)}),
        ("label-reader", {"owners": (("org:a", frozenset({"enclave:9c1f"})),)}),
        ("label-reader", {"owners": (("org:a", frozenset({ENCLAVE.upper()})),)}),
        ("label-reader", {"owners": (("org:a", frozenset({"user:ann\n"})),)}),
        ("label-endorser", {"endorsers": frozenset({"dlp"})}),
        ("label-purpose", {"purposes": frozenset({"Support"})}),
        ("label-region", {"regions": frozenset({""})}),
        ("label-retention", {"retention_seconds": -1}),
        ("label-retention", {"retention_seconds": MAX_RETENTION_SECONDS + 1}),
        ("label-flag", {"flags": frozenset({"no-fun"})}),
        ("label-source", {"sources": frozenset({"a b"})}),
        ("label-source", {"sources": frozenset({'"'})}),
        ("label-unresolved", {"unresolved": frozenset({""})}),
    ],
)
def test_a_part_of_a_wrong_form_refuses(code: str, parts: dict[str, Any]) -> None:
    with pytest.raises(MalformedLabel) as caught:
        Label(**parts)
    assert caught.value.code == code


@pytest.mark.parametrize(("priority", "mip"), [(-1, GUID), (2**31, GUID), (1, GUID.upper()), (1, "")])
def test_a_sensitivity_of_a_wrong_form_refuses(priority: int, mip: str) -> None:
    with pytest.raises(MalformedLabel) as caught:
        Sensitivity(priority, mip)
    assert caught.value.code == "label-sensitivity"


def test_an_owner_among_his_own_readers_says_nothing_new() -> None:
    with_self = Label(owners=(("svc:a", frozenset({"svc:a", "svc:b"})),))
    assert with_self == Label(owners=(("svc:a", frozenset({"svc:b"})),))
    assert with_self.refused_by({"svc:a"}) == 0


def test_the_order_of_owners_says_nothing() -> None:
    assert labelled({"org:b": ["svc:x"], "org:a": []}) == labelled({"org:a": [], "org:b": ["svc:x"]})


def test_private_of_one_owner_is_not_readable_for_another() -> None:
    """Without owners in the lattice, data private to B joined with data private to A could flow to A."""
    both = join(labelled({"org:b": []}), labelled({"org:a": []}))
    assert both.refused_by({"org:a"}) == 1
    assert both.refused_by({"org:b"}) == 1
    assert both.refused_by({"org:a", "org:b"}) == 0


def test_no_purpose_at_all_is_not_any_purpose() -> None:
    support, billing = (Label(purposes=frozenset({purpose})) for purpose in ("support", "billing"))
    assert join(support, billing).purposes == frozenset()
    assert join(support, PUBLIC).purposes == frozenset({"support"})


def test_join_takes_the_lower_integrity_shorter_retention_and_higher_sensitivity() -> None:
    low = Label(integrity=Integrity.VENDOR, retention_seconds=5, sensitivity=Sensitivity(9, GUID))
    high = Label(integrity=Integrity.USER, retention_seconds=7, sensitivity=Sensitivity(1, GUID))
    joined = join(high, low)
    assert (joined.integrity, joined.retention_seconds) == (Integrity.VENDOR, 5)
    assert joined.sensitivity == Sensitivity(9, GUID)


def test_an_enclave_atom_is_made_of_a_whole_digest_only() -> None:
    assert enclave_atom("sha256:" + "a" * 64) == ENCLAVE
    with pytest.raises(MalformedLabel) as caught:
        enclave_atom("sha256:abc")
    assert caught.value.code == "label-reader"


def test_a_label_shows_sizes_and_names_nobody() -> None:
    label = Label(owners=(("user:ann", frozenset({"user:bob"})),), sources=frozenset({"crm:ann"}))
    assert "ann" not in repr(label)
    assert "bob" not in repr(label)
    assert "1 owners" in repr(label)
