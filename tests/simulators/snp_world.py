"""A whole SEV-SNP world with its own root, in which a test may change any one thing.

Built from the mock vendor's parts; the chain can be of each product and of either leaf kind.
"""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from attest.checks import CheckList
from attest.collateral.snp import SnpRoots
from attest.evidence.cpu import SnpCollateral
from attest.evidence.snp_tcb import Product, TcbVersion
from attest.mock.snp_certificates import (
    ARK_SERIAL,
    ASK_SERIAL,
    VCEK_SERIAL,
    Issuer,
    authority,
    ia5_string,
    leaf,
    revocation_list,
    vcek_extensions,
)
from attest.mock.snp_report import MockLaunch, sign, unsigned_report
from attest.mock.vendor import MockKeys
from attest.verify.snp import VerifiedSnp, verify_snp

NOW = datetime(2026, 6, 1, tzinfo=UTC)
REPORT_DATA = bytes(range(64))
PROVIDER = "CN=cc-mock.example"


class SnpWorld:
    """One chain, one chip."""

    def __init__(
        self,
        keys: MockKeys,
        product: Product = "Genoa",
        kind: Literal["vcek", "vlek"] = "vcek",
        *,
        issued_at: datetime = NOW,
        tcb: TcbVersion | None = None,
    ) -> None:
        self.keys = keys
        self.product = product
        self.kind = kind
        self.issued_at = issued_at
        self.launch = MockLaunch(tcb=tcb or MockLaunch().tcb)
        self.chip_id = bytes(range(1, 9)) if product == "Turin" else bytes(range(64))
        self.ark_issuer = Issuer(f"ARK-{product}", keys.ark)
        self.ask_issuer = Issuer(f"SEV-{'VLEK-' if kind == 'vlek' else ''}{product}", keys.ask)
        self.ark = authority(
            self.ark_issuer, self.ark_issuer, serial=ARK_SERIAL, issued_at=issued_at, path_length=None
        )
        self.ask = authority(
            self.ask_issuer, self.ark_issuer, serial=ASK_SERIAL, issued_at=issued_at, path_length=0
        )

    @property
    def ark_der(self) -> bytes:
        """The root, DER."""
        return self.ark.public_bytes(Encoding.DER)

    @property
    def ask_der(self) -> bytes:
        """The intermediate, DER."""
        return self.ask.public_bytes(Encoding.DER)

    def extensions(self) -> dict[str, bytes]:
        """AMD's extensions of this chip's leaf, to be changed by a test."""
        extensions = vcek_extensions(self.product, self.launch.tcb, self.chip_id)
        if self.kind == "vlek":
            del extensions["4"]
            extensions["5"] = ia5_string(PROVIDER)
            extensions["2"] = ia5_string(self.product)
        return extensions

    def leaf(
        self,
        extensions: dict[str, bytes] | None = None,
        *,
        issuer: Issuer | None = None,
        common_name: str = "",
        key: ec.EllipticCurvePrivateKey | None = None,
        serial: int = VCEK_SERIAL,
    ) -> bytes:
        """A leaf, DER."""
        return self.leaf_certificate(
            extensions, issuer=issuer, common_name=common_name, key=key, serial=serial
        ).public_bytes(Encoding.DER)

    def leaf_certificate(
        self,
        extensions: dict[str, bytes] | None = None,
        *,
        issuer: Issuer | None = None,
        common_name: str = "",
        key: ec.EllipticCurvePrivateKey | None = None,
        serial: int = VCEK_SERIAL,
    ) -> x509.Certificate:
        """A leaf, parsed."""
        return leaf(
            (key or self.keys.chip).public_key(),
            issuer or self.ask_issuer,
            self.extensions() if extensions is None else extensions,
            common_name=common_name or f"SEV-{self.kind.upper()}",
            issued_at=self.issued_at,
            serial=serial,
        )

    def collateral(
        self, leaf_der: bytes | None = None, *, crl: bytes | None = None, ask: bytes | None = None
    ) -> SnpCollateral:
        """The whole chain."""
        return SnpCollateral(leaf_der or self.leaf(), ask or self.ask_der, self.ark_der, crl)

    def crl(self, *revoked: int, issuer: Issuer | None = None, issued_at: datetime | None = None) -> bytes:
        """A revocation list, DER."""
        return revocation_list(issuer or self.ark_issuer, revoked, issued_at=issued_at or self.issued_at)

    def report(
        self,
        launch: MockLaunch | None = None,
        *,
        edits: dict[int, bytes] | None = None,
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> bytes:
        """A report, with bytes replaced (by offset) before it is signed."""
        report = unsigned_report(
            REPORT_DATA,
            launch or self.launch,
            product=self.product,
            chip_id=bytes(64) if self.kind == "vlek" else self.chip_id,
            signing_key=self.kind,
        )
        for offset, value in (edits or {}).items():
            report[offset : offset + len(value)] = value
        return sign(report, key or self.keys.chip)

    @property
    def roots(self) -> SnpRoots:
        """This world's root and no other."""
        return SnpRoots(amd=False, mock_ark_sha256=sha256(self.ark_der).hexdigest())

    def verify(
        self,
        report: bytes | None = None,
        collateral: SnpCollateral | None = None,
        *,
        now: datetime = NOW,
        checks: CheckList | None = None,
    ) -> VerifiedSnp:
        """Verify under this world's root."""
        return verify_snp(
            report or self.report(),
            collateral or self.collateral(),
            self.roots,
            now=now,
            checks=CheckList() if checks is None else checks,
        )
