"""Every file of shared/vectors/sev-snp, at the times and with the outcomes of its SOURCES.md."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attest.checks import CheckList, Outcome
from attest.collateral.snp import SnpCollateral, SnpRoots, amd_ark, amd_intermediate
from attest.refusal import Refused
from attest.verify.snp import VerifiedSnp, verify_snp
from tests.simulators.genuine_snp import CHAINS, GENUINE, POSITIVE, SUMMER_2025, SUMMER_2026, GenuineCase

pytestmark = pytest.mark.shared
AMD = SnpRoots(amd=True)


def test_every_file_is_used_and_is_the_one_in_the_manifest(sev_snp: Path) -> None:
    """No vector is left out, and each is the file that the manifest describes."""
    uses = Counter(list(CHAINS)) + Counter(file for case in GENUINE for file in (case.report, case.leaf))
    files = {path.relative_to(sev_snp).as_posix() for path in sev_snp.rglob("*") if path.is_file()}
    assert files == set(uses)
    manifest = {
        entry["file"].removeprefix("sev-snp/"): entry["sha256"]
        for entry in json.loads((sev_snp.parent / "manifest.json").read_bytes())
        if entry["file"].startswith("sev-snp/")
    }
    assert {file: hashlib.sha256((sev_snp / file).read_bytes()).hexdigest() for file in files} == manifest
    print("\n".join(f"{file}: {uses[file]} cases" for file in sorted(files)))  # noqa: T201  shown by pytest -s
    assert min(uses.values()) >= 1


@pytest.mark.parametrize("file", CHAINS)
def test_chain_file_is_what_is_pinned(file: str, sev_snp: Path) -> None:
    """The chains that AMD's key service serves are the certificates pinned in the product."""
    product, kind = CHAINS[file]
    intermediate, ark = x509.load_pem_x509_certificates((sev_snp / file).read_bytes())
    assert intermediate.public_bytes(Encoding.DER) == amd_intermediate(product, kind)  # type: ignore[arg-type]  # a table of literals
    assert ark.public_bytes(Encoding.DER) == amd_ark(product)  # type: ignore[arg-type]  # a table of literals


@pytest.mark.parametrize("case", GENUINE, ids=str)
def test_genuine_evidence(case: GenuineCase, sev_snp: Path) -> None:
    """Each report verifies with its leaf at its time, and refuses with the stated code otherwise."""
    report, leaf = case.read(sev_snp)
    checks = CheckList()
    if case.refusal:
        with pytest.raises(Refused) as refusal:
            verify_snp(report, SnpCollateral(leaf), AMD, now=case.now, checks=checks)
        assert refusal.value.code == case.refusal
        assert checks.rows[-1].outcome is Outcome.REFUSED
        return
    verified = verify_snp(report, SnpCollateral(leaf), AMD, now=case.now, checks=checks)
    assert (verified.vendor, verified.product, verified.signing_key) == ("amd", case.product, case.key)
    assert verified.report.version == case.version
    assert verified.not_after == x509.load_der_x509_certificate(leaf).not_valid_after_utc
    assert not verified.revocation_checked
    assert Outcome.REFUSED not in {row.outcome for row in checks}


@pytest.mark.parametrize("case", POSITIVE, ids=str)
@pytest.mark.parametrize("other", sorted({case.leaf for case in POSITIVE}))
def test_no_report_verifies_with_another_chips_leaf(case: GenuineCase, other: str, sev_snp: Path) -> None:
    """Cross-swaps refuse, except between the two certificates of one key."""
    report, _ = case.read(sev_snp)
    leaf = next(each for each in POSITIVE if each.leaf == other)
    same_key = {case.leaf, other} <= {"milan-v3-aci/vcek-2025.pem", "milan-v3-aci/vcek-2026.pem"}
    if other == case.leaf or same_key:
        verify_snp(report, SnpCollateral(leaf.read(sev_snp)[1]), AMD, now=leaf.now, checks=CheckList())
        return
    with pytest.raises(Refused) as refusal:
        verify_snp(report, SnpCollateral(leaf.read(sev_snp)[1]), AMD, now=leaf.now, checks=CheckList())
    # A version 2 report names no product, so a Turin leaf makes its TCB bytes be read in Turin's layout.
    assert refusal.value.code in {
        "snp-leaf-kind",
        "snp-product-mismatch",
        "snp-tcb-reserved",
        "snp-leaf-tcb",
        "snp-chip-id",
    }


@pytest.mark.parametrize("case", POSITIVE, ids=str)
@pytest.mark.parametrize("file", CHAINS)
def test_no_leaf_verifies_under_another_chain(case: GenuineCase, file: str, sev_snp: Path) -> None:
    """The intermediate of another product or of the other kind refuses; the right one is accepted."""
    report, leaf = case.read(sev_snp)
    intermediate, _ = x509.load_pem_x509_certificates((sev_snp / file).read_bytes())
    collateral = SnpCollateral(leaf, intermediate.public_bytes(Encoding.DER))
    if CHAINS[file] == (case.product, case.key):
        verify_snp(report, collateral, AMD, now=case.now, checks=CheckList())
        return
    with pytest.raises(Refused) as refusal:
        verify_snp(report, collateral, AMD, now=case.now, checks=CheckList())
    assert refusal.value.code == "snp-chain-product"


@pytest.mark.parametrize("case", POSITIVE, ids=str)
def test_length_is_exact(case: GenuineCase, sev_snp: Path) -> None:
    """One byte less or more is not a report."""
    report, leaf = case.read(sev_snp)
    for changed in (report[:-1], report + b"\x00", b""):
        with pytest.raises(Refused) as refusal:
            verify_snp(changed, SnpCollateral(leaf), AMD, now=case.now, checks=CheckList())
        assert refusal.value.code == "snp-report-length"


def test_what_the_genuine_reports_say(sev_snp: Path) -> None:
    """Facts that SOURCES.md states about single reports come out as stated."""

    def verified(leaf: str) -> VerifiedSnp:
        case = next(each for each in POSITIVE if each.leaf == leaf)
        report, der = case.read(sev_snp)
        return verify_snp(report, SnpCollateral(der), AMD, now=case.now, checks=CheckList())

    debug = verified("milan-v2-debug/vcek.der")
    assert debug.report.policy.debug_allowed
    assert debug.report.report_data.startswith(bytes([1, 2, 3, 4, 5, 0]))
    azure = verified("milan-v2-azure/vcek.der")
    assert (azure.current_tcb.microcode, azure.reported_tcb.microcode) == (206, 115)
    assert azure.report.policy.raw == 0x3001F
    aws = verified("milan-v3-vlek-aws/vlek.der")
    assert aws.csp_id == "CN=cc-us-east-2.amazonaws.com"
    assert aws.report.vmpl == 1
    assert aws.report.chip_id == bytes(64)
    microcode = (aws.current_tcb.microcode, aws.committed_tcb.microcode, aws.reported_tcb.microcode)
    assert microcode == (220, 219, 217)
    turin = verified("turin-v5-aci/vcek.pem")
    assert (turin.reported_tcb.fmc, turin.reported_tcb.snp, turin.reported_tcb.microcode) == (1, 4, 81)
    assert turin.report.launch_mitigations == turin.report.current_mitigations == 0x3F
    assert turin.report.platform_info.alias_check_complete
    bergamo = verified("genoa-v5-bergamo/vcek.der")
    assert bergamo.report.report_data.startswith(b"hello-attestation\x00")
    assert bergamo.report.current_mitigations == 0x0B
    assert not any(one.report.has_migration_agent for one in (debug, azure, aws, turin, bergamo))


@pytest.mark.parametrize("name", ["snp-milan-v1", "snp-milan-v2", "snp-genoa"])
def test_report_inside_azure_evidence(name: str, shared: Path) -> None:
    """The hardware reports inside Azure's HCL reports are genuine too (bytes 0x20 to 0x4BF)."""
    evidence = json.loads((shared / "vectors" / "azure-hcl" / f"{name}.json").read_bytes())

    def decoded(value: str | list[int]) -> bytes:
        return bytes(value) if isinstance(value, list) else base64.urlsafe_b64decode(value + "==")

    hcl = decoded(evidence.get("hcl_report") or evidence["report"])
    if evidence["vcek"].startswith("-----BEGIN"):
        pem = x509.load_pem_x509_certificate(evidence["vcek"].encode())
        leaf = pem.public_bytes(Encoding.DER)
    else:
        leaf = decoded(evidence["vcek"])
    now = SUMMER_2025 if name != "snp-milan-v2" else SUMMER_2026
    verified = verify_snp(hcl[0x20:0x4C0], SnpCollateral(leaf), AMD, now=now, checks=CheckList())
    assert verified.vendor == "amd"
    assert verified.product == ("Genoa" if name == "snp-genoa" else "Milan")
