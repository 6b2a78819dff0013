"""Are the devices in a bundle those that its statement names, and is each genuine? All or nothing (P1).

The statement binds each device's evidence by digest and in order, and the CPU binds the statement: a device
that is absent, added, repeated, taken from another bundle or out of order does not fit. Each device in turn
was asked with a nonce derived from the client's and from the keys, so it answers for this exchange alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from attest.checks import CheckList
from attest.collateral.nvidia import NvidiaRoots
from attest.evidence.bundle import Bundle
from attest.evidence.device import DeviceEvidence, NvidiaCollateral
from attest.evidence.gpu import GpuCollateral, GpuEvidence
from attest.evidence.gpu_facts import GpuFacts
from attest.evidence.spdm import SpdmReport
from attest.refusal import Refused
from attest.statement import CLAUSE, Statement, gpu_nonce
from attest.trust import TrustRoots
from attest.verify.gpu_set import CLAUSE as SET_CLAUSE
from attest.verify.gpu_set import require_one_set
from attest.verify.nvidia import VerifiedGpu, verify_gpu

_NONE: Final = NvidiaCollateral()


def require_named(devices: Sequence[DeviceEvidence], statement: Statement, checks: CheckList) -> None:
    """Require that the devices are exactly those of the statement.

    Raises:
        Refused: ``device-missing``, ``device-unnamed``, ``device-digest-mismatch``.
    """
    named = {(device.kind, device.index): device.evidence_sha256 for device in statement.devices}
    present = {(device.kind, device.index): device.digest for device in devices}
    rules = (
        ("device-missing", sorted(named.keys() - present.keys()), "every named device is here"),
        ("device-unnamed", sorted(present.keys() - named.keys()), "every device here is named"),
        (
            "device-digest-mismatch",
            sorted(key for key, digest in present.items() if named.get(key) != digest),
            "evidence is what the statement binds",
        ),
    )
    for code, wrong, name in rules:
        checks.require(
            not wrong,
            code,
            name,
            CLAUSE,
            expected=f"{len(named)} devices",
            got=", ".join(f"{kind} {index}" for kind, index in wrong) or f"{len(present)} devices",
        )


def verify_devices(
    bundle: Bundle, statement: Statement, roots: TrustRoots, *, now: datetime, checks: CheckList
) -> tuple[VerifiedGpu, ...]:
    """Judge every device, and then whether they are one set. None is a set too.

    Raises:
        Refused: ``gpu-nonce-underived`` for a statement that answers nobody, and all that ``verify_gpu`` and
            ``require_one_set`` raise.
    """
    if not bundle.devices:
        return ()
    if statement.nonce is None:
        raise Refused("gpu-nonce-underived", CLAUSE, expected="a client's nonce", got="none")
    _require_distinct_reports(bundle.devices)
    nonce = gpu_nonce(statement.nonce, statement.keyset_digest)
    nvidia_roots = _roots(roots)
    collateral = bundle.nvidia or _NONE
    verified = []
    for device in bundle.devices:
        with checks.under(f"{device.kind} {device.index}"):
            golden = collateral_of(device.evidence, collateral)
            verified.append(
                verify_gpu(device.evidence, golden, nvidia_roots, nonce=nonce, now=now, checks=checks)
            )
    with checks.step("devices form one set", SET_CLAUSE):
        require_one_set(verified)
        checks.passed(
            "devices form one set",
            SET_CLAUSE,
            expected="distinct, alike, linked to each other or to none",
            got=f"{len(verified)} devices",
        )
    return tuple(verified)


def _require_distinct_reports(devices: Sequence[DeviceEvidence]) -> None:
    """One answer told as two devices': seen before any of it costs a signature."""
    reports = [device.evidence.report for device in devices]
    if len(set(reports)) != len(reports):
        raise Refused(
            "gpu-set-device-repeated", SET_CLAUSE, expected="each device once", got="one report twice"
        )


def collateral_of(evidence: GpuEvidence, pool: NvidiaCollateral) -> GpuCollateral:
    """What the pool holds for one device, by the names that its report implies.

    Raises:
        Malformed, Unsupported: the report has not its form.
    """
    facts = GpuFacts.read(SpdmReport.parse(evidence.report).opaque, evidence.arch)
    driver = None if facts.driver_rim_id is None else pool.rims.get(facts.driver_rim_id)
    return GpuCollateral(driver, pool.rims.get(facts.vbios_rim_id), pool.ocsp)


def _roots(roots: TrustRoots) -> NvidiaRoots:
    mock = roots.mock
    if mock is None:
        return NvidiaRoots(nvidia=roots.nvidia)
    return NvidiaRoots(roots.nvidia, mock.gpu_device_root_sha256, mock.gpu_rim_root_sha256)
