"""What a verifier that trusts one mock token service, and no other, is configured with."""

from __future__ import annotations

from attest.collateral.tokens import MOCK_MAA_ISSUER, MaaRoots, NrasRoots
from attest.evidence.maa_claims import AttestationKind, TeeKind
from attest.mock.maa import POLICY_HASH, MockMaa
from attest.mock.nras import MockNras
from attest.verify.maa import MaaPolicy


def nras_roots(service: MockNras) -> NrasRoots:
    """Roots that trust this service only."""
    return NrasRoots(nvidia=False, mock_jwks_sha256=service.jwks_sha256)


def maa_roots(service: MockMaa) -> MaaRoots:
    """Roots that trust this service only."""
    return MaaRoots(azure=False, mock_jwks_sha256=service.jwks_sha256)


def mock_policy(kind: AttestationKind = "azurevm", tee: TeeKind = "sevsnpvm") -> MaaPolicy:
    """The policy that a mock service's honest tokens meet."""
    return MaaPolicy(issuer=MOCK_MAA_ISSUER, kind=kind, tee=tee, policy_hashes=frozenset({POLICY_HASH}))
