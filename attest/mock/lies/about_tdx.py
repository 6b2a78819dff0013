"""Lies of a TDX guest, its host and its platform."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

from attest.evidence.tdx_attributes import DEBUG, MIGRATABLE, PERFMON
from attest.evidence.tdx_evidence import TdxCollateral, TdxEvidence
from attest.mock.lies.catalogue import Catalogue, other_bytes
from attest.mock.machine import MockTdxCpu
from attest.mock.tdx import PCK_SERIAL, MockTdxVendor
from attest.mock.tdx_documents import MockTcb, qe_identity, tcb_info, text_of
from attest.mock.world import MockWorld

lie = Catalogue(needs="tdx")


@lie("wrong-mrtd", "another image was launched", "tdx-mrtd-not-accepted")
def _wrong_mrtd(world: MockWorld, nonce: str) -> bytes:
    return _launched(world, mrtd=other_bytes(_cpu(world).launch.mrtd)).answer(nonce)


@lie("wrong-rtmr", "another kernel was loaded", "tdx-rtmr-not-accepted")
def _wrong_rtmr(world: MockWorld, nonce: str) -> bytes:
    first, second, third, fourth = _cpu(world).launch.rtmrs
    return _launched(world, rtmrs=(first, other_bytes(second), third, fourth)).answer(nonce)


@lie("configured-td", "the host launched the TD with a configuration", "tdx-mrconfigid-not-accepted")
def _configured_td(world: MockWorld, nonce: str) -> bytes:
    return _launched(world, mrconfigid=other_bytes(_cpu(world).launch.mrconfigid)).answer(nonce)


@lie("owned-td", "the host launched the TD for another owner", "tdx-mrowner-not-accepted")
def _owned_td(world: MockWorld, nonce: str) -> bytes:
    return _launched(world, mrowner=other_bytes(_cpu(world).launch.mrowner)).answer(nonce)


@lie("debug-td", "the host may read the TD's memory", "tdx-debug")
def _debug_td(world: MockWorld, nonce: str) -> bytes:
    return _launched(world, attributes=_cpu(world).launch.attributes | DEBUG).answer(nonce)


@lie("migratable-td", "the host may move the TD elsewhere", "tdx-migratable")
def _migratable_td(world: MockWorld, nonce: str) -> bytes:
    return _launched(world, attributes=_cpu(world).launch.attributes | MIGRATABLE).answer(nonce)


@lie("perfmon-td", "the TD counts events that leak", "tdx-perfmon")
def _perfmon_td(world: MockWorld, nonce: str) -> bytes:
    return _launched(world, attributes=_cpu(world).launch.attributes | PERFMON).answer(nonce)


@lie("paravisor-td", "somebody else's paravisor stands between TD and guest", "tdx-paravisor")
def _paravisor_td(world: MockWorld, nonce: str) -> bytes:
    return _launched(world, attributes=0).answer(nonce)


@lie("service-td", "a service TD that may migrate the TD is bound", "tdx-service-td")
def _service_td(world: MockWorld, nonce: str) -> bytes:
    return _launched(world, mrservicetd=b"\x01" * 48).answer(nonce)


@lie("out-of-date-platform", "a platform that Intel calls out of date", "tdx-tcb-status")
def _out_of_date_platform(world: MockWorld, nonce: str) -> bytes:
    return _documents(world, nonce, MockTcb(platform="OutOfDate"))


@lie("old-evaluation", "collateral from before Intel's last evaluation", "tdx-tcb-evaluation")
def _old_evaluation(world: MockWorld, nonce: str) -> bytes:
    return _documents(world, nonce, MockTcb(evaluation_number=MockTcb().evaluation_number - 1))


@lie("revoked-platform", "the platform's certificate is on the revocation list", "certificate-revoked")
def _revoked_platform(world: MockWorld, nonce: str) -> bytes:
    return _documents(world, nonce, MockTcb(), revoked=(PCK_SERIAL,))


@lie("no-tdx-collateral", "the documents that judge the platform are left out", "tdx-collateral-missing")
def _no_tdx_collateral(world: MockWorld, nonce: str) -> bytes:
    return _with_collateral(world, nonce, None)


@lie("wrong-tdx-root", "another vendor's root, same names", "tdx-root-not-trusted", promise="P8")
def _wrong_tdx_root(world: MockWorld, nonce: str) -> bytes:
    cpu = replace(_cpu(world), vendor=_stranger())
    return replace(world, machine=replace(world.machine, cpu=cpu)).answer(nonce)


@lie("quote-bit", "one bit of the quote flipped on the way", "tdx-quote-signature")
def _quote_bit(world: MockWorld, nonce: str) -> bytes:
    honest = world.bundle(nonce)
    cpu = _of(honest.cpu, TdxEvidence)
    return replace(honest, cpu=replace(cpu, quote=other_bytes(cpu.quote, 48 + 136))).serialise()  # MRTD


def _cpu(world: MockWorld) -> MockTdxCpu:
    return _of(world.machine.cpu, MockTdxCpu)


_Kind = TypeVar("_Kind")


def _of(value: object, kind: type[_Kind]) -> _Kind:
    if not isinstance(value, kind):
        raise TypeError("a lie of a TDX guest needs one")
    return value


def _launched(world: MockWorld, **changes: Any) -> MockWorld:
    """The same world with the TD launched otherwise."""
    cpu = _cpu(world)
    cpu = replace(cpu, launch=replace(cpu.launch, **changes))
    return replace(world, machine=replace(world.machine, cpu=cpu))


def _documents(world: MockWorld, nonce: str, tcb: MockTcb, revoked: tuple[int, ...] = ()) -> bytes:
    """An honest quote beside other documents of the vendor's."""
    vendor, now = _cpu(world).vendor, world.now or world.keyset.not_before
    texts = tcb_info(vendor.platform, tcb, issued_at=now), qe_identity(tcb, issued_at=now)
    collateral = vendor.signed_collateral(text_of(texts[0]), text_of(texts[1]), now=now, revoked=revoked)
    return _with_collateral(world, nonce, collateral)


def _with_collateral(world: MockWorld, nonce: str, collateral: TdxCollateral | None) -> bytes:
    honest = world.bundle(nonce)
    cpu = _of(honest.cpu, TdxEvidence)
    return replace(honest, cpu=replace(cpu, collateral=collateral)).serialise()


@cache
def _stranger() -> MockTdxVendor:
    return MockTdxVendor.create()
