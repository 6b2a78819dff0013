"""What TDX evidence must say: the table ``[tdx]``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, cast

from attest import strict_toml
from attest.accepted.forms import CLAUSE, MEASUREMENT, one_of, optional, require_some
from attest.refusal import Malformed

TcbStatusName = Literal[
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "TDRelaunchAdvised",
    "TDRelaunchAdvisedConfigurationNeeded",
]
"""The states that an operator may name. ``Revoked`` is not among them."""

REGISTERS: Final = 4
UNSET: Final = "00" * 48

_MAX_EVALUATION: Final = 0xFFFFFFFF
_STATUS: Final = one_of(TcbStatusName)
_ADVISORY: Final = re.compile(r"INTEL-SA-[0-9]{5}", re.ASCII)
_XFAM: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)
_UP_TO_DATE: Final = frozenset({"UpToDate"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxReference:
    """What TDX evidence must say.

    Args:
        mrtds: accepted initial contents of the TD, 96 hex digits each.
        rtmrs: accepted values of each of the four runtime registers; an empty set asks nothing of that one.
        mrseams: accepted TDX modules; empty asks nothing beyond Intel's signature on it.
        mrconfigids: accepted MRCONFIGID; default is unset (zero), as are the next two.
        mrowners: accepted MROWNER.
        mrownerconfigs: accepted MROWNERCONFIG.
        xfams: accepted extended features, 16 hex digits; empty asks nothing.
        tcb_statuses: accepted states of the platform; default ``UpToDate`` alone.
        advisory_ids: Intel advisories that a state other than ``UpToDate`` may rest on; no other may.
        min_tcb_evaluation_data_number: least of Intel's TCB evaluations that the collateral may come from.
        allow_perfmon: accept a TD that uses performance counters.
        allow_azure_paravisor: accept a TD with attributes of zero; ``mrtds`` then pin Azure's paravisor.
        require_event_log: refuse evidence without an event log that explains the runtime registers.

    Raises:
        Malformed: ``reference-empty`` or ``reference-value``.
    """

    mrtds: frozenset[str]
    rtmrs: tuple[frozenset[str], frozenset[str], frozenset[str], frozenset[str]] = (
        frozenset(),
        frozenset(),
        frozenset(),
        frozenset(),
    )
    mrseams: frozenset[str] = frozenset()
    mrconfigids: frozenset[str] = frozenset({UNSET})
    mrowners: frozenset[str] = frozenset({UNSET})
    mrownerconfigs: frozenset[str] = frozenset({UNSET})
    xfams: frozenset[str] = frozenset()
    tcb_statuses: frozenset[TcbStatusName] = cast("frozenset[TcbStatusName]", _UP_TO_DATE)
    advisory_ids: frozenset[str] = frozenset()
    min_tcb_evaluation_data_number: int
    allow_perfmon: bool = False
    allow_azure_paravisor: bool = False
    require_event_log: bool = False

    def __post_init__(self) -> None:
        require_some(self, "mrtds", "mrconfigids", "mrowners", "mrownerconfigs", "tcb_statuses")
        if self.advisory_ids and self.tcb_statuses == _UP_TO_DATE:
            raise Malformed(
                "reference-value", "tdx.advisory_ids belong to states other than UpToDate", clause=CLAUSE
            )

    @classmethod
    def read(cls, table: strict_toml.Table) -> Self:
        """Read the table ``[tdx]``.

        Raises:
            Malformed: ``reference-*``.
        """
        unset = frozenset({UNSET})
        rtmrs = tuple(table.optional_texts(f"rtmr{i}", MEASUREMENT) for i in range(REGISTERS))
        reference = cls(
            mrtds=table.texts("mrtds", MEASUREMENT),
            rtmrs=(rtmrs[0], rtmrs[1], rtmrs[2], rtmrs[3]),
            mrseams=table.optional_texts("mrseams", MEASUREMENT),
            mrconfigids=table.optional_texts("mrconfigids", MEASUREMENT) or unset,
            mrowners=table.optional_texts("mrowners", MEASUREMENT) or unset,
            mrownerconfigs=table.optional_texts("mrownerconfigs", MEASUREMENT) or unset,
            xfams=table.optional_texts("xfams", _XFAM),
            tcb_statuses=cast("frozenset[TcbStatusName]", table.texts("tcb_statuses", _STATUS)),
            advisory_ids=table.optional_texts("advisory_ids", _ADVISORY),
            min_tcb_evaluation_data_number=table.integer(
                "min_tcb_evaluation_data_number", low=0, high=_MAX_EVALUATION
            ),
            **{
                name: table.boolean(name)
                for name in ("allow_perfmon", "allow_azure_paravisor", "require_event_log")
                if name in table
            },
        )
        table.end()
        return reference

    def values(self) -> dict[str, Any]:
        """The table's values; defaults are spelt out, and what asks nothing is absent."""
        values: dict[str, Any] = {"mrtds": sorted(self.mrtds)}
        for index, accepted in enumerate(self.rtmrs):
            values |= optional(f"rtmr{index}", accepted)
        return values | {
            **optional("mrseams", self.mrseams),
            "mrconfigids": sorted(self.mrconfigids),
            "mrowners": sorted(self.mrowners),
            "mrownerconfigs": sorted(self.mrownerconfigs),
            **optional("xfams", self.xfams),
            "tcb_statuses": sorted(self.tcb_statuses),
            **optional("advisory_ids", self.advisory_ids),
            "min_tcb_evaluation_data_number": self.min_tcb_evaluation_data_number,
            "allow_perfmon": self.allow_perfmon,
            "allow_azure_paravisor": self.allow_azure_paravisor,
            "require_event_log": self.require_event_log,
        }
