"""What a GPU verification stands on: NVIDIA's two pinned roots, and who else may be a root.

Devices and golden values hang from different roots, which never stand in for each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

from attest.collateral.pinned import pinned_certificate

NVIDIA_DEVICE_ROOT_SHA256: Final = "102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48"
NVIDIA_RIM_ROOT_SHA256: Final = "12977b5115acb0381179279fffeb5a8c4d264971ebb32298023a465fa41df5d1"


@dataclass(frozen=True, slots=True)
class NvidiaRoots:
    """Which roots a verification may end in. Nothing is accepted unless it is named here.

    Args:
        nvidia: NVIDIA's pinned roots.
        mock_device_root_sha256: digest (lower-case hex) of one mock vendor's device root, or ``None``.
        mock_rim_root_sha256: digest of the same mock vendor's RIM root, or ``None``.
    """

    nvidia: bool
    mock_device_root_sha256: str | None = None
    mock_rim_root_sha256: str | None = None


@cache
def nvidia_device_root() -> bytes:
    """NVIDIA's root of device identities, DER.

    Raises:
        Refused: ``pinned-root-altered``.
    """
    return pinned_certificate("nvidia-device-root.pem", NVIDIA_DEVICE_ROOT_SHA256)


@cache
def nvidia_rim_root() -> bytes:
    """NVIDIA's root of golden values, DER.

    Raises:
        Refused: ``pinned-root-altered``.
    """
    return pinned_certificate("nvidia-rim-root.pem", NVIDIA_RIM_ROOT_SHA256)
