"""An enclave obtains a key from Azure Key Vault or Managed HSM, against a token of Azure Attestation.

    1  a key pair of this process, and runtime data that name its public half (RFC 7517)
    2  a hardware report over the runtime data                    the CPU's attester
    3  a token: the service judged the report under its policy    POST {issuer}/attest/SevSnpVm, or TdxVm
    4  the key, wrapped to the public half                        Key Vault, "release key"
    5  the key, unwrapped

What decides is the key's release policy, which Key Vault holds against the token (``release_policy`` writes
it from reference values); the token is handed on, and not believed here. This module opens connections, so
the serving image does not load it: it is for images that start with a key of their owner's (extra
``azure``).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import httpx2
from azure.core.credentials import TokenCredential

from attest.attesters.base import CpuAttester
from attest.evidence.cpu import CpuEvidence, SnpCollateral, SnpEvidence
from attest.keyrelease.azure_attestation import CLAUSE, attestation_request, attested_token
from attest.keyrelease.enclave_key import EnclaveKey
from attest.keyrelease.instance_metadata import InstanceMetadata
from attest.keyrelease.key_vault import ALGORITHM, Vault, key_client, released_answer
from attest.keyrelease.released_key import Decrypt, ReleasedKey, open_released_key
from attest.refusal import Malformed

TIMEOUT_S: Final = 30.0

_NONCE_BYTES: Final = 32

VaultOf = Callable[[str, TokenCredential], Vault]
"""Makes the client of the vault at an address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which key, from where, and who attests.

    Args:
        vault_url: of the vault or HSM, https.
        name: of the key.
        version: of the key; None is the latest.
        issuer: address of the instance of Azure Attestation, https.
    """

    vault_url: str
    name: str
    version: str | None = None
    issuer: str

    def __post_init__(self) -> None:
        for address in (self.vault_url, self.issuer):
            if not address.startswith("https://"):
                raise Malformed("key-release-address", "not an https address", clause=CLAUSE)


def obtain_key(
    wanted: Wanted,
    attester: CpuAttester,
    credential: TokenCredential,
    *,
    chain: tuple[bytes, ...] = (),
    metadata: InstanceMetadata | None = None,
    client: httpx2.Client | None = None,
    vault_of: VaultOf = key_client,
) -> ReleasedKey:
    """Obtain a key for this enclave.

    Args:
        wanted: the key.
        attester: of the TEE that this process runs in.
        credential: how this machine signs in, e.g. ``azure.identity.ManagedIdentityCredential()``.
        chain: DER certificates above a SEV-SNP chip's own (ASK, ARK), which the service wants to see.
        metadata: where to get the chip's certificates if the attester has none.
        client: carries the question to the attestation service; default one with sensible bounds.
        vault_of: makes the vault's client.

    Raises:
        AttesterFailure: the TEE gave no evidence.
        Refused: ``key-release-attestation`` if the service says no, ``key-release-denied`` if the vault does,
            ``key-release-busy``, ``key-release-unreachable``, ``key-release-identity``, ``key-release-leaf``,
            ``key-release-metadata``, and as ``open_released_key`` does.
    """
    key = EnclaveKey()
    data = key.runtime_data
    evidence = attester.cpu_evidence(hashlib.sha256(data).digest().ljust(64, b"\x00"))
    question = attestation_request(_with_leaf(evidence, metadata), data, chain)
    token = attested_token(wanted.issuer, question, client or httpx2.Client(timeout=TIMEOUT_S))
    return release_to(
        wanted, token, credential, modulus_size=key.modulus_size, decrypt=key.decrypt, vault_of=vault_of
    )


def release_to(
    wanted: Wanted,
    token: str,
    credential: TokenCredential,
    *,
    modulus_size: int,
    decrypt: Decrypt,
    vault_of: VaultOf = key_client,
) -> ReleasedKey:
    """Have a key released to whatever RSA key a token names.

    For guests under Azure's paravisor: there the token comes from Microsoft's guest attestation library, and
    names a key of the vTPM, which decrypts.

    Args:
        wanted: the key.
        token: of the attestation service.
        credential: how this machine signs in.
        modulus_size: bytes of the RSA key that the token names.
        decrypt: by that key.
        vault_of: makes the vault's client.

    Raises:
        Refused: as ``obtain_key`` does.
    """
    nonce = secrets.token_hex(_NONCE_BYTES)
    vault = vault_of(wanted.vault_url, credential)
    answer = released_answer(vault, wanted.name, wanted.version, token=token, nonce=nonce)
    return open_released_key(
        answer, nonce=nonce, algorithm=ALGORITHM, modulus_size=modulus_size, decrypt=decrypt
    )


def _with_leaf(evidence: CpuEvidence, metadata: InstanceMetadata | None) -> CpuEvidence:
    if metadata is None or not isinstance(evidence, SnpEvidence) or evidence.collateral.leaf is not None:
        return evidence
    return replace(evidence, collateral=SnpCollateral(*metadata.chip_certificates()))
