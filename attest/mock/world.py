"""A runtime on the mock vendor, as far as its evidence shows it: the honest one that faults start from.

``MockWorld`` answers a nonce as an honest runtime would, and says which trust file and reference values
accept exactly that runtime and no other. Tests, the development server and the demo share it, so that a
fault differs from honesty in the one thing it is named for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from attest.evidence.bundle import Bundle
from attest.evidence.cpu import CpuEvidence
from attest.keyset import Keyset
from attest.mock.snp_report import MockLaunch
from attest.mock.vendor import MockVendor
from attest.reference import ReferenceValues, RuntimeReference, SnpReference
from attest.statement import Statement, report_data
from attest.trust import TrustRoots


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class MockWorld:
    """One runtime under one mock vendor.

    Args:
        vendor: signs.
        launch: how the guest was launched.
        statement: what the runtime states; nonce and keyset digest are filled in per answer.
        keyset: the runtime's public keys.
        now: when revocation lists are issued, aware; None is the clock.
    """

    vendor: MockVendor
    launch: MockLaunch
    statement: Statement
    keyset: Keyset
    now: datetime | None = None

    def __repr__(self) -> str:
        return f"MockWorld({self.vendor!r}, {self.keyset.digest})"

    def stated(self, nonce: str | None) -> Statement:
        """The statement that answers ``nonce`` for this world's keyset."""
        return replace(self.statement, nonce=nonce, keyset_digest=self.keyset.digest)

    def evidence(self, data: bytes) -> CpuEvidence:
        """CPU evidence over 64 bytes of report data."""
        report = self.vendor.report(data, self.launch)
        return CpuEvidence("snp", report, self.vendor.collateral(self.launch.tcb, now=self.now))

    def bundle(self, nonce: str | None) -> Bundle:
        """The honest answer, in parts."""
        statement = self.stated(nonce).canonical()
        return Bundle(statement, self.keyset.canonical(), self.evidence(report_data(statement)))

    def answer(self, nonce: str | None) -> bytes:
        """The honest answer, as sent."""
        return self.bundle(nonce).serialise()

    def trust(self) -> TrustRoots:
        """The roots that this world's evidence stands under, and no others."""
        return TrustRoots(amd=False, mock_ark_sha256=self.vendor.ark_sha256)

    def reference(
        self, *, not_after: datetime, max_evidence_age: timedelta = timedelta(hours=1)
    ) -> ReferenceValues:
        """Reference values that accept exactly this world.

        Args:
            not_after: when they end, aware.
            max_evidence_age: how long a verdict may be used.
        """
        statement = self.statement
        contract = frozenset() if statement.contract_digest is None else {statement.contract_digest}
        return ReferenceValues(
            name="mock world",
            not_after=not_after,
            max_evidence_age=max_evidence_age,
            vendors=frozenset({"mock"}),
            mock_ark_sha256=self.vendor.ark_sha256,
            snp=SnpReference(
                products=frozenset({self.vendor.product}),
                signing_keys=frozenset({"vcek"}),
                vmpls=frozenset({self.launch.vmpl}),
                measurements=frozenset({self.launch.measurement.hex()}),
                min_guest_svn=self.launch.guest_svn,
                min_tcb={self.vendor.product: self.launch.tcb},
            ),
            runtime=RuntimeReference(
                roles=frozenset({statement.role}),
                regions=frozenset({statement.region}),
                images=frozenset({statement.runtime_image}),
                policy_digests=frozenset({statement.policy_digest}),
                base_model_digests=frozenset({statement.base_model_digest}),
                tokenizer_digests=frozenset({statement.tokenizer_digest}),
                contract_digests=frozenset(contract),
                gpus=0,
            ),
        )
