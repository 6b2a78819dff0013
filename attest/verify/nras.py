"""Does NVIDIA's attestation service say that these GPUs are genuine, and does it say so to us now?

The service's verdict is a second opinion beside ``attest.verify.nvidia``: it judges the report with the
vendor's own revocation data, and whoever relies on it trusts the service. It answers with one token over all
devices and one for each. All are verified: the overall result says nothing if a device's token is another's.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from attest.checks import CheckList
from attest.collateral.tokens import MOCK_NRAS_ISSUER, NRAS_ISSUER, JwkSetCollateral, NrasRoots
from attest.evidence.nras_claims import CLAUSE, NrasDevice, Version, read_device
from attest.evidence.tokens import CompactToken, DetachedEat
from attest.refusal import Refused, Unsupported
from attest.verify.jwk_set import SigningKey, require_usable, signing_key
from attest.verify.jws import TokenTimes, require_issuer, require_times, shown, verified_claims
from attest.verify.x509 import require_current
from attest.verify.x509 import shown as shown_name

NONCE_BYTES: Final = 32
LIFETIME: Final = timedelta(hours=1)

_SUBJECT: Final = "NVIDIA-PLATFORM-ATTESTATION"
_VERSIONS: Final[dict[str, Version]] = {"2.0": "2.0", "3.0": "3.0"}
_EAT: Final = "RFC 9711 section 4.2.18"
_KEY_CHAIN: Final = 2  # the key's certificate and the intermediate

Vendor = Literal["nvidia", "mock"]


@dataclass(frozen=True, slots=True)
class VerifiedNras:
    """A verdict of the service that says yes to every device. Made by ``verify_nras`` only.

    Args:
        vendor: whose service.
        version: of the claims.
        nonce: that the devices answered, 32 bytes; ours, unless ``verify_nras`` was given none.
        devices: in the order in which they came.
        issued_at: the earliest moment of issue of a token.
        not_after: the earliest end of a token, of the key set, of the key's certificates, or of a chain that
            the service checked.
    """

    vendor: Vendor
    version: Version
    nonce: bytes
    devices: tuple[NrasDevice, ...]
    issued_at: datetime
    not_after: datetime


def verify_nras(
    eat: bytes,
    keys: JwkSetCollateral,
    roots: NrasRoots,
    *,
    nonce: bytes | None,
    now: datetime,
    checks: CheckList,
) -> VerifiedNras:
    """Judge the service's answer.

    Args:
        eat: the answer's body.
        keys: the service's key set, as configured or fetched from the service's own address.
        roots: whose service counts.
        nonce: the 32 bytes that the GPUs were asked with; ``None`` for a saved answer, which proves no
            freshness.
        now: time of verification, aware.
        checks: gets one row per step, up to and including one that refuses.

    Raises:
        Unsupported: ``nras-version``.
        Malformed: ``nras-*``, ``jwks-*``: not instances of their formats.
        Refused: ``nras-*``, ``jwks-*``, ``certificate-*``: not a yes of that service to us now.
    """
    # 1. The answer has its form: no signature is looked at before.
    with checks.step("NRAS answer format", "RFC 9711 section 5"):
        bundle = DetachedEat.parse(eat)
        checks.passed("NRAS answer format", "RFC 9711 section 5", got=f"{len(bundle.devices)} devices")

    # 2. The key that signed the overall token is the service's.
    with checks.step("NRAS signing key", "trust file"):
        vendor, issuer = _choose_vendor(keys, roots)
        key, key_end = _trusted_key(bundle.overall, keys, vendor, roots, now)
        checks.passed(
            "NRAS signing key", "trust file", expected="the service's key", got=vendor, expires=key_end
        )

    # 3. The overall token is signed, by that service, and in force.
    with checks.step("NRAS overall token", "RFC 7519"):
        claims = verified_claims(bundle.overall, key, "ES384", name="nras")
        require_issuer(claims, issuer, name="nras")
        times = require_times(claims, now, name="nras", lifetime=LIFETIME)
        version = _version(claims)
        checks.passed(
            "NRAS overall token",
            "RFC 7519",
            expected=issuer,
            got=f"claims {version}",
            expires=times.expires_at,
        )

    # 4. It answers our question.
    with checks.step("NRAS nonce", _EAT):
        answered = _nonce(claims)
        _require_nonce(answered, nonce, checks)

    # 5. It says yes. A genuine token may say no.
    with checks.step("NRAS overall result", CLAUSE):
        checks.require(
            claims.get("x-nvidia-overall-att-result") is True,
            "nras-result",
            "NRAS overall result",
            CLAUSE,
            expected="true",
            got="true" if claims.get("x-nvidia-overall-att-result") is True else "not true",
        )

    # 6. The devices' tokens are those that it names: none missing, none added, none exchanged.
    with checks.step("NRAS device tokens", "RFC 9711 section 4.2.18.2"):
        _require_submodules(claims, bundle)
        checks.passed("NRAS device tokens", "RFC 9711 section 4.2.18.2", got=", ".join(bundle.devices))

    # 7. Each device's token is signed, in force, answers the same question and says yes to everything.
    ends, issued, devices = [key_end, times.expires_at], [times.issued_at], []
    for name, token in bundle.devices.items():
        with checks.step(f"NRAS {name}", CLAUSE):
            device_key, device_key_end = _trusted_key(token, keys, vendor, roots, now)
            device, device_times = _verify_device(
                name, token, device_key, issuer=issuer, nonce=answered, version=version, now=now
            )
            devices.append(device)
            issued.append(device_times.issued_at)
            end = _earliest(device_key_end, device_times.expires_at, device.certificates_end)
            ends.append(end)
            checks.passed(
                f"NRAS {name}",
                CLAUSE,
                expected="every claim says yes",
                got=device.hardware_model,
                expires=end,
            )
            if device.warning is not None:
                checks.noted(f"NRAS {name} warning", CLAUSE, got=device.warning)

    return VerifiedNras(vendor, version, answered, tuple(devices), min(issued), _earliest(*ends))


def _choose_vendor(keys: JwkSetCollateral, roots: NrasRoots) -> tuple[Vendor, str]:
    got = hashlib.sha256(keys.jwks).hexdigest()
    if roots.mock_jwks_sha256 is not None and hmac.compare_digest(got, roots.mock_jwks_sha256):
        return "mock", MOCK_NRAS_ISSUER
    if not roots.nvidia:
        raise Refused(
            "nras-root-not-trusted",
            "trust file",
            expected=roots.mock_jwks_sha256 or "no service",
            got=f"key set {got}",
        )
    return "nvidia", NRAS_ISSUER


def _trusted_key(
    token: CompactToken, keys: JwkSetCollateral, vendor: Vendor, roots: NrasRoots, now: datetime
) -> tuple[SigningKey, datetime | None]:
    """The key that a token names, and when it ends; a mock's keys have no certificates."""
    require_usable(keys, now)
    key = signing_key(keys.jwks, token.key_id)
    certified = None
    if vendor == "nvidia":
        if hashlib.sha256(keys.jwks).hexdigest() not in roots.key_sets:
            _require_certified(key, roots)
        certified = min(
            (require_current(each, now, role="NRAS signing key") for each in key.certificates), default=None
        )
    return key, min((end for end in (certified, keys.not_after) if end is not None), default=None)


def _require_certified(key: SigningKey, roots: NrasRoots) -> None:
    clause = "NVIDIA NRAS, key set"
    if len(key.chain) != _KEY_CHAIN:
        raise Refused(
            "nras-key-chain",
            clause,
            expected="a certificate and its issuer's",
            got=f"{len(key.chain)} certificates",
        )
    got = hashlib.sha256(key.chain[1]).hexdigest()
    if got not in roots.intermediates:
        raise Refused("nras-key-chain", clause, expected="a pinned intermediate", got=got)
    leaf, intermediate = key.certificates
    issuer_key = intermediate.public_key()
    if leaf.issuer != intermediate.subject or not isinstance(issuer_key, rsa.RSAPublicKey):
        raise Refused(
            "nras-key-chain", clause, expected=shown_name(intermediate.subject), got=shown_name(leaf.issuer)
        )
    try:
        issuer_key.verify(leaf.signature, leaf.tbs_certificate_bytes, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature as error:
        raise Refused(
            "nras-key-chain", clause, expected="a certificate signed by the intermediate", got="another"
        ) from error


def _version(claims: dict[str, Any]) -> Version:
    if claims.get("sub") != _SUBJECT:
        raise Refused("nras-subject", CLAUSE, expected=_SUBJECT, got=shown(claims.get("sub")))
    stated = claims.get("x-nvidia-ver")
    version = _VERSIONS.get(stated) if isinstance(stated, str) else None
    if version is None:
        raise Unsupported("nras-version", CLAUSE, expected="2.0 or 3.0", got=shown(stated))
    return version


def _nonce(claims: dict[str, Any]) -> bytes:
    text = claims.get("eat_nonce")
    try:
        nonce = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        nonce = b""
    if len(nonce) != NONCE_BYTES or nonce.hex() != text:
        raise Refused(
            "nras-nonce", _EAT, expected=f"{2 * NONCE_BYTES} lower-case hex digits", got="another form"
        )
    return nonce


def _require_nonce(answered: bytes, nonce: bytes | None, checks: CheckList) -> None:
    if nonce is None:
        checks.noted("NRAS nonce", _EAT, expected="an answer to our nonce", got="none was asked for")
        return
    checks.require(
        hmac.compare_digest(answered, nonce),
        "nras-nonce",
        "NRAS nonce",
        _EAT,
        expected=nonce.hex(),
        got=answered.hex(),
    )


def _require_submodules(claims: dict[str, Any], bundle: DetachedEat) -> None:
    clause = "RFC 9711 section 4.2.18.2"
    submodules = claims.get("submods")
    if not isinstance(submodules, dict) or submodules.keys() != bundle.devices.keys():
        raise Refused("nras-submodules", clause, expected="a digest for each device's token", got="others")
    for name, token in bundle.devices.items():
        digest = hashlib.sha256(token.text.encode()).hexdigest()
        if submodules[name] != ["DIGEST", ["SHA-256", digest]]:
            raise Refused("nras-submodules", clause, expected=f"the token of {name}", got=f"SHA-256 {digest}")


def _verify_device(
    name: str,
    token: CompactToken,
    key: SigningKey,
    *,
    issuer: str,
    nonce: bytes,
    version: Version,
    now: datetime,
) -> tuple[NrasDevice, TokenTimes]:
    claims = verified_claims(token, key, "ES384", name="nras")
    require_issuer(claims, issuer, name="nras")
    times = require_times(claims, now, name="nras", lifetime=LIFETIME)
    device = read_device(name, claims, version, now=now)
    if not hmac.compare_digest(_nonce(claims), nonce):
        raise Refused("nras-nonce", _EAT, expected="the nonce of the overall token", got=f"another in {name}")
    return device, times


def _earliest(first: datetime | None, *others: datetime | None) -> datetime:
    return min(moment for moment in (first, *others) if moment is not None)
