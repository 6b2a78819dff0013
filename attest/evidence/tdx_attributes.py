"""TDATTRIBUTES: what a trust domain allows its host (Intel TDX Module ABI)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from attest.evidence.reader import Reader
from attest.refusal import Malformed

DEBUG: Final = 1 << 0
SEPT_VE_DISABLE: Final = 1 << 28
MIGRATABLE: Final = 1 << 29
PROTECTION_KEYS: Final = 1 << 30
KEY_LOCKER: Final = 1 << 31
PERFMON: Final = 1 << 63
_KNOWN: Final = DEBUG | SEPT_VE_DISABLE | MIGRATABLE | PROTECTION_KEYS | KEY_LOCKER | PERFMON


@dataclass(frozen=True, slots=True)
class TdAttributes:
    """The 64 bits, with names.

    Args:
        raw: as a number.
    """

    raw: int

    @property
    def debug(self) -> bool:
        """The host may read the TD's memory."""
        return bool(self.raw & DEBUG)

    @property
    def sept_ve_disable(self) -> bool:
        """A page that the host takes away stops the TD, instead of raising an exception that it may abuse."""
        return bool(self.raw & SEPT_VE_DISABLE)

    @property
    def migratable(self) -> bool:
        """A service TD may move this one to another machine."""
        return bool(self.raw & MIGRATABLE)

    @property
    def perfmon(self) -> bool:
        """The TD may use the performance counters."""
        return bool(self.raw & PERFMON)

    @classmethod
    def read(cls, reader: Reader) -> TdAttributes:
        """Read eight bytes.

        Raises:
            Malformed: ``tdx-td-attributes`` if a bit is set whose meaning is not known.
        """
        offset = reader.position
        raw = reader.uint_le(8)
        if raw & ~_KNOWN:
            raise Malformed(
                "tdx-td-attributes", "reserved bits", offset=offset, clause="Intel TDX Module ABI, ATTRIBUTES"
            )
        return cls(raw)
