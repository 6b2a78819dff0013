"""A runtime on a mock machine, as far as its evidence shows it: the honest one that faults start from.

``MockWorld`` answers a nonce as an honest runtime would, and says which trust file and reference values
accept exactly that runtime and no other. Tests, the development server and the demo share it, so that a
fault differs from honesty in the one thing it is named for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from attest.accepted.runtime import RuntimeReference
from attest.attesters.base import NO_DEVICES, DeviceAnswers
from attest.evidence.bundle import Bundle
from attest.keyset import Keyset
from attest.mock.machine import MockMachine
from attest.reference import ReferenceValues
from attest.statement import Device, Statement, gpu_nonce, report_data
from attest.trust import TrustRoots


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class MockWorld:
    """One runtime on one mock machine.

    Args:
        machine: signs.
        statement: what the runtime states; nonce, keyset digest and devices are filled in per answer.
        keyset: the runtime's public keys.
        now: when revocation lists and answers are issued, aware; None is the clock.
    """

    machine: MockMachine
    statement: Statement
    keyset: Keyset
    now: datetime | None = None

    def __repr__(self) -> str:
        return f"MockWorld({self.machine!r}, {self.keyset.digest})"

    def answers(self, nonce: str | None) -> DeviceAnswers:
        """What the devices answer for ``nonce`` and this world's keyset."""
        if nonce is None:
            return NO_DEVICES
        return self.machine.device_answers(gpu_nonce(nonce, self.keyset.digest), self.now)

    def stated(self, nonce: str | None, answers: DeviceAnswers = NO_DEVICES) -> Statement:
        """The statement that answers ``nonce`` for this world's keyset and binds the devices' answers."""
        devices = tuple(Device(each.kind, each.index, each.digest) for each in answers.devices)
        return replace(self.statement, nonce=nonce, keyset_digest=self.keyset.digest, devices=devices)

    def bundle(self, nonce: str | None) -> Bundle:
        """The honest answer, in parts."""
        answers = self.answers(nonce)
        return self.bundle_of(self.stated(nonce, answers), answers)

    def bundle_of(self, statement: Statement, answers: DeviceAnswers) -> Bundle:
        """A bundle in which the CPU vouches for ``statement``, with these devices beside it."""
        data = statement.canonical()
        cpu = self.machine.cpu.evidence(report_data(data), self.now)
        return Bundle(data, self.keyset.canonical(), cpu, answers.devices, answers.collateral)

    def answer(self, nonce: str | None) -> bytes:
        """The honest answer, as sent."""
        return self.bundle(nonce).serialise()

    def trust(self) -> TrustRoots:
        """The roots that this world's evidence stands under, and no others."""
        return TrustRoots(amd=False, intel=False, nvidia=False, mock=self.machine.roots())

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
        embedding = (
            frozenset() if statement.embedding_model_digest is None else {statement.embedding_model_digest}
        )
        return ReferenceValues(
            name="mock world",
            not_after=not_after,
            max_evidence_age=max_evidence_age,
            **self.machine.reference_parts(),
            runtime=RuntimeReference(
                roles=frozenset({statement.role}),
                regions=frozenset({statement.region}),
                images=frozenset({statement.runtime_image}),
                policy_digests=frozenset({statement.policy_digest}),
                base_model_digests=frozenset({statement.base_model_digest}),
                tokenizer_digests=frozenset({statement.tokenizer_digest}),
                contract_digests=frozenset(contract),
                embedding_model_digests=frozenset(embedding),
            ),
        )
