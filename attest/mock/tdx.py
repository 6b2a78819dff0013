"""A software TDX vendor, beside ``attest.mock.vendor`` for SEV-SNP, and with the same promise: none.

Quotes, certificates and collateral have Intel's exact formats and go through the production verifier. What
differs is the root, which is made on this machine and must be named before anything under it is accepted.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from attest.evidence.tdx_evidence import TdxCollateral
from attest.mock.tdx_certificates import (
    AUTHORITY_NAME,
    BACKDATE,
    PCK_NAME,
    ROOT_NAME,
    SIGNER_NAME,
    MockPlatform,
    Party,
    certificate,
    revocation_list,
    sgx_extension,
)
from attest.mock.tdx_documents import MockTcb, qe_identity, tcb_info, text_of
from attest.mock.tdx_quote import MockTdLaunch, QuoteKeys, raw_signature, signed_quote

ROOT_SERIAL, AUTHORITY_SERIAL, SIGNER_SERIAL, PCK_SERIAL = 0x5EA0, 0x5EA1, 0x5EA2, 0x5EA3

_REFRESH: Final = timedelta(hours=1)
_ROOT_FILE: Final = "tdx-root.der"


@dataclass(frozen=True, slots=True, repr=False)
class MockTdxKeys:
    """The vendor's private keys, all P-256."""

    root: ec.EllipticCurvePrivateKey
    authority: ec.EllipticCurvePrivateKey
    signer: ec.EllipticCurvePrivateKey
    platform: ec.EllipticCurvePrivateKey
    attestation: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return "MockTdxKeys(private)"

    @classmethod
    def generate(cls) -> MockTdxKeys:
        """New keys."""
        return cls(*(ec.generate_private_key(ec.SECP256R1()) for _ in fields(cls)))


class MockTdxVendor:
    """One root, one PCK authority, one signing key, one platform.

    Args:
        keys: the private keys.
        issued_at: when the chains were made (aware); everything is dated a day back.
        root: the root certificate if it exists already (its digest is pinned elsewhere).
        platform: what the PCK certificate says.
    """

    def __init__(
        self,
        keys: MockTdxKeys,
        *,
        issued_at: datetime,
        root: x509.Certificate | None = None,
        platform: MockPlatform | None = None,
    ) -> None:
        self.keys = keys
        self.platform = platform or MockPlatform()
        self.root = Party(ROOT_NAME, keys.root)
        self.authority = Party(AUTHORITY_NAME, keys.authority)
        self.signer = Party(SIGNER_NAME, keys.signer)
        certificates = {
            "root": root
            or certificate(
                self.root,
                self.root,
                serial=ROOT_SERIAL,
                issued_at=issued_at,
                path_length=1,
                is_authority=True,
            ),
            "authority": certificate(
                self.authority,
                self.root,
                serial=AUTHORITY_SERIAL,
                issued_at=issued_at,
                path_length=0,
                is_authority=True,
            ),
            "signer": certificate(self.signer, self.root, serial=SIGNER_SERIAL, issued_at=issued_at),
            "pck": certificate(
                Party(PCK_NAME, keys.platform),
                self.authority,
                serial=PCK_SERIAL,
                issued_at=issued_at,
                sgx=sgx_extension(self.platform),
            ),
        }
        self._der = {name: each.public_bytes(Encoding.DER) for name, each in certificates.items()}
        self._pem = {name: each.public_bytes(Encoding.PEM) for name, each in certificates.items()}
        self._collateral: dict[MockTcb, tuple[datetime, TdxCollateral]] = {}

    def __repr__(self) -> str:
        return f"MockTdxVendor(root {self.root_sha256[:16]})"

    @classmethod
    def create(cls, *, now: datetime | None = None) -> MockTdxVendor:
        """A vendor with new keys, in memory only."""
        return cls(MockTdxKeys.generate(), issued_at=now or datetime.now(UTC))

    @classmethod
    def load(cls, folder: Path) -> MockTdxVendor:
        """The vendor that ``save`` wrote.

        Raises:
            FileNotFoundError: the folder holds none.
            ValueError: a file is not what it should be.
        """
        root = x509.load_der_x509_certificate((folder / _ROOT_FILE).read_bytes())
        keys = {
            field.name: load_pem_private_key((folder / _key_file(field.name)).read_bytes(), None)
            for field in fields(MockTdxKeys)
        }
        p256 = {name: key for name, key in keys.items() if isinstance(key, ec.EllipticCurvePrivateKey)}
        if len(p256) != len(keys):
            raise ValueError(f"{folder} does not hold a mock TDX vendor's keys")
        return cls(MockTdxKeys(**p256), issued_at=root.not_valid_before_utc + BACKDATE, root=root)

    @classmethod
    def load_or_create(cls, folder: Path) -> MockTdxVendor:
        """The vendor in ``folder``; made and saved there if there is none."""
        if (folder / _ROOT_FILE).exists():
            return cls.load(folder)
        vendor = cls.create()
        vendor.save(folder)
        return vendor

    def save(self, folder: Path) -> None:
        """Write the keys (owner only) and the root. The root comes last: it marks a complete folder."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for field in fields(MockTdxKeys):
            key: ec.EllipticCurvePrivateKey = getattr(self.keys, field.name)
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            _write_private(folder / _key_file(field.name), pem)
        _write_private(folder / _ROOT_FILE, self._der["root"])

    @property
    def root_sha256(self) -> str:
        """Digest of the root certificate, lower-case hex: what a trust file pins."""
        return hashlib.sha256(self._der["root"]).hexdigest()

    @property
    def quote_keys(self) -> QuoteKeys:
        """What the vendor's platform signs quotes with."""
        chain = self._pem["pck"] + self._pem["authority"] + self._pem["root"] + b"\x00"
        return QuoteKeys(self.keys.attestation, self.keys.platform, chain)

    def quote(self, report_data: bytes, launch: MockTdLaunch | None = None) -> bytes:
        """A signed quote.

        Raises:
            ValueError: ``report_data`` is not 64 bytes, or a field of ``launch`` has the wrong length.
        """
        return signed_quote(report_data, launch or MockTdLaunch(), self.quote_keys)

    def collateral(self, tcb: MockTcb | None = None, *, now: datetime | None = None) -> TdxCollateral:
        """Documents, lists and their chains.

        Args:
            tcb: what to say of the platform; default is that it is up to date.
            now: when they are issued; default is the clock.
        """
        tcb, now = tcb or MockTcb(), now or datetime.now(UTC)
        kept = self._collateral.get(tcb)
        if kept is None or abs(now - kept[0]) > _REFRESH:
            tcb_text = text_of(tcb_info(self.platform, tcb, issued_at=now))
            kept = now, self.signed_collateral(tcb_text, text_of(qe_identity(tcb, issued_at=now)), now=now)
            self._collateral[tcb] = kept
        return kept[1]

    def signed_collateral(
        self, tcb_text: str, qe_text: str, *, now: datetime, revoked: tuple[int, ...] = ()
    ) -> TdxCollateral:
        """Collateral with these two documents, signed whatever they say.

        Args:
            tcb_text: value of ``tcbInfo``.
            qe_text: value of ``enclaveIdentity``.
            now: when the lists are issued, aware.
            revoked: serial numbers that both lists name.
        """
        signer = (self._pem["signer"] + self._pem["root"]).decode()
        return TdxCollateral(
            pck_crl_issuer_chain=(self._pem["authority"] + self._pem["root"]).decode(),
            root_ca_crl=revocation_list(self.root, revoked, issued_at=now),
            pck_crl=revocation_list(self.authority, revoked, issued_at=now),
            tcb_info_issuer_chain=signer,
            tcb_info=tcb_text,
            tcb_info_signature=raw_signature(self.keys.signer, tcb_text.encode()),
            qe_identity_issuer_chain=signer,
            qe_identity=qe_text,
            qe_identity_signature=raw_signature(self.keys.signer, qe_text.encode()),
        )


def _key_file(name: str) -> str:
    return f"tdx-{name}-key.pem"


def _write_private(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
