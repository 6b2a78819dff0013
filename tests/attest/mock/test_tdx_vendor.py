"""The mock TDX vendor keeps its keys, and is taken for nobody else."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from attest.checks import CheckList
from attest.collateral.tdx import TdxRoots
from attest.mock.tdx import MockTdxVendor
from attest.mock.tdx_documents import MockTcb
from attest.mock.tdx_quote import MockTdLaunch
from attest.verify.tdx import verify_tdx

ASKED = bytes(64)


def test_kept_in_a_folder(tmp_path: Path) -> None:
    """Made once, loaded afterwards: the root is the same, and old and new quotes verify under it."""
    made = MockTdxVendor.load_or_create(tmp_path / "vendor")
    loaded = MockTdxVendor.load_or_create(tmp_path / "vendor")
    assert made.root_sha256 == loaded.root_sha256
    roots = TdxRoots(intel=False, mock_root_sha256=made.root_sha256)
    for quoting, stating in ((made, loaded), (loaded, made)):
        verified = verify_tdx(
            quoting.quote(ASKED), stating.collateral(), roots, now=datetime.now(UTC), checks=CheckList()
        )
        assert verified.vendor == "mock"
    for path in (tmp_path / "vendor").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_folder_of_something_else(tmp_path: Path) -> None:
    """Neither an empty folder nor keys of another kind make a vendor."""
    with pytest.raises(FileNotFoundError):
        MockTdxVendor.load(tmp_path)
    MockTdxVendor.create().save(tmp_path)
    pem = ed25519.Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    (tmp_path / "tdx-signer-key.pem").write_bytes(pem)
    with pytest.raises(ValueError, match="does not hold a mock TDX vendor's keys"):
        MockTdxVendor.load(tmp_path)


def test_collateral_is_kept_for_an_hour() -> None:
    """The same statement about the platform is signed once an hour, each statement by itself."""
    vendor, now = MockTdxVendor.create(), datetime.now(UTC)
    first = vendor.collateral(now=now)
    assert vendor.collateral(now=now + timedelta(minutes=59)) is first
    assert vendor.collateral(now=now + timedelta(minutes=61)) is not first
    assert vendor.collateral(MockTcb("OutOfDate"), now=now) != vendor.collateral(now=now)


@pytest.mark.parametrize("launch", [MockTdLaunch(mrtd=b"short"), MockTdLaunch(mrservicetd=b"")])
def test_fields_have_their_lengths(launch: MockTdLaunch) -> None:
    """A field of another length would move all that follow."""
    with pytest.raises(ValueError, match="bytes, not"):
        MockTdxVendor.create().quote(ASKED, launch)


def test_nothing_private_is_shown() -> None:
    """Representations name things and hold no key."""
    vendor = MockTdxVendor.create()
    shown = f"{vendor!r} {vendor.keys!r} {vendor.quote_keys!r} {vendor.root!r}"
    assert "MockTdxKeys(private) QuoteKeys(private) Party(Intel SGX Root CA)" in shown
    assert "object at" not in shown
