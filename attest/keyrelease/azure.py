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
from dataclasses import dataclass
from typing import Any, Final, Protocol

import httpx2
from azure.core.credentials import TokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError
from azure.keyvault.keys import KeyClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from attest import strict_json
from attest.attesters.base import CpuAttester
from attest.evidence.cpu import CpuEvidence, SnpEvidence
from attest.evidence.tokens import MAX_TOKEN_BYTES
from attest.keyrelease.released_key import ReleasedKey, open_released_key
from attest.refusal import Malformed, Refused

API_VERSION: Final = "2025-06-01"
ALGORITHM: Final = "RSA_AES_KEY_WRAP_256"
TIMEOUT_S: Final = 30.0
CLAUSE: Final = "Azure Attestation REST API, Attestation"

_KEY_BITS: Final = 3072
_EXPONENT: Final = 65537
_NONCE_BYTES: Final = 32
_OK: Final = 200
_FORBIDDEN: Final = frozenset({401, 403})


class EnclaveKey:
    """An RSA key pair that never leaves this process: what a released key is wrapped to."""

    def __init__(self) -> None:
        self._private = rsa.generate_private_key(_EXPONENT, _KEY_BITS)

    def __repr__(self) -> str:
        return f"EnclaveKey({_KEY_BITS} bits)"

    @property
    def modulus_size(self) -> int:
        """Bytes of a ciphertext."""
        return self._private.key_size // 8

    @property
    def runtime_data(self) -> bytes:
        """A key set with the public half, as the attestation service puts it into its token."""
        numbers = self._private.public_key().public_numbers()
        size = self.modulus_size
        key = {
            "kty": "RSA",
            "kid": "sealgate-release",
            "key_ops": ["encrypt"],
            "n": strict_json.b64url_encode(numbers.n.to_bytes(size, "big")),
            "e": strict_json.b64url_encode(numbers.e.to_bytes(3, "big")),
        }
        return strict_json.canonical({"keys": [key]})

    def decrypt(self, ciphertext: bytes, algorithm: str) -> bytes:
        """RSA-OAEP as ``algorithm`` says.

        Raises:
            Refused: ``key-release-unwrap``.
        """
        digest = hashes.SHA384() if algorithm.endswith("384") else hashes.SHA256()
        try:
            return self._private.decrypt(ciphertext, padding.OAEP(padding.MGF1(digest), digest, None))
        except ValueError as error:
            raise Refused(
                "key-release-unwrap", "RFC 8017 section 7.1", expected="a key wrapped for us", got="another"
            ) from error


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


class Vault(Protocol):
    """The one call of ``KeyClient`` that a release takes."""

    def release_key(
        self,
        name: str,
        target_attestation_token: str,
        *,
        version: str | None = None,
        algorithm: str | None = None,
        nonce: str | None = None,
    ) -> Any:
        """The released key in ``.value``, a JWS."""
        ...


def obtain_key(
    wanted: Wanted,
    attester: CpuAttester,
    credential: TokenCredential,
    *,
    chain: tuple[bytes, ...] = (),
    client: httpx2.Client | None = None,
    vault_of: Callable[[str, TokenCredential], Vault] | None = None,
) -> ReleasedKey:
    """Obtain a key for this enclave.

    Args:
        wanted: the key.
        attester: of the TEE that this process runs in.
        credential: how this machine signs in, e.g. ``azure.identity.ManagedIdentityCredential()``.
        chain: DER certificates above a SEV-SNP chip's own (ASK, ARK), which the service wants to see.
        client: carries the question to the attestation service; default one with sensible bounds.
        vault_of: makes the vault's client; default ``KeyClient``.

    Raises:
        AttesterFailure: the TEE gave no evidence.
        Refused: ``key-release-attestation`` if the service says no, ``key-release-denied`` if the vault does,
            ``key-release-unreachable``, ``key-release-identity``, and as ``open_released_key`` does.
    """
    key = EnclaveKey()
    data = key.runtime_data
    evidence = attester.cpu_evidence(hashlib.sha256(data).digest().ljust(64, b"\x00"))
    token = _token(wanted.issuer, evidence, data, chain, client or httpx2.Client(timeout=TIMEOUT_S))
    nonce = secrets.token_hex(_NONCE_BYTES)
    vault = (vault_of or _key_client)(wanted.vault_url, credential)
    answer = _release(vault, wanted, token, nonce)
    return open_released_key(
        answer, nonce=nonce, algorithm=ALGORITHM, modulus_size=key.modulus_size, decrypt=key.decrypt
    )


def _key_client(vault_url: str, credential: TokenCredential) -> Vault:
    client: Vault = KeyClient(vault_url, credential)
    return client


def attestation_request(
    evidence: CpuEvidence, runtime_data: bytes, chain: tuple[bytes, ...]
) -> tuple[str, dict[str, Any]]:
    """Path and body of the question to the attestation service.

    Args:
        evidence: over the SHA-256 of ``runtime_data``.
        runtime_data: the JSON that the report's data are the digest of.
        chain: DER certificates above a SEV-SNP chip's own.

    Raises:
        Refused: ``key-release-leaf`` for a report without the chip's certificate.
    """
    data = {"data": strict_json.b64url_encode(runtime_data), "dataType": "JSON"}
    if not isinstance(evidence, SnpEvidence):
        return "TdxVm", {"quote": strict_json.b64url_encode(evidence.quote), "runtimeData": data}
    leaf = evidence.collateral.leaf
    if leaf is None:
        raise Refused("key-release-leaf", CLAUSE, expected="the chip's certificate", got="none")
    above = chain or tuple(filter(None, (evidence.collateral.intermediate, evidence.collateral.ark)))
    report = {
        "SnpReport": strict_json.b64url_encode(evidence.report),
        "VcekCertChain": strict_json.b64url_encode(b"".join(map(_pem, (leaf, *above)))),
    }
    return "SevSnpVm", {
        "report": strict_json.b64url_encode(strict_json.canonical(report)),
        "runtimeData": data,
    }


def _token(
    issuer: str, evidence: CpuEvidence, data: bytes, chain: tuple[bytes, ...], client: httpx2.Client
) -> str:
    kind, body = attestation_request(evidence, data, chain)
    url = f"{issuer}/attest/{kind}?api-version={API_VERSION}"
    try:
        with client.stream("POST", url, json=body, follow_redirects=False) as response:
            answer = bytearray()
            for part in response.iter_raw():
                answer += part
                if len(answer) > 2 * MAX_TOKEN_BYTES:
                    raise Refused("key-release-attestation", CLAUSE, expected="a token", got="too much")
    except httpx2.HTTPError as error:
        raise Refused(
            "key-release-unreachable", CLAUSE, expected="the attestation service", got=type(error).__name__
        ) from error
    if response.status_code != _OK:
        raise Refused("key-release-attestation", CLAUSE, expected="200", got=str(response.status_code))
    value = strict_json.loads(bytes(answer), name="key-release", max_bytes=2 * MAX_TOKEN_BYTES)
    token = value.get("token") if isinstance(value, dict) else None
    if not isinstance(token, str) or not 0 < len(token) <= MAX_TOKEN_BYTES:
        raise Malformed("key-release-members", "the answer holds no token", clause=CLAUSE)
    return token


def _release(vault: Vault, wanted: Wanted, token: str, nonce: str) -> bytes:
    clause = "Azure Key Vault, release key"
    try:
        result = vault.release_key(
            wanted.name, token, version=wanted.version, algorithm=ALGORITHM, nonce=nonce
        )
    except ClientAuthenticationError as error:
        raise Refused("key-release-identity", clause, expected="an identity", got="refused") from error
    except HttpResponseError as error:
        raise Refused(
            "key-release-denied" if error.status_code in _FORBIDDEN else "key-release-unreachable",
            clause,
            expected="a released key",
            got=f"status {error.status_code}",
        ) from error
    except (AzureError, ValueError) as error:
        raise Refused(
            "key-release-unreachable", clause, expected="an answer of the vault", got=type(error).__name__
        ) from error
    value = getattr(result, "value", None)
    if not isinstance(value, str) or not value.isascii():
        raise Malformed("key-release-members", "the vault's answer holds no value", clause=clause)
    return value.encode()


def _pem(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
