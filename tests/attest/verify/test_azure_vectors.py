"""Every file of shared/vectors/azure-hcl, at the times and with the outcomes of its SOURCES.md."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from attest.checks import CheckList, Outcome
from attest.collateral.snp import SnpCollateral, SnpRoots
from attest.evidence.hcl import HclReport
from attest.evidence.reader import Reader
from attest.evidence.tpm import QuoteFacts, TpmQuote
from attest.mock.vendor import MockKeys, MockVendor
from attest.refusal import Refused
from attest.verify.azure import PcrPolicy, VerifiedAzureSnp, VerifiedVtpm, verify_azure_cvm, verify_azure_vtpm
from tests.simulators.genuine_azure import CASES, NONCES, SUMMER_2026, AzureCase, AzureFile, read, sha256

pytestmark = pytest.mark.shared
AMD = SnpRoots(amd=True)
RAW = (
    "raw-snp/hcl-report.bin",
    "raw-snp/quote.bin",
    "raw-snp/tpm-quote.msg",
    "raw-snp/tpm-quote.sig",
    "raw-tdx/hcl-report.bin",
)


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    """The folder of genuine Azure evidence."""
    return shared / "vectors" / "azure-hcl"


def judge(
    file: AzureFile,
    case: AzureCase,
    checks: CheckList,
    *,
    roots: SnpRoots = AMD,
    policy: PcrPolicy | None = None,
) -> VerifiedAzureSnp:
    """``verify_azure_cvm`` on a case."""
    return verify_azure_cvm(
        file.hcl_report,
        file.quote,
        SnpCollateral(file.leaf),
        roots,
        nonce=case.nonce or NONCES[case.name],
        pcr_policy=policy or file.policy,
        now=case.now,
        checks=checks,
    )


def test_every_file_is_used_and_is_the_one_in_the_manifest(folder: Path) -> None:
    """No vector is left out, and each is the file that the manifest describes."""
    uses = Counter([*RAW, *(f"{case.name}.json" for case in CASES)])
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == set(uses)
    manifest = {
        entry["file"].removeprefix("azure-hcl/"): entry["sha256"]
        for entry in json.loads((folder.parent / "manifest.json").read_bytes())
        if entry["file"].startswith("azure-hcl/")
    }
    assert {file: sha256(folder / file) for file in files} == manifest
    print("\n".join(f"azure-hcl/{file}: {uses[file]} cases" for file in sorted(files)))  # noqa: T201  shown by pytest -s


@pytest.mark.parametrize("case", CASES, ids=str)
def test_genuine_evidence(case: AzureCase, folder: Path) -> None:
    """Each file verifies at its time, or refuses with its code."""
    file, checks = read(folder, case.name), CheckList()
    if case.code:
        with pytest.raises(Refused) as refusal:
            judge(file, case, checks)
        assert refusal.value.code == case.code
        assert checks.rows[-1].outcome is Outcome.REFUSED
        return
    verified = judge(file, case, checks)
    assert verified.snp.vendor == "amd"
    assert verified.snp.product == ("Genoa" if case.name == "snp-genoa" else "Milan")
    assert verified.snp.not_after == x509.load_der_x509_certificate(file.leaf).not_valid_after_utc
    assert verified.vtpm.nonce == NONCES[case.name]
    assert sorted(verified.vtpm.pcrs) == list(range(24))
    assert verified.vtpm.runtime.secure_boot
    assert len(verified.vtpm.runtime.vm_id) == 36
    assert Outcome.REFUSED not in {row.outcome for row in checks}


def test_what_the_guest_put_into_its_user_data(folder: Path) -> None:
    """The newer envelope's evidence carries its nonce in the paravisor's claims as well."""
    case = next(case for case in CASES if case.name == "snp-milan-v2" and not case.code)
    verified = judge(read(folder, case.name), case, CheckList())
    assert verified.vtpm.runtime.user_data == NONCES[case.name].ljust(64, b"\x00")


@pytest.mark.parametrize("name", ["snp-milan-v1", "snp-milan-v2", "snp-genoa"])
@pytest.mark.parametrize("other", ["snp-milan-v1", "snp-milan-v2", "snp-genoa", "tdx-v1"])
def test_no_part_of_one_vm_goes_with_another(name: str, other: str, folder: Path) -> None:
    """A quote, a report or a leaf of another VM refuses."""
    if name == other:
        return
    file, foreign = read(folder, name), read(folder, other)
    case = AzureCase(name, SUMMER_2026, nonce=NONCES[other])
    with pytest.raises(Refused) as refusal:
        judge(replace(file, quote=foreign.quote), case, CheckList())
    assert refusal.value.code == "azure-quote-signature"
    if foreign.leaf:
        with pytest.raises(Refused) as refusal:
            judge(replace(file, leaf=foreign.leaf), AzureCase(name, SUMMER_2026), CheckList())
        assert refusal.value.code in {"snp-product-mismatch", "snp-leaf-tcb", "snp-chip-id"}


def test_runtime_claims_of_another_vm(folder: Path) -> None:
    """The claims of one VM behind the hardware report of another refuse, though both are genuine."""
    one, other = read(folder, "snp-milan-v1"), read(folder, "snp-milan-v2")
    mixed = one.hcl_report[:0x4C0] + other.hcl_report[0x4C0:]
    case = AzureCase("snp-milan-v1", SUMMER_2026, nonce=NONCES["snp-milan-v2"])
    with pytest.raises(Refused) as refusal:
        judge(replace(one, hcl_report=mixed, quote=other.quote), case, CheckList())
    assert refusal.value.code == "azure-runtime-binding"


def test_another_boot_and_another_root(folder: Path, mock_keys: MockKeys) -> None:
    """Genuine evidence refuses under other PCR values, and where only a mock vendor is trusted."""
    case = CASES[0]
    file = read(folder, case.name)
    with pytest.raises(Refused) as refusal:
        judge(file, case, CheckList(), policy=PcrPolicy({4: frozenset({bytes(32)})}))
    assert refusal.value.code == "azure-pcr"
    mock = SnpRoots(amd=False, mock_ark_sha256=MockVendor(mock_keys, issued_at=SUMMER_2026).ark_sha256)
    with pytest.raises(Refused) as refusal:
        judge(file, case, CheckList(), roots=mock)
    assert refusal.value.code == "snp-root-not-trusted"


def test_the_tdx_vm_as_far_as_its_vtpm(folder: Path) -> None:
    """TDREPORT, runtime claims and quote belong together; the TD quote's REPORTDATA is the same."""
    file = read(folder, "tdx-v1")
    hcl = HclReport.parse(file.hcl_report)
    assert (hcl.version, hcl.kind, len(hcl.hardware_report)) == (2, "tdx", 1024)
    # REPORTDATA of a version 4 quote: 48 bytes of header, then 520 of the TD report body before it.
    td_report_data = file.td_quote[48 + 520 : 48 + 584]
    assert hcl.tdreport_data == td_report_data
    checks = CheckList()
    verified = verify_azure_vtpm(
        hcl,
        file.quote,
        hardware_report_data=td_report_data,
        nonce=b"challenge",
        pcr_policy=file.policy,
        checks=checks,
    )
    assert verified.runtime.vm_id == "6332533D-5649-4D02-8AA7-8F64B7C3EE21"
    assert {row.outcome for row in checks} == {Outcome.PASSED}
    with pytest.raises(Refused) as refusal:
        verify_azure_vtpm(
            hcl,
            file.quote,
            hardware_report_data=bytes(64),
            nonce=b"challenge",
            pcr_policy=file.policy,
            checks=CheckList(),
        )
    assert refusal.value.code == "azure-runtime-binding"


def test_raw_reports(folder: Path) -> None:
    """The loose reports are read, and their hardware parts are over their runtime claims."""
    snp = HclReport.parse((folder / "raw-snp/hcl-report.bin").read_bytes())
    tdx = HclReport.parse((folder / "raw-tdx/hcl-report.bin").read_bytes())
    assert (snp.version, snp.kind, tdx.version, tdx.kind) == (1, "snp", 2, "tdx")
    assert snp.hardware_report[0x50:0x90] == snp.report_data
    assert tdx.tdreport_data == tdx.report_data
    assert snp.runtime_claims().vm_id == "911B0EF8-9DBA-48B0-B275-4E4DF2D39252"


def test_raw_quotes(folder: Path) -> None:
    """The packed quote is of the loose report's VM; the loose quote is another's, and refuses there."""
    hcl = HclReport.parse((folder / "raw-snp/hcl-report.bin").read_bytes())
    packed = _packed_quote((folder / "raw-snp/quote.bin").read_bytes())
    loose = replace(
        packed,
        message=(folder / "raw-snp/tpm-quote.msg").read_bytes(),
        signature=(folder / "raw-snp/tpm-quote.sig").read_bytes(),
    )
    facts = QuoteFacts.parse(loose.message)
    assert (facts.extra_data, facts.reset_count, facts.restart_count) == (b"challenge", 3, 0)
    assert facts.selected == (*range(8), 14)

    def vtpm(quote: TpmQuote) -> VerifiedVtpm:
        return verify_azure_vtpm(
            hcl,
            quote,
            hardware_report_data=hcl.hardware_report[0x50:0x90],
            nonce=b"challenge",
            pcr_policy=PcrPolicy({7: frozenset({packed.pcrs[7]})}),
            checks=CheckList(),
        )

    assert sorted(vtpm(packed).pcrs) == list(range(24))
    with pytest.raises(Refused) as refusal:
        vtpm(loose)
    assert refusal.value.code == "azure-quote-signature"


def _packed_quote(raw: bytes) -> TpmQuote:
    """Signature and message behind their lengths, the PCRs behind their count: 8 bytes, little endian."""
    reader = Reader(raw, "packed")
    signature = reader.take(reader.uint_le(8))
    message = reader.take(reader.uint_le(8))
    pcrs = tuple(reader.take(32) for _ in range(reader.uint_le(8)))
    reader.end()
    return TpmQuote(message, signature, pcrs)
