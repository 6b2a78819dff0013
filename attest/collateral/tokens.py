"""What token verification stands on: the issuers' key sets, and who else may issue.

A token service publishes no root: its key set is the trust, so it is configured or fetched over TLS from the
issuer's own address, never from where a token says (``jku``) and never from evidence. NVIDIA's keys carry a
certificate by one intermediate that is pinned here, which leaves TLS with nothing to forge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from attest.evidence.tokens import MOCK_MAA_ISSUER, MOCK_NRAS_ISSUER, JwkSetCollateral

NRAS_ISSUER: Final = "https://nras.attestation.nvidia.com"

NRAS_INTERMEDIATES_SHA256: Final = frozenset(
    {
        # NVIDIA Attestation Service GPU Intermediate 004, 2025-12-08 to 2029-12-08
        "2df8907cf4d6c277b855d407ec178a649930a8e73f7294e8fce66e6ee27c5175",
    }
)
"""SHA-256 of the DER certificates under which NVIDIA's attestation service certifies its signing keys."""


@dataclass(frozen=True, slots=True)
class NrasRoots:
    """Whose GPU verdicts count. Nothing is accepted unless it is named here.

    Args:
        nvidia: NVIDIA's service, by the pinned intermediates.
        mock_jwks_sha256: digest (lower-case hex) of one mock service's key set, or ``None``.
        intermediates: the pins; SHA-256 of DER certificates, lower-case hex.
        key_sets: digests (lower-case hex) of key sets of NVIDIA's that the operator vouches for; their keys
            need no certificate by a pinned intermediate.
    """

    nvidia: bool
    mock_jwks_sha256: str | None = None
    intermediates: frozenset[str] = NRAS_INTERMEDIATES_SHA256
    key_sets: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class MaaRoots:
    """Whose Azure verdicts count. Nothing is accepted unless it is named here.

    Args:
        azure: Microsoft's service at the address that the policy names, by the key set that is configured.
        mock_jwks_sha256: digest (lower-case hex) of one mock service's key set, or ``None``.
    """

    azure: bool
    mock_jwks_sha256: str | None = None


__all__ = [
    "MOCK_MAA_ISSUER",
    "MOCK_NRAS_ISSUER",
    "NRAS_INTERMEDIATES_SHA256",
    "NRAS_ISSUER",
    "JwkSetCollateral",
    "MaaRoots",
    "NrasRoots",
]
