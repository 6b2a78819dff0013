"""What Microsoft Azure Attestation says of a confidential VM, claim by claim.

Tokens come in two shapes. ``azurevm`` is the guest's own attestation: boot facts of the vTPM at the top, the
hardware's claims under ``x-ms-isolation-tee``. ``sevsnpvm`` and ``tdxvm`` judge a raw report, with the
hardware's claims at the top. What makes any guest worthless (a debugger, migration) refuses here; which
measurement is wanted is the appraisal's question.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Literal

from attest.refusal import Malformed, Refused

TeeKind = Literal["sevsnpvm", "tdxvm"]
AttestationKind = Literal["azurevm", "sevsnpvm", "tdxvm"]

CLAUSE: Final = "Azure Attestation, token claims"
TDX_PROFILE: Final = "https://aka.ms/maa-eat-profile-tdxvm"

_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2})+", re.ASCII)
_MAX_SVN: Final = 2**16
_BOOT_NO: Final = (
    "bootdebug-enabled",
    "flightsigning-enabled",
    "hypervisordebug-enabled",
    "kerneldebug-enabled",
    "testsigning-enabled",
)
_BOOT_YES: Final = ("dbvalidated", "debuggersdisabled", "signingdisabled")


@dataclass(frozen=True, slots=True)
class MaaSnp:
    """A SEV-SNP guest in the service's words.

    Args:
        measurement: launch digest, 48 bytes.
        report_data: 64 bytes.
        host_data: 32 bytes.
        id_key_digest: 48 bytes.
        vmpl: privilege level that asked for the report.
        guest_svn: from the ID block.
        bootloader_svn: of the reported firmware.
        tee_svn: of the reported firmware.
        snp_svn: of the reported firmware.
        microcode_svn: of the reported firmware.
    """

    measurement: bytes
    report_data: bytes
    host_data: bytes
    id_key_digest: bytes
    vmpl: int
    guest_svn: int
    bootloader_svn: int
    tee_svn: int
    snp_svn: int
    microcode_svn: int


@dataclass(frozen=True, slots=True)
class MaaTdx:
    """A TDX guest in the service's words.

    Args:
        mrtd: 48 bytes.
        rtmrs: four registers of 48 bytes.
        report_data: 64 bytes.
        tcb_status: Intel's word for the platform's state.
        mr_config_id: 48 bytes.
    """

    mrtd: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]
    report_data: bytes
    tcb_status: str
    mr_config_id: bytes


def read_tee(claims: dict[str, Any], kind: TeeKind) -> MaaSnp | MaaTdx:
    """The hardware's claims, of a guest that nobody can look into.

    Args:
        claims: the token's, or those under ``x-ms-isolation-tee``.
        kind: of the TEE.

    Raises:
        Refused: ``maa-debug``, ``maa-migration``, ``maa-tdx-profile``.
        Malformed: ``maa-fact``.
    """
    return _snp(claims) if kind == "sevsnpvm" else _tdx(claims)


def require_safe_boot(claims: dict[str, Any]) -> None:
    """Require that the guest booted by Secure Boot, with no debugger and no test signatures.

    Raises:
        Refused: ``maa-boot``.
    """
    if claims.get("secureboot") is not True:
        raise Refused("maa-boot", CLAUSE, expected="secureboot true", got="not true")
    for names, wanted in ((_BOOT_NO, False), (_BOOT_YES, True)):
        for name in names:
            if claims.get(f"x-ms-azurevm-{name}") is not wanted:
                raise Refused("maa-boot", CLAUSE, expected=f"{name} {wanted}".lower(), got="another")


def _snp(claims: dict[str, Any]) -> MaaSnp:
    def number(name: str) -> int:
        value = claims.get(f"x-ms-sevsnpvm-{name}")
        if type(value) is not int or not 0 <= value < _MAX_SVN:
            raise Malformed("maa-fact", f"{name} is no small number", clause=CLAUSE)
        return value

    def data(name: str, size: int) -> bytes:
        return _bytes(claims, f"x-ms-sevsnpvm-{name}", size)

    if claims.get("x-ms-sevsnpvm-is-debuggable") is not False:
        raise Refused("maa-debug", CLAUSE, expected="is-debuggable false", got="not false")
    if claims.get("x-ms-sevsnpvm-migration-allowed") is not False:
        raise Refused("maa-migration", CLAUSE, expected="migration-allowed false", got="not false")
    return MaaSnp(
        measurement=data("launchmeasurement", 48),
        report_data=data("reportdata", 64),
        host_data=data("hostdata", 32),
        id_key_digest=data("idkeydigest", 48),
        vmpl=number("vmpl"),
        guest_svn=number("guestsvn"),
        bootloader_svn=number("bootloader-svn"),
        tee_svn=number("tee-svn"),
        snp_svn=number("snpfw-svn"),
        microcode_svn=number("microcode-svn"),
    )


def _tdx(claims: dict[str, Any]) -> MaaTdx:
    if claims.get("dbgstat") != "disabled" or claims.get("tdx_td_attributes_debug") is not False:
        raise Refused("maa-debug", CLAUSE, expected="dbgstat disabled, TD without debug", got="another")
    if claims.get("eat_profile", TDX_PROFILE) != TDX_PROFILE:
        raise Refused("maa-tdx-profile", CLAUSE, expected=TDX_PROFILE, got="another")
    status = claims.get("attester_tcb_status")
    if not isinstance(status, str) or not status.isalpha() or not status.isascii():
        raise Malformed("maa-fact", "attester_tcb_status is no word", clause=CLAUSE)
    first, second, third, fourth = (_bytes(claims, f"tdx_rtmr{index}", 48) for index in range(4))
    return MaaTdx(
        mrtd=_bytes(claims, "tdx_mrtd", 48),
        rtmrs=(first, second, third, fourth),
        report_data=_bytes(claims, "tdx_report_data", 64),
        tcb_status=status,
        mr_config_id=_bytes(claims, "tdx_mrconfigid", 48),
    )


def _bytes(claims: dict[str, Any], name: str, size: int) -> bytes:
    value = claims.get(name)
    if not isinstance(value, str) or _HEX.fullmatch(value) is None:
        raise Malformed("maa-fact", f"{name} is not hex", clause=CLAUSE)
    data = bytes.fromhex(value)
    if len(data) != size:
        raise Malformed("maa-fact", f"{name} is of {len(data)} bytes, not {size}", clause=CLAUSE)
    return data
