"""A software attestation service in the form of Azure's. It proves nothing about hardware.

Its tokens go through the production verifier. What differs is the key set, made here, whose digest must be
pinned as a mock's, and the issuer, whose name cannot exist (RFC 2606 ``.invalid``).
"""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from jwt.api_jws import PyJWS

from attest import strict_json
from attest.evidence.maa_claims import TDX_PROFILE, AttestationKind, TeeKind
from attest.evidence.tokens import MOCK_MAA_ISSUER, JwkSetCollateral
from attest.mock.key_file import load_private_key, save_private_key

LIFETIME_SECONDS: Final = 8 * 3600
KEY_ID: Final = "mock-maa-1"
POLICY_HASH: Final = strict_json.b64url_encode(hashlib.sha256(b"the mock service's policy").digest())
_RSA_BITS: Final = 2048
_KEY_FILE: Final = "maa-key.pem"
_CERTIFICATE_FILE: Final = "maa-certificate.der"
_NOT_BEFORE: Final = datetime(2019, 5, 1, tzinfo=UTC)
_NOT_AFTER: Final = datetime(2050, 12, 31, tzinfo=UTC)
_JWS: Final = PyJWS(algorithms=["RS256"])


class MockMaa:
    """One service with one key.

    Args:
        key: RSA, 2048 bits or more.
        certificate: the key's own, DER; its bytes are part of the key set, so they must stay the same.
    """

    def __init__(self, key: rsa.RSAPrivateKey, certificate: bytes) -> None:
        self._key = key
        self._certificate = certificate

    def __repr__(self) -> str:
        return f"MockMaa({self.jwks_sha256[:16]})"

    @classmethod
    def create(cls) -> MockMaa:
        """A service with a new key, in memory only."""
        key = rsa.generate_private_key(65537, _RSA_BITS)
        return cls(key, _self_signed(key))

    @classmethod
    def load_or_create(cls, folder: Path) -> MockMaa:
        """The service whose key is in ``folder``; made and saved there if there is none.

        Raises:
            ValueError: the file holds no RSA key.
        """
        if not (folder / _CERTIFICATE_FILE).exists():
            new = rsa.generate_private_key(65537, _RSA_BITS)
            save_private_key(folder / _KEY_FILE, new)
            (folder / _CERTIFICATE_FILE).write_bytes(_self_signed(new))  # last: it marks a complete folder
        key = load_private_key(folder / _KEY_FILE)
        match key:
            case rsa.RSAPrivateKey():
                return cls(key, (folder / _CERTIFICATE_FILE).read_bytes())
        raise ValueError(f"{folder} does not hold a mock service's key")

    @property
    def keys(self) -> JwkSetCollateral:
        """The key set as the service publishes it: certificates only, as Azure's."""
        entry = {"kty": "RSA", "kid": KEY_ID, "x5c": [base64.b64encode(self._certificate).decode()]}
        return JwkSetCollateral(strict_json.canonical({"keys": [entry]}))

    @property
    def jwks_sha256(self) -> str:
        """Digest of the key set, lower-case hex: what a trust file pins."""
        return hashlib.sha256(self.keys.jwks).hexdigest()

    def token(
        self,
        nonce: bytes,
        *,
        now: datetime,
        kind: AttestationKind = "azurevm",
        tee: TeeKind = "sevsnpvm",
        changed: dict[str, Any] | None = None,
        changed_tee: dict[str, Any] | None = None,
    ) -> bytes:
        """A token about a guest that is as it should be, unless claims are changed.

        Args:
            nonce: the client's, or the runtime data of a raw report.
            now: moment of issue, aware.
            kind: of the token.
            tee: the hardware.
            changed: claims to replace; ``None`` takes a claim away.
            changed_tee: the same for the hardware's claims.
        """
        issued_at = int(now.timestamp())
        claims: dict[str, Any] = {
            "iss": MOCK_MAA_ISSUER,
            "iat": issued_at,
            "nbf": issued_at,
            "exp": issued_at + LIFETIME_SECONDS,
            "jti": hashlib.sha256(nonce).hexdigest(),
            "x-ms-ver": "1.0",
            "x-ms-attestation-type": kind,
            "x-ms-policy-hash": POLICY_HASH,
        }
        raw = hashlib.sha256(nonce).digest() if kind != "azurevm" else hashlib.sha256(b"HCL").digest()
        hardware = _changed(_snp(raw) if tee == "sevsnpvm" else _tdx(raw), changed_tee or {})
        if kind == "azurevm":
            claims |= _boot() | {
                "x-ms-runtime": {"client-payload": {"nonce": base64.b64encode(nonce).decode()}}
            }
            status = {"x-ms-attestation-type": tee, "x-ms-compliance-status": "azure-compliant-cvm"}
            claims["x-ms-isolation-tee"] = _changed(status | hardware, changed_tee or {})
        else:
            claims |= hardware
        return self.sign(_changed(claims, changed or {}))

    def sign(self, claims: dict[str, Any]) -> bytes:
        """A token over any claims."""
        headers = {"kid": KEY_ID, "jku": f"{MOCK_MAA_ISSUER}/certs", "typ": "JWT"}
        return _JWS.encode(
            json.dumps(claims).encode(), self._key, algorithm="RS256", headers=headers
        ).encode()


def _self_signed(key: rsa.RSAPrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, MOCK_MAA_ISSUER)])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, _NOT_BEFORE, _NOT_AFTER)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def _boot() -> dict[str, Any]:
    no = ("bootdebug", "flightsigning", "hypervisordebug", "kerneldebug", "testsigning")
    yes = ("dbvalidated", "debuggersdisabled", "signingdisabled")
    return (
        {"secureboot": True}
        | {f"x-ms-azurevm-{name}-enabled": False for name in no}
        | {f"x-ms-azurevm-{name}": True for name in yes}
    )


def _snp(report_data: bytes) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "is-debuggable": False,
        "migration-allowed": False,
        "launchmeasurement": "ab" * 48,
        "reportdata": report_data.ljust(64, b"\x00").hex(),
        "hostdata": "00" * 32,
        "idkeydigest": "cd" * 48,
        "vmpl": 0,
        "guestsvn": 10,
        "bootloader-svn": 4,
        "tee-svn": 0,
        "snpfw-svn": 24,
        "microcode-svn": 219,
    }
    return {f"x-ms-sevsnpvm-{name}": value for name, value in facts.items()}


def _tdx(report_data: bytes) -> dict[str, Any]:
    registers = {f"tdx_rtmr{index}": f"{index:02x}" * 48 for index in range(4)}
    return registers | {
        "eat_profile": TDX_PROFILE,
        "dbgstat": "disabled",
        "attester_tcb_status": "UpToDate",
        "tdx_td_attributes_debug": False,
        "tdx_mrtd": "ab" * 48,
        "tdx_mrconfigid": "00" * 48,
        "tdx_report_data": report_data.ljust(64, b"\x00").hex(),
    }


def _changed(claims: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    """``claims`` with some replaced or taken away."""
    return {
        name: value for name, value in (claims | changed).items() if name not in changed or value is not None
    }
