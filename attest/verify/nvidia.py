"""Is this NVIDIA GPU or switch genuine, and does it run what NVIDIA published? (DSP0274; NVIDIA RIM)

``verify_gpu`` answers both in eight numbered steps. Without golden values there is no answer: debug firmware
signs as readily as any other, and only its measurements tell. What it does not say is that the device is
acceptable: versions, mode, revocation and the number of devices are judged by the appraisal.

Nothing in a report names the machine that the device sits in. The nonce, which is derived from the
statement's, binds it to the exchange and to no more (docs/security/threat-model.md).
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from attest.checks import CheckList
from attest.collateral.nvidia import NvidiaRoots
from attest.evidence.gpu import ARCHITECTURES, NONCE_SIZE, Architecture, GpuCollateral, GpuEvidence
from attest.evidence.gpu_facts import CLAUSE as OPAQUE_CLAUSE
from attest.evidence.gpu_facts import FeatureFlag, GpuFacts, Kind
from attest.evidence.gpu_leaf import GpuLeaf
from attest.evidence.pem import read_certificates
from attest.evidence.spdm import MAX_BLOCKS, SpdmReport
from attest.refusal import Malformed, Refused, Unsupported
from attest.verify.gpu_measurements import CLAUSE as RIM_CLAUSE
from attest.verify.gpu_measurements import require_match
from attest.verify.gpu_revocation import require_unrevoked
from attest.verify.nvidia_chain import CLAUSE as CHAIN_CLAUSE
from attest.verify.nvidia_chain import NvidiaChain, Vendor, verify_chain
from attest.verify.p384 import key_of, require_signed
from attest.verify.rim import VerifiedRim, verify_rim
from attest.verify.x509 import common_name

_SPDM_CLAUSE: Final = "DSP0274 1.1 MEASUREMENTS"
_FWID_CLAUSE: Final = "TCG DICE attestation architecture 1.1 section 6.1"


@dataclass(frozen=True, slots=True)
class VerifiedGpu:
    """A genuine device with published firmware. Made by ``verify_gpu`` only.

    Args:
        vendor: whose roots both hierarchies end in.
        arch: architecture, agreed by evidence and leaf.
        kind: GPU or NVSwitch.
        chip: e.g. ``"GH100"``.
        driver_version: as measured; ``None`` for a switch.
        vbios_version: as measured.
        ueid: the device's identity as NVIDIA's tokens name it: the leaf's serial number in decimal.
        nonce: that the device answered, 32 bytes; ours, unless ``verify_gpu`` was given none.
        measurements: indices that matched the golden values; all active ones.
        fwid: digest of the firmware that the signing key was derived for, 48 bytes.
        fwid_in_report: whether the report says the same digest; reports of 2023 say none.
        feature_flag: single GPU, several tenants, whole board; ``None`` if not said.
        protected_pcie: whether links to the switches are protected; ``None`` if not said.
        pdis: identities of what its links lead to.
        own_pdi: a switch's own identity; ``None`` for a GPU.
        revocation_checked: whether every certificate that can be revoked had a current good answer.
        not_after: the earliest end of a certificate of any chain or of an answer.
    """

    vendor: Vendor
    arch: Architecture
    kind: Kind
    chip: str
    driver_version: str | None
    vbios_version: str
    ueid: str
    nonce: bytes
    measurements: tuple[int, ...]
    fwid: bytes
    fwid_in_report: bool
    feature_flag: FeatureFlag | None
    protected_pcie: bool | None
    pdis: frozenset[bytes]
    own_pdi: bytes | None
    revocation_checked: bool
    not_after: datetime


@dataclass(frozen=True, slots=True)
class GenuineReport:
    """A report that a device of the vendor signed, its firmware not judged yet. Made by ``verify_report``.

    Args:
        facts: what the report says.
        measurements: its blocks.
        nonce: that it answers.
        leaf: what the signing key's certificate says.
        chain: of the signing key.
        not_after: the earliest end of a certificate.
    """

    facts: GpuFacts
    measurements: tuple[bytes, ...]
    nonce: bytes
    leaf: GpuLeaf
    chain: NvidiaChain
    not_after: datetime


def verify_gpu(
    evidence: GpuEvidence,
    collateral: GpuCollateral,
    roots: NvidiaRoots,
    *,
    nonce: bytes | None,
    now: datetime,
    checks: CheckList,
) -> VerifiedGpu:
    """Judge whether a device is genuine and runs published firmware.

    Args:
        evidence: report and chain.
        collateral: golden values and revocation answers; nothing in it is trusted.
        roots: what the chains may end in.
        nonce: 32 bytes that we issued, or ``None`` where saved evidence is looked at.
        now: time of verification, aware.
        checks: gets one row per step, up to and including one that refuses.

    Raises:
        Unsupported: an architecture, message or algorithm that is not judged here.
        Malformed: evidence or collateral is not an instance of its format.
        Refused: the device is not genuine under ``roots`` at ``now``; see the codes of each step.
    """
    # 1 to 5. The device signed the report, for us.
    genuine = verify_report(evidence, roots, nonce=nonce, now=now, checks=checks)
    facts = genuine.facts

    # 6. The golden values are the same vendor's, and those of this chip, this driver and this VBIOS.
    with checks.step("GPU golden values", RIM_CLAUSE):
        rims = _golden_values(genuine, collateral, roots)
        rim_end = min(rim.chain.require_current("rim", now) for rim in rims)
        checks.passed(
            "GPU golden values",
            RIM_CLAUSE,
            expected=" and ".join(filter(None, (facts.driver_rim_id, facts.vbios_rim_id))),
            got=f"{genuine.chain.vendor}, signed, for {' and '.join(rim.rim.version for rim in rims)}",
            expires=rim_end,
        )

    # 7. Every active golden value is what the device measured.
    with checks.step("GPU measurements", RIM_CLAUSE):
        rim_values = tuple(rim.rim for rim in rims)
        matched = require_match(facts, genuine.measurements, rim_values, checks)
        checks.passed(
            "GPU measurements",
            RIM_CLAUSE,
            expected=f"{len(matched)} golden values",
            got=f"{len(matched)} equal"
            + ("" if facts.nvdec0_enabled else ", 35 not measured (NVDEC0 is off)"),
        )

    # 8. No issuer has revoked a certificate of any of the chains.
    with checks.step("GPU revocation", "RFC 6960"):
        chains = tuple(rim.chain for rim in rims)
        ocsp_end = require_unrevoked(collateral.ocsp, genuine.chain, chains, now=now, checks=checks)

    return VerifiedGpu(
        vendor=genuine.chain.vendor,
        arch=evidence.arch,
        kind=facts.kind,
        chip=genuine.leaf.chip,
        driver_version=facts.driver_version,
        vbios_version=facts.vbios_version,
        ueid=genuine.leaf.ueid,
        nonce=genuine.nonce,
        measurements=matched,
        fwid=genuine.leaf.fwid,
        fwid_in_report=facts.fwid is not None,
        feature_flag=facts.feature_flag,
        protected_pcie=facts.protected_pcie,
        pdis=facts.pdis,
        own_pdi=facts.own_pdi,
        revocation_checked=ocsp_end.complete,
        not_after=min(genuine.not_after, rim_end, ocsp_end.earliest or rim_end),
    )


def verify_report(
    evidence: GpuEvidence, roots: NvidiaRoots, *, nonce: bytes | None, now: datetime, checks: CheckList
) -> GenuineReport:
    """Judge whether a device of a named vendor signed a report; what it runs is not looked at.

    Arguments and refusals are those of ``verify_gpu``.
    """
    # 1. Report and opaque data are well formed.
    with checks.step("GPU report format", _SPDM_CLAUSE):
        report, facts = _parse(evidence)
        checks.passed(
            "GPU report format",
            _SPDM_CLAUSE,
            expected="SPDM 1.1, signed measurements",
            got=f"{facts.kind} {evidence.arch}, {len(report.measurements)} blocks",
        )

    # 2. The request is ours: the nonce in it, and not the responder's own, says so.
    with checks.step("GPU nonce", "DSP0274 1.1 GET_MEASUREMENTS"):
        _require_nonce(report, nonce, checks)

    # 3. The chain ends in a root that the caller named, and is valid now.
    with checks.step("GPU certificate chain", CHAIN_CLAUSE):
        chain = verify_chain(read_certificates(evidence.certificate_chain), roots, "gpu")
        not_after = chain.require_current("gpu", now)
        checks.passed(
            "GPU certificate chain",
            CHAIN_CLAUSE,
            expected="a root named in the trust file",
            got=f"{chain.vendor}, {chain.root_sha256}",
            expires=not_after,
        )

    # 4. The leaf's key belongs to this kind of chip, and to the firmware that the report names.
    with checks.step("GPU leaf matches report", _FWID_CLAUSE):
        leaf = _require_leaf(evidence.arch, chain, facts, checks)

    # 5. The leaf's key signed request and response.
    with checks.step("GPU report signature", _SPDM_CLAUSE):
        key = key_of(chain.signer, role="device signer")
        require_signed(
            key,
            report.signature_r,
            report.signature_s,
            report.signed,
            "gpu-report-signature",
            what="report",
        )
        checks.passed(
            "GPU report signature",
            _SPDM_CLAUSE,
            expected="ECDSA P-384 over request and response",
            got=f"signed by device {leaf.ueid}",
        )
    return GenuineReport(facts, report.measurements, report.nonce, leaf, chain, not_after)


def _parse(evidence: GpuEvidence) -> tuple[SpdmReport, GpuFacts]:
    if evidence.arch not in ARCHITECTURES:
        raise Unsupported("gpu-arch", "NVIDIA", expected=", ".join(ARCHITECTURES), got="another architecture")
    report = SpdmReport.parse(evidence.report)
    facts = GpuFacts.read(report.opaque, evidence.arch)
    if facts.kind == "gpu" and len(report.measurements) != MAX_BLOCKS:
        raise Malformed("spdm-blocks", f"{len(report.measurements)} blocks, not 64", clause=_SPDM_CLAUSE)
    return report, facts


def _require_nonce(report: SpdmReport, nonce: bytes | None, checks: CheckList) -> None:
    clause = "DSP0274 1.1 GET_MEASUREMENTS"
    if nonce is None:
        checks.noted("GPU nonce", clause, expected="our nonce", got="not asked: saved evidence")
        return
    if len(nonce) != NONCE_SIZE:
        raise ValueError(f"a nonce has {NONCE_SIZE} bytes, not {len(nonce)}")
    checks.require(
        hmac.compare_digest(report.nonce, nonce),
        "gpu-nonce",
        "GPU nonce",
        clause,
        expected=nonce.hex(),
        got=report.nonce.hex(),
    )


def _require_leaf(arch: Architecture, chain: NvidiaChain, facts: GpuFacts, checks: CheckList) -> GpuLeaf:
    leaf = GpuLeaf.parse(chain.signer, common_name(chain.signer.subject, role="device signer"))
    if not leaf.is_of(arch):
        raise Refused("gpu-arch-mismatch", OPAQUE_CLAUSE, expected=arch, got=leaf.chip)
    if facts.fwid is None:
        checks.noted(
            "GPU leaf matches report", _FWID_CLAUSE, expected="firmware identity in the report", got="none"
        )
        return leaf
    checks.require(
        hmac.compare_digest(facts.fwid, leaf.fwid),
        "gpu-fwid",
        "GPU leaf matches report",
        _FWID_CLAUSE,
        expected=leaf.fwid.hex(),
        got=facts.fwid.hex(),
    )
    return leaf


def _golden_values(
    genuine: GenuineReport, collateral: GpuCollateral, roots: NvidiaRoots
) -> tuple[VerifiedRim, ...]:
    """The device's manifests, driver's first."""
    facts = genuine.facts
    wanted = [(collateral.vbios_rim, facts.vbios_version, facts.vbios_rim_id)]
    if facts.driver_version is not None and facts.driver_rim_id is not None:
        wanted.insert(0, (collateral.driver_rim, facts.driver_version, facts.driver_rim_id))
    elif collateral.driver_rim is not None:
        raise Refused("rim-unexpected", RIM_CLAUSE, expected="no driver manifest", got="one, for a switch")
    return tuple(_one_rim(document, version, name, genuine, roots) for document, version, name in wanted)


def _one_rim(
    document: bytes | None, version: str, name: str, genuine: GenuineReport, roots: NvidiaRoots
) -> VerifiedRim:
    if document is None:
        raise Refused("gpu-rim-missing", RIM_CLAUSE, expected=f"golden values {name}", got="none supplied")
    verified = verify_rim(document, roots)
    if verified.chain.vendor != genuine.chain.vendor:
        raise Refused(
            "rim-vendor", RIM_CLAUSE, expected=genuine.chain.vendor, got=f"signed by {verified.chain.vendor}"
        )
    rim = verified.rim
    if rim.version.upper() != version.upper():
        raise Refused("rim-version", RIM_CLAUSE, expected=f"{name} for {version}", got=rim.version)
    chips = {genuine.leaf.chip, genuine.facts.chip or genuine.leaf.chip}
    if rim.product.replace("_", "") not in chips:
        raise Refused("rim-product", RIM_CLAUSE, expected=" or ".join(sorted(chips)), got=rim.product)
    return verified
