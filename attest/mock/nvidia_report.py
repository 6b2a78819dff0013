"""Lay out and sign SPDM reports as NVIDIA's devices do (DSP0274 1.1)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from attest.evidence import gpu_facts
from attest.evidence.gpu import NONCE_SIZE, Architecture

GPU_BLOCKS: Final = 64
SWITCH_BLOCKS: Final = 31
# As NVIDIA's manifests of driver 550.90.07 have it: the driver's and the VBIOS's active indices.
DRIVER_INDICES: Final = (7, *range(21, 41))
VBIOS_INDICES: Final = (*range(7), *range(8, 13))
SWITCH_INDICES: Final = tuple(range(12))
NVDEC0_INDEX: Final = 35
DRIVER_VERSION: Final = "550.90.07"
VBIOS_VERSION: Final = "96.00.9F.00.01"
SWITCH_BIOS_VERSION: Final = "96.10.55.00.01"

_ON, _OFF = b"\xaa", b"\x55"
_REQUEST: Final = bytes.fromhex("11e001ff")
_RESPONSE: Final = bytes.fromhex("11600000")


@dataclass(frozen=True, slots=True)
class MockGpu:
    """What a mock device says of itself.

    Args:
        arch: architecture; ``LS10`` is a switch.
        index: which device of the vendor: each has its own key.
        driver_version: of a GPU.
        vbios_version: of a GPU (five bytes in hexadecimal with dots) or of a switch.
        nvdec0_enabled: whether the video decoder runs.
        protected_pcie: whether links are protected; ``None`` leaves the field out.
        feature_flag: 0 single, 1 several tenants, 2 whole board; ``None`` leaves the field out.
        has_fwid: whether the report names its firmware, as reports since 2024 do.
        peers: identities at the ends of its links, 8 bytes each.
        own_pdi: a switch's own identity.
        measured: blocks to be other than the golden values, by golden index.
        chip: of the driver's manifest, as Blackwell reports name it.
    """

    arch: Architecture = "HOPPER"
    index: int = 0
    driver_version: str = DRIVER_VERSION
    vbios_version: str = VBIOS_VERSION
    nvdec0_enabled: bool = False
    protected_pcie: bool | None = False
    feature_flag: int | None = 0
    has_fwid: bool = True
    peers: tuple[bytes, ...] = ()
    own_pdi: bytes = bytes(range(1, 9))
    measured: dict[int, bytes] = field(default_factory=dict)
    chip: str = ""

    @property
    def is_switch(self) -> bool:
        """Whether the device is an NVSwitch."""
        return self.arch == "LS10"

    @property
    def fwid(self) -> bytes:
        """The firmware that the signing key is derived for, 48 bytes."""
        return hashlib.sha384(f"mock firmware {self.arch}".encode()).digest()


def golden(arch: Architecture, index: int) -> bytes:
    """The golden value of an index, 48 bytes."""
    return hashlib.sha384(f"mock measurement {arch} {index}".encode()).digest()


def measurements(gpu: MockGpu) -> tuple[bytes, ...]:
    """The device's blocks: golden values except where ``gpu`` says otherwise."""
    count = SWITCH_BLOCKS if gpu.is_switch else GPU_BLOCKS
    values = {index: golden(gpu.arch, index) for index in range(count)}
    if not gpu.nvdec0_enabled and not gpu.is_switch:
        values[NVDEC0_INDEX] = bytes(48)
    values |= gpu.measured
    return tuple(values[index] for index in range(count))


def opaque_data(gpu: MockGpu) -> dict[int, bytes]:
    """The vendor's fields of a report."""
    fields: dict[int, bytes] = {}
    if gpu.is_switch:
        fields[gpu_facts.VBIOS_VERSION] = gpu.vbios_version.encode()
        fields[gpu_facts.SWITCH_PDI] = gpu.own_pdi
        if gpu.peers:
            fields[gpu_facts.GPU_PDI] = b"".join(gpu.peers).ljust(8 * gpu_facts.GPUS_OF_SWITCH, b"\x00")
        return fields
    octets = bytes.fromhex(gpu.vbios_version.replace(".", ""))
    fields[gpu_facts.VBIOS_VERSION] = bytes([*reversed(octets[:4]), octets[4], 0, 0, 0])
    fields[gpu_facts.CHIP_SKU] = b"882\x00\x00\x00"
    fields[gpu_facts.PROJECT] = b"1010\x00"
    fields[gpu_facts.PROJECT_SKU] = b"0200\x00"
    fields[gpu_facts.DRIVER_VERSION] = gpu.driver_version.encode() + b"\x00"
    fields[gpu_facts.NVDEC0_STATUS] = _ON if gpu.nvdec0_enabled else _OFF
    if gpu.has_fwid:
        fields[gpu_facts.FWID] = gpu.fwid
    if gpu.protected_pcie is not None:
        fields[gpu_facts.PROTECTED_PCIE] = _ON if gpu.protected_pcie else _OFF
    if gpu.peers:
        places = [gpu.peers[link % len(gpu.peers)] for link in range(gpu_facts.LINKS_OF_GPU)]
        fields[gpu_facts.SWITCH_PDI] = b"".join(places)
    if gpu.chip:
        fields[gpu_facts.CHIP_INFO] = gpu.chip.encode() + b"\x00"
    if gpu.feature_flag is not None:
        fields[gpu_facts.FEATURE_FLAG] = gpu.feature_flag.to_bytes(2, "little")
    return fields


def signed_report(
    nonce: bytes, blocks: tuple[bytes, ...], opaque: dict[int, bytes], key: ec.EllipticCurvePrivateKey
) -> bytes:
    """Request, response and signature.

    Args:
        nonce: 32 bytes of the request.
        blocks: measurements in order, 48 bytes each.
        opaque: fields by number.
        key: the device's.

    Raises:
        ValueError: ``nonce`` is not 32 bytes.
    """
    if len(nonce) != NONCE_SIZE:
        raise ValueError(f"a nonce has {NONCE_SIZE} bytes, not {len(nonce)}")
    record = b"".join(_block(index, value) for index, value in enumerate(blocks, start=1))
    fields = b"".join(
        number.to_bytes(2, "little") + len(value).to_bytes(2, "little") + value
        for number, value in opaque.items()
    )
    response_nonce = hashlib.sha256(b"mock responder" + nonce).digest()
    head = bytes([len(blocks)]) + len(record).to_bytes(3, "little")
    tail = response_nonce + len(fields).to_bytes(2, "little") + fields
    return sign(_REQUEST + nonce + b"\x00" + _RESPONSE + head + record + tail, key)


def sign(message: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """``message`` and its signature: r and s, 48 bytes each, big endian."""
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA384())))
    return message + r.to_bytes(48, "big") + s.to_bytes(48, "big")


def _block(index: int, value: bytes) -> bytes:
    size = len(value)
    return (
        bytes([index, 1]) + (size + 3).to_bytes(2, "little") + bytes([1]) + size.to_bytes(2, "little") + value
    )
