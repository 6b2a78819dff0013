"""The bit fields of a SEV-SNP report, bit by bit (AMD 56860, "GUEST_POLICY" and "PLATFORM_INFO")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PolicyBit = Literal[
    "smt_allowed",
    "single_socket_required",
    "cxl_allowed",
    "aes_256_xts_required",
    "rapl_disabled_required",
    "ciphertext_hiding_required",
    "page_swap_disabled",
]
"""Bits of the guest policy that reference values may speak of; debug and migration are always refused."""

PlatformBit = Literal[
    "smt_enabled",
    "tsme_enabled",
    "ecc_enabled",
    "rapl_disabled",
    "ciphertext_hiding_enabled",
    "alias_check_complete",
    "tio_enabled",
]
"""Bits of PLATFORM_INFO that reference values may speak of."""


@dataclass(frozen=True, slots=True)
class GuestPolicy:
    """The launch policy that the guest's owner asked for (AMD 56860, "GUEST_POLICY")."""

    raw: int

    @property
    def abi_minor(self) -> int:
        """Least minor ABI version the guest accepts."""
        return self.raw & 0xFF

    @property
    def abi_major(self) -> int:
        """Least major ABI version the guest accepts."""
        return self.raw >> 8 & 0xFF

    @property
    def smt_allowed(self) -> bool:
        """Simultaneous multithreading may be on."""
        return bool(self.raw >> 16 & 1)

    @property
    def migration_agent_allowed(self) -> bool:
        """A migration agent may move the guest's memory to another machine."""
        return bool(self.raw >> 18 & 1)

    @property
    def debug_allowed(self) -> bool:
        """The host may read and write the guest's memory: no confidentiality at all."""
        return bool(self.raw >> 19 & 1)

    @property
    def single_socket_required(self) -> bool:
        """The guest runs on one socket only."""
        return bool(self.raw >> 20 & 1)

    @property
    def cxl_allowed(self) -> bool:
        """CXL devices and memory may be populated."""
        return bool(self.raw >> 21 & 1)

    @property
    def aes_256_xts_required(self) -> bool:
        """Memory must be encrypted with AES-256-XTS."""
        return bool(self.raw >> 22 & 1)

    @property
    def rapl_disabled_required(self) -> bool:
        """Power reporting must be off (a power side channel)."""
        return bool(self.raw >> 23 & 1)

    @property
    def ciphertext_hiding_required(self) -> bool:
        """The host must not see ciphertext in memory."""
        return bool(self.raw >> 24 & 1)

    @property
    def page_swap_disabled(self) -> bool:
        """The host may not swap the guest's pages out."""
        return bool(self.raw >> 25 & 1)


@dataclass(frozen=True, slots=True)
class PlatformInfo:
    """What the firmware says of the platform. Unnamed bits are not judged: a genuine Turin sets bit 6."""

    raw: int

    @property
    def smt_enabled(self) -> bool:
        """Simultaneous multithreading is on."""
        return bool(self.raw & 1)

    @property
    def tsme_enabled(self) -> bool:
        """Transparent memory encryption is on."""
        return bool(self.raw >> 1 & 1)

    @property
    def ecc_enabled(self) -> bool:
        """Memory error correction is on."""
        return bool(self.raw >> 2 & 1)

    @property
    def rapl_disabled(self) -> bool:
        """Power reporting is off."""
        return bool(self.raw >> 3 & 1)

    @property
    def ciphertext_hiding_enabled(self) -> bool:
        """The host cannot see ciphertext in memory."""
        return bool(self.raw >> 4 & 1)

    @property
    def alias_check_complete(self) -> bool:
        """Memory aliasing was checked at boot (the BadRAM mitigation)."""
        return bool(self.raw >> 5 & 1)

    @property
    def tio_enabled(self) -> bool:
        """Trusted I/O is on."""
        return bool(self.raw >> 7 & 1)


@dataclass(frozen=True, slots=True)
class FirmwareVersion:
    """Firmware version as the report writes it: ``major.minor`` and a build number."""

    major: int
    minor: int
    build: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.build}"
