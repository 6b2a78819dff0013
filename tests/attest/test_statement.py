"""The statement: one spelling, every member of its form, every bit bound."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest import strict_json
from attest.digest import sha256_digest
from attest.refusal import Malformed, Refused, Unsupported
from attest.statement import (
    MAX_STATEMENT_BYTES,
    Device,
    Statement,
    gpu_nonce,
    report_data,
    vtpm_nonce,
)

A, B, C = (sha256_digest(text) for text in (b"a", b"b", b"c"))
NONCE = "0123456789abcdef" * 4
STATEMENT = Statement(
    nonce=NONCE,
    keyset_digest=A,
    policy_digest=B,
    base_model_digest=C,
    tokenizer_digest=A,
    runtime_image="registry.example/sealgate@sha256:00",
    key_scope="replica-1",
    region="eu-central-1",
)
MEMBERS = json.loads(STATEMENT.canonical())

digests = st.binary(min_size=0, max_size=4).map(sha256_digest)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,20}", fullmatch=True)
devices = st.lists(
    st.builds(Device, kind=names, index=st.integers(0, 255), evidence_sha256=digests),
    max_size=5,
    unique_by=lambda device: (device.kind, device.index),
).map(lambda found: tuple(sorted(found, key=lambda device: (device.kind, device.index))))
statements = st.builds(
    Statement,
    nonce=st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex),
    keyset_digest=digests,
    policy_digest=digests,
    base_model_digest=digests,
    tokenizer_digest=digests,
    runtime_image=names,
    key_scope=names,
    region=names,
    devices=devices,
    previous_statement=st.none() | digests,
    self_check=st.none() | digests,
    embedding_model_digest=st.none() | digests,
) | st.builds(
    lambda contract: replace(STATEMENT, role="tune", contract_digest=contract),
    digests,
)


@given(statements)
@settings(max_examples=100)
def test_round_trip(statement: Statement) -> None:
    """What is written is read back as the same statement, and names the same digest."""
    data = statement.canonical()
    assert Statement.parse(data) == statement
    assert statement.digest == sha256_digest(data)


def test_report_data_is_the_documented_hash() -> None:
    """Another implementation of docs/reference/statement.md gets the same 64 bytes."""
    data = STATEMENT.canonical()
    assert report_data(data) == hashlib.sha512(b"sealgate-statement-v1" + data).digest()


def test_gpu_nonce_is_the_documented_hash() -> None:
    """Nonce and keyset digest enter as their 32 bytes each."""
    expected = hashlib.sha256(b"sealgate-gpu-nonce-v1" + bytes.fromhex(NONCE) + bytes.fromhex(A[7:])).digest()
    assert gpu_nonce(NONCE, A) == expected


def test_vtpm_nonce_is_the_documented_hash() -> None:
    """The report data enters whole, under a name of its own."""
    data = report_data(STATEMENT.canonical())
    assert vtpm_nonce(data) == hashlib.sha256(b"sealgate-vtpm-nonce-v1" + data).digest()


@pytest.mark.parametrize(
    "nonce", ["", NONCE[:-1], NONCE.upper(), NONCE + "\n", "0x" + NONCE[2:], NONCE[:-1] + "٣"]
)
def test_gpu_nonce_refuses_other_spellings(nonce: str) -> None:
    """One nonce has one spelling."""
    with pytest.raises(Malformed, match="nonce-form"):
        gpu_nonce(nonce, A)


@pytest.mark.parametrize("digest", ["", A[:-1], A.upper(), "sha512:" + A[7:], A[7:], A + "0"])
def test_gpu_nonce_refuses_other_digests(digest: str) -> None:
    """Only sha256, only lower case, only whole."""
    with pytest.raises(Malformed, match="digest-form"):
        gpu_nonce(NONCE, digest)


def test_every_flipped_bit_is_another_statement_or_none() -> None:
    """No bit of a statement is free: flipping it gives other report data, if it parses at all."""
    data, parsed = STATEMENT.canonical(), 0
    bound = report_data(data)
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        assert report_data(bytes(flipped)) != bound
        try:
            assert Statement.parse(bytes(flipped)) != STATEMENT
            parsed += 1
        except Refused:
            continue
    assert parsed > 0, "some flips must reach the binding, or this test only tests the parser"


def _document(**changes: Any) -> bytes:
    return strict_json.canonical(MEMBERS | changes)


@pytest.mark.parametrize("member", sorted(MEMBERS))
def test_missing_member(member: str) -> None:
    """Every member is there, null or not."""
    with pytest.raises(Refused, match="statement-purpose" if member == "purpose" else "statement-members"):
        Statement.parse(strict_json.canonical({name: MEMBERS[name] for name in MEMBERS if name != member}))


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (_document(extra=1), "statement-members"),
        (_document(version=2), "statement-version"),
        (_document(version=True), "statement-members"),
        (_document(version="1"), "statement-members"),
        (_document(purpose="sealgate-other"), "statement-purpose"),
        (_document(purpose=None), "statement-purpose"),
        (_document(nonce=NONCE.upper()), "nonce-form"),
        (_document(nonce=NONCE[:-2]), "nonce-form"),
        (_document(nonce=0), "nonce-form"),
        (_document(keyset_digest=None), "statement-field"),
        (_document(policy_digest=B.upper()), "statement-field"),
        (_document(base_model_digest=C[7:]), "statement-field"),
        (_document(tokenizer_digest=[A]), "statement-field"),
        (_document(previous_statement=""), "statement-field"),
        (_document(self_check="passed"), "statement-field"),
        (_document(self_check=True), "statement-field"),
        (_document(embedding_model_digest=C[7:]), "statement-field"),
        (_document(runtime_image=""), "statement-field"),
        (_document(runtime_image="a b"), "statement-field"),
        (_document(runtime_image="a" * 257), "statement-field"),
        (_document(key_scope="../x"), "statement-field"),
        (_document(key_scope="a^b"), "statement-field"),
        (_document(region="eu\n"), "statement-field"),
        (_document(region="\u0660"), "statement-field"),
        (_document(role="serve "), "statement-field"),
        (_document(role=["serve"]), "statement-field"),
        (_document(role="tune"), "statement-contract"),
        (_document(contract_digest=A), "statement-contract"),
        (_document(role="tune", contract_digest="x"), "statement-field"),
        (_document(devices={}), "statement-devices"),
        (_document(devices=[1]), "statement-members"),
        (_document(devices=[{"kind": "gpu", "index": 0}]), "statement-members"),
        (_document(devices=[{"kind": "gpu", "index": 256, "evidence_sha256": A}]), "statement-field"),
        (_document(devices=[{"kind": "gpu", "index": True, "evidence_sha256": A}]), "statement-field"),
        (_document(devices=[{"kind": "g u", "index": 0, "evidence_sha256": A}]), "statement-field"),
        (_document(devices=[{"kind": "gpu", "index": 0, "evidence_sha256": "0"}]), "statement-field"),
        (_document(devices=[{"kind": "gpu", "index": 0, "evidence_sha256": A}] * 2), "statement-devices"),
        (
            _document(devices=[{"kind": "gpu", "index": i, "evidence_sha256": A} for i in (1, 0)]),
            "statement-devices",
        ),
        (
            _document(devices=[{"kind": "gpu", "index": i, "evidence_sha256": A} for i in range(65)]),
            "statement-devices",
        ),
        (STATEMENT.canonical() + b"\n", "statement-not-canonical"),
        (b" " + STATEMENT.canonical(), "statement-not-canonical"),
        (json.dumps(MEMBERS).encode(), "statement-not-canonical"),
        (STATEMENT.canonical().replace(b"serve", b"\\u0073erve"), "statement-not-canonical"),
        (STATEMENT.canonical().replace(b'"version":1', b'"version":1.0'), "statement-bad-number"),
        (STATEMENT.canonical().replace(b'"role"', b'"region"'), "statement-duplicate-member"),
        (STATEMENT.canonical() + b"{}", "statement-not-json"),
        (b"\xef\xbb\xbf" + STATEMENT.canonical(), "statement-not-json"),
        (STATEMENT.canonical().decode().encode("utf-16"), "statement-not-json"),
        (b"[" * 100_000, "statement-too-large"),
        (b"[" * 60_000, "statement-too-deep"),
        (b"null", "statement-members"),
        (b"", "statement-not-json"),
    ],
)
def test_refuses(document: bytes, code: str) -> None:
    """Everything that ``canonical`` would not have written is refused, each by its own code."""
    with pytest.raises(Refused) as refusal:
        Statement.parse(document)
    assert refusal.value.code == code


def test_the_longest_members_are_accepted() -> None:
    """Every bound is the documented one, and belongs to what is accepted."""
    name, image = "n" * 128, "i" * 256
    devices = tuple(Device(name, index, A) for index in range(192, 256))
    longest = replace(STATEMENT, runtime_image=image, key_scope=name, region=name, devices=devices)
    assert Statement.parse(longest.canonical()) == longest
    for field in ("key_scope", "region"):
        with pytest.raises(Malformed, match="statement-field"):
            replace(STATEMENT, **{field: name + "n"})
    with pytest.raises(Malformed, match="statement-devices"):
        replace(STATEMENT, devices=(Device("m", 0, A), *devices))


def test_another_version_is_unsupported_and_another_purpose_refused() -> None:
    """Exit codes tell a future runtime from a wrong one."""
    with pytest.raises(Unsupported):
        Statement.parse(_document(version=2, brand_new=1))
    with pytest.raises(Refused) as refusal:
        Statement.parse(_document(purpose="x"))
    assert refusal.value.exit_code == 10


def test_size_is_bounded_before_parsing() -> None:
    """One byte too many is refused for its size alone."""
    with pytest.raises(Malformed, match="statement-too-large"):
        Statement.parse(b" " * (MAX_STATEMENT_BYTES + 1))


def test_a_statement_cannot_be_built_wrong() -> None:
    """The runtime cannot state what no verifier would read."""
    with pytest.raises(Malformed, match="statement-field"):
        replace(STATEMENT, region="a b")
    with pytest.raises(Malformed, match="statement-devices"):
        replace(STATEMENT, devices=(Device("gpu", 0, A), Device("gpu", 0, B)))


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
@settings(max_examples=200)
def test_fuzz_tail(data: bytes) -> None:
    """Only refusals leave the parser, whatever replaces the tail of a good document."""
    good = STATEMENT.canonical()
    for document in (data, good[: len(good) // 2] + data, good + data):
        if document != good:
            with pytest.raises(Refused):
                Statement.parse(document)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(MEMBERS)), json_values)
@settings(max_examples=200)
def test_fuzz_member(member: str, value: Any) -> None:
    """Any JSON value in any member: the same statement back, or a refusal."""
    document = json.dumps(
        MEMBERS | {member: value}, separators=(",", ":"), sort_keys=True, ensure_ascii=False
    )
    try:
        statement = Statement.parse(document.encode("utf-8", "surrogatepass"))
    except Refused:
        return
    assert statement.canonical() == document.encode()
