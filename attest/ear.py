"""The verdict in the words of others: AR4SI trustworthiness claims in an EAR-shaped result.

Numbers are those of draft-ietf-rats-ar4si section 2.3: 2 to 31 affirming, 32 to 95 warning, 96 and more
contraindicated, 0 no claim. A verdict exists only if every check held, so there are two vectors: one for
hardware and one for the mock, which affirms the software and never the hardware. Whoever reads a mock's
result by these rules alone will not take it for a protected one. Each attester has a submodule of its own:
the runtime as a whole, its CPU, and every device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

PROFILE: Final = "tag:github.com,2023:veraison/ear"

_CONTRAINDICATED: Final = 96
_WARNING: Final = 32
_AFFIRMING: Final = 2

HARDWARE_CLAIMS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "instance-identity": 2,  # the keys are those of a known kind of attester, by the statement's keyset
        "configuration": 2,  # policy bundle, role and region are approved
        "executables": 3,  # what was loaded at boot is approved; what is loaded later is the image's business
        "file-system": 0,
        "hardware": 2,  # genuine, firmware at or above the floor
        "runtime-opaque": 2,  # memory is closed to the host: encrypted, no debug, no migration
        "storage-opaque": 0,
        "sourced-data": 0,
    }
)
"""What an accepted runtime on genuine hardware has shown."""

DEVICE_CLAIMS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "instance-identity": 2,  # by the device's certificate
        "configuration": 2,  # its mode is approved
        "executables": 2,  # every measured block is one that the vendor published
        "file-system": 0,
        "hardware": 2,
        "runtime-opaque": 0,  # that its memory is closed follows from mode and firmware, and is not claimed
        "storage-opaque": 0,
        "sourced-data": 0,
    }
)
"""What an accepted device has shown."""

MOCK_DEVICE_CLAIMS: Final[Mapping[str, int]] = MappingProxyType({**DEVICE_CLAIMS, "hardware": 97})
"""What an accepted mock device has shown."""

MOCK_CLAIMS: Final[Mapping[str, int]] = MappingProxyType(
    {**HARDWARE_CLAIMS, "hardware": 97, "runtime-opaque": 96}  # not genuine hardware; open to its host
)
"""What an accepted runtime on the mock has shown."""


def status(claims: Mapping[str, int]) -> str:
    """The worst tier among the claims: ``affirming``, ``warning``, ``contraindicated`` or ``none``."""
    worst = max(claims.values())
    if worst >= _CONTRAINDICATED:
        return "contraindicated"
    if worst >= _WARNING:
        return "warning"
    return "affirming" if worst >= _AFFIRMING else "none"


@dataclass(frozen=True, slots=True)
class Submodule:
    """One attester's part of a result.

    Args:
        claims: its trustworthiness vector.
        extra: its private claims.
    """

    claims: Mapping[str, int]
    extra: Mapping[str, Any]


def attestation_result(
    submodules: Mapping[str, Submodule],
    *,
    issued_at: datetime,
    expires: datetime,
    nonce: str | None,
    policy_id: str,
) -> dict[str, Any]:
    """JSON claims of a result (draft-ietf-rats-ear section 3); ``attest.ear_token`` signs them.

    Args:
        submodules: of each attester, by name.
        issued_at: when the evidence was verified.
        expires: when the verdict ends.
        nonce: the answered nonce; left out if there was none.
        policy_id: digest of the reference values.
    """
    return {
        "eat_profile": PROFILE,
        "iat": int(issued_at.timestamp()),
        "exp": int(expires.timestamp()),
        **({} if nonce is None else {"eat_nonce": nonce}),
        "ear.verifier-id": {"developer": "https://sealgate.dev", "build": "sealgate"},
        "submods": {
            name: {
                "ear.status": status(submodule.claims),
                "ear.trustworthiness-vector": dict(submodule.claims),
                "ear.appraisal-policy-id": policy_id,
                **submodule.extra,
            }
            for name, submodule in submodules.items()
        },
    }
