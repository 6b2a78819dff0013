"""NVIDIA's two pinned roots are what the README says, sign themselves, and refuse to be swapped."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attest.collateral import pinned
from attest.collateral.nvidia import (
    NVIDIA_DEVICE_ROOT_SHA256,
    NVIDIA_RIM_ROOT_SHA256,
    nvidia_device_root,
    nvidia_rim_root,
)
from attest.refusal import Refused
from attest.verify.p384 import verify_p384
from attest.verify.x509 import verify_issued

ROOTS = Path(pinned.__file__).parent / "roots"


@pytest.mark.parametrize("root", [nvidia_device_root, nvidia_rim_root])
def test_each_root_signs_itself(root: Callable[[], bytes]) -> None:
    """Self-signed, with the one algorithm of the hierarchy."""
    certificate = x509.load_der_x509_certificate(root())
    verify_issued(certificate, root(), certificate, role="root", scheme=verify_p384)


def test_readme_files_and_pins_agree() -> None:
    """Two files, each with its digest in the README and in the code."""
    readme = (ROOTS / "README.md").read_text()
    rows = dict(re.findall(r"^\| (nvidia-\S+\.pem) \| [^|]+ \| ([0-9a-f]{64}) \|", readme, re.MULTILINE))
    assert rows == {
        "nvidia-device-root.pem": NVIDIA_DEVICE_ROOT_SHA256,
        "nvidia-rim-root.pem": NVIDIA_RIM_ROOT_SHA256,
    }
    assert {path.name for path in ROOTS.glob("nvidia-*")} == set(rows)
    for root, sha256 in (
        (nvidia_device_root, NVIDIA_DEVICE_ROOT_SHA256),
        (nvidia_rim_root, NVIDIA_RIM_ROOT_SHA256),
    ):
        assert hashlib.sha256(root()).hexdigest() == sha256


@pytest.mark.shared
def test_pinned_roots_are_the_public_ones(shared: Path) -> None:
    """The files of NVIDIA's own verifier hold the same certificates."""
    for name, root in (("device_root", nvidia_device_root), ("rim_root", nvidia_rim_root)):
        pem = (shared / "vectors" / "nvidia" / "roots" / f"{name}.pem").read_bytes()
        assert x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER) == root()


@pytest.mark.parametrize(
    "content", [b"", b"-----BEGIN\n!!!\n-----END\n", (ROOTS / "nvidia-rim-root.pem").read_bytes()]
)
def test_a_changed_file_refuses(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation whose root was swapped, even for NVIDIA's other one, trusts nothing."""
    (tmp_path / "roots").mkdir()
    (tmp_path / "roots" / "nvidia-device-root.pem").write_bytes(content)
    monkeypatch.setattr(pinned.resources, "files", lambda _: tmp_path)
    with pytest.raises(Refused, match="pinned-root-altered"):
        nvidia_device_root.__wrapped__()
