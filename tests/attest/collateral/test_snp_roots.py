"""The pinned roots are what the README says, sign what they should, and refuse to be swapped."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from cryptography import x509

from attest.collateral import snp
from attest.collateral.snp import AMD_ARK_SHA256, AMD_INTERMEDIATE_SHA256, amd_ark, amd_intermediate
from attest.evidence.snp_tcb import Product
from attest.refusal import Refused
from attest.verify.x509 import verify_issued

ROOTS = Path(snp.__file__).parent / "roots"
PRODUCTS: tuple[Product, ...] = ("Milan", "Genoa", "Turin")


@pytest.mark.parametrize("product", PRODUCTS)
def test_each_chain_holds(product: Product) -> None:
    """The root signed itself and both intermediates."""
    ark_der = amd_ark(product)
    ark = x509.load_der_x509_certificate(ark_der)
    verify_issued(ark, ark_der, ark, role="ARK")
    for kind in ("vcek", "vlek"):
        der = amd_intermediate(product, kind)
        verify_issued(x509.load_der_x509_certificate(der), der, ark, role=kind)


def test_readme_files_and_pins_agree() -> None:
    """Nine files, each with its digest in the README and in the code, and no other of AMD's in the folder."""
    readme = (ROOTS / "README.md").read_text()
    rows = dict(re.findall(r"^\| (amd-\S+\.pem) \| [^|]+ \| ([0-9a-f]{64}) \|", readme, re.MULTILINE))
    pins = {f"amd-{product.lower()}-ark.pem": sha256 for product, sha256 in AMD_ARK_SHA256.items()}
    for (product, kind), sha256 in AMD_INTERMEDIATE_SHA256.items():
        pins[f"amd-{product.lower()}-{'ask' if kind == 'vcek' else 'asvk'}.pem"] = sha256
    assert rows == pins
    assert len(pins) == 9
    assert {path.name for path in ROOTS.glob("amd-*")} == set(pins)
    for product in PRODUCTS:
        assert hashlib.sha256(amd_ark(product)).hexdigest() == AMD_ARK_SHA256[product]


@pytest.mark.parametrize(
    "content", [b"", b"-----BEGIN\n!!!\n-----END\n", (ROOTS / "amd-milan-ark.pem").read_bytes()]
)
def test_a_changed_file_refuses(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation whose root was swapped, even for another genuine one, trusts nothing."""
    (tmp_path / "roots").mkdir()
    (tmp_path / "roots" / "amd-genoa-ark.pem").write_bytes(content)
    monkeypatch.setattr(snp.resources, "files", lambda _: tmp_path)
    with pytest.raises(Refused, match="pinned-root-altered"):
        amd_ark.__wrapped__("Genoa")
