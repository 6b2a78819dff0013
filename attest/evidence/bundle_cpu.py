"""The member ``cpu`` of a bundle: what the CPU's TEE handed over, by kind."""

from __future__ import annotations

from typing import Any, Final

from attest import strict_json
from attest.evidence.bundle_collateral import Parts
from attest.evidence.cpu import AzureSnpEvidence, CpuEvidence, SnpCollateral, SnpEvidence
from attest.evidence.hcl import MAX_SIZE as MAX_HCL_BYTES
from attest.evidence.reader import Reader
from attest.evidence.tdx_evidence import MAX_EVENT_LOG_BYTES, MAX_QUOTE_BYTES, TdxEvidence
from attest.evidence.tpm import DIGEST_SIZE, MAX_MESSAGE_BYTES, PCR_COUNT, TpmQuote
from attest.refusal import Malformed, Unsupported

MAX_REPORT_BYTES: Final = 4 * 1024
"""A SEV-SNP report is 1184 bytes."""

MAX_SIGNATURE_BYTES: Final = 512
CLAUSE: Final = "docs/reference/bundle-format.md#cpu"

_SNP_MEMBERS: Final = frozenset({"kind", "report"})
_TDX_MEMBERS: Final = frozenset({"kind", "quote", "event_log"})
_AZURE_SNP_MEMBERS: Final = frozenset({"kind", "hcl_report", "quote", "signature", "pcrs"})


def members(cpu: CpuEvidence) -> dict[str, str | None]:
    """The form that ``read`` reads."""
    parts: dict[str, bytes | None]
    if isinstance(cpu, SnpEvidence):
        parts = {"report": cpu.report}
    elif isinstance(cpu, TdxEvidence):
        parts = {"quote": cpu.quote, "event_log": cpu.event_log}
    else:
        quote = cpu.quote
        parts = {"hcl_report": cpu.hcl_report, "quote": quote.message, "signature": quote.signature}
        parts["pcrs"] = b"".join(quote.pcrs)
    encoded = {name: None if data is None else strict_json.b64encode(data) for name, data in parts.items()}
    return {"kind": cpu.kind, **encoded}


def read(value: Any, parts: Parts) -> CpuEvidence:
    """Read the member.

    Raises:
        Malformed: ``bundle-*``.
        Unsupported: ``cpu-evidence-kind``.
    """
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        raise Malformed("bundle-members", "cpu.kind is not a string", clause=CLAUSE)
    if value["kind"] == "snp":
        cpu = strict_json.members_exactly(value, _SNP_MEMBERS, name="bundle")
        return SnpEvidence(_decode(cpu["report"], MAX_REPORT_BYTES), _snp_collateral(parts))
    if value["kind"] == "tdx":
        cpu = strict_json.members_exactly(value, _TDX_MEMBERS, name="bundle")
        event_log = None if cpu["event_log"] is None else _decode(cpu["event_log"], MAX_EVENT_LOG_BYTES)
        return TdxEvidence(_decode(cpu["quote"], MAX_QUOTE_BYTES), parts.tdx, event_log)
    if value["kind"] == "azure-snp":
        cpu = strict_json.members_exactly(value, _AZURE_SNP_MEMBERS, name="bundle")
        hcl_report = _decode(cpu["hcl_report"], MAX_HCL_BYTES)
        return AzureSnpEvidence(hcl_report, _tpm_quote(cpu), _snp_collateral(parts))
    raise Unsupported("cpu-evidence-kind", CLAUSE, expected="snp, tdx or azure-snp", got="another kind")


def _snp_collateral(parts: Parts) -> SnpCollateral:
    if parts.snp is None:
        raise Malformed("bundle-members", "no collateral for cpu.kind", clause=CLAUSE)
    return parts.snp


def _tpm_quote(cpu: dict[str, Any]) -> TpmQuote:
    pcrs = Reader(_decode(cpu["pcrs"], PCR_COUNT * DIGEST_SIZE), "bundle")
    values = tuple(pcrs.take(DIGEST_SIZE) for _ in range(PCR_COUNT))
    message = _decode(cpu["quote"], MAX_MESSAGE_BYTES)
    return TpmQuote(message, _decode(cpu["signature"], MAX_SIGNATURE_BYTES), values)


def _decode(value: Any, max_bytes: int) -> bytes:
    return strict_json.b64decode(value, name="bundle", max_bytes=max_bytes)
