"""The bundle: everything a verifier needs to judge one runtime offline, in one strict document.

    {"format": "sealgate-bundle-v1",
     "statement": b64, "keyset": b64,                        canonical JSON, as bytes
     "cpu": {"kind": "snp", "report": b64},
     "gpus": [],
     "collateral": {"snp": {"leaf": b64, "intermediate": b64|null, "ark": b64|null, "crl": b64|null}}}

The bundle itself is RFC 8785 JSON: one set of parts has one encoding, so a stored bundle can be named by
its digest and two parsers cannot read it differently. Nothing in it is trusted yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from attest import strict_json
from attest.evidence.cpu import CpuEvidence, SnpCollateral
from attest.refusal import Malformed, Unsupported

FORMAT = "sealgate-bundle-v1"
MAX_BUNDLE_BYTES = 1024 * 1024

MAX_REPORT_BYTES = 16 * 1024
"""A SEV-SNP report is 1184 bytes; other CPU TEEs' quotes reach some 8 kB."""

MAX_CERTIFICATE_BYTES = 16 * 1024
MAX_CRL_BYTES = 256 * 1024
CLAUSE = "docs/reference/bundle-format.md"

_MEMBERS = frozenset({"format", "statement", "keyset", "cpu", "gpus", "collateral"})
_CPU_MEMBERS = frozenset({"kind", "report"})
_COLLATERAL_MEMBERS = frozenset({"snp"})
_SNP_MEMBERS = frozenset({"leaf", "intermediate", "ark", "crl"})


@dataclass(frozen=True, slots=True, repr=False)
class Bundle:
    """The parts, as bytes.

    Args:
        statement: the statement's canonical bytes.
        keyset: the keyset's canonical bytes.
        cpu: the CPU TEE's report and its certificates.
    """

    statement: bytes
    keyset: bytes
    cpu: CpuEvidence

    def __repr__(self) -> str:
        return f"Bundle(statement {len(self.statement)} bytes, keyset {len(self.keyset)} bytes, {self.cpu!r})"

    def serialise(self) -> bytes:
        """RFC 8785 JSON."""
        collateral = self.cpu.collateral
        return strict_json.canonical(
            {
                "format": FORMAT,
                "statement": strict_json.b64encode(self.statement),
                "keyset": strict_json.b64encode(self.keyset),
                "cpu": {"kind": self.cpu.kind, "report": strict_json.b64encode(self.cpu.report)},
                "gpus": [],
                "collateral": {
                    "snp": {
                        "leaf": strict_json.b64encode(collateral.leaf),
                        "intermediate": _encode_optional(collateral.intermediate),
                        "ark": _encode_optional(collateral.ark),
                        "crl": _encode_optional(collateral.crl),
                    }
                },
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> Bundle:
        """Read canonical bytes, and nothing else.

        Raises:
            Malformed: ``bundle-*`` for anything that ``serialise`` would not have written.
            Unsupported: ``bundle-format``, ``cpu-evidence-kind``, ``gpu-evidence``.
        """
        value = strict_json.loads(data, name="bundle", max_bytes=MAX_BUNDLE_BYTES)
        if not isinstance(value, dict) or not isinstance(value.get("format"), str):
            raise Malformed("bundle-members", "format is not a string", clause=CLAUSE)
        if value["format"] != FORMAT:
            raise Unsupported("bundle-format", CLAUSE, expected=FORMAT, got="another format")
        members = strict_json.members_exactly(value, _MEMBERS, name="bundle")
        _require_no_gpus(members["gpus"])
        bundle = cls(
            statement=_decode(members["statement"], MAX_BUNDLE_BYTES),
            keyset=_decode(members["keyset"], MAX_BUNDLE_BYTES),
            cpu=_parse_cpu(members["cpu"], members["collateral"]),
        )
        if bundle.serialise() != data:
            raise Malformed("bundle-not-canonical", "not RFC 8785 JSON", clause="RFC 8785")
        return bundle


def _parse_cpu(value: Any, collateral: Any) -> CpuEvidence:
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        raise Malformed("bundle-members", "cpu.kind is not a string", clause=CLAUSE)
    if value["kind"] != "snp":
        raise Unsupported("cpu-evidence-kind", CLAUSE, expected="snp", got="another kind")
    cpu = strict_json.members_exactly(value, _CPU_MEMBERS, name="bundle")
    by_kind = strict_json.members_exactly(collateral, _COLLATERAL_MEMBERS, name="bundle")
    snp = strict_json.members_exactly(by_kind["snp"], _SNP_MEMBERS, name="bundle")
    return CpuEvidence(
        kind="snp",
        report=_decode(cpu["report"], MAX_REPORT_BYTES),
        collateral=SnpCollateral(
            leaf=_decode(snp["leaf"], MAX_CERTIFICATE_BYTES),
            intermediate=_decode_optional(snp["intermediate"], MAX_CERTIFICATE_BYTES),
            ark=_decode_optional(snp["ark"], MAX_CERTIFICATE_BYTES),
            crl=_decode_optional(snp["crl"], MAX_CRL_BYTES),
        ),
    )


def _require_no_gpus(value: Any) -> None:
    """A GPU that this version cannot judge is refused, never skipped (P1)."""
    if not isinstance(value, list):
        raise Malformed("bundle-members", "gpus is not a list", clause=CLAUSE)
    if value:
        raise Unsupported("gpu-evidence", CLAUSE, expected="none", got=f"{len(value)} GPUs")


def _decode(value: Any, max_bytes: int) -> bytes:
    return strict_json.b64decode(value, name="bundle", max_bytes=max_bytes)


def _decode_optional(value: Any, max_bytes: int) -> bytes | None:
    return None if value is None else _decode(value, max_bytes)


def _encode_optional(value: bytes | None) -> str | None:
    return None if value is None else strict_json.b64encode(value)
