"""The mock vendor keeps its identity across restarts, keeps its keys to itself, and measures what runs."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from attest.checks import CheckList
from attest.collateral.snp import SnpRoots
from attest.evidence.snp_tcb import TcbVersion
from attest.mock.measure import MEASURED_PACKAGES, measure_folders, measure_sources
from attest.mock.snp_report import MockLaunch
from attest.mock.vendor import MockKeys, MockVendor
from attest.verify.snp import verify_snp

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def verify(vendor: MockVendor, launch: MockLaunch, now: datetime = NOW) -> None:
    """Verify a fresh report under the vendor's own root."""
    roots = SnpRoots(amd=False, mock_ark_sha256=vendor.ark_sha256)
    report = vendor.report(bytes(64), launch)
    verify_snp(report, vendor.collateral(launch.tcb, now=now), roots, now=now, checks=CheckList())


def test_saved_and_loaded_is_the_same_vendor(mock_keys: MockKeys, tmp_path: Path) -> None:
    """The root's digest is pinned elsewhere, so it must survive a restart; reports of both verify alike."""
    vendor = MockVendor(mock_keys, issued_at=NOW)
    vendor.save(tmp_path / "mock-tee")
    again = MockVendor.load_or_create(tmp_path / "mock-tee")
    assert again.ark_sha256 == vendor.ark_sha256
    assert again.chip_id == vendor.chip_id
    verify(again, MockLaunch())
    roots = SnpRoots(amd=False, mock_ark_sha256=vendor.ark_sha256)
    verify_snp(
        again.report(bytes(64), MockLaunch()), vendor.collateral(now=NOW), roots, now=NOW, checks=CheckList()
    )


def test_made_where_there_is_none(tmp_path: Path) -> None:
    """The first start makes a vendor, the second finds it."""
    first = MockVendor.load_or_create(tmp_path / "new" / "mock-tee")
    assert MockVendor.load_or_create(tmp_path / "new" / "mock-tee").ark_sha256 == first.ark_sha256
    verify(first, MockLaunch(), now=datetime.now(UTC))


def test_keys_are_the_owners_only(mock_keys: MockKeys, tmp_path: Path) -> None:
    """Whoever reads them can be any runtime; a lax umask does not matter."""
    old = os.umask(0)
    try:
        MockVendor(mock_keys, issued_at=NOW).save(tmp_path / "mock-tee")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "mock-tee").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "mock-tee").iterdir()} == {0o600}


def test_folder_with_the_wrong_keys(mock_keys: MockKeys, tmp_path: Path) -> None:
    """Swapped files are an error, not a vendor."""
    MockVendor(mock_keys, issued_at=NOW).save(tmp_path)
    chip = (tmp_path / "chip-key.pem").read_bytes()
    (tmp_path / "ask-key.pem").write_bytes(chip)
    with pytest.raises(ValueError, match="mock vendor's keys"):
        MockVendor.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        MockVendor.load(tmp_path / "absent")


def test_each_firmware_version_has_its_leaf(mock_keys: MockKeys) -> None:
    """A rolled-back report still verifies as genuine: refusing it is the appraisal's work."""
    vendor = MockVendor(mock_keys, issued_at=NOW)
    old = TcbVersion(boot_loader=1, tee=0, snp=1, microcode=1)
    verify(vendor, MockLaunch(tcb=old))
    assert vendor.collateral(old, now=NOW).leaf != vendor.collateral(now=NOW).leaf
    assert vendor.collateral(old, now=NOW).leaf == vendor.collateral(old, now=NOW).leaf


def test_list_is_kept_an_hour(mock_keys: MockKeys) -> None:
    """Signing one takes milliseconds, so it is not made per request, and never goes stale."""
    vendor = MockVendor(mock_keys, issued_at=NOW)
    first = vendor.collateral(now=NOW).crl
    assert vendor.collateral(now=NOW + timedelta(minutes=59)).crl == first
    later = NOW + timedelta(minutes=61)
    assert vendor.collateral(now=later).crl != first
    verify(vendor, MockLaunch(), now=later)


def test_everything_says_mock(mock_keys: MockKeys) -> None:
    """Whoever opens a certificate reads what it is (P8)."""
    collateral = MockVendor(mock_keys, issued_at=NOW).collateral(now=NOW)
    for der in (collateral.leaf, collateral.intermediate, collateral.ark):
        certificate = x509.load_der_x509_certificate(der or b"")
        assert "MOCK" in certificate.subject.rfc4514_string()
        assert "MOCK" in certificate.issuer.rfc4514_string()
        assert "Micro Devices" not in certificate.subject.rfc4514_string()


def test_keys_are_not_shown(mock_keys: MockKeys) -> None:
    """No private number in any repr."""
    vendor = MockVendor(mock_keys, issued_at=NOW)
    pem = mock_keys.chip.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    shown = repr(vendor) + repr(mock_keys) + repr(vendor.collateral(now=NOW))
    assert shown.startswith("MockVendor(Genoa, root ")
    assert not any(line in shown.encode() for line in pem.splitlines()[1:-1])
    assert len(shown) < 300


@pytest.mark.parametrize(
    "launch",
    [
        MockLaunch(measurement=bytes(47)),
        MockLaunch(host_data=bytes(33)),
        MockLaunch(migration_agent=b""),
        MockLaunch(id_key_digest=bytes(49)),
    ],
)
def test_wrong_lengths_are_the_callers_error(launch: MockLaunch, mock_keys: MockKeys) -> None:
    """A field that does not fit would shift the ones behind it."""
    with pytest.raises(ValueError, match="takes"):
        MockVendor(mock_keys, issued_at=NOW).report(bytes(64), launch)


def test_measurement_of_the_sources() -> None:
    """48 bytes, the same each time, over the three packages that the enclave runs."""
    assert measure_sources() == measure_sources()
    assert len(measure_sources()) == 48
    assert MEASURED_PACKAGES == ("attest", "policies", "runtime")


def test_measurement_changes_with_any_change(tmp_path: Path) -> None:
    """Content, name, place and presence of each measured file count; byte code and notes do not."""
    package = tmp_path / "package"
    (package / "sub" / "__pycache__").mkdir(parents=True)
    (package / "a.py").write_bytes(b"x = 1\n")
    (package / "sub" / "b.pem").write_bytes(b"root")
    seen = {measure_folders({"p": package})}
    (package / "sub" / "__pycache__" / "a.pyc").write_bytes(b"compiled")
    (package / "README.md").write_bytes(b"words")
    assert measure_folders({"p": package}) in seen
    changes = (
        lambda: (package / "a.py").write_bytes(b"x = 2\n"),
        lambda: (package / "sub" / "b.pem").write_bytes(b"other"),
        lambda: (package / "a.py").rename(package / "c.py"),
        lambda: (package / "c.py").rename(package / "sub" / "c.py"),
        (package / "d.py").touch,
        (package / "sub" / "b.pem").unlink,
    )
    for number, change in enumerate(changes, start=2):
        change()
        seen.add(measure_folders({"p": package}))
        assert len(seen) == number
    seen.add(measure_folders({"q": package}))
    assert len(seen) == len(changes) + 2


def test_measurement_needs_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing package is an error, not an empty tree."""
    monkeypatch.setattr("attest.mock.measure.MEASURED_PACKAGES", ("attest", "no_such_package_here"))
    with pytest.raises(ModuleNotFoundError, match="no_such_package_here"):
        measure_sources()
