"""What we accept: the reference values, as the operator wrote them down.

There is no default that accepts. Every list names what is allowed, an empty list is an error rather than a
wildcard, and the file has an end (``not_after``) so that forgotten values stop being used. Some rules have
no switch at all: a debug guest and a migration agent are always refused (``attest.appraise``). Each part has
a table of its own (``attest.accepted``), and a part without a table is a part that is not accepted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal, Self, cast

from attest import digest, strict_json, strict_toml
from attest.accepted.azure import AzureReference
from attest.accepted.forms import CLAUSE, one_of, require_some
from attest.accepted.gpu import GpuReference
from attest.accepted.quorum import QuorumReference
from attest.accepted.runtime import RuntimeReference
from attest.accepted.snp import SnpReference
from attest.accepted.tdx import TdxReference
from attest.refusal import Malformed
from attest.trust import MockRoots

FORMAT: Final = "sealgate-reference-v1"
MAX_REFERENCE_BYTES: Final = 1024 * 1024
MAX_EVIDENCE_AGE: Final = timedelta(days=1)
"""Upper bound of the configurable age: a verdict older than a day says little about the machine now."""

Vendor = Literal["amd", "intel", "mock"]

_FORMAT: Final = re.compile(re.escape(FORMAT), re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,127}", re.ASCII)
_VENDOR: Final = one_of(Vendor)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceValues:
    """One appraisal policy.

    Args:
        name: for people.
        not_after: when these values end, aware.
        max_evidence_age: how long after verification a verdict may be used; whole seconds, at most
            ``MAX_EVIDENCE_AGE``.
        vendors: who may have signed the CPU evidence.
        mock: the mock vendors' roots, exactly if ``mock`` is among the vendors (P8).
        snp: SEV-SNP values; None accepts no SEV-SNP guest.
        tdx: TDX values; None accepts no TDX guest.
        azure: of Azure's vTPM, beside ``snp``; with them a VM on Azure's paravisor is accepted, and no guest
            that stands on the hardware itself.
        gpu: values of NVIDIA devices; None accepts no runtime that has any.
        runtime: statement values.
        quorum: second verdicts that must agree; None asks for none.

    Raises:
        Malformed: ``reference-empty`` or ``reference-value``.
    """

    name: str
    not_after: datetime
    max_evidence_age: timedelta
    vendors: frozenset[Vendor]
    mock: MockRoots | None = None
    snp: SnpReference | None = None
    tdx: TdxReference | None = None
    azure: AzureReference | None = None
    gpu: GpuReference | None = None
    runtime: RuntimeReference
    quorum: QuorumReference | None = None

    def __post_init__(self) -> None:
        require_some(self, "vendors")
        if (self.mock is not None) != ("mock" in self.vendors):
            raise _wrong("vendors and mock disagree")
        if self.snp is None and self.tdx is None:
            raise Malformed("reference-empty", "neither snp nor tdx", clause=CLAUSE)
        if self.azure is not None and self.snp is None:
            raise _wrong("azure judges a vTPM on SEV-SNP, and there is no table snp")
        for vendor, part in (("amd", self.snp), ("intel", self.tdx)):
            if vendor in self.vendors and part is None:
                raise _wrong(f"vendors names {vendor}, and its table is absent")
        if self.quorum is not None and "nras" in self.quorum.services and self.gpu is None:
            raise _wrong("quorum.services names nras, and there is no table gpu")
        if self.not_after.tzinfo is None:
            raise _wrong("not_after has no offset")
        if not timedelta(seconds=1) <= self.max_evidence_age <= MAX_EVIDENCE_AGE:
            raise _wrong("max_evidence_age")

    @property
    def digest(self) -> str:
        """``sha256:`` of the values in canonical JSON: the appraisal policy's name. Comments do not count."""
        values = self.values()
        values["not_after"] = values["not_after"].isoformat()
        return digest.sha256_digest(strict_json.canonical(values))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a reference file.

        Raises:
            Malformed: ``reference-*``, ``trust-*`` for its mock roots.
        """
        top = strict_toml.Table.parse(data, name="reference", max_bytes=MAX_REFERENCE_BYTES)
        top.text("format", _FORMAT)
        age = top.integer("max_evidence_age_seconds", low=1, high=int(MAX_EVIDENCE_AGE.total_seconds()))
        reference = cls(
            name=top.text("name", _NAME),
            not_after=top.moment("not_after"),
            max_evidence_age=timedelta(seconds=age),
            vendors=cast("frozenset[Vendor]", top.texts("vendors", _VENDOR)),
            mock=MockRoots.read(top.table("mock")) if "mock" in top else None,
            snp=SnpReference.read(top.table("snp")) if "snp" in top else None,
            tdx=TdxReference.read(top.table("tdx")) if "tdx" in top else None,
            azure=AzureReference.read(top.table("azure")) if "azure" in top else None,
            gpu=GpuReference.read(top.table("gpu")) if "gpu" in top else None,
            runtime=RuntimeReference.read(top.table("runtime")),
            quorum=QuorumReference.read(top.table("quorum")) if "quorum" in top else None,
        )
        top.end()
        return reference

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a reference file from disk; ``OSError`` passes through.

        Raises:
            Malformed: ``reference-*``.
        """
        return cls.parse(path.read_bytes())

    def values(self) -> dict[str, Any]:
        """The file's values; what is absent in the file is absent here."""
        parts = {
            name: part.values()
            for name in ("mock", "snp", "tdx", "azure", "gpu", "runtime", "quorum")
            if (part := getattr(self, name)) is not None
        }
        return {
            "format": FORMAT,
            "name": self.name,
            "not_after": self.not_after.astimezone(UTC),
            "max_evidence_age_seconds": int(self.max_evidence_age.total_seconds()),
            "vendors": sorted(self.vendors),
            **parts,
        }

    def toml(self) -> str:
        """The reference file that says this."""
        return strict_toml.dump(self.values())


def _wrong(what: str) -> Malformed:
    return Malformed("reference-value", what, clause=CLAUSE)
