"""The operator's two files: strict on the way in, faithful on the way out, no default that accepts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest.accepted.azure import AzureReference
from attest.accepted.gpu import GpuReference
from attest.accepted.quorum import QuorumReference
from attest.accepted.runtime import RuntimeReference
from attest.accepted.snp import SnpReference
from attest.accepted.tdx import TdxReference
from attest.digest import sha256_digest
from attest.evidence.snp_tcb import TcbVersion
from attest.reference import MAX_REFERENCE_BYTES, ReferenceValues
from attest.refusal import Malformed, Refused
from attest.trust import HARDWARE_ONLY, MAX_TRUST_BYTES, MockRoots, TrustRoots

MOCK = "ab" * 32
MOCK_ROOTS = MockRoots(
    ark_sha256=MOCK,
    tdx_root_sha256="2a" * 32,
    gpu_device_root_sha256="2b" * 32,
    gpu_rim_root_sha256="2c" * 32,
    nras_jwks_sha256="2d" * 32,
    maa_jwks_sha256="2e" * 32,
)
DIGESTS = frozenset({sha256_digest(b"one"), sha256_digest(b"two")})
REFERENCE = ReferenceValues(
    name="production EU",
    not_after=datetime(2027, 1, 1, tzinfo=UTC),
    max_evidence_age=timedelta(minutes=30),
    vendors=frozenset({"amd", "intel", "mock"}),
    mock=MOCK_ROOTS,
    snp=SnpReference(
        products=frozenset({"Genoa", "Turin"}),
        signing_keys=frozenset({"vcek", "vlek"}),
        csp_ids=frozenset({"CN=cc-us-east-2.amazonaws.com"}),
        vmpls=frozenset({0, 1}),
        measurements=frozenset({"00" * 48, "ff" * 48}),
        host_data=frozenset({"0a" * 32}),
        id_key_digests=frozenset({"0b" * 48}),
        policy_set=frozenset({"aes_256_xts_required"}),
        policy_clear=frozenset({"smt_allowed", "cxl_allowed"}),
        platform_set=frozenset({"alias_check_complete"}),
        platform_clear=frozenset({"smt_enabled"}),
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
    ),
    tdx=TdxReference(
        mrtds=frozenset({"0c" * 48}),
        rtmrs=(
            frozenset({"0d" * 48}),
            frozenset({"0e" * 48}),
            frozenset({"0f" * 48}),
            frozenset({"1a" * 48}),
        ),
        mrseams=frozenset({"1b" * 48}),
        mrconfigids=frozenset({"1c" * 48}),
        mrowners=frozenset({"1d" * 48}),
        mrownerconfigs=frozenset({"1e" * 48}),
        xfams=frozenset({"00000000000618e7"}),
        tcb_statuses=frozenset({"UpToDate", "SWHardeningNeeded"}),
        advisory_ids=frozenset({"INTEL-SA-00615"}),
        min_tcb_evaluation_data_number=17,
        allow_perfmon=True,
        allow_azure_paravisor=True,
        require_event_log=True,
    ),
    azure=AzureReference(
        pcrs={4: frozenset({"04" * 32, "14" * 32}), 11: frozenset({"11" * 32})}, require_secure_boot=True
    ),
    gpu=GpuReference(
        count=8,
        switches=4,
        archs=frozenset({"HOPPER"}),
        modes=frozenset({"ppcie"}),
        min_driver="550.90.07",
        min_vbios=frozenset({"96.00.9F.00.01"}),
        min_switch_bios="96.10.55.00.01",
        ueids=frozenset({"123456789"}),
        require_revocation_answers=True,
        require_fwid=False,
    ),
    quorum=QuorumReference(
        services=frozenset({"nras", "maa"}),
        maa_issuer="https://sharedweu.weu.attest.azure.net",
        maa_policy_hashes=frozenset({"A" * 43}),
    ),
)
TEXT = REFERENCE.toml()
SNP, TDX, GPU, QUORUM = REFERENCE.snp, REFERENCE.tdx, REFERENCE.gpu, REFERENCE.quorum
TRUST = replace(HARDWARE_ONLY, mock=MOCK_ROOTS)
MOCK_ONLY = TrustRoots(amd=False, intel=False, nvidia=False, mock=MOCK_ROOTS)
ROOTS_HEAD = 'format = "sealgate-trust-v1"\nintel = false\nnvidia = false\n'


@pytest.mark.parametrize("trust", [TRUST, HARDWARE_ONLY, MOCK_ONLY])
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
        ('format = "sealgate-trust-v1"\namd = true', "trust-missing-key"),
        ('format = "sealgate-trust-v1"\namd = true\nintel = true', "trust-missing-key"),
        ('format = "sealgate-trust-v2"\namd = true', "trust-value"),
        (ROOTS_HEAD + "amd = 1", "trust-value"),
        (ROOTS_HEAD + 'amd = "true"', "trust-value"),
        (ROOTS_HEAD + "amd = false", "trust-empty"),
        (ROOTS_HEAD + "amd = false\nazure = true", "trust-empty"),
        (ROOTS_HEAD.replace("nvidia = false", "nvidia = true") + "amd = false", "trust-empty"),
        (ROOTS_HEAD + "amd = true\nmok = true", "trust-unknown-key"),
        (ROOTS_HEAD + 'amd = true\nmock = "x"', "trust-value"),
        (ROOTS_HEAD + "amd = true\n[mock]", "trust-empty"),
        (ROOTS_HEAD + f'amd = true\n[mock]\nark_sha256 = "{MOCK.upper()}"', "trust-value"),
        (ROOTS_HEAD + f'amd = true\n[mock]\ngpu_rim_root_sha256 = "{MOCK}"', "trust-value"),
        (ROOTS_HEAD + f'amd = true\n[mock]\ngpu_device_root_sha256 = "{MOCK}"', "trust-value"),
        (ROOTS_HEAD + f'amd = false\n[mock]\nnras_jwks_sha256 = "{MOCK}"', "trust-empty"),
        (ROOTS_HEAD + f'amd = true\n[mock]\nark_sha256 = "{MOCK}"\nx = 1', "trust-unknown-key"),
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
        MockRoots(ark_sha256="ab")
    with pytest.raises(Malformed, match="trust-empty"):
        TrustRoots(amd=False, intel=False, nvidia=True)
    with pytest.raises(Malformed, match="trust-empty"):
        MockRoots()


def test_reference_round_trip(tmp_path: Path) -> None:
    """What is written is read back as the same values with the same digest, from disk too."""
    path = tmp_path / "reference.toml"
    path.write_text(TEXT)
    assert ReferenceValues.load(path) == REFERENCE
    assert ReferenceValues.load(path).digest == REFERENCE.digest
    narrow = replace(
        REFERENCE,
        vendors=frozenset({"amd"}),
        mock=None,
        tdx=None,
        gpu=None,
        quorum=None,
        snp=replace(
            SNP,
            signing_keys=frozenset({"vcek"}),
            csp_ids=frozenset(),
            host_data=frozenset(),
            id_key_digests=frozenset(),
            policy_set=frozenset(),
            policy_clear=frozenset(),
            platform_set=frozenset(),
            platform_clear=frozenset(),
        ),
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
    ("2a" * 32, "3a" * 32),
    ("2d" * 32, "3d" * 32),
    ("0a" * 32, "aa" * 32),
    ("0b" * 48, "bb" * 48),
    ('policy_set = ["aes_256_xts_required"]', 'policy_set = ["page_swap_disabled"]'),
    ('policy_clear = ["cxl_allowed", "smt_allowed"]', 'policy_clear = ["smt_allowed"]'),
    ('platform_set = ["alias_check_complete"]', 'platform_set = ["ecc_enabled"]'),
    ('platform_clear = ["smt_enabled"]', 'platform_clear = ["tio_enabled"]'),
    *((f"{low:02x}" * 48, f"{low ^ 0xF0:02x}" * 48) for low in (*range(0x0C, 0x10), *range(0x1A, 0x1F))),
    ("00000000000618e7", "00000000000618e3"),
    ('"SWHardeningNeeded"', '"OutOfDate"'),
    ("INTEL-SA-00615", "INTEL-SA-00616"),
    ("min_tcb_evaluation_data_number = 17", "min_tcb_evaluation_data_number = 18"),
    ("allow_perfmon = true", "allow_perfmon = false"),
    ("allow_azure_paravisor = true", "allow_azure_paravisor = false"),
    ("require_event_log = true", "require_event_log = false"),
    ("count = 8", "count = 4"),
    ("switches = 4", "switches = 2"),
    ('archs = ["HOPPER"]', 'archs = ["BLACKWELL"]'),
    ('modes = ["ppcie"]', 'modes = ["spt"]'),
    ("550.90.07", "550.90.08"),
    ("14" * 32, "15" * 32),
    ("require_secure_boot = true", "require_secure_boot = false"),
    ("96.00.9F.00.01", "96.00.9F.00.02"),
    ("96.10.55.00.01", "96.10.55.00.02"),
    ("123456789", "987654321"),
    ("require_revocation_answers = true", "require_revocation_answers = false"),
    ("require_fwid = false", "require_fwid = true"),
    ("sharedweu.weu", "sharedneu.neu"),
    ("A" * 43, "B" * 43),
]


@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_every_value_counts(old: str, new: str) -> None:
    """Each value is read, and is part of the digest."""
    assert old in TEXT
    changed = ReferenceValues.parse(TEXT.replace(old, new, 1).encode())
    assert changed != REFERENCE
    assert changed.digest != REFERENCE.digest


ASKS_MORE = (
    *(
        "host_data",
        "id_key_digests",
        "policy_set",
        "policy_clear",
        "platform_",
        "rtmr",
        "mrseams",
        "xfams",
        "advisory_ids",
    ),
    *("ueids", "mrconfigids", "mrowners", "mrownerconfigs", "allow_", "require_event_log"),
    *("nras_", "maa_jwks", "tdx_root", "ark_sha256", "4 = ", "11 = "),
)
"""Lines that may be left out: then less is asked, as documented, or the strict default holds."""


@pytest.mark.parametrize("line", [line for line in TEXT.splitlines() if line])
def test_every_line_is_needed(line: str) -> None:
    """Leaving out a line is an error: nothing is accepted by omission but what is documented so."""
    document = TEXT.replace(line + "\n", "", 1).encode()
    if line.startswith(ASKS_MORE):
        assert ReferenceValues.parse(document).digest != REFERENCE.digest
        return
    with pytest.raises(Malformed):
        ReferenceValues.parse(document)


def test_what_is_left_out_of_tdx_has_the_strict_default() -> None:
    """Unset registers of the host's must be zero, and nothing out of the ordinary is allowed."""
    lines = [line for line in TEXT.splitlines() if not line.startswith(("mrconfig", "mrowner", "allow_"))]
    tdx = ReferenceValues.parse("\n".join(lines).encode()).tdx
    assert tdx is not None
    unset = frozenset({"00" * 48})
    assert (tdx.mrconfigids, tdx.mrowners, tdx.mrownerconfigs) == (unset, unset, unset)
    assert (tdx.allow_perfmon, tdx.allow_azure_paravisor) == (False, False)


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
        ('vendors = ["amd", "intel", "mock"]', "vendors = []", "reference-value"),
        ('vendors = ["amd", "intel", "mock"]', 'vendors = ["amd"]', "reference-value"),
        ('vendors = ["amd", "intel", "mock"]', 'vendors = ["amd", "mock", "arm"]', "reference-value"),
        ('vendors = ["amd", "intel", "mock"]', 'vendors = ["amd", "amd"]', "reference-value"),
        ('vendors = ["amd", "intel", "mock"]', 'vendors = "amd"', "reference-value"),
        ('"alias_check_complete"', '"bit6"', "reference-value"),
        ('"aes_256_xts_required"', '"debug_allowed"', "reference-value"),
        ('"aes_256_xts_required"', '"smt_allowed"', "reference-value"),
        ('"alias_check_complete"', '"smt_enabled"', "reference-value"),
        ('"SWHardeningNeeded"', '"Revoked"', "reference-value"),
        ('["SWHardeningNeeded", "UpToDate"]', '["UpToDate"]', "reference-value"),
        ("INTEL-SA-00615", "INTEL-SA-615", "reference-value"),
        ("count = 8", "count = 0", "reference-value"),
        ("count = 8", "count = 33", "reference-value"),
        ("switches = 4", "switches = 0", "reference-value"),
        ("switches = 4", "switches = 33", "reference-value"),
        ('archs = ["HOPPER"]', 'archs = ["AMPERE"]', "reference-value"),
        ('modes = ["ppcie"]', 'modes = ["off"]', "reference-value"),
        ("550.90.07", "550", "reference-value"),
        ('["96.00.9F.00.01"]', '["96.00.9F.00.01", "96.00.5E.00.01"]', "reference-value"),
        ("96.00.9F.00.01", "96.00.9f.00.01", "reference-value"),
        ('min_switch_bios = "96.10.55.00.01"\n', "", "reference-value"),
        ('services = ["maa", "nras"]', 'services = ["nras"]', "reference-value"),
        ('services = ["maa", "nras"]', 'services = ["other"]', "reference-value"),
        ('maa_issuer = "https://sharedweu.weu.attest.azure.net"\n', "", "reference-value"),
        ("https://sharedweu", "http://sharedweu", "reference-value"),
        ("gpu_rim_root_sha256", "gpu_rim_root", "trust-value"),
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
        ("count = 8", "count = nan", "reference-value"),
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
        replace(SNP, **{name: frozenset()})


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
        replace(REFERENCE, mock=None)


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


AZURE_LINES = [line for line in TEXT.splitlines() if line.startswith(("4 = ", "11 = "))]


def test_a_boot_must_be_named() -> None:
    """Without PCR values any disk would do; and the vTPM stands on SEV-SNP, so its table is needed too."""
    for line in AZURE_LINES:
        assert line in TEXT
    with pytest.raises(Malformed, match=r"azure\.pcrs"):
        ReferenceValues.parse(
            "\n".join(line for line in TEXT.splitlines() if line not in AZURE_LINES).encode()
        )
    with pytest.raises(Malformed, match=r"azure\.pcrs"):
        AzureReference(pcrs={4: frozenset()})
    with pytest.raises(Malformed, match=r"pcrs\.24"):
        ReferenceValues.parse(TEXT.replace("4 = ", "24 = ", 1).encode())
    with pytest.raises(Malformed, match="no table snp"):
        replace(REFERENCE, snp=None, vendors=frozenset({"intel", "mock"}))
