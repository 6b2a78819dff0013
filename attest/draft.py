"""Reference values that accept exactly one genuine runtime: a first draft for a person to read.

Everything that the evidence says is pinned, and floors are what runs today. The draft says what *is*; whether
that is what should be accepted is for whoever signs their name under it, so it comes with a short life.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, cast, get_args

from attest.accepted.azure import AzureReference
from attest.accepted.gpu import GpuArch, GpuReference
from attest.accepted.runtime import RuntimeReference
from attest.accepted.snp import SnpReference
from attest.accepted.tdx import TcbStatusName, TdxReference
from attest.evidence.snp_flags import PlatformBit, PolicyBit
from attest.evidence.snp_tcb import TcbVersion
from attest.reference import ReferenceValues
from attest.refusal import Refused
from attest.statement import Statement
from attest.verify.azure import VerifiedAzureSnp, VerifiedVtpm
from attest.verify.bundle import VerifiedEvidence
from attest.verify.nvidia import VerifiedGpu
from attest.verify.snp import VerifiedSnp
from attest.verify.tdx import VerifiedTdx

MAX_EVIDENCE_AGE: Final = timedelta(minutes=30)
_CLAUSE: Final = "docs/how-to/reference-values.md"


@dataclass(frozen=True, slots=True)
class Draft:
    """What the evidence does not say.

    Args:
        name: of the values, for people.
        days: until they end.
    """

    name: str
    days: int


def draft_reference(verified: VerifiedEvidence, draft: Draft, *, now: datetime) -> ReferenceValues:
    """Values that accept exactly ``verified``.

    Args:
        verified: genuine evidence, of a runtime that its owner has checked by other means.
        draft: name and life.
        now: from when the values live, aware.

    Raises:
        Refused: ``draft-revoked-platform`` for a platform that no values can accept.
    """
    detail, is_mock = verified.cpu.detail, verified.cpu.vendor == "mock"
    azure = detail if isinstance(detail, VerifiedAzureSnp) else None
    hardware = detail.snp if isinstance(detail, VerifiedAzureSnp) else detail
    return ReferenceValues(
        name=draft.name,
        not_after=(now + timedelta(days=draft.days)).replace(microsecond=0),
        max_evidence_age=MAX_EVIDENCE_AGE,
        vendors=frozenset({verified.cpu.vendor}),
        mock=verified.roots.mock if is_mock else None,
        snp=_snp(hardware) if isinstance(hardware, VerifiedSnp) else None,
        tdx=_tdx(hardware, verified.cpu.event_log) if isinstance(hardware, VerifiedTdx) else None,
        azure=None if azure is None else _azure(azure.vtpm),
        gpu=_gpu(verified.devices) if verified.devices else None,
        runtime=_runtime(verified.statement),
    )


def _snp(snp: VerifiedSnp) -> SnpReference:
    report = snp.report
    policy = {name: getattr(report.policy, name) for name in get_args(PolicyBit)}
    platform = {name: getattr(report.platform_info, name) for name in get_args(PlatformBit)}
    return SnpReference(
        products=frozenset({snp.product}),
        signing_keys=frozenset({snp.signing_key}),
        csp_ids=frozenset() if snp.csp_id is None else frozenset({snp.csp_id}),
        vmpls=frozenset({report.vmpl}),
        measurements=frozenset({report.measurement.hex()}),
        host_data=_unless_zero(report.host_data),
        id_key_digests=_unless_zero(report.id_key_digest),
        policy_set=frozenset(cast("PolicyBit", name) for name, is_set in policy.items() if is_set),
        policy_clear=frozenset(cast("PolicyBit", name) for name, is_set in policy.items() if not is_set),
        platform_set=frozenset(cast("PlatformBit", name) for name, is_set in platform.items() if is_set),
        platform_clear=frozenset(
            cast("PlatformBit", name) for name, is_set in platform.items() if not is_set
        ),
        require_revocation_list=snp.revocation_checked,
        min_guest_svn=report.guest_svn,
        min_tcb={snp.product: _lesser(snp.reported_tcb, snp.launch_tcb)},
    )


def _azure(vtpm: VerifiedVtpm) -> AzureReference:
    return AzureReference(
        pcrs={index: frozenset({value.hex()}) for index, value in vtpm.pcrs.items()},
        require_secure_boot=vtpm.runtime.secure_boot,
    )


def _lesser(first: TcbVersion, second: TcbVersion) -> TcbVersion:
    """Component by component: the floor is held against both."""
    names = ("boot_loader", "tee", "snp", "microcode", "fmc")
    return TcbVersion(**{name: min(getattr(first, name), getattr(second, name)) for name in names})


def _tdx(tdx: VerifiedTdx, event_log: bytes | None) -> TdxReference:
    report = tdx.quote.report
    status = str(tdx.tcb_status)
    if status not in get_args(TcbStatusName):
        raise Refused(
            "draft-revoked-platform", _CLAUSE, expected="a platform that may be accepted", got=status
        )
    first, second, third, fourth = (frozenset({value.hex()}) for value in report.rtmrs)
    return TdxReference(
        mrtds=frozenset({report.mrtd.hex()}),
        rtmrs=(first, second, third, fourth),
        mrseams=frozenset({report.mrseam.hex()}),
        mrconfigids=frozenset({report.mrconfigid.hex()}),
        mrowners=frozenset({report.mrowner.hex()}),
        mrownerconfigs=frozenset({report.mrownerconfig.hex()}),
        xfams=frozenset({report.xfam.to_bytes(8, "big").hex()}),
        tcb_statuses=frozenset({cast("TcbStatusName", status)}),
        advisory_ids=frozenset() if status == "UpToDate" else frozenset(tdx.advisory_ids),
        min_tcb_evaluation_data_number=tdx.tcb_evaluation_data_number,
        allow_perfmon=report.attributes.perfmon,
        allow_azure_paravisor=tdx.paravisor,
        require_event_log=event_log is not None,
    )


def _gpu(devices: tuple[VerifiedGpu, ...]) -> GpuReference:
    gpus = [device for device in devices if device.kind == "gpu"]
    switches = [device for device in devices if device.kind == "switch"]
    return GpuReference(
        count=len(gpus),
        switches=len(switches),
        archs=frozenset(cast("GpuArch", gpu.arch) for gpu in gpus),
        modes=frozenset(gpu.feature_flag or "unsaid" for gpu in gpus),
        min_driver=gpus[0].driver_version or "",  # of one set, so the same for all
        min_vbios=_floors(gpus),
        min_switch_bios=min((each.vbios_version for each in switches), default=None),
        ueids=frozenset(device.ueid for device in devices),
        require_revocation_answers=all(device.revocation_checked for device in devices),
        require_fwid=all(gpu.fwid_in_report for gpu in gpus),
    )


def _floors(gpus: list[VerifiedGpu]) -> frozenset[str]:
    """The least VBIOS of each line; two hexadecimal digits a part compare as text as they do as numbers."""
    floors: dict[str, str] = {}
    for version in (gpu.vbios_version.upper() for gpu in gpus):
        floors[version[:2]] = min(version, floors.get(version[:2], version))
    return frozenset(floors.values())


def _runtime(statement: Statement) -> RuntimeReference:
    contract, embedding = statement.contract_digest, statement.embedding_model_digest
    return RuntimeReference(
        roles=frozenset({statement.role}),
        regions=frozenset({statement.region}),
        images=frozenset({statement.runtime_image}),
        policy_digests=frozenset({statement.policy_digest}),
        base_model_digests=frozenset({statement.base_model_digest}),
        tokenizer_digests=frozenset({statement.tokenizer_digest}),
        contract_digests=frozenset() if contract is None else frozenset({contract}),
        self_checks=frozenset() if statement.self_check is None else frozenset({statement.self_check}),
        embedding_model_digests=frozenset() if embedding is None else frozenset({embedding}),
    )


def _unless_zero(value: bytes) -> frozenset[str]:
    return frozenset({value.hex()}) if any(value) else frozenset()
