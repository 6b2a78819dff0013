"""A software GPU verdict service in the form of NVIDIA's. It proves nothing about hardware.

Its tokens go through the production verifier. What differs is the key set, made here, whose digest must be
pinned as a mock's, and the issuer, whose name cannot exist (RFC 2606 ``.invalid``).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from jwt.api_jws import PyJWS

from attest import strict_json
from attest.evidence.nras_claims import OEM_ID, DeviceKind, Version
from attest.evidence.tokens import MOCK_NRAS_ISSUER, JwkSetCollateral
from attest.mock.key_file import load_private_key, save_private_key

LIFETIME_SECONDS: Final = 3600
KEY_ID: Final = "mock-nras-1"
_KEY_FILE: Final = "nras-key.pem"
_END: Final = "9999-12-31T23:59:59Z"
_JWS: Final = PyJWS(algorithms=["ES384"])


@dataclass(frozen=True, slots=True)
class MockDevice:
    """What the service will say of one device.

    Args:
        name: ``GPU-0``, ``SWITCH-0`` and so on.
        changed: claims to replace; ``None`` takes a claim away.
    """

    name: str = "GPU-0"
    changed: dict[str, Any] = field(default_factory=dict)


class MockNras:
    """One service with one key.

    Args:
        key: P-384.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    def __repr__(self) -> str:
        return f"MockNras({self.jwks_sha256[:16]})"

    @classmethod
    def create(cls) -> MockNras:
        """A service with a new key, in memory only."""
        return cls(ec.generate_private_key(ec.SECP384R1()))

    @classmethod
    def load_or_create(cls, folder: Path) -> MockNras:
        """The service whose key is in ``folder``; made and saved there if there is none.

        Raises:
            ValueError: the file holds no P-384 key.
        """
        if not (folder / _KEY_FILE).exists():
            save_private_key(folder / _KEY_FILE, ec.generate_private_key(ec.SECP384R1()))
        key = load_private_key(folder / _KEY_FILE)
        match key:
            case ec.EllipticCurvePrivateKey(curve=ec.SECP384R1()):
                return cls(key)
        raise ValueError(f"{folder} does not hold a mock service's key")

    @property
    def keys(self) -> JwkSetCollateral:
        """The key set as the service publishes it."""
        numbers = self._key.public_key().public_numbers()
        x, y = (strict_json.b64url_encode(value.to_bytes(48)) for value in (numbers.x, numbers.y))
        entry = {"kty": "EC", "crv": "P-384", "kid": KEY_ID, "x": x, "y": y}
        return JwkSetCollateral(strict_json.canonical({"keys": [entry]}))

    @property
    def jwks_sha256(self) -> str:
        """Digest of the key set, lower-case hex: what a trust file pins."""
        return hashlib.sha256(self.keys.jwks).hexdigest()

    def answer(
        self,
        nonce: bytes,
        devices: tuple[MockDevice, ...] = (MockDevice(),),
        *,
        now: datetime,
        version: Version = "3.0",
        changed: dict[str, Any] | None = None,
    ) -> bytes:
        """The service's answer about devices that all pass, unless claims are changed.

        Args:
            nonce: 32 bytes.
            devices: what to say of each.
            now: moment of issue, aware.
            version: of the claims.
            changed: claims of the overall token to replace; ``None`` takes a claim away.
        """
        tokens = {
            device.name: self.sign(
                _changed(_common(nonce, now) | _device(device.name, version), device.changed)
            )
            for device in devices
        }
        submodules = {
            name: ["DIGEST", ["SHA-256", hashlib.sha256(token.encode()).hexdigest()]]
            for name, token in tokens.items()
        }
        overall = _common(nonce, now) | {
            "sub": "NVIDIA-PLATFORM-ATTESTATION",
            "x-nvidia-ver": version,
            "x-nvidia-overall-att-result": True,
            "submods": submodules,
        }
        return json.dumps([["JWT", self.sign(_changed(overall, changed or {}))], tokens]).encode()

    def sign(self, claims: dict[str, Any]) -> str:
        """A token over any claims."""
        payload = json.dumps(claims).encode()
        return _JWS.encode(payload, self._key, algorithm="ES384", headers={"kid": KEY_ID, "typ": None})


def _common(nonce: bytes, now: datetime) -> dict[str, Any]:
    issued_at = int(now.timestamp())
    return {
        "iss": MOCK_NRAS_ISSUER,
        "iat": issued_at,
        "nbf": issued_at,
        "exp": issued_at + LIFETIME_SECONDS,
        "jti": hashlib.sha256(nonce).hexdigest()[:32],
        "eat_nonce": nonce.hex(),
    }


def _device(name: str, version: Version) -> dict[str, Any]:
    kind: DeviceKind = "gpu" if name.startswith("GPU-") else "switch"
    rims = ("driver-rim", "vbios-rim") if kind == "gpu" else ("bios-rim",)
    yes = ["arch-check", *(f"attestation-report-{claim}" for claim in ("parsed", "nonce-match"))]
    yes += ["attestation-report-signature-verified"]
    for rim in rims:
        yes += [f"{rim}-{claim}" for claim in ("fetched", "schema-validated", "signature-verified")]
        yes += [f"{rim}-measurements-available"]
    yes += ["vbios-index-no-conflict"] if kind == "gpu" else []
    chains: dict[str, Any] = {}
    if version == "2.0":
        yes += ["attestation-report-cert-chain-validated", *(f"{rim}-cert-validated" for rim in rims)]
    else:
        yes += ["attestation-report-cert-chain-fwid-match", *(f"{rim}-version-match" for rim in rims)]
        chains = {f"{part}-cert-chain": _chain() for part in ("attestation-report", *rims)}
    facts = {"driver-version": "580.95.05", "vbios-version": "96.00.D9.00.0C"}
    facts = facts if kind == "gpu" else {"bios-version": "96.10.55.00.01"}
    prefixed = {
        f"x-nvidia-{kind}-{claim}": value for claim, value in (dict.fromkeys(yes, True) | facts).items()
    }
    prefixed |= {f"x-nvidia-{kind}-{claim}": value for claim, value in chains.items()}
    return prefixed | {
        "ueid": "478176379286082186618948445787393647364802107249",
        "hwmodel": "GH100 A01 GSP BROM" if kind == "gpu" else "LS_10 A01 FSP BROM",
        "oemid": OEM_ID if kind == "gpu" else None,
        "secboot": True,
        "dbgstat": "disabled",
        "measres": "success",
        "x-nvidia-attestation-warning": None,
    }


def _chain() -> dict[str, Any]:
    return {
        "x-nvidia-cert-status": "valid",
        "x-nvidia-cert-ocsp-status": "good",
        "x-nvidia-cert-expiration-date": _END,
        "x-nvidia-cert-revocation-reason": None,
    }


def _changed(claims: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    """``claims`` with some replaced or taken away."""
    return {
        name: value for name, value in (claims | changed).items() if name not in changed or value is not None
    }
