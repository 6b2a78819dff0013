"""The member ``collateral`` of a bundle: what the evidence is to be judged under, by kind."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from attest import strict_json
from attest.evidence.cpu import AzureSnpEvidence, CpuEvidence, SnpCollateral, SnpEvidence
from attest.evidence.device import NvidiaCollateral
from attest.evidence.gpu import MAX_OCSP_BYTES, MAX_RIM_BYTES
from attest.evidence.tdx_evidence import TdxCollateral
from attest.refusal import Malformed
from attest.statement import MAX_DEVICES

MAX_CERTIFICATE_BYTES: Final = 16 * 1024
MAX_CRL_BYTES: Final = 256 * 1024
MAX_RIMS: Final = 2 * MAX_DEVICES
MAX_OCSP_RESPONSES: Final = 128
CLAUSE: Final = "docs/reference/bundle-format.md#collateral"

_MEMBERS: Final = frozenset({"snp", "tdx", "nvidia"})
_SNP_MEMBERS: Final = frozenset({"leaf", "intermediate", "ark", "crl"})
_NVIDIA_MEMBERS: Final = frozenset({"rims", "ocsp"})
_RIM_NAME: Final = re.compile(r"[A-Za-z0-9_.]{1,160}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Parts:
    """Collateral by kind; ``None`` where there is none."""

    snp: SnpCollateral | None
    tdx: TdxCollateral | None
    nvidia: NvidiaCollateral | None


def members(cpu: CpuEvidence, nvidia: NvidiaCollateral | None) -> dict[str, Any]:
    """The form that ``read`` reads."""
    by_kind: dict[str, Any] = dict.fromkeys(_MEMBERS)
    if isinstance(cpu, SnpEvidence | AzureSnpEvidence):
        by_kind["snp"] = _snp_members(cpu.collateral)
    elif cpu.collateral is not None:
        by_kind["tdx"] = cpu.collateral.as_members()
    if nvidia is not None:
        by_kind["nvidia"] = _nvidia_members(nvidia)
    return by_kind


def read(value: Any) -> Parts:
    """Read the member.

    Raises:
        Malformed: ``bundle-*``, ``tdx-collateral-*``.
    """
    by_kind = strict_json.members_exactly(value, _MEMBERS, name="bundle")
    return Parts(
        snp=None if by_kind["snp"] is None else _snp(by_kind["snp"]),
        tdx=None if by_kind["tdx"] is None else TdxCollateral.from_members(by_kind["tdx"]),
        nvidia=None if by_kind["nvidia"] is None else _nvidia(by_kind["nvidia"]),
    )


def _snp_members(collateral: SnpCollateral) -> dict[str, str | None]:
    values = {name: getattr(collateral, name) for name in _SNP_MEMBERS}
    return {name: None if value is None else strict_json.b64encode(value) for name, value in values.items()}


def _snp(value: Any) -> SnpCollateral:
    snp = strict_json.members_exactly(value, _SNP_MEMBERS, name="bundle")
    return SnpCollateral(
        leaf=_decode_optional(snp["leaf"], MAX_CERTIFICATE_BYTES),
        intermediate=_decode_optional(snp["intermediate"], MAX_CERTIFICATE_BYTES),
        ark=_decode_optional(snp["ark"], MAX_CERTIFICATE_BYTES),
        crl=_decode_optional(snp["crl"], MAX_CRL_BYTES),
    )


def _nvidia_members(collateral: NvidiaCollateral) -> dict[str, Any]:
    return {
        "rims": {name: strict_json.b64encode(rim) for name, rim in collateral.rims.items()},
        "ocsp": [strict_json.b64encode(answer) for answer in collateral.ocsp],
    }


def _nvidia(value: Any) -> NvidiaCollateral:
    nvidia = strict_json.members_exactly(value, _NVIDIA_MEMBERS, name="bundle")
    rims, answers = nvidia["rims"], nvidia["ocsp"]
    if not isinstance(rims, dict) or len(rims) > MAX_RIMS or not all(map(_RIM_NAME.fullmatch, rims)):
        raise Malformed("bundle-members", f"nvidia.rims is not at most {MAX_RIMS} by name", clause=CLAUSE)
    if not isinstance(answers, list) or len(answers) > MAX_OCSP_RESPONSES:
        raise Malformed("bundle-members", f"nvidia.ocsp is not at most {MAX_OCSP_RESPONSES}", clause=CLAUSE)
    return NvidiaCollateral(
        rims={name: _decode(rim, MAX_RIM_BYTES) for name, rim in rims.items()},
        ocsp=tuple(_decode(answer, MAX_OCSP_BYTES) for answer in answers),
    )


def _decode(value: Any, max_bytes: int) -> bytes:
    return strict_json.b64decode(value, name="bundle", max_bytes=max_bytes)


def _decode_optional(value: Any, max_bytes: int) -> bytes | None:
    return None if value is None else _decode(value, max_bytes)
