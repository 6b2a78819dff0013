"""A TDX vendor whose every document and certificate a test may write as it likes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attest.checks import CheckList
from attest.collateral.tdx import TdxRoots
from attest.evidence.tdx_evidence import TdxCollateral
from attest.mock.tdx import MockTdxKeys, MockTdxVendor
from attest.mock.tdx_certificates import Party, certificate, sgx_extension
from attest.mock.tdx_documents import MockTcb, qe_identity, tcb_info, text_of
from attest.mock.tdx_quote import MockTdLaunch, QuoteKeys, signed_quote
from attest.verify.tdx import VerifiedTdx, verify_tdx

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
REPORT_DATA = bytes(range(64))
Change = Callable[[dict[str, Any]], Any]


class TdxWorld:
    """One mock vendor at one time, and ways to depart from it."""

    def __init__(self, keys: MockTdxKeys | None = None) -> None:
        self.vendor = MockTdxVendor(keys or MockTdxKeys.generate(), issued_at=NOW)
        self.roots = TdxRoots(intel=False, mock_root_sha256=self.vendor.root_sha256)
        self.good = self.vendor.collateral(now=NOW)

    def verify(
        self,
        quote: bytes | None = None,
        collateral: TdxCollateral | None = None,
        *,
        launch: MockTdLaunch | None = None,
        now: datetime = NOW,
        **options: Any,
    ) -> VerifiedTdx:
        """The verifier under test; whatever is not given is honest."""
        return verify_tdx(
            quote or self.vendor.quote(REPORT_DATA, launch),
            collateral or self.good,
            options.pop("roots", self.roots),
            now=now,
            checks=options.pop("checks", CheckList()),
            **options,
        )

    def collateral(
        self,
        change_tcb: Change | None = None,
        change_qe: Change | None = None,
        revoked: tuple[int, ...] = (),
        tcb: MockTcb | None = None,
    ) -> TdxCollateral:
        """Collateral signed after the documents were changed."""
        tcb = tcb or MockTcb()
        info = tcb_info(self.vendor.platform, tcb, issued_at=NOW)
        identity = qe_identity(tcb, issued_at=NOW)
        (change_tcb or dict)(info)
        (change_qe or dict)(identity)
        return self.vendor.signed_collateral(text_of(info), text_of(identity), now=NOW, revoked=revoked)

    def pem(self, subject: Party, issuer: Party, **options: Any) -> bytes:
        """A certificate of this vendor's making, PEM."""
        made = certificate(subject, issuer, **{"serial": 7, "issued_at": NOW, **options})
        return made.public_bytes(Encoding.PEM)

    def chain_pems(self) -> tuple[bytes, bytes, bytes]:
        """The honest PCK certificate, authority and root."""
        loaded = x509.load_pem_x509_certificates(self.vendor.quote_keys.pck_chain.rstrip(b"\x00"))
        pck, authority, root = (each.public_bytes(Encoding.PEM) for each in loaded)
        return pck, authority, root

    def quote_with_chain(self, *pems: bytes, launch: MockTdLaunch | None = None) -> bytes:
        """A quote, well signed, with another chain in it."""
        keys = self.vendor.quote_keys
        other = QuoteKeys(keys.attestation, keys.platform, b"".join(pems))
        return signed_quote(REPORT_DATA, launch or MockTdLaunch(), other)

    def pck(self, *, name: str = "Intel SGX PCK Certificate", sgx: bytes | None = None) -> bytes:
        """Another PCK certificate for the platform's key, PEM."""
        extension = sgx_extension(self.vendor.platform) if sgx is None else sgx
        return self.pem(Party(name, self.vendor.keys.platform), self.vendor.authority, sgx=extension)

    def with_signer_chain(self, pem: bytes) -> TdxCollateral:
        """Good documents under another chain."""
        return replace(self.good, tcb_info_issuer_chain=pem.decode())
