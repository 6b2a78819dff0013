"""A device beside the CPU as a bundle carries it, and the golden values that all of them share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from attest import digest, strict_json
from attest.evidence.gpu import (
    ARCHITECTURES,
    MAX_CHAIN_BYTES,
    MAX_REPORT_BYTES,
    Architecture,
    GpuEvidence,
)
from attest.refusal import Malformed, Unsupported

DeviceKind = Literal["nvidia-gpu", "nvidia-switch"]

MAX_INDEX: Final = 255
CLAUSE: Final = "docs/reference/bundle-format.md#devices"

_MEMBERS: Final = frozenset({"kind", "index", "arch", "report", "certificate_chain"})
_KIND_OF_ARCH: Final[dict[Architecture, DeviceKind]] = {
    arch: "nvidia-switch" if arch == "LS10" else "nvidia-gpu" for arch in ARCHITECTURES
}


@dataclass(frozen=True, slots=True, repr=False)
class DeviceEvidence:
    """One accelerator's or switch's answer to the nonce derived for it.

    Args:
        kind: ``nvidia-gpu`` or ``nvidia-switch``, as its architecture says.
        index: 0 to 255, unique within its kind.
        evidence: report and chain.

    Raises:
        Malformed: ``device-index``, ``device-kind``.
    """

    kind: DeviceKind
    index: int
    evidence: GpuEvidence

    def __post_init__(self) -> None:
        if type(self.index) is not int or not 0 <= self.index <= MAX_INDEX:
            raise Malformed("device-index", f"not an integer from 0 to {MAX_INDEX}", clause=CLAUSE)
        if self.kind != _KIND_OF_ARCH[self.evidence.arch]:
            raise Malformed("device-kind", f"not the kind of {self.evidence.arch}", clause=CLAUSE)

    def __repr__(self) -> str:
        return f"DeviceEvidence({self.kind} {self.index}, {self.evidence!r})"

    @classmethod
    def of(cls, index: int, evidence: GpuEvidence) -> DeviceEvidence:
        """The device of ``evidence``, its kind told by its architecture."""
        return cls(_KIND_OF_ARCH[evidence.arch], index, evidence)

    @property
    def digest(self) -> str:
        """``sha256:`` of the canonical members: what the statement names, so a byte of it cannot change."""
        return digest.sha256_digest(strict_json.canonical(self.as_members()))

    def as_members(self) -> dict[str, Any]:
        """The form that ``from_members`` reads."""
        return {
            "kind": self.kind,
            "index": self.index,
            "arch": self.evidence.arch,
            "report": strict_json.b64encode(self.evidence.report),
            "certificate_chain": strict_json.b64encode(self.evidence.certificate_chain),
        }

    @classmethod
    def from_members(cls, value: Any) -> DeviceEvidence:
        """Read one device of a bundle.

        Raises:
            Malformed: ``bundle-*``, ``device-*``.
            Unsupported: ``device-architecture``.
        """
        members = strict_json.members_exactly(value, _MEMBERS, name="bundle")
        if members["arch"] not in ARCHITECTURES:
            raise Unsupported(
                "device-architecture", CLAUSE, expected=" or ".join(ARCHITECTURES), got="another"
            )
        report = strict_json.b64decode(members["report"], name="bundle", max_bytes=MAX_REPORT_BYTES)
        chain = strict_json.b64decode(members["certificate_chain"], name="bundle", max_bytes=MAX_CHAIN_BYTES)
        return cls(members["kind"], members["index"], GpuEvidence(members["arch"], report, chain))


@dataclass(frozen=True, slots=True, repr=False)
class NvidiaCollateral:
    """Golden values and revocation answers for all devices of a bundle, each once; none trusted yet.

    Args:
        rims: signed golden values by the name under which NVIDIA publishes them, as a report implies it.
        ocsp: OCSP responses, DER, on any certificates of the devices' and the golden values' chains.
    """

    rims: Mapping[str, bytes] = field(default_factory=dict, hash=False)
    ocsp: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"NvidiaCollateral({len(self.rims)} RIMs, {len(self.ocsp)} OCSP responses)"
