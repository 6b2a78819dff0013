"""Lies of a SEV-SNP guest, its host and its chip."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeVar

from attest.evidence.bundle import Bundle
from attest.evidence.cpu import SnpEvidence
from attest.evidence.snp_tcb import Product, TcbVersion
from attest.mock.lies.catalogue import Catalogue, other_bytes
from attest.mock.machine import MockSnpCpu
from attest.mock.snp_certificates import VCEK_SERIAL
from attest.mock.snp_report import DEBUG_POLICY_BIT, MIGRATION_POLICY_BIT
from attest.mock.vendor import MockVendor
from attest.mock.world import MockWorld

lie = Catalogue(needs="snp")


@lie("wrong-measurement", "another image was launched", "snp-measurement-not-accepted")
def _wrong_measurement(world: MockWorld, nonce: str) -> bytes:
    return _launched(world, measurement=other_bytes(_cpu(world).launch.measurement)).answer(nonce)


@lie("debug-guest", "the host may read the guest's memory", "snp-debug")
def _debug_guest(world: MockWorld, nonce: str) -> bytes:
    return _launched(world, policy=_cpu(world).launch.policy | DEBUG_POLICY_BIT).answer(nonce)


@lie("migratable-guest", "the host may move the guest elsewhere", "snp-migration-agent")
def _migratable_guest(world: MockWorld, nonce: str) -> bytes:
    return _launched(world, policy=_cpu(world).launch.policy | MIGRATION_POLICY_BIT).answer(nonce)


@lie("migration-agent", "a migration agent is bound to the guest", "snp-migration-agent")
def _migration_agent(world: MockWorld, nonce: str) -> bytes:
    return _launched(world, migration_agent=b"\x01" * 32).answer(nonce)


@lie("vmpl", "a less privileged layer of the guest asked", "snp-vmpl-not-accepted")
def _vmpl(world: MockWorld, nonce: str) -> bytes:
    return _launched(world, vmpl=3).answer(nonce)


@lie("rolled-back-tcb", "firmware with a known hole, newer microcode", "snp-reported-tcb")
def _rolled_back_tcb(world: MockWorld, nonce: str) -> bytes:
    """One component down, another up: as one number the version would have grown."""
    tcb = _cpu(world).launch.tcb
    older = TcbVersion(tcb.boot_loader, tcb.tee, tcb.snp - 1, tcb.microcode + 1, tcb.fmc)
    return _launched(world, tcb=older).answer(nonce)


@lie("old-guest", "an older security version of the image", "snp-guest-svn")
def _old_guest(world: MockWorld, nonce: str) -> bytes:
    return _launched(world, guest_svn=_cpu(world).launch.guest_svn - 1).answer(nonce)


@lie("wrong-root", "another vendor's root, same names", "snp-root-not-trusted", promise="P8")
def _wrong_root(world: MockWorld, nonce: str) -> bytes:
    cpu = _cpu(world)
    stranger = replace(cpu, vendor=_stranger(cpu.vendor.product))
    return replace(world, machine=replace(world.machine, cpu=stranger)).answer(nonce)


@lie(
    "mock-as-hardware", "the mock's chain without its root, like AMD's", "snp-root-not-trusted", promise="P8"
)
def _mock_as_hardware(world: MockWorld, nonce: str) -> bytes:
    return _with_collateral(world.bundle(nonce), ark=None)


@lie("revoked-chip", "the chip's certificate is on the revocation list", "certificate-revoked")
def _revoked_chip(world: MockWorld, nonce: str) -> bytes:
    crl = _cpu(world).vendor.revocation_list((VCEK_SERIAL,), now=world.keyset.not_before)
    return _with_collateral(world.bundle(nonce), crl=crl)


@lie("no-revocation-list", "the list that names the chip is left out", "snp-revocation-unchecked")
def _no_revocation_list(world: MockWorld, nonce: str) -> bytes:
    return _with_collateral(world.bundle(nonce), crl=None)


@lie("no-chip-certificate", "the chip's certificate is left out", "snp-leaf-missing")
def _no_chip_certificate(world: MockWorld, nonce: str) -> bytes:
    return _with_collateral(world.bundle(nonce), leaf=None)


@lie("report-bit", "one bit of the report flipped on the way", "snp-report-signature")
def _report_bit(world: MockWorld, nonce: str) -> bytes:
    honest = world.bundle(nonce)
    cpu = _evidence(honest)
    return replace(honest, cpu=replace(cpu, report=other_bytes(cpu.report, 0x90))).serialise()


def _cpu(world: MockWorld) -> MockSnpCpu:
    return _of(world.machine.cpu, MockSnpCpu)


def _evidence(bundle: Bundle) -> SnpEvidence:
    return _of(bundle.cpu, SnpEvidence)


_Kind = TypeVar("_Kind")


def _of(value: object, kind: type[_Kind]) -> _Kind:
    if not isinstance(value, kind):
        raise TypeError("a lie of a SEV-SNP guest needs one")
    return value


def _launched(world: MockWorld, **changes: Any) -> MockWorld:
    """The same world with the guest launched otherwise."""
    cpu = _cpu(world)
    cpu = replace(cpu, launch=replace(cpu.launch, **changes))
    return replace(world, machine=replace(world.machine, cpu=cpu))


def _with_collateral(bundle: Bundle, **changes: bytes | None) -> bytes:
    cpu = _evidence(bundle)
    return replace(bundle, cpu=replace(cpu, collateral=replace(cpu.collateral, **changes))).serialise()


@lru_cache(maxsize=3)
def _stranger(product: Product) -> MockVendor:
    """Another vendor; its keys take a second or two to make."""
    return MockVendor.create(product=product)
