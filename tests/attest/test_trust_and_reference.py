"""The operator's two files: strict on the way in, faithful on the way out, no default that accepts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest.digest import sha256_digest
from attest.evidence.snp_tcb import TcbVersion
from attest.reference import MAX_REFERENCE_BYTES, ReferenceValues, RuntimeReference, SnpReference
from attest.refusal import Malformed, Refused
from attest.trust import MAX_TRUST_BYTES, TrustRoots

MOCK = "ab" * 32
DIGESTS = frozenset({sha256_digest(b"one"), sha256_digest(b"two")})
REFERENCE = ReferenceValues(
    name="production EU",
    not_after=datetime(2027, 1, 1, tzinfo=UTC),
    max_evidence_age=timedelta(minutes=30),
    vendors=frozenset({"amd", "mock"}),
    mock_ark_sha256=MOCK,
    snp=SnpReference(
        products=frozenset({"Genoa", "Turin"}),
        signing_keys=frozenset({"vcek", "vlek"}),
        csp_ids=frozenset({"CN=cc-us-east-2.amazonaws.com"}),
        vmpls=frozenset({0, 1}),
        measurements=frozenset({"00" * 48, "ff" * 48}),
        require_revocation_list=False,
        min_guest_svn=3,
        min_tcb={"Genoa": TcbVersion(1, 2, 3, 4), "Turin": TcbVersion(1, 2, 3, 4, 5)},
    ),
    runtime=RuntimeReference(
        roles=frozenset({"serve", "tune"}),
        regions=frozenset({"eu-central-1", "local"}),
        images=frozenset({"registry.example/sealgate@sha256:00"}),
        policy_digests=DIGESTS,
        base_model_digests=DIGESTS,
        tokenizer_digests=DIGESTS,
        contract_digests=DIGESTS,
        gpus=0,
    ),
)
TEXT = REFERENCE.toml()
TRUST = TrustRoots(amd=True, mock_ark_sha256=MOCK)


@pytest.mark.parametrize("trust", [TRUST, TrustRoots(amd=True), TrustRoots(amd=False, mock_ark_sha256=MOCK)])
def test_trust_round_trip(trust: TrustRoots, tmp_path: Path) -> None:
    """What is written is read back as the same roots, from disk too."""
    path = tmp_path / "trust.toml"
    path.write_text(trust.toml())
    assert TrustRoots.load(path) == trust


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('format = "sealgate-trust-v1"', "trust-missing-key"),
        ("amd = true", "trust-missing-key"),
        ('format = "sealgate-trust-v2"\namd = true', "trust-value"),
        ('format = "sealgate-trust-v1"\namd = 1', "trust-value"),
        ('format = "sealgate-trust-v1"\namd = "true"', "trust-value"),
        ('format = "sealgate-trust-v1"\namd = false', "trust-empty"),
        ('format = "sealgate-trust-v1"\namd = true\nmok = true', "trust-unknown-key"),
        ('format = "sealgate-trust-v1"\namd = true\nmock = "x"', "trust-value"),
        ('format = "sealgate-trust-v1"\namd = true\n[mock]', "trust-missing-key"),
        (f'format = "sealgate-trust-v1"\namd = true\n[mock]\nark_sha256 = "{MOCK.upper()}"', "trust-value"),
        (
            f'format = "sealgate-trust-v1"\namd = true\n[mock]\nark_sha256 = "{MOCK}"\nx = 1',
            "trust-unknown-key",
        ),
        (TRUST.toml() + TRUST.toml(), "trust-not-toml"),
        ("format = ", "trust-not-toml"),
        ("x = " + "[" * 50_000, "trust-not-toml"),
        ("#" * (MAX_TRUST_BYTES + 1), "trust-too-large"),
    ],
)
def test_trust_refuses(text: str, code: str) -> None:
    """A misspelt word in a trust file is an error, never a rule that silently does not apply."""
    with pytest.raises(Malformed) as refusal:
        TrustRoots.parse(text.encode())
    assert refusal.value.code == code


def test_trust_is_utf8() -> None:
    """Another encoding is refused, not guessed."""
    with pytest.raises(Malformed, match="trust-not-toml"):
        TrustRoots.parse(b"\xff")


def test_trust_cannot_be_built_wrong() -> None:
    """Code that builds roots meets the same rules as a file."""
    with pytest.raises(Malformed, match="trust-value"):
        TrustRoots(amd=True, mock_ark_sha256="ab")
    with pytest.raises(Malformed, match="trust-empty"):
        TrustRoots(amd=False)


def test_reference_round_trip(tmp_path: Path) -> None:
    """What is written is read back as the same values with the same digest, from disk too."""
    path = tmp_path / "reference.toml"
    path.write_text(TEXT)
    assert ReferenceValues.load(path) == REFERENCE
    assert ReferenceValues.load(path).digest == REFERENCE.digest
    narrow = replace(
        REFERENCE,
        vendors=frozenset({"amd"}),
        mock_ark_sha256=None,
        snp=replace(REFERENCE.snp, signing_keys=frozenset({"vcek"}), csp_ids=frozenset()),
        runtime=replace(REFERENCE.runtime, roles=frozenset({"serve"}), contract_digests=frozenset()),
    )
    assert ReferenceValues.parse(narrow.toml().encode()) == narrow


def test_digest_is_of_the_values_not_of_the_text() -> None:
    """Comments, order and zone do not change the policy's name; any value does."""
    commented = "# by hand\n" + TEXT.replace(
        '["eu-central-1", "local"]', '["local", "eu-central-1"]'
    ).replace("2027-01-01T00:00:00+00:00", "2027-01-01T02:00:00+02:00")
    assert commented != "# by hand\n" + TEXT
    assert ReferenceValues.parse(commented.encode()).digest == REFERENCE.digest


CHANGES = [
    ('name = "production EU"', 'name = "production US"'),
    ("2027-01-01", "2027-01-02"),
    ("max_evidence_age_seconds = 1800", "max_evidence_age_seconds = 1801"),
    (MOCK, "cd" * 32),
    ("vmpls = [0, 1]", "vmpls = [0]"),
    ("00" * 48, "01" * 48),
    ("require_revocation_list = false", "require_revocation_list = true"),
    ("min_guest_svn = 3", "min_guest_svn = 4"),
    ("fmc = 5", "fmc = 6"),
    ("microcode = 4", "microcode = 5"),
    ("amazonaws", "amazonawz"),
    ('"local"', '"lokal"'),
    ("registry.example", "registry.example2"),
    (sha256_digest(b"one"), sha256_digest(b"three")),
    ("gpus = 0", "gpus = 1"),
]


@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_every_value_counts(old: str, new: str) -> None:
    """Each value is read, and is part of the digest."""
    assert old in TEXT
    changed = ReferenceValues.parse(TEXT.replace(old, new, 1).encode())
    assert changed != REFERENCE
    assert changed.digest != REFERENCE.digest


@pytest.mark.parametrize("line", [line for line in TEXT.splitlines() if line])
def test_every_line_is_needed(line: str) -> None:
    """Leaving out a line is an error: nothing is accepted by omission."""
    with pytest.raises(Malformed):
        ReferenceValues.parse(TEXT.replace(line + "\n", "", 1).encode())


@pytest.mark.parametrize("line", [line for line in TEXT.splitlines() if " = " in line])
def test_every_key_is_known(line: str) -> None:
    """A misspelt key beside the right one is an error."""
    key = line.split(" = ", maxsplit=1)[0]
    with pytest.raises(Malformed) as refusal:
        ReferenceValues.parse(TEXT.replace(line, f"{line}\n{key}s2 = 1", 1).encode())
    assert refusal.value.code == "reference-unknown-key"
    assert f"{key}s2" in refusal.value.reason


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ('vendors = ["amd", "mock"]', "vendors = []", "reference-value"),
        ('vendors = ["amd", "mock"]', 'vendors = ["amd"]', "reference-value"),
        ('vendors = ["amd", "mock"]', 'vendors = ["amd", "mock", "intel"]', "reference-value"),
        ('vendors = ["amd", "mock"]', 'vendors = ["amd", "amd"]', "reference-value"),
        ('vendors = ["amd", "mock"]', 'vendors = "amd"', "reference-value"),
        ("vmpls = [0, 1]", "vmpls = [4]", "reference-value"),
        ("vmpls = [0, 1]", "vmpls = [true]", "reference-value"),
        ("vmpls = [0, 1]", "vmpls = []", "reference-value"),
        ("00" * 48, "00" * 47, "reference-value"),
        ("00" * 48, "AB" * 48, "reference-value"),
        ("min_guest_svn = 3", "min_guest_svn = -1", "reference-value"),
        ("min_guest_svn = 3", "min_guest_svn = 3.0", "reference-value"),
        ("min_guest_svn = 3", "min_guest_svn = true", "reference-value"),
        ("microcode = 4", "microcode = 256", "reference-value"),
        ('products = ["Genoa", "Turin"]', 'products = ["Genoa"]', "reference-unknown-key"),
        ("[snp.min_tcb.Genoa]", "[snp.min_tcb.Milan]", "reference-missing-key"),
        ('signing_keys = ["vcek", "vlek"]', 'signing_keys = ["vcek"]', "reference-value"),
        ('csp_ids = ["CN=cc-us-east-2.amazonaws.com"]\n', "", "reference-value"),
        ('roles = ["serve", "tune"]', 'roles = ["serve"]', "reference-value"),
        ("max_evidence_age_seconds = 1800", "max_evidence_age_seconds = 0", "reference-value"),
        ("max_evidence_age_seconds = 1800", "max_evidence_age_seconds = 86401", "reference-value"),
        ("2027-01-01T00:00:00+00:00", "2027-01-01T00:00:00", "reference-value"),
        ("2027-01-01T00:00:00+00:00", "2027-01-01", "reference-value"),
        ("2027-01-01T00:00:00+00:00", "2027-02-30T00:00:00Z", "reference-not-toml"),
        ("production EU", "production\\u0007EU", "reference-value"),
        ("sealgate-reference-v1", "sealgate-reference-v2", "reference-value"),
        ("[runtime]", "[runtimes]", "reference-missing-key"),
        ("gpus = 0", "gpus = nan", "reference-value"),
        (sha256_digest(b"one"), sha256_digest(b"one").upper(), "reference-value"),
    ],
)
def test_reference_refuses(old: str, new: str, code: str) -> None:
    """Each value is of its form, and the values agree with each other."""
    assert old in TEXT
    with pytest.raises(Malformed) as refusal:
        ReferenceValues.parse(TEXT.replace(old, new, 1).encode())
    assert refusal.value.code == code


def test_reference_size_is_bounded() -> None:
    """One byte too many is refused before parsing."""
    with pytest.raises(Malformed, match="reference-too-large"):
        ReferenceValues.parse(b"#" * (MAX_REFERENCE_BYTES + 1))


def test_long_lists_are_refused() -> None:
    """A list longer than anybody maintains is a mistake."""
    measurements = ", ".join(f'"{number:096x}"' for number in range(1025))
    text = TEXT.replace(f'"{"00" * 48}", "{"ff" * 48}"', measurements)
    assert text != TEXT
    with pytest.raises(Malformed, match="reference-value"):
        ReferenceValues.parse(text.encode())


@pytest.mark.parametrize("name", ["products", "signing_keys", "vmpls", "measurements"])
def test_snp_lists_cannot_be_empty(name: str) -> None:
    """Code that builds values meets the same rules as a file: empty accepts nothing, and says so at once."""
    with pytest.raises(Malformed, match="reference-empty"):
        replace(REFERENCE.snp, **{name: frozenset()})


@pytest.mark.parametrize(
    "name", ["roles", "regions", "images", "policy_digests", "base_model_digests", "tokenizer_digests"]
)
def test_runtime_lists_cannot_be_empty(name: str) -> None:
    """As above, for the statement's values."""
    with pytest.raises(Malformed, match="reference-empty"):
        replace(REFERENCE.runtime, **{name: frozenset()})


def test_reference_cannot_be_built_wrong() -> None:
    """As above, for the rest."""
    with pytest.raises(Malformed, match="reference-empty"):
        replace(REFERENCE, vendors=frozenset())
    with pytest.raises(Malformed, match="max_evidence_age"):
        replace(REFERENCE, max_evidence_age=timedelta(days=1, seconds=1))
    with pytest.raises(Malformed, match="max_evidence_age"):
        replace(REFERENCE, max_evidence_age=timedelta(0))
    with pytest.raises(Malformed, match="not_after"):
        replace(REFERENCE, not_after=datetime(2027, 1, 1))  # noqa: DTZ001 - the point of the test
    with pytest.raises(Malformed, match="disagree"):
        replace(REFERENCE, mock_ark_sha256=None)


@given(st.text(max_size=60), st.integers(0, len(TEXT)))
@settings(max_examples=150)
def test_fuzz(text: str, place: int) -> None:
    """Only refusals leave the two readers."""
    for parse in (ReferenceValues.parse, TrustRoots.parse):
        for document in (text, TEXT[:place] + text, TEXT[:place] + text + TEXT[place:]):
            try:
                parse(document.encode("utf-8", "surrogatepass"))
            except Refused:
                continue
