"""Evidence on demand: a nonce in, a bundle out.

The statement is made here from what this runtime serves; the attester signs its hash. Nothing a client sends
enters it but the nonce.
"""

from __future__ import annotations

from dataclasses import dataclass

from attest.attesters.base import Attester
from attest.evidence.bundle import Bundle
from attest.keyset import Keyset
from attest.statement import Statement, report_data
from runtime.identity import Epoch, RuntimeIdentity


@dataclass(frozen=True, kw_only=True)
class Served:
    """What the statement says of this runtime besides its keys.

    Args:
        policy_digest: of the policy bundle it was configured with.
        base_model_digest: of the weights it loaded.
        tokenizer_digest: of the tokenizer it loaded.
        runtime_image: name or digest of the image.
        key_scope: name of this replica.
        region: where its operator says it runs.
    """

    policy_digest: str
    base_model_digest: str
    tokenizer_digest: str
    runtime_image: str
    key_scope: str
    region: str


class Attestation:
    """Makes bundles.

    Args:
        attester: of the TEE that this process runs in.
        identity: whose current keys the statement names.
        served: what else it says.
    """

    def __init__(self, attester: Attester, identity: RuntimeIdentity, served: Served) -> None:
        self._attester = attester
        self._identity = identity
        self._served = served

    def __repr__(self) -> str:
        return f"Attestation({self._attester.kind}, {self._served!r})"

    def epoch(self) -> Epoch:
        """The epoch that a statement made now names."""
        return self._identity.current()

    def statement(self, epoch: Epoch, nonce: str | None) -> Statement:
        """What this runtime states about itself and the keys of ``epoch``.

        Raises:
            Malformed: ``nonce-form``.
        """
        previous = epoch.previous
        return self._state(
            epoch.keyset, nonce, None if previous is None else self._self_description(previous)
        )

    def bundle(self, epoch: Epoch, nonce: str) -> bytes:
        """The evidence that answers ``nonce``, serialised. Blocks while the hardware signs.

        Raises:
            Malformed: ``nonce-form``.
            AttesterFailure: the TEE gave no evidence.
        """
        statement = self.statement(epoch, nonce).canonical()
        cpu = self._attester.cpu_evidence(report_data(statement))
        return Bundle(statement=statement, keyset=epoch.keyset.canonical(), cpu=cpu).serialise()

    def _self_description(self, keyset: Keyset) -> str:
        """Digest of the nonce-less statement about an earlier keyset: its name in a chain."""
        return self._state(keyset, None, None).digest

    def _state(self, keyset: Keyset, nonce: str | None, previous_statement: str | None) -> Statement:
        return Statement(
            nonce=nonce,
            keyset_digest=keyset.digest,
            policy_digest=self._served.policy_digest,
            base_model_digest=self._served.base_model_digest,
            tokenizer_digest=self._served.tokenizer_digest,
            runtime_image=self._served.runtime_image,
            key_scope=self._served.key_scope,
            region=self._served.region,
            previous_statement=previous_statement,
        )
