"""Lies of an Azure confidential VM, its paravisor and its vTPM."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from attest.evidence.bundle import Bundle
from attest.evidence.cpu import AzureSnpEvidence
from attest.evidence.hcl import HclReport
from attest.evidence.tpm import PCR_COUNT
from attest.mock.azure import IMAGE_PCR
from attest.mock.lies.catalogue import Catalogue, other_bytes
from attest.mock.machine import MockAzureCpu, MockSnpCpu
from attest.mock.world import MockWorld
from attest.statement import report_data, vtpm_nonce

lie = Catalogue(needs="azure-snp")


@lie("wrong-pcr", "another disk was booted", "azure-pcr")
def _wrong_pcr(world: MockWorld, nonce: str) -> bytes:
    pcrs = _cpu(world).cvm.pcrs
    other = (*pcrs[:IMAGE_PCR], other_bytes(pcrs[IMAGE_PCR]), *pcrs[IMAGE_PCR + 1 :])
    return _vm(world, pcrs=other).answer(nonce)


@lie("pcr-unquoted", "a register is left out of the quote", "azure-pcr-unquoted")
def _pcr_unquoted(world: MockWorld, nonce: str) -> bytes:
    honest = world.bundle(nonce)
    carried = vtpm_nonce(report_data(honest.statement))
    quote = _cpu(world).cvm.quote(carried, tuple(index for index in range(PCR_COUNT) if index != IMAGE_PCR))
    return _with_evidence(honest, quote=quote)


@lie("pcr-value", "a register's value is replaced beside an honest quote", "azure-pcr-digest")
def _pcr_value(world: MockWorld, nonce: str) -> bytes:
    honest = world.bundle(nonce)
    quote = _evidence(honest).quote
    pcrs = (other_bytes(quote.pcrs[0]), *quote.pcrs[1:])
    return _with_evidence(honest, quote=replace(quote, pcrs=pcrs))


@lie("vtpm-of-another", "a quote by a key that the paravisor does not name", "azure-quote-signature")
def _vtpm_of_another(world: MockWorld, nonce: str) -> bytes:
    honest = world.bundle(nonce)
    stranger = rsa.generate_private_key(65537, 2048)
    quote = _cpu(world).cvm.quote(vtpm_nonce(report_data(honest.statement)), key=stranger)
    return _with_evidence(honest, quote=quote)


@lie("paravisor-claims", "the paravisor's claims name another key", "azure-runtime-binding")
def _paravisor_claims(world: MockWorld, nonce: str) -> bytes:
    honest = world.bundle(nonce)
    cvm = _cpu(world).cvm
    claims = replace(cvm, key=rsa.generate_private_key(65537, 2048)).runtime_claims()
    named = HclReport.parse(_evidence(honest).hcl_report).report_data
    return _with_evidence(honest, hcl_report=cvm.hcl_report(claims, report_data=named))


@lie("old-quote", "a quote that answered another statement", "report-data-mismatch")
def _old_quote(world: MockWorld, nonce: str) -> bytes:
    return _with_evidence(world.bundle(nonce), quote=_cpu(world).cvm.quote(vtpm_nonce(b"\x02" * 64)))


@lie("guest-asked", "the guest itself asked for the report, over claims of its own", "azure-vmpl")
def _guest_asked(world: MockWorld, nonce: str) -> bytes:
    return _vm(world, launch=replace(_cpu(world).cvm.launch, vmpl=2)).answer(nonce)


@lie("no-secure-boot", "the VM was booted without Secure Boot", "azure-secure-boot")
def _no_secure_boot(world: MockWorld, nonce: str) -> bytes:
    return _vm(world, secure_boot=False).answer(nonce)


@lie("without-paravisor", "a guest on the hardware itself, not Azure's", "tee-not-accepted")
def _without_paravisor(world: MockWorld, nonce: str) -> bytes:
    cvm = _cpu(world).cvm
    machine = replace(world.machine, cpu=MockSnpCpu(cvm.vendor, cvm.launch))
    return replace(world, machine=machine).answer(nonce)


def _cpu(world: MockWorld) -> MockAzureCpu:
    cpu = world.machine.cpu
    if not isinstance(cpu, MockAzureCpu):
        raise TypeError("a lie of an Azure VM needs one")
    return cpu


def _evidence(bundle: Bundle) -> AzureSnpEvidence:
    if not isinstance(bundle.cpu, AzureSnpEvidence):
        raise TypeError("a lie of an Azure VM needs one")
    return bundle.cpu


def _vm(world: MockWorld, **changes: Any) -> MockWorld:
    """The same world with another VM."""
    cpu = MockAzureCpu(replace(_cpu(world).cvm, **changes))
    return replace(world, machine=replace(world.machine, cpu=cpu))


def _with_evidence(bundle: Bundle, **changes: Any) -> bytes:
    return replace(bundle, cpu=replace(_evidence(bundle), **changes)).serialise()
