"""``sealgate verify`` on raw files: genuine evidence of each kind at its time, and what is refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import pytest

from attest.evidence.bundle import Bundle
from attest.evidence.certificate_table import ARK, ASK, VCEK
from attest.evidence.cpu import SnpEvidence
from attest.mock.machine import MockBoard
from attest.mock.nvidia_board import devices_of
from attest.mock.vendor import MockVendor
from attest.reference import ReferenceValues
from gateway.cli.verify.raw_options import RawFiles
from tests.gateway.cli.conftest import Ran
from tests.simulators.mock_peer import MockPeer
from tests.simulators.verify_cases import CASES, SUMMER, VerifyCase, certificate_table

Command = Callable[..., Ran]
TRANSCRIPTS = (Path(__file__).parents[3] / "docs/reference/verify-transcripts.md").read_text()
GENUINE = {case.title: case for case in CASES}
QUOTE = GENUINE["TDX quote with its event log"]
GPU = GENUINE["NVIDIA GPU"]
AZURE = GENUINE["Azure confidential VM"]
MAA = GENUINE["Azure Attestation token"]
FACTS = {
    "SEV-SNP report, Turin": ("debugging", "not allowed"),
    "SEV-SNP report signed by a provider's key, with its chain": ("signing key", "VLEK"),
    "SEV-SNP report with the host's certificate table": ("product", "Genoa"),
    "TDX quote with its event log": ("platform status", "UpToDate"),
    "NVIDIA GPU": ("device 0", "nvidia GH100, driver 550.90.07, VBIOS 96.00.9F.00.01, mode unsaid"),
    "NVIDIA attestation service": ("GPU-0", "GH100, driver 595.71.05, VBIOS 96.00.D9.00.02"),
    "Azure Attestation token": ("kind", "azurevm"),
    "Azure confidential VM": ("VM", "390CBCF5-6C67-4D9B-98EF-C3F1699CC8FC"),
    "Azure confidential VM on TDX, out of date": ("platform status", "OutOfDate"),
}


@pytest.fixture
def on_case(
    sealgate: Command, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Ran]:
    """Run ``sealgate verify`` on a case, with more options behind its own."""
    monkeypatch.setenv("COLUMNS", "100")

    def run(case: VerifyCase, *more: str) -> Ran:
        return sealgate("verify", *case.arguments(shared / "vectors", tmp_path), *more)

    return run


@pytest.mark.parametrize("case", [case for case in CASES if not case.code], ids=str)
def test_genuine_evidence_of_each_kind(on_case: Callable[..., Ran], case: VerifyCase) -> None:
    """Genuine, said to be no more than that, and until when."""
    ran = on_case(case, "--json")
    assert ran.code == 0
    document = ran.document
    assert (document["ok"], document["appraised"], document["mock"]) == (True, False, False)
    name, value = FACTS[case.title]
    assert document["facts"][name] == value
    assert {row["outcome"] for row in document["checks"]} <= {"passed", "noted"}
    assert all(row["part"] for row in document["checks"])
    ends = [datetime.fromisoformat(row["expires"]) for row in document["checks"] if row["expires"]]
    assert datetime.fromisoformat(document["ends_first"]["expires"]) == min(ends)


def test_a_guest_that_its_host_can_read_is_genuine_and_says_so(sealgate: Command, shared: Path) -> None:
    """Nobody asked whether it is acceptable, but whoever reads the result must not miss it."""
    folder = shared / "vectors" / "sev-snp" / "milan-v2-debug"
    files = ["--snp", str(folder / "report.bin"), "--vcek", str(folder / "vcek.der"), "--at", SUMMER]
    facts = sealgate("verify", *files, "--json").document["facts"]
    assert facts["debugging"] == "allowed: its host can read the guest"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_people_read(on_case: Callable[..., Ran], case: VerifyCase) -> None:
    """In 100 columns: the parts, the verdict, and of a refusal its code; as the reference shows it."""
    ran = on_case(case)
    assert ran.code == case.exit_code
    assert max(map(len, ran.out.splitlines())) <= 100
    assert ("not appraised" in ran.out) is (not case.code)
    assert (f"refused: {case.code}" in ran.out) is bool(case.code)
    assert ("ends first" in ran.out) is (not case.code)
    shown = "\n".join(line.rstrip() for line in ran.out.splitlines())
    assert f"## {case.title}\n" in TRANSCRIPTS
    assert f"\n{shown}\n```\n\nExit code {ran.code}.\n" in TRANSCRIPTS


@pytest.mark.parametrize("case", [case for case in CASES if case.code], ids=str)
def test_what_is_refused(on_case: Callable[..., Ran], case: VerifyCase) -> None:
    """With the documented exit code, the failing row last and alone, and the refusal in the document."""
    ran = on_case(case, "--json")
    assert ran.code == case.exit_code
    document = ran.document
    assert document["ok"] is False
    assert document["refusal"]["code"] == case.code
    assert [row["outcome"] for row in document["checks"]].index("refused") == len(document["checks"]) - 1


@pytest.mark.parametrize(
    ("case", "more", "code"),
    [
        (GENUINE["SEV-SNP report, Turin"], ["--at", "2025-06-01T00:00:00Z"], "certificate-not-yet-valid"),
        (GPU, ["--nonce", "00" * 32], "gpu-nonce"),
        (AZURE, ["--pcr", f"4={'00' * 32}"], "azure-pcr"),
        (AZURE, ["--at", "2032-06-01T00:00:00Z"], "certificate-expired"),
        (GENUINE["NVIDIA attestation service"], ["--nonce", "00" * 32], "nras-nonce"),
        (MAA, ["--nonce", "00"], "maa-nonce"),
        (MAA, ["--issuer", "https://other.weu.attest.azure.net"], "maa-issuer"),
        (MAA, ["--issuer", "https://example.org"], "maa-policy"),
    ],
)
def test_one_thing_otherwise(
    on_case: Callable[..., Ran], case: VerifyCase, more: list[str], code: str
) -> None:
    """A later option replaces an earlier one: the same evidence, asked for something else."""
    assert on_case(case, *more, "--json").document["refusal"]["code"] == code


def test_explained_every_rule_is_named(on_case: Callable[..., Ran]) -> None:
    """``--explain`` shows what the tree leaves out: clauses, what was expected, and digests uncut."""
    document = on_case(GPU, "--json").document
    explained = "".join(on_case(GPU, "--explain").out.split())
    for row in document["checks"]:
        for member in ("clause", "expected", "got"):
            assert "".join(row[member].split()) in explained
    assert "ARK, ASK and leaf signed in turn" not in on_case(GENUINE["SEV-SNP report, Turin"]).out


@pytest.fixture(scope="module")
def peer(vendor: MockVendor) -> MockPeer:
    return MockPeer(vendor)


def test_a_mock_counts_only_where_the_trust_file_names_it(
    sealgate: Command, peer: MockPeer, tmp_path: Path
) -> None:
    """Its root comes in the host's table; without a trust file no root but AMD's own is looked at."""
    cpu = Bundle.parse(peer.world.answer("5a" * 32)).cpu
    assert isinstance(cpu, SnpEvidence)
    given = cpu.collateral
    assert given.leaf is not None
    assert given.intermediate is not None
    assert given.ark is not None
    report, table, trust = tmp_path / "report.bin", tmp_path / "table.bin", tmp_path / "trust.toml"
    report.write_bytes(cpu.report)
    table.write_bytes(certificate_table({VCEK: given.leaf, ASK: given.intermediate, ARK: given.ark}))
    trust.write_text(peer.trust.toml())
    command = ["verify", "--snp", str(report), "--cert-table", str(table), "--json"]
    ran = sealgate(*command, "--trust", str(trust))
    assert (ran.code, ran.document["facts"]["vendor"]) == (0, "mock")
    assert ran.document["mock"] is True
    assert " MOCK " in sealgate(*command[:-1], "--trust", str(trust)).out
    assert sealgate(*command).code == 10


@dataclass(frozen=True)
class SavedBoard:
    """Eight GPUs and four switches as NVIDIA's tools save them: a file of each kind, and golden values."""

    gpus: Path
    switches: Path
    rest: tuple[str, ...]


@pytest.fixture(scope="module")
def board(peer: MockPeer, tmp_path_factory: pytest.TempPathFactory) -> SavedBoard:
    folder = tmp_path_factory.mktemp("board")
    own = peer.world.machine.board
    assert own is not None
    machine = replace(peer.world.machine, board=MockBoard(own.vendor, devices_of(8)))
    bundle = Bundle.parse(replace(peer.world, machine=machine).answer("5a" * 32))
    assert bundle.nvidia is not None
    for kind in ("nvidia-gpu", "nvidia-switch"):
        devices = [
            {
                "arch": device.evidence.arch,
                "certificate": base64.b64encode(device.evidence.certificate_chain).decode(),
                "evidence": base64.b64encode(device.evidence.report).decode(),
                "nonce": "",
            }
            for device in bundle.devices
            if device.kind == kind
        ]
        (folder / f"{kind}.json").write_text(json.dumps(devices))
    rest = ["--trust", str(folder / "trust.toml")]
    (folder / "trust.toml").write_text(peer.trust.toml())
    for number, rim in enumerate(bundle.nvidia.rims.values()):
        (folder / f"{number}.xml").write_bytes(rim)
        rest += ["--rim", str(folder / f"{number}.xml")]
    return SavedBoard(folder / "nvidia-gpu.json", folder / "nvidia-switch.json", tuple(rest))


def test_a_board_is_one_set_with_its_switches(sealgate: Command, board: SavedBoard) -> None:
    """``--nvidia`` for the GPUs and for the switches; half of a board is refused, and a device twice."""
    gpus, switches = ["--nvidia", str(board.gpus)], ["--nvidia", str(board.switches)]
    ran = sealgate("verify", *gpus, *switches, *board.rest, "--json")
    assert ran.code == 0
    assert list(ran.document["facts"]) == [f"device {number}" for number in range(12)]
    assert ran.document["checks"][-1]["got"] == "12 devices"
    for wrong in ([*gpus], [*switches], [*gpus, *gpus, *switches]):
        ran = sealgate("verify", *wrong, *board.rest, "--json")
        assert (ran.code, ran.document["checks"][-1]["part"]) == (10, ["devices"])


@pytest.mark.parametrize(
    ("text", "exit_code"),
    [
        ("{}", 30),
        ("[]", 30),
        ("[1]", 30),
        (json.dumps([{"arch": "HOPPER", "certificate": "", "evidence": "%"}]), 30),
        (json.dumps([{"arch": "AMPERE", "certificate": "", "evidence": ""}]), 20),
        (json.dumps([{"arch": "AMPERE", "certificate": "", "evidence": ""}] * 65), 30),  # before any is read
    ],
)
def test_what_is_no_list_of_devices(
    sealgate: Command, board: SavedBoard, tmp_path: Path, text: str, exit_code: int
) -> None:
    """Nothing in such a file is taken for a device."""
    path = tmp_path / "evidence.json"
    path.write_text(text)
    ran = sealgate("verify", "--nvidia", str(path), *board.rest, "--json")
    assert ran.code == exit_code
    assert ran.document["refusal"]["code"] == ("gpu-arch" if exit_code == 20 else "gpu-evidence-form")


def test_one_chain_is_about_one_report(sealgate: Command, board: SavedBoard) -> None:
    """With ``--gpu-chain`` the evidence is one binary report."""
    both = ["--nvidia", str(board.gpus), "--nvidia", str(board.switches), "--gpu-chain", str(board.gpus)]
    assert sealgate("verify", *both, *board.rest, "--json").document["refusal"]["code"] == "gpu-evidence-form"


def test_reference_values_appraise_raw_evidence(on_case: Callable[..., Ran], tmp_path: Path) -> None:
    """``--policy`` holds a quote against its table, and says of another kind that it accepts none."""
    from tests.attest.test_trust_and_reference import REFERENCE  # noqa: PLC0415 - a whole reference file

    policy = tmp_path / "reference.toml"
    policy.write_text(REFERENCE.toml())
    ran = on_case(QUOTE, "--policy", str(policy), "--json")
    assert (ran.code, ran.document["refusal"]["code"]) == (10, "tdx-mrtd-not-accepted")
    assert ran.document["checks"][-1]["part"] == ["appraisal"]
    ran = on_case(AZURE, "--policy", str(policy), "--json")
    assert (ran.code, ran.document["checks"][-1]["part"]) == (10, ["appraisal"])
    narrow = replace(ReferenceValues.parse(REFERENCE.toml().encode()), gpu=None, quorum=None)
    policy.write_text(narrow.toml())
    ran = on_case(GPU, "--policy", str(policy), "--json")
    assert (ran.code, ran.document["refusal"]["code"]) == (10, "tee-not-accepted")
    for case in (
        MAA,
        GENUINE["NVIDIA attestation service"],
    ):  # which no table judges: not said to be accepted
        assert on_case(case, "--policy", str(policy)).code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--snp", "a", "--tdx", "b"],
        ["--snp", "a"],
        ["--snp", "a", "--crl", "b"],
        ["--tdx", "a"],
        ["--nvidia", "a"],
        ["--nras", "a"],
        ["--maa", "a", "--jwks", "b"],
        ["--azure", "a"],
        ["--azure", "a", "--snp", "b"],
        ["--vcek", "a"],
        ["--pcr", "7=00"],
        ["bundle.json", "--snp", "a", "--vcek", "b"],
        ["--snp", "a", "--vcek", "b", "--save", "c"],
        ["--snp", "a", "--vcek", "b", "--ear", "c"],
        ["--snp", "a", "--vcek", "b", "--ear-key", "c"],
        ["bundle.json", "--ear-key", "c"],
        ["--snp", "a", "--vcek", "b", "--at", "yesterday"],
    ],
)
def test_options_that_do_not_fit(sealgate: Command, arguments: list[str]) -> None:
    """Usage, exit code 2: nothing was judged."""
    assert sealgate("verify", *arguments).code == 2


@pytest.mark.parametrize("more", [["--nonce", "0"], ["--nonce", "xy"], ["--nonce", "00" * 65]])
def test_a_nonce_that_is_none(on_case: Callable[..., Ran], more: list[str]) -> None:
    """Hexadecimal bytes, no more of them than a vTPM's quote carries."""
    assert on_case(AZURE, *more).code == 2


@pytest.mark.parametrize("value", ["7", "7=00", f"24={'00' * 32}", f"7={'zz' * 32}"])
def test_an_accepted_value_that_is_none(on_case: Callable[..., Ran], value: str) -> None:
    """An index of a PCR and a SHA-256 value."""
    assert on_case(AZURE, "--pcr", value).code == 2


@pytest.mark.parametrize(("size", "code"), [(767, "tpm-pcrs-truncated"), (769, "tpm-pcrs-trailing-bytes")])
def test_pcrs_of_another_number(on_case: Callable[..., Ran], tmp_path: Path, size: int, code: str) -> None:
    """24 values of 32 bytes, and nothing before or behind them."""
    pcrs = tmp_path / "other.bin"
    pcrs.write_bytes(bytes(size))
    ran = on_case(AZURE, "--tpm-pcrs", str(pcrs), "--json")
    assert (ran.code, ran.document["refusal"]["code"]) == (30, code)


def test_azure_on_tdx_needs_the_quotes_collateral(on_case: Callable[..., Ran], tmp_path: Path) -> None:
    """A quote beside the paravisor's report is judged like any other."""
    assert on_case(AZURE, "--tdx", str(tmp_path / "azure/quote.msg")).code == 2


def test_a_file_that_is_not_there(sealgate: Command) -> None:
    """Our fault or the operator's, and no verdict."""
    assert sealgate("verify", "--snp", "/nowhere", "--vcek", "/nowhere", "--at", SUMMER).code == 1


def test_every_kind_has_a_genuine_case() -> None:
    """The facts above are about every case that verifies, and the cases about every kind."""
    assert set(FACTS) == {case.title for case in CASES if not case.code}
    kinds = {case.options.split()[0].removeprefix("--") for case in CASES}
    assert kinds == {"snp", "tdx", "nvidia", "nras", "maa", "azure"}
    assert RawFiles().kind is None
