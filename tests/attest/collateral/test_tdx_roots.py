"""Intel's pinned root is what the README says, and refuses to be swapped."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from cryptography import x509

from attest.collateral import tdx
from attest.collateral.tdx import INTEL_ROOT_SHA256, intel_root, signed_text
from attest.refusal import Malformed, Refused
from attest.verify.p256 import verify_p256
from attest.verify.x509 import verify_issued

ROOTS = Path(tdx.__file__).parent / "roots"


def test_root_holds() -> None:
    """It signed itself, by the one algorithm of Intel's chain."""
    der = intel_root()
    root = x509.load_der_x509_certificate(der)
    verify_issued(root, der, root, role="root", scheme=verify_p256)
    assert hashlib.sha256(der).hexdigest() == INTEL_ROOT_SHA256


def test_readme_files_and_pins_agree() -> None:
    """One file, with its digest in the README and in the code, and no other of Intel's in the folder."""
    readme = (ROOTS / "README.md").read_text()
    rows = dict(re.findall(r"^\| (intel-\S+\.pem) \| [^|]+ \| ([0-9a-f]{64}) \|", readme, re.MULTILINE))
    assert rows == {"intel-sgx-root-ca.pem": INTEL_ROOT_SHA256}
    assert {path.name for path in ROOTS.glob("intel-*")} == set(rows)


@pytest.mark.parametrize(
    "content", [b"", b"-----BEGIN\n!!!\n-----END\n", (ROOTS / "amd-milan-ark.pem").read_bytes()]
)
def test_a_changed_file_refuses(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation whose root was swapped, even for another genuine one, trusts nothing."""
    (tmp_path / "roots").mkdir()
    (tmp_path / "roots" / "intel-sgx-root-ca.pem").write_bytes(content)
    monkeypatch.setattr(tdx.resources, "files", lambda _: tmp_path)
    with pytest.raises(Refused, match="pinned-root-altered"):
        intel_root.__wrapped__()


def answer(text: str, *, member: str = "tcbInfo", signature: str = "0a" * 64, end: str = '"}') -> bytes:
    """An answer of the collateral service."""
    return f'{{"{member}":{text},"signature":"{signature}{end}'.encode()


def test_signed_text() -> None:
    """The exact bytes between the names, whatever their spacing."""
    text = '{ "id" : "TDX", "signature":"not this one" }'
    assert signed_text(answer(text), "tcbInfo") == (text, b"\n" * 64)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        answer("{}", member="enclaveIdentity"),
        answer("{}", signature="0a" * 63),
        answer("{}", signature="zz" * 64),
        answer("{}", end='"} '),
        answer("{}", end='","more":1}'),
        answer("[]"),
        answer('{"é":1}'),
        answer("{}").replace(b"signature", b"signaturf"),
        answer("{" + " " * (96 * 1024) + "}"),
    ],
)
def test_answers_of_another_form(body: bytes) -> None:
    """One document and its signature, nothing before, between or after."""
    with pytest.raises(Malformed, match="tdx-pcs-answer"):
        signed_text(body, "tcbInfo")
