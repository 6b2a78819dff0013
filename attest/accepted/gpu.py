"""What NVIDIA devices must say: the table ``[gpu]``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, cast

from attest import strict_toml
from attest.accepted.forms import CLAUSE, one_of, optional, require_some
from attest.refusal import Malformed

GpuArch = Literal["HOPPER", "BLACKWELL"]
GpuMode = Literal["spt", "mpt", "ppcie", "unsaid"]

MAX_GPUS: Final = 32
_ARCH, _MODE = one_of(GpuArch), one_of(GpuMode)
_VERSION: Final = re.compile(r"[0-9]{1,5}(\.[0-9]{1,5}){1,3}", re.ASCII)
_VBIOS: Final = re.compile(r"[0-9A-F]{2}(\.[0-9A-F]{2}){4}", re.ASCII)
_SWITCH_BIOS: Final = re.compile(r"[0-9A-Fa-f]{1,4}(\.[0-9A-Fa-f]{1,4}){1,5}", re.ASCII)
_UEID: Final = re.compile(r"[0-9]{1,60}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReference:
    """What NVIDIA devices must say.

    Args:
        count: exact number of GPUs, at least 1.
        switches: exact number of NVSwitches.
        archs: accepted architectures.
        modes: accepted modes: ``spt`` one GPU, ``mpt`` several GPUs of one tenant, ``ppcie`` a whole board;
            ``unsaid`` accepts reports (of 2023) that name no mode.
        min_driver: least driver version, compared number by number.
        min_vbios: least VBIOS version of a GPU, compared byte by byte within the accepted first two bytes.
        min_switch_bios: least BIOS version of a switch; given exactly if there are switches.
        ueids: accepted devices by identity; empty asks nothing.
        require_revocation_answers: refuse a device of which a certificate lacks a current good OCSP answer.
        require_fwid: refuse a GPU's report that does not name the firmware its key was derived for.

    Raises:
        Malformed: ``reference-empty`` or ``reference-value``.
    """

    count: int
    switches: int = 0
    archs: frozenset[GpuArch]
    modes: frozenset[GpuMode]
    min_driver: str
    min_vbios: frozenset[str]
    min_switch_bios: str | None = None
    ueids: frozenset[str] = frozenset()
    require_revocation_answers: bool = True
    require_fwid: bool = True

    def __post_init__(self) -> None:
        require_some(self, "archs", "modes", "min_vbios")
        if not 1 <= self.count <= MAX_GPUS or not 0 <= self.switches <= MAX_GPUS:
            raise Malformed("reference-value", "gpu.count or gpu.switches", clause=CLAUSE)
        if (self.min_switch_bios is not None) != (self.switches > 0):
            raise Malformed("reference-value", "gpu.min_switch_bios belongs to switches", clause=CLAUSE)
        lines = [vbios[:2] for vbios in self.min_vbios]
        if len(lines) != len(set(lines)):
            raise Malformed("reference-value", "gpu.min_vbios: two floors for one line", clause=CLAUSE)

    @classmethod
    def read(cls, table: strict_toml.Table) -> Self:
        """Read the table ``[gpu]``.

        Raises:
            Malformed: ``reference-*``.
        """
        reference = cls(
            count=table.integer("count", low=1, high=MAX_GPUS),
            switches=table.integer("switches", low=0, high=MAX_GPUS),
            archs=cast("frozenset[GpuArch]", table.texts("archs", _ARCH)),
            modes=cast("frozenset[GpuMode]", table.texts("modes", _MODE)),
            min_driver=table.text("min_driver", _VERSION),
            min_vbios=table.texts("min_vbios", _VBIOS),
            min_switch_bios=table.text("min_switch_bios", _SWITCH_BIOS)
            if "min_switch_bios" in table
            else None,
            ueids=table.optional_texts("ueids", _UEID),
            require_revocation_answers=table.boolean("require_revocation_answers"),
            require_fwid=table.boolean("require_fwid"),
        )
        table.end()
        return reference

    def values(self) -> dict[str, Any]:
        """The table's values; what is absent in the file is absent here."""
        return {
            "count": self.count,
            "switches": self.switches,
            "archs": sorted(self.archs),
            "modes": sorted(self.modes),
            "min_driver": self.min_driver,
            "min_vbios": sorted(self.min_vbios),
            **({} if self.min_switch_bios is None else {"min_switch_bios": self.min_switch_bios}),
            **optional("ueids", self.ueids),
            "require_revocation_answers": self.require_revocation_answers,
            "require_fwid": self.require_fwid,
        }
