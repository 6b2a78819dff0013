"""The bundle: one encoding of one set of parts, bounded, nothing unknown in it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest import strict_json
from attest.evidence.bundle import (
    MAX_BUNDLE_BYTES,
    MAX_CERTIFICATE_BYTES,
    MAX_CRL_BYTES,
    MAX_REPORT_BYTES,
    Bundle,
)
from attest.evidence.cpu import CpuEvidence, SnpCollateral
from attest.refusal import Refused

BUNDLE = Bundle(
    b"statement", b"keyset", CpuEvidence("snp", b"report", SnpCollateral(b"leaf", b"ask", None, b"crl"))
)
DOCUMENT = json.loads(BUNDLE.serialise())
SNP = DOCUMENT["collateral"]["snp"]
some = st.binary(max_size=64)
bundles = st.builds(
    Bundle,
    some,
    some,
    st.builds(
        CpuEvidence,
        st.just("snp"),
        some,
        st.builds(SnpCollateral, some, st.none() | some, st.none() | some, st.none() | some),
    ),
)


def _document(**changes: Any) -> bytes:
    return strict_json.canonical(DOCUMENT | changes)


def _snp(**changes: Any) -> bytes:
    return _document(collateral={"snp": SNP | changes})


def _too_long(max_bytes: int) -> str:
    return "A" * ((max_bytes + 2) // 3 * 4 + 4)


@given(bundles)
@settings(max_examples=100)
def test_round_trip(bundle: Bundle) -> None:
    """What is written is read back as the same parts."""
    assert Bundle.parse(bundle.serialise()) == bundle


def test_the_document_is_the_documented_one() -> None:
    """The shape in docs/reference/bundle-format.md."""
    assert DOCUMENT == {
        "format": "sealgate-bundle-v1",
        "statement": "c3RhdGVtZW50",
        "keyset": "a2V5c2V0",
        "cpu": {"kind": "snp", "report": "cmVwb3J0"},
        "gpus": [],
        "collateral": {"snp": {"leaf": "bGVhZg==", "intermediate": "YXNr", "ark": None, "crl": "Y3Js"}},
    }


@pytest.mark.parametrize(
    ("document", "code", "exit_code"),
    [
        (_document(extra=1), "bundle-members", 30),
        (
            strict_json.canonical({name: DOCUMENT[name] for name in DOCUMENT if name != "gpus"}),
            "bundle-members",
            30,
        ),
        (b"[]", "bundle-members", 30),
        (_document(format=1), "bundle-members", 30),
        (_document(format="sealgate-bundle-v2"), "bundle-format", 20),
        (_document(gpus=[{"kind": "nvidia-gpu"}]), "gpu-evidence", 20),
        (_document(gpus=[None]), "gpu-evidence", 20),
        (_document(gpus=None), "bundle-members", 30),
        (_document(gpus={}), "bundle-members", 30),
        (_document(cpu={"kind": "tdx", "quote": ""}), "cpu-evidence-kind", 20),
        (_document(cpu={"kind": "snp", "report": "", "more": ""}), "bundle-members", 30),
        (_document(cpu={"report": ""}), "bundle-members", 30),
        (_document(cpu=[]), "bundle-members", 30),
        (_document(collateral={}), "bundle-members", 30),
        (_document(collateral={"snp": SNP, "tdx": {}}), "bundle-members", 30),
        (_document(collateral={"snp": None}), "bundle-members", 30),
        (_snp(more=""), "bundle-members", 30),
        (_snp(leaf=None), "bundle-base64", 30),
        (_snp(crl=1), "bundle-base64", 30),
        (_snp(ark="bGVhZh=="), "bundle-base64", 30),
        (_snp(ark="bGVhZg"), "bundle-base64", 30),
        (_snp(ark="bGVh\nZg=="), "bundle-base64", 30),
        (_snp(ark="bGVhZg==="), "bundle-base64", 30),
        (_snp(ark="\u0660GVh"), "bundle-base64", 30),
        (_document(statement="-_-_"), "bundle-base64", 30),
        (_document(keyset=None), "bundle-base64", 30),
        (_document(cpu={"kind": "snp", "report": _too_long(MAX_REPORT_BYTES)}), "bundle-too-large", 30),
        (_snp(leaf=_too_long(MAX_CERTIFICATE_BYTES)), "bundle-too-large", 30),
        (_snp(intermediate=_too_long(MAX_CERTIFICATE_BYTES)), "bundle-too-large", 30),
        (_snp(ark=_too_long(MAX_CERTIFICATE_BYTES)), "bundle-too-large", 30),
        (_snp(crl=_too_long(MAX_CRL_BYTES)), "bundle-too-large", 30),
        (BUNDLE.serialise() + b"\n", "bundle-not-canonical", 30),
        (json.dumps(DOCUMENT).encode(), "bundle-not-canonical", 30),
        (json.dumps(DOCUMENT, indent=2, sort_keys=True).encode(), "bundle-not-canonical", 30),
        (BUNDLE.serialise().replace(b"keyset", b"\\u006beyset"), "bundle-not-canonical", 30),
        (BUNDLE.serialise().replace(b'"gpus":[]', b'"gpus":[],"gpus":[]'), "bundle-duplicate-member", 30),
        (BUNDLE.serialise() + b"x", "bundle-not-json", 30),
        (BUNDLE.serialise()[:-1], "bundle-not-json", 30),
        (b" " * MAX_BUNDLE_BYTES + b" ", "bundle-too-large", 30),
        (b"[" * 200_000, "bundle-too-deep", 30),
        (_document(gpus=1).replace(b'"gpus":1', b'"gpus":NaN'), "bundle-bad-number", 30),
        (b"\xff\xfe", "bundle-not-json", 30),
    ],
)
def test_refuses(document: bytes, code: str, exit_code: int) -> None:
    """Everything that ``serialise`` would not have written is refused, each by its own code."""
    with pytest.raises(Refused) as refusal:
        Bundle.parse(document)
    assert (refusal.value.code, refusal.value.exit_code) == (code, exit_code)


def test_every_flipped_bit_of_the_document_changes_a_part() -> None:
    """No two encodings of one bundle."""
    data = BUNDLE.serialise()
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            assert Bundle.parse(bytes(flipped)) != BUNDLE
        except Refused:
            continue


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_fuzz_tail(data: bytes) -> None:
    """Only refusals leave the parser, whatever replaces the tail of a good document."""
    good = BUNDLE.serialise()
    for document in (data, good[: len(good) // 2] + data, good + data):
        if document != good:
            with pytest.raises(Refused):
                Bundle.parse(document)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(DOCUMENT)), json_values)
@settings(max_examples=200)
def test_fuzz_member(member: str, value: Any) -> None:
    """Any JSON value in any member: the same document back, or a refusal."""
    text = json.dumps(DOCUMENT | {member: value}, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    document = text.encode("utf-8", "surrogatepass")
    try:
        bundle = Bundle.parse(document)
    except Refused:
        return
    assert bundle.serialise() == document


def test_repr_holds_sizes_only() -> None:
    """Evidence names a machine; logs get sizes."""
    assert repr(BUNDLE) == (
        "Bundle(statement 9 bytes, keyset 6 bytes, CpuEvidence(snp, report 6 bytes, "
        "SnpCollateral(leaf 4 bytes, intermediate 3 bytes, crl 3 bytes)))"
    )
