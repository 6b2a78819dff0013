"""What NVIDIA's attestation service says of one device, claim by claim (claims versions 2.0 and 3.0).

A genuine token may say that a device failed. So every claim that the version has must be there and say yes,
and a claim that this list does not know must not say no.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from attest.refusal import Malformed, Refused

Version = Literal["2.0", "3.0"]
DeviceKind = Literal["gpu", "switch"]

CLAUSE: Final = "NVIDIA NRAS, device claims"
OEM_ID: Final = "5703"  # NVIDIA's IANA number
MAX_TEXT: Final = 100

_RIMS: Final[dict[DeviceKind, tuple[str, ...]]] = {
    "gpu": ("driver-rim", "vbios-rim"),
    "switch": ("bios-rim",),
}
_REPORT_CLAIMS: Final = (
    "arch-check",
    "attestation-report-parsed",
    "attestation-report-nonce-match",
    "attestation-report-signature-verified",
)
_RIM_CLAIMS: Final = ("fetched", "schema-validated", "signature-verified", "measurements-available")


@dataclass(frozen=True, slots=True)
class NrasDevice:
    """One device in the service's words.

    Args:
        name: ``GPU-0``, ``SWITCH-0`` and so on.
        kind: ``gpu`` or ``switch``.
        ueid: the device's identity: the serial number of its certificate, decimal.
        hardware_model: e.g. ``GH100 A01 GSP BROM``.
        driver_version: of a GPU; ``None`` for a switch.
        vbios_version: of the firmware.
        warning: what the service adds for people, or ``None``.
        certificates_end: the earliest end of a chain that the service checked; ``None`` if it says none.
    """

    name: str
    kind: DeviceKind
    ueid: str
    hardware_model: str
    driver_version: str | None
    vbios_version: str
    warning: str | None
    certificates_end: datetime | None


def read_device(name: str, claims: dict[str, Any], version: Version, *, now: datetime) -> NrasDevice:
    """Require that every claim about a device says yes.

    Args:
        name: of the device in the bundle; its kind chooses the claims.
        claims: of the device's token, whose signature held.
        version: ``x-nvidia-ver`` of the overall token.
        now: aware; a chain that has ended since the token was made refuses too.

    Raises:
        Refused: ``nras-device-error``, ``nras-device-claim``, ``nras-certificate-chain``.
        Malformed: ``nras-device-fact``.
    """
    kind: DeviceKind = "gpu" if name.startswith("GPU-") else "switch"
    prefix = f"x-nvidia-{kind}-"
    if claims.get("x-nvidia-error-details") is not None:
        raise Refused("nras-device-error", CLAUSE, expected="a verdict", got=f"an error about {name}")
    _require_states(name, claims)
    _require_yes(name, prefix, claims, _required(kind, version))
    chains = ("attestation-report", *_RIMS[kind]) if version == "3.0" else ()
    ends = [_chain_end(name, claims.get(f"{prefix}{chain}-cert-chain"), now) for chain in chains]
    if kind == "gpu":
        driver, firmware = _text(claims, f"{prefix}driver-version"), _text(claims, f"{prefix}vbios-version")
    else:
        driver, firmware = None, _text(claims, f"{prefix}bios-version")
    warning = claims.get("x-nvidia-attestation-warning")
    return NrasDevice(
        name=name,
        kind=kind,
        ueid=_ueid(claims),
        hardware_model=_text(claims, "hwmodel"),
        driver_version=driver,
        vbios_version=firmware,
        warning=None if warning is None else _printable(warning),
        certificates_end=min(ends, default=None),
    )


def _required(kind: DeviceKind, version: Version) -> tuple[str, ...]:
    rims = _RIMS[kind]
    claims = _REPORT_CLAIMS + tuple(f"{rim}-{claim}" for rim in rims for claim in _RIM_CLAIMS)
    if kind == "gpu":
        claims += ("vbios-index-no-conflict",)
    if version == "2.0":
        return (
            *claims,
            "attestation-report-cert-chain-validated",
            *(f"{rim}-cert-validated" for rim in rims),
        )
    return (
        *claims,
        "attestation-report-cert-chain-fwid-match",
        *(f"{rim}-version-match" for rim in rims),
    )


def _require_states(name: str, claims: dict[str, Any]) -> None:
    oem_ids = (
        {OEM_ID} if name.startswith("GPU-") else {OEM_ID, None}
    )  # the service leaves it out for switches
    for claim, accepted in (("measres", {"success"}), ("dbgstat", {"disabled"}), ("oemid", oem_ids)):
        value = claims.get(claim)
        if not isinstance(value, str | None) or value not in accepted:
            raise _no(name, claim)
    if claims.get("secboot") is not True:
        raise _no(name, "secboot")
    if claims.get("x-nvidia-mismatch-measurement-records"):
        raise _no(name, "x-nvidia-mismatch-measurement-records")


def _require_yes(name: str, prefix: str, claims: dict[str, Any], required: tuple[str, ...]) -> None:
    for claim in required:
        if claims.get(prefix + claim) is not True:
            raise _no(name, prefix + claim)
    for claim, value in claims.items():
        if value is False:
            raise _no(name, _printable(claim))


def _no(name: str, claim: str) -> Refused:
    return Refused(
        "nras-device-claim", CLAUSE, expected=f"{claim} to say yes", got=f"{name} where it does not"
    )


def _chain_end(name: str, chain: Any, now: datetime) -> datetime:
    if not isinstance(chain, dict):
        raise Refused(
            "nras-certificate-chain", CLAUSE, expected="a certificate chain's state", got=f"none for {name}"
        )
    if (chain.get("x-nvidia-cert-status"), chain.get("x-nvidia-cert-ocsp-status")) != ("valid", "good"):
        raise Refused(
            "nras-certificate-chain", CLAUSE, expected="status valid, OCSP good", got=f"another for {name}"
        )
    if chain.get("x-nvidia-cert-revocation-reason") is not None:
        raise Refused("nras-certificate-chain", CLAUSE, expected="no revocation", got=f"one for {name}")
    # The SDK's addition; where it is there, it must not say no.
    if False in (
        chain.get("x-nvidia-cert-ocsp-nonce-matches"),
        chain.get("x-nvidia-cert-ocsp-response-valid"),
    ):
        raise Refused(
            "nras-certificate-chain", CLAUSE, expected="a fresh OCSP answer", got=f"none for {name}"
        )
    end = _moment(chain.get("x-nvidia-cert-expiration-date"))
    if now > end:
        raise Refused(
            "nras-certificate-chain", CLAUSE, expected=f"{name} before {end.isoformat()}", got=now.isoformat()
        )
    return end


def _moment(value: Any) -> datetime:
    try:
        return datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except (TypeError, ValueError) as error:
        raise Malformed("nras-device-fact", "a certificate's end is no time", clause=CLAUSE) from error


def _text(claims: dict[str, Any], claim: str) -> str:
    value = claims.get(claim)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT or not value.isprintable():
        raise Malformed("nras-device-fact", f"{claim} is no short text", clause=CLAUSE)
    return value


def _ueid(claims: dict[str, Any]) -> str:
    value = _text(claims, "ueid")
    if not (value.isascii() and value.isdecimal()):
        raise Malformed("nras-device-fact", "ueid is not a decimal number", clause=CLAUSE)
    return value


def _printable(value: Any) -> str:
    text = value if isinstance(value, str) else "not a text"
    return "".join(character if character.isprintable() else "?" for character in text[:MAX_TEXT])
