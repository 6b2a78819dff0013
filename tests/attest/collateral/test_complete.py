"""Completing evidence: genuine reports with what the vendors' services said, over real loopback HTTP."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from attest.checks import CheckList
from attest.collateral.cache import Cache
from attest.collateral.complete import complete
from attest.collateral.fetch import Fetcher, FetchSettings
from attest.collateral.nvidia import NvidiaRoots
from attest.collateral.snp import SnpRoots
from attest.collateral.source import Offline, Online
from attest.collateral.tdx import TdxRoots
from attest.evidence.bundle import Bundle
from attest.evidence.cpu import SnpCollateral, SnpEvidence
from attest.evidence.device import DeviceEvidence, NvidiaCollateral
from attest.evidence.pem import read_certificates
from attest.evidence.tdx import TdxQuote
from attest.evidence.tdx_evidence import TdxEvidence
from attest.mock.world import MockWorld
from attest.refusal import Refused
from attest.verify.devices import collateral_of
from attest.verify.nvidia import verify_gpu
from attest.verify.snp import verify_snp
from attest.verify.tdx import verify_tdx
from tests.simulators.collateral_services import Answer, CollateralServices, empty_list, rim_answer
from tests.simulators.collateral_services import recorded_pcs as recorded
from tests.simulators.genuine_nvidia import COMPLETE, OCSP, REPORTS, SUMMER_2025
from tests.simulators.genuine_snp import POSITIVE
from tests.simulators.genuine_tdx import JOINT, JOINT_TIME, joint_quote, pck_issuer_chain
from tests.simulators.mock_runtime import NONCE, NOW

LIST = empty_list()
RIMS = {
    "NV_GPU_DRIVER_GH100_550.90.07": "driver_rim.xml",
    "NV_GPU_VBIOS_1010_0200_882_96009F0001": "vbios_rim.xml",
}


@contextmanager
def asking(services: CollateralServices, folder: Path) -> Iterator[Online]:
    """A source that asks these services."""
    with services.running() as addresses:
        fetcher = Fetcher(FetchSettings(addresses=addresses))
        yield Online(Cache(folder), fetcher)
        fetcher.close()


@pytest.fixture
def joint(shared: Path) -> Path:
    """The folder of the live CPU and GPU evidence."""
    return shared / "vectors" / "joint"


def _bundle(cpu: SnpEvidence | TdxEvidence, *devices: DeviceEvidence) -> Bundle:
    return Bundle(b"{}", b"{}", cpu, devices)


def test_a_quote_gets_its_nine_documents(joint: Path, tmp_path: Path) -> None:
    """As Intel's service answered on the day; then the quote verifies, and offline again from the cache."""
    quote = joint_quote(joint)
    services = CollateralServices(recorded(joint / JOINT, pck_issuer_chain(quote), "90C06F000000"))
    bare = _bundle(TdxEvidence(quote))
    with asking(services, tmp_path) as source:
        cpu = complete(bare, source, JOINT_TIME).cpu
    assert isinstance(cpu, TdxEvidence)
    assert cpu.collateral is not None
    roots = TdxRoots(intel=True)
    verified = verify_tdx(quote, cpu.collateral, roots, now=JOINT_TIME, checks=CheckList())
    assert verified.tcb_status == "UpToDate"
    assert len(services.asked) == 4
    assert complete(bare, Offline(Cache(tmp_path)), JOINT_TIME).cpu == cpu


def test_documents_of_the_cache_are_preferred_as_one_set(joint: Path, tmp_path: Path) -> None:
    """What the host sent gives way to what we fetched, but never a part of it."""
    quote = joint_quote(joint)
    services = CollateralServices(recorded(joint / JOINT, pck_issuer_chain(quote), "90C06F000000"))
    with asking(services, tmp_path) as source:
        cpu = complete(_bundle(TdxEvidence(quote)), source, JOINT_TIME).cpu
    assert isinstance(cpu, TdxEvidence)
    assert cpu.collateral is not None
    sent = replace(cpu, collateral=replace(cpu.collateral, tcb_info="{}"))
    assert complete(_bundle(sent), Offline(Cache(tmp_path)), JOINT_TIME).cpu == cpu
    assert complete(_bundle(sent), Offline(Cache(tmp_path / "empty")), JOINT_TIME).cpu == sent


def test_a_chip_is_looked_up_by_its_report(sev_snp: Path, tmp_path: Path) -> None:
    """A Turin report without its VCEK: asked for by chip and levels, and the report verifies."""
    case = next(each for each in POSITIVE if each.product == "Turin")
    report, leaf = case.read(sev_snp)
    bare = _bundle(SnpEvidence(report, SnpCollateral(None)))
    services = CollateralServices({})
    with asking(services, tmp_path) as source, pytest.raises(Refused) as refusal:
        complete(bare, source, case.now)
    assert refusal.value.code == "collateral-status"
    (path,) = services.asked
    assert path.startswith("/vcek/v1/Turin/")
    services = CollateralServices({path: Answer(leaf), "/vcek/v1/Turin/crl": Answer(LIST)})
    with asking(services, tmp_path) as source:
        cpu = complete(bare, source, case.now).cpu
    assert isinstance(cpu, SnpEvidence)
    assert (cpu.collateral.leaf, cpu.collateral.crl) == (leaf, LIST)
    collateral = replace(cpu.collateral, crl=None)
    verify_snp(report, collateral, SnpRoots(amd=True), now=case.now, checks=CheckList())


def test_a_report_that_names_no_product(sev_snp: Path, tmp_path: Path) -> None:
    """Version 2: the leaf's issuer tells whose list to ask for; without a leaf there is nothing to go by."""
    case = next(each for each in POSITIVE if each.version == 2)
    report, leaf = case.read(sev_snp)
    services = CollateralServices({"/vcek/v1/Milan/crl": Answer(LIST)})
    with asking(services, tmp_path) as source:
        cpu = complete(_bundle(SnpEvidence(report, SnpCollateral(leaf))), source, case.now).cpu
        assert isinstance(cpu, SnpEvidence)
        assert cpu.collateral.crl == LIST
        with pytest.raises(Refused) as refusal:
            complete(_bundle(SnpEvidence(report, SnpCollateral(None))), source, case.now)
    assert refusal.value.code == "collateral-missing"


def test_a_providers_key_cannot_be_looked_up(sev_snp: Path, tmp_path: Path) -> None:
    """A VLEK is the provider's to hand out: no service has it."""
    case = next(each for each in POSITIVE if each.key == "vlek")
    report, leaf = case.read(sev_snp)
    services = CollateralServices({"/vlek/v1/Milan/crl": Answer(LIST)})
    with asking(services, tmp_path) as source:
        with pytest.raises(Refused) as refusal:
            complete(_bundle(SnpEvidence(report, SnpCollateral(None))), source, case.now)
        assert refusal.value.code == "collateral-missing"
        cpu = complete(_bundle(SnpEvidence(report, SnpCollateral(leaf))), source, case.now).cpu
    assert isinstance(cpu, SnpEvidence)
    assert cpu.collateral.crl == LIST


def test_a_gpu_gets_golden_values_and_answers(nvidia_vectors: Path, sev_snp: Path, tmp_path: Path) -> None:
    """By the names that its report implies, and about each certificate that can be revoked."""
    folder = nvidia_vectors / COMPLETE
    rims = {name: (folder / file).read_bytes() for name, file in RIMS.items()}
    answers = tuple((folder / "ocsp" / f"{name}.der").read_bytes() for name in OCSP)
    manifests = {f"/v1/rim/{name}": rim_answer(name, rim) for name, rim in rims.items()}
    services = CollateralServices({"/vcek/v1/Milan/crl": Answer(LIST)} | manifests, answers)
    device = DeviceEvidence.of(0, REPORTS[0].read(nvidia_vectors))
    case = POSITIVE[0]
    report, leaf = case.read(sev_snp)
    bundle = _bundle(SnpEvidence(report, SnpCollateral(leaf, crl=LIST)), device)
    with asking(services, tmp_path) as source:
        full = complete(bundle, source, SUMMER_2025)
    assert full.nvidia is not None
    assert full.nvidia.rims == rims
    assert set(full.nvidia.ocsp) == set(answers)
    golden = replace(collateral_of(device.evidence, full.nvidia), ocsp=())
    roots = NvidiaRoots(nvidia=True)
    verify_gpu(device.evidence, golden, roots, nonce=None, now=SUMMER_2025, checks=CheckList())
    assert complete(bundle, Offline(Cache(tmp_path)), SUMMER_2025) == full
    services.answers[f"/v1/rim/{next(iter(rims))}"] = Answer(status=404)
    with asking(services, tmp_path / "anew") as source, pytest.raises(Refused) as refusal:
        complete(bundle, source, SUMMER_2025)
    assert refusal.value.code == "collateral-status"


def test_answers_that_came_along_stay_where_none_can_be_had(
    nvidia_vectors: Path, sev_snp: Path, tmp_path: Path
) -> None:
    """A saved bundle is judged offline with what it holds."""
    folder = nvidia_vectors / COMPLETE
    rims = {name: (folder / file).read_bytes() for name, file in RIMS.items()}
    report, leaf = POSITIVE[0].read(sev_snp)
    device = DeviceEvidence.of(0, REPORTS[0].read(nvidia_vectors))
    known = NvidiaCollateral(rims, (b"answer",))
    bundle = replace(_bundle(SnpEvidence(report, SnpCollateral(leaf, crl=b"list")), device), nvidia=known)
    assert complete(bundle, Offline(Cache(tmp_path)), SUMMER_2025) == bundle


@pytest.mark.parametrize("name", ["mock_world", "one_gpu_world", "td_world", "azure_world", "board_world"])
def test_a_mock_brings_everything(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """No service knows it, so nobody is asked and nothing is changed."""
    world: MockWorld = request.getfixturevalue(name)
    bundle = world.bundle(NONCE)
    assert complete(bundle, Offline(Cache(tmp_path)), NOW) == bundle


def test_a_time_is_needed_for_nothing_but_freshness(joint: Path, tmp_path: Path) -> None:
    """Documents that ended are handed out by an offline cache still: verifiers read their dates."""
    quote = joint_quote(joint)
    services = CollateralServices(recorded(joint / JOINT, pck_issuer_chain(quote), "90C06F000000"))
    with asking(services, tmp_path) as source:
        complete(_bundle(TdxEvidence(quote)), source, JOINT_TIME)
    later = datetime(2036, 1, 1, tzinfo=UTC)
    cpu = complete(_bundle(TdxEvidence(quote)), Offline(Cache(tmp_path)), later).cpu
    assert isinstance(cpu, TdxEvidence)
    assert cpu.collateral is not None
    with pytest.raises(Refused) as refusal:
        verify_tdx(quote, cpu.collateral, TdxRoots(intel=True), now=later, checks=CheckList())
    assert refusal.value.code.endswith("expired")


def test_chains_with_any_byte_changed(nvidia_vectors: Path, sev_snp: Path, tmp_path: Path) -> None:
    """Evidence is completed before it is verified: what cannot be read is refused and nothing else."""
    case = REPORTS[0].read(nvidia_vectors)
    report, leaf = POSITIVE[0].read(sev_snp)
    cpu = SnpEvidence(report, SnpCollateral(leaf, crl=LIST))
    rims = {name: (nvidia_vectors / COMPLETE / file).read_bytes() for name, file in RIMS.items()}
    known = NvidiaCollateral(rims, (b"answer",))
    chain = read_certificates(case.certificate_chain)
    source, outcomes = Offline(Cache(tmp_path)), set()
    for place, der in enumerate(chain):
        for changed in _changed(der):
            pem = b"".join(map(_pem, (*chain[:place], changed, *chain[place + 1 :])))
            device = DeviceEvidence.of(0, replace(case, certificate_chain=pem))
            try:
                complete(replace(_bundle(cpu, device), nvidia=known), source, SUMMER_2025)
                outcomes.add("")
            except Refused as refusal:
                outcomes.add(refusal.code)
    assert outcomes == {"", "certificate-malformed"}


def test_platform_certificates_with_any_byte_changed(joint: Path, tmp_path: Path) -> None:
    """The same of a quote's own certificate, from which the family of platforms is read."""
    quote, source, outcomes = joint_quote(joint), Offline(Cache(tmp_path)), set()
    (leaf, *_) = TdxQuote.parse(quote).signature.pck_chain
    lines = base64.encodebytes(leaf).replace(b"\n", b"")
    begin = quote.index(b"-----BEGIN CERTIFICATE-----\n") + len(b"-----BEGIN CERTIFICATE-----\n")
    end = quote.index(b"\n-----END", begin)
    assert quote[begin:end].replace(b"\n", b"") == lines
    for changed in _changed(leaf):
        text = base64.b64encode(changed)
        wrapped = b"\n".join(text[at : at + 64] for at in range(0, len(text), 64))
        try:
            complete(_bundle(TdxEvidence(quote[:begin] + wrapped + quote[end:])), source, JOINT_TIME)
            outcomes.add("")
        except Refused as refusal:
            outcomes.add(refusal.code)
    assert outcomes >= {"certificate-malformed", "tdx-pck-extension", "collateral-missing"}


def _changed(der: bytes) -> Iterator[bytes]:
    """A bit of every seventh byte that breaks its tag or its text, and one that keeps both readable."""
    for offset in range(0, len(der), 7):
        for bits in (0xC1, 0x41):
            yield der[:offset] + bytes([der[offset] ^ bits]) + der[offset + 1 :]
    yield der.replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020143"), 1)  # no version of X.509


def _pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.b64encode(der) + b"\n-----END CERTIFICATE-----\n"
