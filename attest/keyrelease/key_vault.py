"""Key Vault and Managed HSM, through the stock library, within bounds.

Left alone, the library waits as long as ``Retry-After`` says, for five minutes on a silent server, and takes
the attestation token along to wherever a redirect points. Here it does none of these.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from azure.core.credentials import TokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError
from azure.core.pipeline.policies import RetryPolicy
from azure.keyvault.keys import KeyClient

from attest.keyrelease.azure_attestation import BUSY, MAX_PAUSE_S
from attest.keyrelease.released_key import CLAUSE
from attest.refusal import Malformed, Refused

ALGORITHM: Final = "RSA_AES_KEY_WRAP_256"
RETRIES: Final = 3
CONNECT_S: Final = 10.0
READ_S: Final = 30.0

_FORBIDDEN: Final = frozenset({401, 403})


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


class _BoundedRetry(RetryPolicy[Any, Any]):
    """The library's policy, but for how long a server may ask it to wait."""

    def get_retry_after(self, response: Any) -> float | None:
        """Seconds to wait, at most ``MAX_PAUSE_S``."""
        seconds = super().get_retry_after(response)
        return None if seconds is None else min(seconds, MAX_PAUSE_S)


def key_client(vault_url: str, credential: TokenCredential, **options: Any) -> Vault:
    """The stock client with bounds.

    Args:
        vault_url: of the vault or HSM.
        credential: how this machine signs in.
        options: of the client, e.g. ``transport``.
    """
    bounded: dict[str, Any] = {
        "retry_policy": _BoundedRetry(retry_total=RETRIES, retry_backoff_max=MAX_PAUSE_S),
        "permit_redirects": False,
        "connection_timeout": CONNECT_S,
        "read_timeout": READ_S,
    }
    client: Vault = KeyClient(vault_url, credential, **(bounded | options))
    return client


def released_answer(vault: Vault, name: str, version: str | None, *, token: str, nonce: str) -> bytes:
    """The vault's answer, a JWS; not yet opened.

    Raises:
        Refused: ``key-release-identity``, ``key-release-denied``, ``key-release-busy``,
            ``key-release-unreachable``.
        Malformed: ``key-release-members``.
    """
    try:
        result = vault.release_key(name, token, version=version, algorithm=ALGORITHM, nonce=nonce)
    except ClientAuthenticationError as error:
        raise Refused("key-release-identity", CLAUSE, expected="an identity", got="refused") from error
    except HttpResponseError as error:
        raise _refusal(error.status_code) from error
    except (AzureError, ValueError) as error:
        raise Refused(
            "key-release-unreachable", CLAUSE, expected="an answer of the vault", got=type(error).__name__
        ) from error
    value = getattr(result, "value", None)
    if not isinstance(value, str) or not value.isascii():
        raise Malformed("key-release-members", "the vault's answer holds no value", clause=CLAUSE)
    return value.encode()


def _refusal(status: int | None) -> Refused:
    wanted, got = "a released key", f"status {status}"
    if status in _FORBIDDEN:
        return Refused("key-release-denied", CLAUSE, expected=wanted, got=got)
    if status in BUSY:
        return Refused("key-release-busy", CLAUSE, expected=wanted, got=got)
    return Refused("key-release-unreachable", CLAUSE, expected=wanted, got=got)
