"""How an Azure confidential VM must have booted: the table ``[azure]``, beside ``[snp]``.

The hardware measures Azure's paravisor alone (``snp.measurements``). What the VM booted is measured by the
paravisor into a vTPM, so that without accepted PCR values any disk would do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from attest import strict_toml
from attest.accepted.forms import CLAUSE
from attest.evidence.tpm import PCR_COUNT
from attest.refusal import Malformed

_PCR_VALUE: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureReference:
    """What an Azure confidential VM's vTPM and paravisor must say.

    Args:
        pcrs: accepted values of PCRs, 64 hex digits each, by index (0 to 23); at least one PCR.
        require_secure_boot: refuse a VM that was booted without Secure Boot.

    Raises:
        Malformed: ``reference-empty`` or ``reference-value``.
    """

    pcrs: Mapping[int, frozenset[str]] = field(hash=False)
    require_secure_boot: bool = True

    def __post_init__(self) -> None:
        if not self.pcrs or not all(self.pcrs.values()):
            raise Malformed("reference-empty", "azure.pcrs", clause=CLAUSE)

    @classmethod
    def read(cls, table: strict_toml.Table) -> Self:
        """Read the table ``[azure]``.

        Raises:
            Malformed: ``reference-*``.
        """
        pcrs = table.table("pcrs")
        reference = cls(
            pcrs={
                index: pcrs.texts(str(index), _PCR_VALUE) for index in range(PCR_COUNT) if str(index) in pcrs
            },
            require_secure_boot=table.boolean("require_secure_boot"),
        )
        pcrs.end()
        table.end()
        return reference

    def values(self) -> dict[str, Any]:
        """The table's values."""
        return {
            "require_secure_boot": self.require_secure_boot,
            "pcrs": {str(index): sorted(self.pcrs[index]) for index in sorted(self.pcrs)},
        }
