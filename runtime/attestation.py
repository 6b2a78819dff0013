"""Evidence on demand: a nonce in, a bundle out.

The devices are asked first, with a nonce derived from the client's and from the keys. The statement is made
here from what this runtime serves and binds their answers; the CPU signs its hash. Nothing a client sends
enters it but the nonce.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from attest import strict_json
from attest.attesters.base import NO_DEVICES, Attester, DeviceAnswers
from attest.digest import sha256_digest
from attest.evidence.bundle import Bundle
from attest.keyset import Keyset
from attest.statement import Device, Statement, gpu_nonce, report_data
from runtime.identity import Epoch, RuntimeIdentity

_BOTH_CHECKS: Final = "sealgate-self-checks-v1"


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
        self_check: digest of the checks that engine and embedder passed (``stated_check``); None for none.
        embedding_model_digest: of the embedding model it loaded; None if it has none.
    """

    policy_digest: str
    base_model_digest: str
    tokenizer_digest: str
    runtime_image: str
    key_scope: str
    region: str
    self_check: str | None = None
    embedding_model_digest: str | None = None


def stated_check(engine: str | None, embedder: str | None) -> str | None:
    """The statement's ``self_check``: the engine's own, or where an embedder stands beside it, one over both.

    Args:
        engine: digest of the check that the engine passed; None if it has none.
        embedder: digest of the embedder's; None if there is none.
    """
    if embedder is None:
        return engine
    both = {"format": _BOTH_CHECKS, "engine": engine, "embedder": embedder}
    return sha256_digest(strict_json.canonical(both))


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

    def statement(self, epoch: Epoch, nonce: str | None, answers: DeviceAnswers = NO_DEVICES) -> Statement:
        """What this runtime states about itself, the keys of ``epoch``, and the devices that answered.

        Raises:
            Malformed: ``nonce-form``.
        """
        previous = None if epoch.previous is None else self._state(epoch.previous, None, None).digest
        stated = self._state(epoch.keyset, nonce, previous)
        devices = tuple(Device(each.kind, each.index, each.digest) for each in answers.devices)
        return replace(stated, devices=devices)

    def bundle(self, epoch: Epoch, nonce: str) -> bytes:
        """The evidence that answers ``nonce``, serialised. Blocks while the hardware signs.

        Raises:
            Malformed: ``nonce-form``.
            AttesterFailure: the TEE gave no evidence.
        """
        answers = self._attester.device_answers(gpu_nonce(nonce, epoch.keyset.digest))
        statement = self.statement(epoch, nonce, answers).canonical()
        cpu = self._attester.cpu_evidence(report_data(statement))
        return Bundle(
            statement=statement,
            keyset=epoch.keyset.canonical(),
            cpu=cpu,
            devices=answers.devices,
            nvidia=answers.collateral,
        ).serialise()

    def _state(self, keyset: Keyset, nonce: str | None, previous_statement: str | None) -> Statement:
        """Without devices; with neither nonce nor predecessor its digest names a keyset in a chain."""
        return Statement(
            nonce=nonce,
            keyset_digest=keyset.digest,
            policy_digest=self._served.policy_digest,
            base_model_digest=self._served.base_model_digest,
            tokenizer_digest=self._served.tokenizer_digest,
            runtime_image=self._served.runtime_image,
            key_scope=self._served.key_scope,
            region=self._served.region,
            self_check=self._served.self_check,
            embedding_model_digest=self._served.embedding_model_digest,
            previous_statement=previous_statement,
        )
