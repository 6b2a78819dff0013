"""Every file of shared/vectors/tdx, and the TDX part of /joint, with the outcomes of its SOURCES.md."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from attest.checks import CheckList, Outcome
from attest.collateral.tdx import TdxRoots, intel_root, signed_text
from attest.mock.tdx import MockTdxVendor
from attest.refusal import Malformed, Refused
from attest.verify.rtmr import require_rtmrs
from attest.verify.tdx import VerifiedTdx, verify_tdx
from tests.simulators.genuine_tdx import (
    COS,
    FILES_APART,
    GENUINE,
    JOINT,
    JOINT_TIME,
    POSITIVE,
    TdxCase,
    joint_collateral,
    joint_quote,
    pck_issuer_chain,
)

pytestmark = pytest.mark.shared
INTEL = TdxRoots(intel=True)
SECOND = timedelta(seconds=1)


@pytest.fixture(scope="session")
def tdx(shared: Path) -> Path:
    """The folder of genuine TDX evidence."""
    return shared / "vectors" / "tdx"


@pytest.fixture(scope="session")
def joint(shared: Path) -> Path:
    """The folder of evidence for CPU and GPU together."""
    return shared / "vectors" / "joint"


def verify(case: TdxCase, tdx: Path, roots: TdxRoots = INTEL, later: timedelta = timedelta()) -> VerifiedTdx:
    """The verifier under test on one case."""
    return verify_tdx(
        case.quote(tdx),
        case.collateral(tdx),
        roots,
        now=case.now(tdx) + later,
        checks=CheckList(),
        azure_paravisor=case.paravisor,
    )


def test_every_file_is_used_and_is_the_one_in_the_manifest(tdx: Path) -> None:
    """No vector is left out, and each is the file that the manifest describes."""
    used = {
        f"{case.folder}/{name}" for case in GENUINE for name in ("quote.bin", "collateral.json", "case.json")
    }
    files = {path.relative_to(tdx).as_posix() for path in tdx.rglob("*") if path.is_file()}
    assert files == used | FILES_APART
    manifest = {
        entry["file"]: entry["sha256"] for entry in json.loads((tdx.parent / "manifest.json").read_bytes())
    }
    for file in files:
        assert hashlib.sha256((tdx / file).read_bytes()).hexdigest() == manifest[f"tdx/{file}"]
    cases = Counter(case.folder for case in GENUINE)
    counts = Counter(file.split("/")[0] for file in files)
    rows = (f"{folder}: {count} files, {cases[folder]} cases" for folder, count in sorted(counts.items()))
    print("\n".join(rows))  # noqa: T201  shown by pytest -s


@pytest.mark.parametrize("case", GENUINE, ids=str)
def test_genuine_evidence(case: TdxCase, tdx: Path) -> None:
    """Each quote has its status at its time, or refuses with the stated code."""
    checks = CheckList()
    arguments = (case.quote(tdx), case.collateral(tdx), INTEL)
    options = {"now": case.now(tdx), "checks": checks, "azure_paravisor": case.paravisor}
    if case.refusal:
        with pytest.raises(Refused) as refusal:
            verify_tdx(*arguments, **options)  # type: ignore[arg-type]  # options by name
        assert refusal.value.code == case.refusal
        assert checks.rows[-1].outcome is Outcome.REFUSED
        return
    verified = verify_tdx(*arguments, **options)  # type: ignore[arg-type]  # options by name
    assert (verified.vendor, verified.tcb_status, verified.quote.version) == (
        "intel",
        case.status,
        case.version,
    )
    assert verified.advisory_ids == tuple(f"INTEL-SA-{number}" for number in case.advisories)
    assert verified.paravisor == case.paravisor
    assert verified.fmspc.hex() in case.collateral(tdx).tcb_info.lower()
    assert {row.outcome for row in checks} <= {Outcome.PASSED, Outcome.NOTED}
    assert len(checks) == 9
    assert checks.rows[-1].outcome is (Outcome.NOTED if case.paravisor else Outcome.PASSED)
    assert checks.expires == verified.not_after


@pytest.mark.parametrize("case", POSITIVE, ids=str)
def test_time(case: TdxCase, tdx: Path) -> None:
    """Good to the second where ``not_after`` says so; a month before, the documents were others."""
    left = verify(case, tdx).not_after - case.now(tdx)
    verify(case, tdx, later=left)
    with pytest.raises(Refused, match="expired"):
        verify(case, tdx, later=left + SECOND)
    with pytest.raises(Refused, match="not-yet-valid"):
        verify(case, tdx, later=-timedelta(days=31))


@pytest.mark.parametrize("case", POSITIVE, ids=str)
@pytest.mark.parametrize("other", POSITIVE, ids=str)
def test_another_familys_collateral(case: TdxCase, other: TdxCase, tdx: Path) -> None:
    """TCB info of another family of platforms says nothing of this one."""
    mine, theirs = case.collateral(tdx), other.collateral(tdx)
    if json.loads(mine.tcb_info)["fmspc"] == json.loads(theirs.tcb_info)["fmspc"]:
        return
    with pytest.raises(Refused) as refusal:
        verify_tdx(
            case.quote(tdx),
            theirs,
            INTEL,
            now=other.now(tdx),
            checks=CheckList(),
            azure_paravisor=case.paravisor,
        )
    assert refusal.value.code in {"tdx-fmspc", "tdx-pck-crl-issuer", "certificate-not-yet-valid"}


@pytest.mark.parametrize("case", POSITIVE, ids=str)
def test_genuine_evidence_under_other_roots(case: TdxCase, tdx: Path) -> None:
    """Intel's evidence stands under Intel's root only, whatever a mock's pin says."""
    mock = MockTdxVendor.create()
    own = hashlib.sha256(intel_root()).hexdigest()
    for pin in (None, mock.root_sha256, own):
        with pytest.raises(Refused, match="tdx-root-not-trusted"):
            verify(case, tdx, TdxRoots(intel=False, mock_root_sha256=pin))


def test_paravisor_is_no_way_around_attributes(tdx: Path) -> None:
    """Allowing a paravisor changes nothing for a TD whose attributes are not all zero."""
    for case in GENUINE:
        if case.folder != "v4-azure-no-septve" and case.refusal:
            with pytest.raises(Refused, match=case.refusal):
                verify(replace(case, paravisor=True), tdx)
        elif case.folder != "v4-azure-no-septve":
            assert not verify(replace(case, paravisor=True), tdx).paravisor


def test_pinned_root(tdx: Path) -> None:
    """The root that ships is the one of the collection."""
    assert intel_root() == (tdx / "roots" / "intel_sgx_root_ca.der").read_bytes()


def test_event_log_leads_to_the_registers(tdx: Path) -> None:
    """The log explains the quote beside it, which answers the nonce beside it, and no other quote."""
    case = next(case for case in POSITIVE if case.folder == COS)
    log, table = ((tdx / COS / name).read_bytes() for name in ("ccel_data.bin", "ccel_table.bin"))
    assert (table[:4], int.from_bytes(table[40:48], "little")) == (b"CCEL", len(log))
    verified, checks = verify(case, tdx), CheckList()
    assert verified.quote.report.report_data == (tdx / COS / "nonce.bin").read_bytes()
    events = require_rtmrs(verified, log, checks=checks).events
    assert len(events) == 43
    assert checks.rows[-1].got == "43 events"
    other = next(case for case in POSITIVE if case.folder == "v4-gcp-outofdate")
    with pytest.raises(Refused) as refusal:
        require_rtmrs(verify(other, tdx), log, checks=CheckList())
    assert refusal.value.code == "tdx-rtmr-mismatch"


def test_raw_answers_of_the_collateral_service(tdx: Path) -> None:
    """Intel's answers as served make the collateral of the quote that they are about."""
    raw = tdx / "raw-pcs"
    case = next(case for case in POSITIVE if case.folder == "v5-td15-uptodate")
    tcb_info, tcb_signature = signed_text((raw / "tcb_info_90c06f000000.json").read_bytes(), "tcbInfo")
    identity, qe_signature = signed_text((raw / "td_qe_identity.json").read_bytes(), "enclaveIdentity")
    signing_chain = (raw / "tcb_signing_chain.pem").read_text()
    collateral = replace(
        case.collateral(tdx),
        pck_crl_issuer_chain=pck_issuer_chain(case.quote(tdx)),
        root_ca_crl=(raw / "root_ca_crl.der").read_bytes(),
        pck_crl=(raw / "pck_crl_platform.der").read_bytes(),
        tcb_info_issuer_chain=signing_chain,
        tcb_info=tcb_info,
        tcb_info_signature=tcb_signature,
        qe_identity_issuer_chain=signing_chain,
        qe_identity=identity,
        qe_identity_signature=qe_signature,
    )
    verified = verify_tdx(case.quote(tdx), collateral, INTEL, now=case.now(tdx), checks=CheckList())
    assert verified.tcb_status == "UpToDate"
    with pytest.raises(Malformed, match="tdx-pcs-answer"):
        signed_text((raw / "td_qe_identity.json").read_bytes(), "tcbInfo")


def test_joint_evidence(joint: Path) -> None:
    """The live evidence for CPU and GPU: up to date then, and its report data binds what it says."""
    quote, collateral = joint_quote(joint), joint_collateral(joint)
    verified = verify_tdx(quote, collateral, INTEL, now=JOINT_TIME, checks=CheckList())
    assert (verified.tcb_status, verified.vendor) == ("UpToDate", "intel")
    stated = json.loads((joint / JOINT / "attestation.json").read_bytes())["report_data"]
    names = ("tls_key_fp", "hpke_key", "nonce", "gpu_evidence_hash")
    bound = hashlib.sha256(b"".join(bytes.fromhex(stated[name]) for name in names)).digest()
    assert verified.quote.report.report_data == bound + bytes(32)
    with pytest.raises(Refused, match="expired"):
        verify_tdx(quote, collateral, INTEL, now=verified.not_after + SECOND, checks=CheckList())
