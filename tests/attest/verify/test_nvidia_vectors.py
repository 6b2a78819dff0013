"""Every file of shared/vectors/nvidia, at the times and with the outcomes of its SOURCES.md."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from attest.checks import CheckList, Outcome
from attest.collateral.nvidia import NvidiaRoots
from attest.evidence.gpu import GpuCollateral, GpuEvidence
from attest.evidence.rim import parse_xml, read_payload
from attest.evidence.spdm import SpdmReport
from attest.refusal import Refused
from attest.verify.gpu_measurements import require_match
from attest.verify.gpu_set import verify_gpu_set
from attest.verify.nvidia import verify_gpu, verify_report
from attest.verify.rim import verify_rim
from tests.simulators.genuine_nvidia import (
    AUTUMN_2024,
    COMPLETE,
    DEVICE_OCSP,
    OCSP,
    PARSER,
    REPORTS,
    RIM_OCSP,
    RIMS,
    SUMMER_2025,
    ReportCase,
    RimCase,
    complete,
)
from tests.simulators.gpu_world import GpuWorld

pytestmark = pytest.mark.shared
NVIDIA = NvidiaRoots(nvidia=True)
POSITIVE = tuple(case for case in REPORTS if not case.refusal)
OTHERS = {
    "roots/device_root.pem",  # tests/attest/collateral/test_nvidia_roots.py
    "roots/rim_root.pem",
    "hopper-580.159.03/spdm_parsed_output.json",
    "hopper-580.159.03/spdm_req_parsed_output.json",
}


def test_every_file_is_used_and_is_the_one_in_the_manifest(nvidia_vectors: Path) -> None:
    """No vector is left out (the tokens in nras/ have their own test), and each is the one described."""
    uses = Counter(file for case in REPORTS for file in (case.report, case.chain) if file)
    uses += Counter(case.file for case in RIMS)
    uses += Counter(f"{COMPLETE}/ocsp/{name}.der" for name in OCSP)
    uses += Counter(f"rim-parser/{name}.xml" for name in PARSER) + Counter(OTHERS)
    files = {
        path.relative_to(nvidia_vectors).as_posix() for path in nvidia_vectors.rglob("*") if path.is_file()
    }
    judged = {file for file in files if not file.startswith("nras/")}
    assert judged == set(uses)
    manifest = {
        entry["file"].removeprefix("nvidia/"): entry["sha256"]
        for entry in json.loads((nvidia_vectors.parent / "manifest.json").read_bytes())
        if entry["file"].startswith("nvidia/")
    }
    digests = {file: hashlib.sha256((nvidia_vectors / file).read_bytes()).hexdigest() for file in judged}
    assert digests == {file: manifest[file] for file in judged}
    folders = Counter(file.split("/", maxsplit=1)[0] for file in judged)
    print("\n".join(f"{folder}: {count} files" for folder, count in sorted(folders.items())))  # noqa: T201  shown by pytest -s


@pytest.mark.parametrize("case", REPORTS, ids=str)
def test_genuine_report(case: ReportCase, nvidia_vectors: Path) -> None:
    """Each report verifies under its chain with its own nonce, or refuses with the stated code."""
    evidence, checks = case.read(nvidia_vectors), CheckList()
    nonce = case.nonce(nvidia_vectors)
    if case.refusal:
        with pytest.raises(Refused) as refusal:
            verify_report(evidence, NVIDIA, nonce=nonce, now=SUMMER_2025, checks=checks)
        assert refusal.value.code == case.refusal
        assert checks.rows[-1].outcome is Outcome.REFUSED
        return
    genuine = verify_report(evidence, NVIDIA, nonce=nonce, now=SUMMER_2025, checks=checks)
    assert genuine.chain.vendor == "nvidia"
    assert (genuine.facts.driver_version, genuine.facts.vbios_version) == (case.driver, case.vbios)
    assert genuine.facts.kind == ("switch" if case.arch == "LS10" else "gpu")
    assert len(genuine.measurements) == (31 if case.arch == "LS10" else 64)
    assert Outcome.REFUSED not in {row.outcome for row in checks}


@pytest.mark.parametrize("case", REPORTS, ids=str)
def test_no_genuine_report_verifies_under_mock_roots(
    case: ReportCase, nvidia_vectors: Path, gpu_world: GpuWorld
) -> None:
    """NVIDIA's evidence is nothing to somebody who trusts the mock vendor only."""
    with pytest.raises(Refused) as refusal:
        verify_report(
            case.read(nvidia_vectors), gpu_world.roots, nonce=None, now=SUMMER_2025, checks=CheckList()
        )
    assert refusal.value.code == "gpu-root-not-trusted"


@pytest.mark.parametrize("case", POSITIVE, ids=str)
@pytest.mark.parametrize("other", POSITIVE, ids=str)
def test_no_report_verifies_under_another_devices_chain(
    case: ReportCase, other: ReportCase, nvidia_vectors: Path
) -> None:
    """Cross-swaps refuse, except where the very same device answered."""
    mine, theirs = case.read(nvidia_vectors), other.read(nvidia_vectors)
    swapped = GpuEvidence(mine.arch, mine.report, theirs.certificate_chain)
    if mine.certificate_chain == theirs.certificate_chain:
        verify_report(swapped, NVIDIA, nonce=None, now=SUMMER_2025, checks=CheckList())
        return
    with pytest.raises(Refused) as refusal:
        verify_report(swapped, NVIDIA, nonce=None, now=SUMMER_2025, checks=CheckList())
    assert refusal.value.code in {"gpu-fwid", "gpu-arch-mismatch", "gpu-report-signature"}


def test_the_altered_signature_alone_refuses_too(nvidia_vectors: Path) -> None:
    """Without the firmware's identity in the report, it is the signature that refuses a foreign chain."""
    old, complete_case = REPORTS[1], REPORTS[0]
    swapped = replace(
        old.read(nvidia_vectors), certificate_chain=complete_case.read(nvidia_vectors).certificate_chain
    )
    with pytest.raises(Refused) as refusal:
        verify_report(swapped, NVIDIA, nonce=None, now=SUMMER_2025, checks=CheckList())
    assert refusal.value.code == "gpu-report-signature"


@pytest.mark.parametrize("case", RIMS, ids=str)
def test_genuine_manifest(case: RimCase, nvidia_vectors: Path) -> None:
    """Each manifest verifies at its time, and refuses with the stated code otherwise."""
    document = (nvidia_vectors / case.file).read_bytes()
    if case.refusal:
        with pytest.raises(Refused) as refusal:
            verify_rim(document, NVIDIA).chain.require_current("rim", case.now)
        assert refusal.value.code == case.refusal
        return
    verified = verify_rim(document, NVIDIA)
    assert verified.chain.require_current("rim", case.now) > case.now
    assert (verified.rim.version, verified.rim.product) == (case.version, "GH100")
    assert len(verified.rim.active) == case.active


@pytest.mark.parametrize("case", [case for case in RIMS if not case.refusal], ids=str)
def test_no_genuine_manifest_verifies_under_mock_roots(
    case: RimCase, nvidia_vectors: Path, gpu_world: GpuWorld
) -> None:
    """NVIDIA's golden values are nothing to somebody who trusts the mock vendor only."""
    with pytest.raises(Refused, match="rim-root-not-trusted"):
        verify_rim((nvidia_vectors / case.file).read_bytes(), gpu_world.roots)


@pytest.mark.parametrize("name", PARSER)
def test_parser_set(name: str, nvidia_vectors: Path) -> None:
    """Each broken document is refused by its reader, and as a whole; the good one reads."""
    document = (nvidia_vectors / "rim-parser" / f"{name}.xml").read_bytes()
    with pytest.raises(Refused):
        verify_rim(document, NVIDIA)
    if not PARSER[name]:
        active = read_payload(parse_xml(document))
        assert {index: len(golden.alternatives) for index, golden in active.items()} == {0: 1, 12: 4}
        return
    with pytest.raises(Refused) as refusal:
        read_payload(parse_xml(document))
    assert refusal.value.code == PARSER[name]


def test_the_complete_set(nvidia_vectors: Path) -> None:
    """Report, chain and both manifests belong together: 32 values compared, block 36 not measured."""
    evidence, collateral = complete(nvidia_vectors)
    nonce = bytes.fromhex("931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb")
    checks = CheckList()
    verified = verify_gpu(evidence, collateral, NVIDIA, nonce=nonce, now=SUMMER_2025, checks=checks)
    assert verified.vendor == "nvidia"
    assert (verified.arch, verified.kind, verified.chip) == ("HOPPER", "gpu", "GH100")
    assert len(verified.measurements) == 32
    assert 35 not in verified.measurements
    assert verified.fwid_in_report
    assert (verified.feature_flag, verified.protected_pcie) == (None, False)
    assert not verified.revocation_checked
    assert verified.not_after == datetime(2026, 2, 22, 23, 17, 58, tzinfo=UTC)
    assert Outcome.REFUSED not in {row.outcome for row in checks}
    with pytest.raises(Refused, match="gpu-nonce"):
        verify_gpu(evidence, collateral, NVIDIA, nonce=bytes(32), now=SUMMER_2025, checks=CheckList())
    late = datetime(2026, 2, 23, tzinfo=UTC)
    with pytest.raises(Refused, match="certificate-expired"):
        verify_gpu(evidence, collateral, NVIDIA, nonce=nonce, now=late, checks=CheckList())


def test_ueid_is_what_nvidias_service_calls_the_device(nvidia_vectors: Path) -> None:
    """NVIDIA's own verdict on this very report names the same device, driver and VBIOS."""
    evidence, collateral = complete(nvidia_vectors)
    verified = verify_gpu(evidence, collateral, NVIDIA, nonce=None, now=SUMMER_2025, checks=CheckList())
    _, devices = json.loads((nvidia_vectors / "nras" / "v4-claims3.0-token.json").read_bytes())
    payload = next(iter(devices.values())).split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    assert claims["ueid"] == verified.ueid
    assert claims["eat_nonce"] == verified.nonce.hex()
    assert claims["x-nvidia-gpu-driver-version"] == verified.driver_version
    assert claims["x-nvidia-gpu-vbios-version"].upper() == verified.vbios_version
    assert claims["hwmodel"].startswith(verified.chip)


@pytest.mark.parametrize(("group", "now", "good"), [("device", DEVICE_OCSP, 3), ("rim", RIM_OCSP, 4)])
def test_genuine_revocation_answers(group: str, now: datetime, good: int, nvidia_vectors: Path) -> None:
    """Each set of answers is good in its own day, and refuses before and after it."""
    names = [name for name, (of, _) in OCSP.items() if of == group]
    assert len(names) == good
    evidence, collateral = complete(nvidia_vectors, *names)
    checks = CheckList()
    verified = verify_gpu(evidence, collateral, NVIDIA, nonce=None, now=now, checks=checks)
    assert not verified.revocation_checked  # no instant satisfies both sets
    assert now < verified.not_after < now + timedelta(days=1)
    unanswered = checks.rows[-1].got
    assert ("RIM" in unanswered) == (group == "device")
    assert ("device" in unanswered) == (group == "rim")
    for name in names:
        evidence, collateral = complete(nvidia_vectors, name)
        verify_gpu(evidence, collateral, NVIDIA, nonce=None, now=now, checks=CheckList())
        for moment, code in (
            (now - timedelta(days=1), "ocsp-not-yet-valid"),
            (now + timedelta(days=1), "ocsp-expired"),
        ):
            with pytest.raises(Refused, match=code):
                verify_gpu(evidence, collateral, NVIDIA, nonce=None, now=moment, checks=CheckList())


@pytest.mark.parametrize(
    ("report", "vbios_rim", "differing"),
    [
        (1, "hopper-535.86.09/vbios_rim.xml", 0),
        (1, "hopper-535.86.09/vbios_rim_reissued_mismatch.xml", 9),
        (2, "hopper-570.124.03-expired-rim/vbios_rim_2023.xml", 9),
    ],
)
def test_manifests_of_other_issues(report: int, vbios_rim: str, differing: int, nvidia_vectors: Path) -> None:
    """The VBIOS manifest of 2023 fits its report; a re-issue with another value names index 9 alone."""
    genuine = verify_report(
        REPORTS[report].read(nvidia_vectors), NVIDIA, nonce=None, now=AUTUMN_2024, checks=CheckList()
    )
    rim = verify_rim((nvidia_vectors / vbios_rim).read_bytes(), NVIDIA).rim
    checks = CheckList()
    if not differing:
        assert len(require_match(genuine.facts, genuine.measurements, (rim,), checks)) == 12
        return
    with pytest.raises(Refused, match="gpu-measurement-mismatch") as refusal:
        require_match(genuine.facts, genuine.measurements, (rim,), checks)
    measured = genuine.measurements[differing].hex()
    assert refusal.value.got == f"{differing}: {measured[:24]}.."
    assert [(row.expected, row.got) for row in checks] == [
        (rim.active[differing].alternatives[0].hex(), measured)
    ]


@pytest.mark.parametrize("case", [case for case in RIMS if not case.refusal], ids=str)
def test_a_manifest_of_another_version_is_refused(case: RimCase, nvidia_vectors: Path) -> None:
    """Genuine golden values of another driver or VBIOS do not stand in, in either place."""
    evidence, good = complete(nvidia_vectors)
    other = (nvidia_vectors / case.file).read_bytes()
    for collateral in (replace(good, driver_rim=other), replace(good, vbios_rim=other)):
        if collateral == good:
            continue
        with pytest.raises(Refused, match="rim-version"):
            verify_gpu(evidence, collateral, NVIDIA, nonce=None, now=AUTUMN_2024, checks=CheckList())


def test_reports_without_golden_values_are_not_trusted(nvidia_vectors: Path) -> None:
    """No manifest, no trust: whatever firmware it is, it signs."""
    for case in POSITIVE:
        with pytest.raises(Refused, match="gpu-rim-missing"):
            verify_gpu(
                case.read(nvidia_vectors),
                GpuCollateral(None, None),
                NVIDIA,
                nonce=None,
                now=SUMMER_2025,
                checks=CheckList(),
            )


def test_one_device_four_times_is_no_set(nvidia_vectors: Path) -> None:
    """A device that answers several times is still one."""
    device = complete(nvidia_vectors)
    with pytest.raises(Refused, match="gpu-set-device-repeated"):
        verify_gpu_set([device] * 4, NVIDIA, nonce=None, now=SUMMER_2025, checks=CheckList())


def test_what_the_board_of_four_says(nvidia_vectors: Path) -> None:
    """Four GPUs in protected PCIe mode, each linked to the same four switches; the switch to its GPUs."""
    reports = [
        verify_report(case.read(nvidia_vectors), NVIDIA, nonce=None, now=SUMMER_2025, checks=CheckList())
        for case in REPORTS
        if case.place is not None
    ]
    gpus = [report for report in reports if report.facts.kind == "gpu"]
    assert {report.facts.feature_flag for report in gpus} == {"ppcie"}
    assert all(report.facts.protected_pcie for report in gpus)
    assert len({report.leaf.ueid for report in gpus}) == len(gpus) == 4
    assert len({report.facts.pdis for report in gpus}) == 1
    assert len(gpus[0].facts.pdis) == 4
    switch = next(report for report in reports if report.facts.kind == "switch")
    assert switch.facts.own_pdi == bytes.fromhex("203eb31ad9ed0008")
    assert len(switch.facts.pdis) == 7


def test_parse_equals_nvidias_own(nvidia_vectors: Path) -> None:
    """NVIDIA's C++ parser reads the same blocks, fields, nonce and signature."""
    folder = nvidia_vectors / "hopper-580.159.03"
    report = SpdmReport.parse((folder / "report.bin").read_bytes())
    response = json.loads((folder / "spdm_parsed_output.json").read_bytes())
    request = json.loads((folder / "spdm_req_parsed_output.json").read_bytes())
    blocks = response["MeasurementRecord"]["MeasurementBlocks"]
    assert [
        bytes.fromhex(blocks[str(place)]["DMTFSpecMeasurementValue"][2:]) for place in range(1, 65)
    ] == list(report.measurements)
    signature = report.signature_r.to_bytes(48, "big") + report.signature_s.to_bytes(48, "big")
    assert response["Signature"] == f"0x{signature.hex()}"
    assert request["Nonce"] == f"0x{report.nonce.hex()}"


@pytest.mark.parametrize("case", POSITIVE, ids=str)
def test_length_is_exact(case: ReportCase, nvidia_vectors: Path) -> None:
    """One byte less is not a report; one NUL more is, once; anything else more is not."""
    evidence = case.read(nvidia_vectors)
    bare = evidence.report[:-1] if "trailing-nul" in case.report else evidence.report
    SpdmReport.parse(bare)
    SpdmReport.parse(bare + b"\x00")
    for changed, code in (
        (bare[:-1], "spdm-report-truncated"),
        (bare + b"\x00\x00", "spdm-report-trailing-bytes"),
        (bare + b"\x01", "spdm-report-trailing-bytes"),
        (b"", "spdm-report-truncated"),
    ):
        with pytest.raises(Refused, match=code):
            SpdmReport.parse(changed)


def test_chains_without_their_root_end_in_ours(nvidia_vectors: Path) -> None:
    """The root may be left out; a signer may not be."""
    evidence = REPORTS[0].read(nvidia_vectors)
    blocks = evidence.certificate_chain.decode().split("-----BEGIN")[1:]

    def chain(*kept: str) -> GpuEvidence:
        return replace(evidence, certificate_chain="".join(f"-----BEGIN{block}" for block in kept).encode())

    verify_report(chain(*blocks[:-1]), NVIDIA, nonce=None, now=SUMMER_2025, checks=CheckList())
    for broken in (blocks[1:], [*blocks[:1], *blocks[2:]], [*blocks[:2], *blocks[3:]], blocks[::-1]):
        with pytest.raises(Refused):
            verify_report(chain(*broken), NVIDIA, nonce=None, now=SUMMER_2025, checks=CheckList())
    assert x509.load_pem_x509_certificate(f"-----BEGIN{blocks[-1]}".encode()).subject.rfc4514_string()


def test_golden_values_of_another_vendor(nvidia_vectors: Path, gpu_world: GpuWorld) -> None:
    """Where mock and genuine roots are both trusted, a genuine device still needs genuine golden values."""
    evidence, good = complete(nvidia_vectors)
    both = replace(gpu_world.roots, nvidia=True)
    verify_gpu(evidence, good, both, nonce=None, now=SUMMER_2025, checks=CheckList())
    for mixed in (
        replace(good, driver_rim=gpu_world.collateral().driver_rim),
        replace(good, vbios_rim=gpu_world.collateral().vbios_rim),
    ):
        with pytest.raises(Refused, match="rim-vendor"):
            verify_gpu(evidence, mixed, both, nonce=None, now=SUMMER_2025, checks=CheckList())
