"""The devices of a whole simulated machine: one GPU, or a board of four or eight behind switches."""

from __future__ import annotations

from typing import Final

from attest.mock.nvidia_report import SWITCH_BIOS_VERSION, MockGpu

SWITCHES: Final = 4
MAX_GPUS: Final = 8
SWITCH_PDIS: Final = tuple(bytes([0x50 + place] * 8) for place in range(SWITCHES))
GPU_PDIS: Final = tuple(bytes([0x60 + place] * 8) for place in range(MAX_GPUS))

_PROTECTED_PCIE: Final = 2
_SEVERAL: Final = 1


def devices_of(gpus: int) -> tuple[MockGpu, ...]:
    """The devices of a machine with so many GPUs, as such machines are built.

    One GPU stands alone. Four or eight are a board in protected PCIe mode, every GPU linked to each of four
    switches. Other numbers are single GPUs of one tenant.

    Raises:
        ValueError: not 1 to 8.
    """
    if not 1 <= gpus <= MAX_GPUS:
        raise ValueError(f"1 to {MAX_GPUS} GPUs, not {gpus}")
    if gpus == 1:
        return (MockGpu(),)
    if gpus in {4, 8}:
        return board(gpus=gpus)
    return tuple(MockGpu(index=place, feature_flag=_SEVERAL) for place in range(gpus))


def board(*, gpus: int = MAX_GPUS, switches: int = SWITCHES) -> tuple[MockGpu, ...]:
    """A whole board in protected PCIe mode: every GPU linked to every switch."""
    return (
        *(
            MockGpu(
                index=place,
                protected_pcie=True,
                feature_flag=_PROTECTED_PCIE,
                peers=SWITCH_PDIS[:switches],
            )
            for place in range(gpus)
        ),
        *(
            MockGpu(
                arch="LS10",
                index=place,
                vbios_version=SWITCH_BIOS_VERSION,
                own_pdi=SWITCH_PDIS[place],
                peers=GPU_PDIS[:gpus],
            )
            for place in range(switches)
        ),
    )
