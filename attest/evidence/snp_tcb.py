"""AMD's TCB_VERSION: eight bytes whose meaning depends on the product (AMD 56860, "TCB_VERSION").

    byte   Milan, Genoa    Turin
    0      boot loader     FMC
    1      TEE             boot loader
    2      reserved        TEE
    3      reserved        SNP
    4, 5   reserved        reserved
    6      SNP             reserved
    7      microcode       microcode

Two versions are compared component by component and never as one number: a host could otherwise buy a
rolled-back SNP firmware with a newer microcode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from attest.refusal import Malformed

Product = Literal["Milan", "Genoa", "Turin"]

TCB_SIZE: Final = 8
_LAYOUT: Final[dict[Product, dict[str, int]]] = {
    "Milan": {"boot_loader": 0, "tee": 1, "snp": 6, "microcode": 7},
    "Genoa": {"boot_loader": 0, "tee": 1, "snp": 6, "microcode": 7},
    "Turin": {"fmc": 0, "boot_loader": 1, "tee": 2, "snp": 3, "microcode": 7},
}
_RESERVED: Final = {
    product: tuple(sorted(set(range(TCB_SIZE)) - set(layout.values()))) for product, layout in _LAYOUT.items()
}


@dataclass(frozen=True, slots=True)
class TcbVersion:
    """Security version numbers (0 to 255) of the firmware parts below the guest.

    Args:
        boot_loader: AMD secure processor boot loader.
        tee: AMD secure processor operating system.
        snp: SEV-SNP firmware.
        microcode: CPU microcode patch level.
        fmc: first mutable code; zero where the product has none (Milan, Genoa).
    """

    boot_loader: int
    tee: int
    snp: int
    microcode: int
    fmc: int = 0

    def __str__(self) -> str:
        return (
            f"fmc {self.fmc}, boot loader {self.boot_loader}, tee {self.tee}, "
            f"snp {self.snp}, microcode {self.microcode}"
        )

    @classmethod
    def parse(cls, raw: bytes, product: Product) -> TcbVersion:
        """Read the eight bytes by the product's layout.

        Raises:
            Malformed: ``snp-tcb-length``, or ``snp-tcb-reserved`` if a reserved byte is not zero.
        """
        if len(raw) != TCB_SIZE:
            raise Malformed("snp-tcb-length", f"{len(raw)} bytes")
        layout = _LAYOUT[product]
        for offset in _RESERVED[product]:
            if raw[offset]:
                raise Malformed("snp-tcb-reserved", f"byte {offset} of a {product} TCB", clause="AMD 56860")
        return cls(**{name: raw[offset] for name, offset in layout.items()})

    def serialise(self, product: Product) -> bytes:
        """The eight bytes by the product's layout."""
        raw = bytearray(TCB_SIZE)
        for name, offset in _LAYOUT[product].items():
            raw[offset] = getattr(self, name)
        return bytes(raw)

    def covers(self, floor: TcbVersion) -> bool:
        """Whether every component is at least the floor's."""
        return (
            self.fmc >= floor.fmc
            and self.boot_loader >= floor.boot_loader
            and self.tee >= floor.tee
            and self.snp >= floor.snp
            and self.microcode >= floor.microcode
        )
