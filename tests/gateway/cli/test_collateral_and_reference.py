"""``sealgate collateral`` and ``sealgate reference``, as a person types them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from attest.accepted.quorum import QuorumReference
from attest.collateral.cache import Cache
from attest.collateral.complete import complete
from attest.collateral.fetch import FetchSettings
from attest.collateral.source import Offline
from attest.evidence.bundle import Bundle
from attest.evidence.tdx_evidence import TdxEvidence
from attest.mock.installation import installed_machine
from attest.mock.vendor import MockVendor
from attest.reference import ReferenceValues
from attest.trust import TrustRoots
from gateway.settings import Settings
from gateway.trust.collateral import fetch_settings
from tests.gateway.cli.conftest import Ran
from tests.gateway.trust.test_pool import Clock
from tests.simulators.collateral_services import Answer, CollateralServices, recorded_pcs
from tests.simulators.genuine_tdx import JOINT, joint_quote, pck_issuer_chain
from tests.simulators.mock_peer import MockPeer

NONCE = "ab" * 32


Sealgate = Callable[..., Ran]


@pytest.fixture(scope="module")
def peer(vendor: MockVendor) -> MockPeer:
    """An honest runtime."""
    return MockPeer(vendor)


@pytest.fixture
def bundle(peer: MockPeer, tmp_path: Path) -> Path:
    """A saved bundle of a SEV-SNP machine with one GPU."""
    path = tmp_path / "bundle.json"
    path.write_bytes(peer.world.answer(NONCE))
    return path


@pytest.fixture
def trust(peer: MockPeer, tmp_path: Path) -> Path:
    """The trust file for it."""
    path = tmp_path / "trust.toml"
    path.write_text(peer.trust.toml())
    return path


def test_a_cache_goes_over_the_gap(sealgate: Sealgate, home: Path, tmp_path: Path) -> None:
    """Exported here, imported there, listed in both places alike."""
    now = Clock()()
    Cache(home / "collateral").write("amd/vcek/v1/Genoa/crl", b"list", now)
    archive = tmp_path / "archive.json"
    assert sealgate("collateral", "export", str(archive)).code == 0
    ran = sealgate("collateral", "list", "--json")
    assert ran.code == 0
    before = ran.document
    assert [entry["key"] for entry in before["entries"]] == ["amd/vcek/v1/Genoa/crl"]
    there = tmp_path / "there"
    ran = sealgate("--home", str(there), "collateral", "import", str(archive))
    assert ran.code == 0
    assert Cache(there / "collateral").read("amd/vcek/v1/Genoa/crl") == b"list"
    ran = sealgate("--home", str(there), "collateral", "list", "--json")
    assert ran.document == before


def test_a_damaged_archive(sealgate: Sealgate, tmp_path: Path) -> None:
    """Malformed, exit code 30."""
    archive = tmp_path / "archive.json"
    archive.write_bytes(b"[]")
    assert sealgate("collateral", "import", str(archive)).code == 30


def test_a_mock_needs_no_collateral(sealgate: Sealgate, bundle: Path, home: Path) -> None:
    """It brings everything: nobody is asked, and nothing is kept."""
    ran = sealgate("collateral", "pull", str(bundle), "--json")
    assert (ran.code, ran.document) == (0, {"entries": []})
    assert not (home / "collateral").exists()


@pytest.fixture
def services(shared: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CollateralServices]:
    """Intel's, as it answered on the day of the joint evidence, and token services' keys, on loopback."""
    quote = joint_quote(shared / "vectors" / "joint")
    folder = shared / "vectors" / "joint" / JOINT
    services = CollateralServices(recorded_pcs(folder, pck_issuer_chain(quote), "90C06F000000"))
    services.answers["/.well-known/jwks.json"] = services.answers["/certs"] = Answer(b'{"keys":[]}')
    with services.running() as addresses:

        def on_loopback(settings: Settings, reference: ReferenceValues | None) -> FetchSettings:
            return replace(fetch_settings(settings, reference), addresses=addresses)

        monkeypatch.setattr("gateway.cli.collateral.fetch_settings", on_loopback)
        yield services


@pytest.fixture
def quoted(shared: Path, tmp_path: Path) -> Path:
    """A saved bundle of a genuine quote without documents."""
    path = tmp_path / "quoted.json"
    quote = joint_quote(shared / "vectors" / "joint")
    path.write_bytes(Bundle(b"{}", b"{}", TdxEvidence(quote)).serialise())
    return path


def test_pull_says_what_from_where_until_when(
    sealgate: Sealgate, services: CollateralServices, quoted: Path, home: Path
) -> None:
    """And nothing else that is in the cache; asked for too where the evidence brought its own."""
    Cache(home / "collateral").write("another", b"x", Clock()())
    ran = sealgate("collateral", "pull", str(quoted), "--json")
    assert ran.code == 0
    entries = {entry["key"]: entry for entry in ran.document["entries"]}
    assert set(entries) == {
        "intel/tdx/certification/v4/tcb?fmspc=90C06F000000",
        "intel/tdx/certification/v4/qe/identity",
        "intel/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
        "intel/IntelSGXRootCA.der",
    }
    assert all(entry["source"].startswith("127.0.0.1:") for entry in entries.values())
    assert all(entry["not_after"].startswith("202") for entry in entries.values())
    assert len(services.asked) == 4
    cache = Cache(home / "collateral")
    full = complete(Bundle.parse(quoted.read_bytes()), Offline(cache), Clock()())
    assert "another" not in sealgate("collateral", "pull", str(quoted)).out
    shutil.rmtree(home / "collateral")
    quoted.write_bytes(full.serialise())
    ran = sealgate("collateral", "pull", str(quoted), "--json")
    assert {entry["key"] for entry in ran.document["entries"]} == set(entries), "though it brought its own"
    ran = sealgate("collateral", "list")
    assert "2026-" in ran.out
    assert "127.0.0.1:" in ran.out


@pytest.mark.parametrize(
    ("fault", "code", "exit_code"),
    [
        (Answer(status=404), "collateral-status", 10),
        (Answer(status=500), "collateral-status", 10),
        (Answer(b"<html>log in</html>"), "tdx-pcs-answer", 30),
        (Answer(status=302, headers={"location": "https://evil.example/"}), "collateral-redirect", 10),
    ],
)
def test_a_failed_pull_is_a_refusal(
    *,
    sealgate: Sealgate,
    services: CollateralServices,
    quoted: Path,
    home: Path,
    fault: Answer,
    code: str,
    exit_code: int,
) -> None:
    """With the code of what happened, and nothing kept of the answer."""
    services.faults = [fault]
    ran = sealgate("collateral", "pull", str(quoted), "--json")
    assert ran.code == exit_code
    assert code in ran.out + ran.err
    assert list(Cache(home / "collateral").entries()) == []


def test_pull_fetches_the_keys_that_a_quorum_takes(
    sealgate: Sealgate, services: CollateralServices, bundle: Path, peer: MockPeer, home: Path
) -> None:
    """So that tokens too can be judged behind an air gap."""
    quorum = QuorumReference(
        services=frozenset({"nras", "maa"}),
        maa_issuer="https://sharedweu.weu.attest.azure.net",
        maa_policy_hashes=frozenset({"A" * 43}),
    )
    home.mkdir(exist_ok=True)
    (home / "reference.toml").write_text(replace(peer.reference, quorum=quorum).toml())
    ran = sealgate("collateral", "pull", str(bundle), "--json")
    assert ran.code == 0, ran.err
    assert {entry["key"] for entry in ran.document["entries"]} == {
        "nras/.well-known/jwks.json",
        "maa/sharedweu.weu.attest.azure.net/certs",
    }


def test_a_draft_that_accepts_its_evidence(
    sealgate: Sealgate, bundle: Path, trust: Path, tmp_path: Path
) -> None:
    """Drafted from a saved bundle, then the same bundle is verified with it."""
    values = tmp_path / "reference.toml"
    ran = sealgate("reference", "init", "--from", str(bundle), "--trust", str(trust), "--out", str(values))
    assert ran.code == 0
    drafted = ReferenceValues.load(values)
    assert drafted.gpu is not None
    assert drafted.gpu.count == 1
    arguments = ["verify", str(bundle), "--trust", str(trust), "--reference", str(values), "--nonce", NONCE]
    ran = sealgate(*arguments, "--json")
    assert (ran.code, ran.document["ok"]) == (0, True)
    ran = sealgate("reference", "init", "--from", str(bundle), "--trust", str(trust), "--out", str(values))
    assert ran.code == 1, "a file that is there is never written over"


def test_a_draft_on_standard_output(sealgate: Sealgate, bundle: Path, trust: Path) -> None:
    """To be read, or piped."""
    ran = sealgate("reference", "init", "--from", str(bundle), "--trust", str(trust), "--days", "3")
    assert ran.code == 0
    assert ReferenceValues.parse(ran.out.encode()).name == "drafted values"


def test_no_draft_from_evidence_that_is_not_genuine(
    sealgate: Sealgate, bundle: Path, tmp_path: Path, home: Path
) -> None:
    """Under another vendor's root."""
    other = tmp_path / "other.toml"
    machine = installed_machine(home)
    other.write_text(TrustRoots(amd=False, intel=False, nvidia=False, mock=machine.roots()).toml())
    assert sealgate("reference", "init", "--from", str(bundle), "--trust", str(other)).code == 10


def test_release_policies_there_and_back(
    sealgate: Sealgate, bundle: Path, trust: Path, tmp_path: Path
) -> None:
    """From drafted values to a policy, and the policy's own words back."""
    values, policy = tmp_path / "reference.toml", tmp_path / "policy.json"
    sealgate("reference", "init", "--from", str(bundle), "--trust", str(trust), "--out", str(values))
    named = ["--issuer", "https://sharedweu.weu.attest.azure.net", "--policy-hash", "A" * 43]
    ran = sealgate("reference", "export-skr", str(policy), "--reference", str(values), *named)
    assert ran.code == 0
    assert "snp.min_tcb" in ran.out, "what the key store does not ask for is said"
    ran = sealgate("reference", "import-skr", str(policy), "--json")
    assert ran.code == 0
    (rule,) = ran.document["rules"]
    snp = ReferenceValues.load(values).snp
    assert snp is not None
    assert rule["measurements"] == sorted(snp.measurements)
    assert rule["values"]["vmpls"] == sorted(snp.vmpls)
    assert "min_tcb" in rule["unsaid"]
    ran = sealgate("reference", "import-skr", str(policy))
    assert "vmpls = [" in ran.out
    assert "# the policy leaves open: snp.products, " in ran.out
    assert sealgate("reference", "export-skr", str(policy), "--reference", str(values)).code == 2
    policy.write_text('{"version":"1.0.0","anyOf":[]}')
    assert sealgate("reference", "import-skr", str(policy)).code == 30
