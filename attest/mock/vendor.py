"""A software TEE vendor. It proves nothing about hardware: it lets everything else run for real.

Reports and certificates have AMD's exact formats and go through the production verifier. What differs is
the root, which is made here, on this machine, and must be named in the trust file *and* in the reference
values before anything under it is accepted (promise P8).
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from attest.evidence.cpu import SnpCollateral
from attest.evidence.snp_tcb import Product, TcbVersion
from attest.mock.snp_certificates import (
    ARK_SERIAL,
    ASK_SERIAL,
    BACKDATE,
    Issuer,
    authority,
    leaf,
    revocation_list,
    vcek_extensions,
)
from attest.mock.snp_report import DEFAULT_TCB, MockLaunch, sign, unsigned_report

_RSA_BITS: Final = 4096
_CRL_REFRESH: Final = timedelta(hours=1)
_ROOT_FILE: Final = "ark.der"
_KEY_FILES: Final = ("ark-key.pem", "ask-key.pem", "chip-key.pem")


@dataclass(frozen=True, slots=True, repr=False)
class MockKeys:
    """The vendor's private keys: root and intermediate (RSA-4096), chip (P-384)."""

    ark: rsa.RSAPrivateKey
    ask: rsa.RSAPrivateKey
    chip: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return "MockKeys(private)"

    @classmethod
    def generate(cls) -> MockKeys:
        """New keys; takes a second or two."""
        return cls(
            rsa.generate_private_key(65537, _RSA_BITS),
            rsa.generate_private_key(65537, _RSA_BITS),
            ec.generate_private_key(ec.SECP384R1()),
        )


class MockVendor:
    """One root, one intermediate, one chip of one product.

    Args:
        keys: the private keys.
        product: which product's layout and names to use.
        issued_at: when the chain was made (aware); everything is dated a day back.
        ark: the root certificate if it exists already (its digest is pinned elsewhere, and a second
            signature over the same content would differ).
    """

    def __init__(
        self,
        keys: MockKeys,
        *,
        product: Product = "Genoa",
        issued_at: datetime,
        ark: x509.Certificate | None = None,
    ) -> None:
        self.keys = keys
        self.product = product
        self._issued_at = issued_at
        self._ark_issuer = Issuer(f"ARK-{product}", keys.ark)
        self._ask_issuer = Issuer(f"SEV-{product}", keys.ask)
        self._ark = ark or authority(
            self._ark_issuer, self._ark_issuer, serial=ARK_SERIAL, issued_at=issued_at, path_length=None
        )
        ask = authority(
            self._ask_issuer, self._ark_issuer, serial=ASK_SERIAL, issued_at=issued_at, path_length=0
        )
        self._ark_der = self._ark.public_bytes(Encoding.DER)
        self._ask_der = ask.public_bytes(Encoding.DER)
        self._leaves: dict[TcbVersion, bytes] = {}
        self._crl: tuple[datetime, bytes] | None = None

    def __repr__(self) -> str:
        return f"MockVendor({self.product}, root {self.ark_sha256[:16]})"

    @classmethod
    def create(cls, *, product: Product = "Genoa", now: datetime | None = None) -> MockVendor:
        """A vendor with new keys, in memory only."""
        return cls(MockKeys.generate(), product=product, issued_at=now or datetime.now(UTC))

    @classmethod
    def load(cls, folder: Path) -> MockVendor:
        """The vendor that ``save`` wrote.

        Raises:
            FileNotFoundError: the folder holds none.
            ValueError: a file is not what it should be.
        """
        ark = x509.load_der_x509_certificate((folder / _ROOT_FILE).read_bytes())
        match [load_pem_private_key((folder / name).read_bytes(), None) for name in _KEY_FILES]:
            case [rsa.RSAPrivateKey() as ark_key, rsa.RSAPrivateKey() as ask_key, chip_key] if isinstance(
                chip_key, ec.EllipticCurvePrivateKey
            ):
                keys = MockKeys(ark_key, ask_key, chip_key)
            case _:
                raise ValueError(f"{folder} does not hold a mock vendor's keys")
        return cls(keys, issued_at=ark.not_valid_before_utc + BACKDATE, ark=ark)

    @classmethod
    def load_or_create(cls, folder: Path) -> MockVendor:
        """The vendor in ``folder``; made and saved there if there is none."""
        if (folder / _ROOT_FILE).exists():
            return cls.load(folder)
        vendor = cls.create()
        vendor.save(folder)
        return vendor

    def save(self, folder: Path) -> None:
        """Write the keys (owner only) and the root. The root comes last: it marks a complete folder."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        keys: tuple[rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, ...] = (
            self.keys.ark,
            self.keys.ask,
            self.keys.chip,
        )
        for file_name, key in zip(_KEY_FILES, keys, strict=True):
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            _write_private(folder / file_name, pem)
        _write_private(folder / _ROOT_FILE, self._ark_der)

    @property
    def ark_sha256(self) -> str:
        """Digest of the root certificate, lower-case hex: what a trust file pins."""
        return hashlib.sha256(self._ark_der).hexdigest()

    @property
    def chip_id(self) -> bytes:
        """The chip's identity: 64 bytes (Milan, Genoa) or 8 bytes (Turin)."""
        public = self.keys.chip.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha512(public).digest()[: 8 if self.product == "Turin" else 64]

    def collateral(self, tcb: TcbVersion = DEFAULT_TCB, *, now: datetime | None = None) -> SnpCollateral:
        """Chain and revocation list for the chip at ``tcb``.

        Args:
            tcb: the REPORTED_TCB of the reports to be verified; each version has its own leaf.
            now: when the revocation list is issued; default is the clock.
        """
        return SnpCollateral(
            leaf=self._leaf(tcb),
            intermediate=self._ask_der,
            ark=self._ark_der,
            crl=self._fresh_crl(now or datetime.now(UTC)),
        )

    def report(self, report_data: bytes, launch: MockLaunch) -> bytes:
        """A signed report.

        Raises:
            ValueError: ``report_data`` is not 64 bytes, or a field of ``launch`` has the wrong length.
        """
        report = unsigned_report(report_data, launch, product=self.product, chip_id=self.chip_id)
        return sign(report, self.keys.chip)

    def revocation_list(self, revoked_serials: tuple[int, ...], *, now: datetime) -> bytes:
        """A revocation list of the root, DER."""
        return revocation_list(self._ark_issuer, revoked_serials, issued_at=now)

    def _leaf(self, tcb: TcbVersion) -> bytes:
        if tcb not in self._leaves:
            certificate = leaf(
                self.keys.chip.public_key(),
                self._ask_issuer,
                vcek_extensions(self.product, tcb, self.chip_id),
                common_name="SEV-VCEK",
                issued_at=self._issued_at,
            )
            self._leaves[tcb] = certificate.public_bytes(Encoding.DER)
        return self._leaves[tcb]

    def _fresh_crl(self, now: datetime) -> bytes:
        if self._crl is None or abs(now - self._crl[0]) > _CRL_REFRESH:
            self._crl = (now, self.revocation_list((), now=now))
        return self._crl[1]


def _write_private(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
