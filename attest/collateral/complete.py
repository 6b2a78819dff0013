"""Fill in what an enclave could not know: the collateral under which its evidence is to be judged.

Pure over a source. Nothing that is filled in is trusted here: the completed bundle goes to ``attest.verify``
whole, and may be stored, since it can then be judged offline at any time. Of chips, devices and golden values
the signatures are looked at before anybody is asked about them, because one bundle may hold names for
hundreds of questions: what is forged is left as it is, and the verifier says why it is refused. What the
source has is preferred to what came along, because the enclave's host chose the latter. Evidence of a mock
vendor brings everything with it, since no service knows it, and is left as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from cryptography import x509

from attest.checks import CheckList
from attest.collateral import items
from attest.collateral.items import Item
from attest.collateral.nvidia import NvidiaRoots, nvidia_device_root
from attest.collateral.snp import SnpRoots
from attest.collateral.source import CollateralSource
from attest.collateral.tdx import TdxCollateral, intel_root, signed_text
from attest.evidence.bundle import Bundle
from attest.evidence.cpu import AzureSnpEvidence, SnpCollateral, SnpEvidence
from attest.evidence.device import DeviceEvidence, NvidiaCollateral
from attest.evidence.gpu_facts import GpuFacts
from attest.evidence.hcl import HclReport
from attest.evidence.pck import PckPlatform
from attest.evidence.pem import read_certificates
from attest.evidence.snp import SnpReport
from attest.evidence.snp_tcb import Product, TcbVersion
from attest.evidence.tdx import TdxQuote
from attest.evidence.tdx_evidence import TdxEvidence
from attest.refusal import Malformed, Refused
from attest.verify.nvidia import GenuineReport, verify_report
from attest.verify.rim import verify_rim
from attest.verify.snp import verify_snp

_PRODUCTS: Final[tuple[Product, ...]] = ("Milan", "Genoa", "Turin")
_PROCESSOR: Final = "Processor CA"
_UNREADABLE: Final = (
    ValueError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
_NVIDIA: Final = NvidiaRoots(nvidia=True)
_DEVICE_LEAF: Final = 1
"""A device's own certificate, which it makes itself at each start and nobody revokes."""


def complete(bundle: Bundle, source: CollateralSource, now: datetime) -> Bundle:
    """The bundle with all the collateral that judging it takes.

    Args:
        bundle: as the runtime sent it.
        source: a cache, or a cache and the services behind it.
        now: the time, by which the source tells what is fresh.

    Raises:
        Refused: ``collateral-*``; and as the parsers do, for evidence that is none.
    """
    cpu = bundle.cpu
    if isinstance(cpu, SnpEvidence):
        bundle = replace(bundle, cpu=replace(cpu, collateral=_snp(cpu.report, cpu.collateral, source, now)))
    elif isinstance(cpu, AzureSnpEvidence):
        report = HclReport.parse(cpu.hcl_report).hardware_report
        bundle = replace(bundle, cpu=replace(cpu, collateral=_snp(report, cpu.collateral, source, now)))
    else:
        bundle = replace(bundle, cpu=_tdx(cpu, source, now))
    return replace(bundle, nvidia=_nvidia(bundle, source, now))


def _snp(data: bytes, known: SnpCollateral, source: CollateralSource, now: datetime) -> SnpCollateral:
    if known.ark is not None:
        return known
    report = SnpReport.parse(data)
    kind = report.signing_key
    if kind == "none":
        return known
    product = report.product or _product_of(known.leaf)
    leaf = known.leaf
    if leaf is None:
        if kind == "vlek":  # a provider's certificate is the provider's to hand out: no service has it
            raise Refused("collateral-missing", "AMD 57230", expected="the provider's VLEK", got="none")
        tcb = TcbVersion.parse(report.reported_tcb, product)
        leaf = source.get(items.vcek(product, report.chip_id, tcb), now)
    elif not _is_amds(data, known, now):
        return known
    crl = _preferred(items.amd_crl(product, kind), known.crl, source, now)
    return replace(known, leaf=leaf, crl=crl)


def _is_amds(report: bytes, known: SnpCollateral, now: datetime) -> bool:
    """Whether AMD's keys signed it all, lists aside: what they did not sign causes no question."""
    try:
        verify_snp(report, replace(known, crl=None), SnpRoots(amd=True), now=now, checks=CheckList())
    except Refused:
        return False
    return True


def _product_of(leaf: bytes | None) -> Product:
    """The product that a leaf's issuer names, as reports of version 2 do not. It only chooses a question."""
    for product in _PRODUCTS:
        if leaf is not None and f"-{product}".encode() in leaf:
            return product
    raise Refused("collateral-missing", "AMD 57230", expected="a product line to ask for", got="none named")


def _tdx(cpu: TdxEvidence, source: CollateralSource, now: datetime) -> TdxEvidence:
    chain = TdxQuote.parse(cpu.quote).signature.pck_chain
    if chain[-1] != intel_root():
        return cpu
    pck = _certificate(chain[0])
    is_processor = _PROCESSOR in pck.issuer.rfc4514_string()
    wanted = (
        items.tcb_info(PckPlatform.parse(pck).fmspc),
        items.qe_identity(),
        items.pck_crl("processor" if is_processor else "platform"),
        items.intel_root_crl(),
    )
    have = cpu.collateral
    if have is None:
        return replace(cpu, collateral=_documents([source.get(item, now) for item in wanted]))
    found = [source.find(item, now) for item in wanted]
    # All of one time or none: TCB info and QE identity of different evaluations do not go together.
    complete_set = [each for each in found if each is not None]
    return replace(cpu, collateral=_documents(complete_set)) if len(complete_set) == len(wanted) else cpu


def _documents(kept: Sequence[bytes]) -> TdxCollateral:
    info, info_chain = items.parted(kept[0])
    identity, identity_chain = items.parted(kept[1])
    pck_crl, crl_chain = items.parted(kept[2])
    tcb_info, tcb_info_signature = signed_text(info, "tcbInfo")
    qe_identity, qe_identity_signature = signed_text(identity, "enclaveIdentity")
    return TdxCollateral(
        pck_crl_issuer_chain=crl_chain,
        root_ca_crl=kept[3],
        pck_crl=pck_crl,
        tcb_info_issuer_chain=info_chain,
        tcb_info=tcb_info,
        tcb_info_signature=tcb_info_signature,
        qe_identity_issuer_chain=identity_chain,
        qe_identity=qe_identity,
        qe_identity_signature=qe_identity_signature,
    )


def _nvidia(bundle: Bundle, source: CollateralSource, now: datetime) -> NvidiaCollateral | None:
    known = bundle.nvidia or NvidiaCollateral()
    chains = [read_certificates(device.evidence.certificate_chain) for device in bundle.devices]
    if not chains or any(_root_of(chain, nvidia_device_root()) is None for chain in chains):
        return bundle.nvidia
    reports = _genuine(bundle.devices, now)
    if reports is None:
        return bundle.nvidia
    names = dict.fromkeys(name for report in reports for name in _rim_names(report.facts))
    rims = {name: _preferred(items.rim(name), known.rims.get(name), source, now) for name in names}
    issued = [pair for report in reports for pair in report.chain.issued("gpu")[_DEVICE_LEAF:]]
    try:
        for rim in rims.values():
            issued += verify_rim(rim, _NVIDIA).chain.issued("rim")
    except Refused:
        return NvidiaCollateral(rims, known.ocsp)
    pairs = [(each.certificate, each.issuer) for each in issued]
    questions = {item.key: item for item in (items.ocsp_answer(about, issuer) for about, issuer in pairs)}
    if known.ocsp and any(source.find(item, now) is None for item in questions.values()):
        return NvidiaCollateral(rims, known.ocsp)
    return NvidiaCollateral(rims, tuple(source.get(item, now) for item in questions.values()))


def _genuine(devices: Sequence[DeviceEvidence], now: datetime) -> list[GenuineReport] | None:
    """The devices' reports, if NVIDIA's devices signed all of them; whether they answer us is seen later."""
    try:
        return [
            verify_report(device.evidence, _NVIDIA, nonce=None, now=now, checks=CheckList())
            for device in devices
        ]
    except Refused:
        return None


def _rim_names(facts: GpuFacts) -> list[str]:
    return [name for name in (facts.driver_rim_id, facts.vbios_rim_id) if name is not None]


def _root_of(chain: Sequence[bytes], root: bytes) -> bytes | None:
    """The root, if the chain ends in it or names it as the last issuer: else it is a mock's."""
    last = _certificate(chain[-1])
    return root if chain[-1] == root or last.issuer == _certificate(root).subject else None


def _preferred(item: Item, known: bytes | None, source: CollateralSource, now: datetime) -> bytes:
    """What the source has; else what came along; else what the source can get."""
    return source.find(item, now) or known or source.get(item, now)


def _certificate(der: bytes) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(der)
        # Read when first asked for: now, or refused.
        certificate.subject, certificate.issuer, certificate.extensions  # noqa: B018
    except _UNREADABLE as error:
        raise Malformed("certificate-malformed", "in a chain to complete") from error
    return certificate
