"""What an NVIDIA report says beside its measurements: the vendor's opaque fields, by NVIDIA's numbers.

The fields are signed with the report. Unknown numbers are kept and ignored; a known one of another form is
refused, since every one read here decides something.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from attest.evidence.gpu import Architecture
from attest.refusal import Malformed, Unsupported

Kind = Literal["gpu", "switch"]
FeatureFlag = Literal["spt", "mpt", "ppcie"]

CLAUSE: Final = "NVIDIA SPDM opaque data"
(
    DRIVER_VERSION,
    VBIOS_VERSION,
    NVDEC0_STATUS,
    CHIP_SKU,
    PROJECT,
    PROJECT_SKU,
    FWID,
    PROTECTED_PCIE,
    SWITCH_PDI,
    GPU_PDI,
    CHIP_INFO,
    FEATURE_FLAG,
) = (3, 6, 11, 15, 17, 18, 20, 21, 22, 26, 35, 36)
PDI_SIZE: Final = 8
LINKS_OF_GPU: Final = 18  # NVLinks of one GPU, each with the identity of the switch at its end
GPUS_OF_SWITCH: Final = 8
UNUSED_PDI: Final = bytes(PDI_SIZE)

_ON, _OFF = 0xAA, 0x55
_FEATURES: Final[dict[int, FeatureFlag]] = {0: "spt", 1: "mpt", 2: "ppcie"}
_FWID_SIZE: Final = 48
_VBIOS_SIZE: Final = 8
_MAX_TEXT: Final = 64
_VERSION_CHARACTERS: Final = frozenset("0123456789abcdefABCDEF.")
# Whatever goes into the name of a RIM may be part of an address: letters, digits and nothing else.
_NAME_CHARACTERS: Final = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
# LS10 reports name no board; NVIDIA's tools use these for every one of them.
_LS10_BOARD: Final = ("5612", "0002", "890")


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """The facts of one report.

    Args:
        kind: GPU or NVSwitch.
        driver_version: e.g. ``"550.90.07"``; ``None`` for a switch.
        vbios_version: e.g. ``"96.00.9F.00.01"``.
        driver_rim_id: name of the driver's golden values at NVIDIA's service; ``None`` for a switch.
        vbios_rim_id: name of the VBIOS's golden values.
        chip: of the driver's golden values where the report names it (Blackwell), else ``None``.
        nvdec0_enabled: whether the video decoder runs, and so whether block 36 is measured.
        fwid: the firmware that the leaf key was derived for, 48 bytes; reports of 2023 have none.
        protected_pcie: whether NVLink traffic to the switches is protected; ``None`` if not said.
        feature_flag: single GPU, several tenants' GPUs, or a whole board; ``None`` if not said.
        pdis: identities of the devices at the other ends of its links.
        own_pdi: a switch's own identity, 8 bytes; ``None`` for a GPU, which does not say its own.
    """

    kind: Kind
    driver_version: str | None
    vbios_version: str
    driver_rim_id: str | None
    vbios_rim_id: str
    chip: str | None
    nvdec0_enabled: bool
    fwid: bytes | None
    protected_pcie: bool | None
    feature_flag: FeatureFlag | None
    pdis: frozenset[bytes]
    own_pdi: bytes | None

    @classmethod
    def read(cls, opaque: dict[int, bytes], arch: Architecture) -> GpuFacts:
        """Read the fields of a report of ``arch``.

        Raises:
            Malformed: ``gpu-opaque`` if one is missing or not of its form.
            Unsupported: ``gpu-feature-flag``.
        """
        return _switch(opaque) if arch == "LS10" else _gpu(opaque, arch)


def _gpu(opaque: dict[int, bytes], arch: Architecture) -> GpuFacts:
    driver = _text(opaque, DRIVER_VERSION, _VERSION_CHARACTERS)
    vbios = _vbios(_required(opaque, VBIOS_VERSION))
    chip = _text(opaque, CHIP_INFO, _NAME_CHARACTERS) if CHIP_INFO in opaque else None
    board = [_text(opaque, number, _NAME_CHARACTERS) for number in (PROJECT, PROJECT_SKU, CHIP_SKU)]
    prefix = "NV_GPU_DRIVER_GH100" if arch == "HOPPER" else f"NV_GPU_CC_DRIVER_{chip or 'GB100'}"
    return GpuFacts(
        kind="gpu",
        driver_version=driver,
        vbios_version=vbios,
        driver_rim_id=f"{prefix}_{driver}",
        vbios_rim_id=_vbios_rim_id("NV_GPU_VBIOS", board, vbios),
        chip=chip,
        nvdec0_enabled=_switch_state(_required(opaque, NVDEC0_STATUS), NVDEC0_STATUS),
        fwid=_sized(opaque, FWID, _FWID_SIZE),
        protected_pcie=_optional_state(opaque, PROTECTED_PCIE),
        feature_flag=_feature(opaque),
        pdis=_pdis(opaque, SWITCH_PDI, LINKS_OF_GPU),
        own_pdi=None,
    )


def _switch(opaque: dict[int, bytes]) -> GpuFacts:
    vbios = _text(opaque, VBIOS_VERSION, _VERSION_CHARACTERS)
    return GpuFacts(
        kind="switch",
        driver_version=None,
        vbios_version=vbios,
        driver_rim_id=None,
        vbios_rim_id=_vbios_rim_id("NV_SWITCH_BIOS", list(_LS10_BOARD), vbios),
        chip=None,
        nvdec0_enabled=True,  # a switch has no decoder: no block is ever skipped
        fwid=_sized(opaque, FWID, _FWID_SIZE),
        protected_pcie=_optional_state(opaque, PROTECTED_PCIE),
        feature_flag=_feature(opaque),
        pdis=_pdis(opaque, GPU_PDI, GPUS_OF_SWITCH),
        own_pdi=_sized(opaque, SWITCH_PDI, PDI_SIZE),
    )


def _vbios_rim_id(prefix: str, board: list[str], vbios: str) -> str:
    return "_".join([prefix, *board, vbios.replace(".", "")]).upper()


def _required(opaque: dict[int, bytes], number: int) -> bytes:
    if number not in opaque:
        raise _malformed(number, "missing")
    return opaque[number]


def _text(opaque: dict[int, bytes], number: int, allowed: frozenset[str]) -> str:
    """ASCII, padded with NUL."""
    raw = _required(opaque, number).rstrip(b"\x00")
    text = raw.decode("ascii", "replace")
    if not 0 < len(text) <= _MAX_TEXT or not allowed.issuperset(text):
        raise _malformed(number, "not a name or version")
    return text


def _vbios(raw: bytes) -> str:
    if len(raw) != _VBIOS_SIZE:
        raise _malformed(VBIOS_VERSION, f"{len(raw)} bytes")
    return ".".join(f"{raw[place]:02X}" for place in (3, 2, 1, 0, 4))


def _sized(opaque: dict[int, bytes], number: int, size: int) -> bytes | None:
    value = opaque.get(number)
    if value is not None and len(value) != size:
        raise _malformed(number, f"{len(value)} bytes, not {size}")
    return value


def _switch_state(raw: bytes, number: int) -> bool:
    if raw not in {bytes([_ON]), bytes([_OFF])}:
        raise _malformed(number, "neither on nor off")
    return raw[0] == _ON


def _optional_state(opaque: dict[int, bytes], number: int) -> bool | None:
    return _switch_state(opaque[number], number) if number in opaque else None


def _feature(opaque: dict[int, bytes]) -> FeatureFlag | None:
    raw = _sized(opaque, FEATURE_FLAG, 2)
    if raw is None:
        return None
    value = int.from_bytes(raw, "little")
    if value not in _FEATURES:
        raise Unsupported("gpu-feature-flag", CLAUSE, expected="SPT, MPT or PPCIE", got=str(value))
    return _FEATURES[value]


def _pdis(opaque: dict[int, bytes], number: int, count: int) -> frozenset[bytes]:
    """The identities in the first ``count`` places; unused ones are zero."""
    raw = opaque.get(number, b"")
    if raw and len(raw) < count * PDI_SIZE:
        raise _malformed(number, f"{len(raw)} bytes")
    places = range(0, min(len(raw), count * PDI_SIZE), PDI_SIZE)
    return frozenset(raw[place : place + PDI_SIZE] for place in places) - {UNUSED_PDI}


def _malformed(number: int, reason: str) -> Malformed:
    return Malformed("gpu-opaque", f"field {number}: {reason}", clause=CLAUSE)
