"""Does Microsoft Azure Attestation say that this VM is confidential, under our policy, and to us now?

Whoever relies on such a token trusts the service, and the policy that ran inside it: the same service signs a
token for anybody under any policy of theirs. So issuer, policy hash and kind are configured and compared to
the letter, the key comes from the configured set only, and the token's address (``jku``) is never followed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from attest import strict_json
from attest.checks import CheckList
from attest.collateral.tokens import MOCK_MAA_ISSUER, JwkSetCollateral, MaaRoots
from attest.evidence.maa_claims import (
    CLAUSE,
    AttestationKind,
    MaaSnp,
    MaaTdx,
    TeeKind,
    read_tee,
    require_safe_boot,
)
from attest.evidence.tokens import CompactToken
from attest.refusal import Malformed, Refused
from attest.verify.jwk_set import SigningKey, require_usable, signing_key
from attest.verify.jws import require_issuer, require_times, shown, verified_claims
from attest.verify.x509 import require_current

LIFETIME: Final = timedelta(hours=8)
COMPLIANT: Final = "azure-compliant-cvm"
MAX_NONCE_BYTES: Final = 1024

# A production instance: name, region, and the service's own domain. Test instances have one label more.
_ISSUER: Final = re.compile(
    r"https://[a-z0-9-]{1,63}\.[a-z0-9-]{1,63}\.attest\.azure\.(?:net|us|cn)", re.ASCII
)
_POLICY_HASH: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_DIGEST_SIZE: Final = 32

Vendor = Literal["azure", "mock"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaaPolicy:
    """What a token must be. Nothing is accepted unless it is named here.

    Args:
        issuer: exact address of the instance, e.g. ``https://sharedweu.weu.attest.azure.net``.
        kind: ``azurevm``, or that of the TEE for a raw report.
        tee: the hardware under it.
        policy_hashes: ``x-ms-policy-hash`` values: base64url of the SHA-256 of a policy that may have run.
        compliance: accepted values of ``x-ms-compliance-status``.
        tcb_statuses: accepted states of a TDX platform.

    Raises:
        Malformed: ``maa-policy``.
    """

    issuer: str
    kind: AttestationKind
    tee: TeeKind
    policy_hashes: frozenset[str]
    compliance: frozenset[str] = frozenset({COMPLIANT})
    tcb_statuses: frozenset[str] = frozenset({"UpToDate"})

    def __post_init__(self) -> None:
        if self.issuer != MOCK_MAA_ISSUER and _ISSUER.fullmatch(self.issuer) is None:
            raise Malformed(
                "maa-policy", "the issuer is no production instance of the service", clause=CLAUSE
            )
        if self.kind not in {"azurevm", self.tee}:
            raise Malformed("maa-policy", "a raw report's kind is that of its TEE", clause=CLAUSE)
        if not self.policy_hashes or not all(map(_POLICY_HASH.fullmatch, self.policy_hashes)):
            raise Malformed("maa-policy", "no policy hash, or one of another form", clause=CLAUSE)


@dataclass(frozen=True, slots=True)
class VerifiedMaa:
    """A token that says what the policy wants. Made by ``verify_maa`` only.

    Args:
        vendor: whose service.
        issuer: its address.
        kind: of the token.
        tee: the hardware's claims.
        policy_hash: of the policy that ran in the service.
        runtime: ``x-ms-runtime`` as the token has it: the guest's keys, and what the client gave.
        fresh: whether it answers a nonce (or runtime data) of ours.
        issued_at: aware.
        not_after: the earliest end of the token, the key's certificate and the key set.
    """

    vendor: Vendor
    issuer: str
    kind: AttestationKind
    tee: MaaSnp | MaaTdx
    policy_hash: str
    runtime: dict[str, Any] = field(repr=False)
    fresh: bool
    issued_at: datetime
    not_after: datetime


def verify_maa(
    token: bytes,
    keys: JwkSetCollateral,
    policy: MaaPolicy,
    roots: MaaRoots,
    *,
    nonce: bytes | None,
    now: datetime,
    checks: CheckList,
) -> VerifiedMaa:
    """Judge a token.

    Args:
        token: the compact JWS; one newline at its end is overlooked.
        keys: the instance's key set, as configured or fetched from ``{issuer}/certs``.
        policy: what it must say.
        roots: whose service counts.
        nonce: ``azurevm``: what was given as the client's nonce. A raw report: the runtime data as it was
            sent, whose SHA-256 the report carries. ``None`` for a saved token, which proves no freshness.
        now: time of verification, aware.
        checks: gets one row per step, up to and including one that refuses.

    Raises:
        Malformed: ``maa-*``, ``jwks-*``: not instances of their formats.
        Refused: ``maa-*``, ``jwks-*``, ``certificate-*``: not what the policy wants.
    """
    # 1. The token has its form.
    with checks.step("MAA token format", "RFC 7515 section 7.1"):
        parsed = CompactToken.parse(_text(token), name="maa")
        checks.passed("MAA token format", "RFC 7515 section 7.1", got=parsed.algorithm)

    # 2. The key is one of the configured set's.
    with checks.step("MAA signing key", "trust file"):
        vendor = _choose_vendor(keys, policy, roots)
        key = signing_key(keys.jwks, parsed.key_id)
        key_end = _key_end(key, keys, now)
        checks.passed(
            "MAA signing key", "trust file", expected="a configured key", got=vendor, expires=key_end
        )

    # 3. It signed the token, for the configured issuer, and the token is in force.
    with checks.step("MAA token", "RFC 7519"):
        claims = verified_claims(parsed, key, "RS256", name="maa")
        require_issuer(claims, policy.issuer, name="maa")
        times = require_times(claims, now, name="maa", lifetime=LIFETIME)
        checks.passed("MAA token", "RFC 7519", expected=policy.issuer, got="signed", expires=times.expires_at)

    # 4. The policy that ran in the service is one of ours: under another it says what its owner likes.
    with checks.step("MAA policy", CLAUSE):
        policy_hash = _claim_among(claims, "x-ms-policy-hash", policy.policy_hashes, code="maa-policy-hash")
        checks.passed("MAA policy", CLAUSE, expected="a configured policy", got=policy_hash)

    # 5. It is about the kind of guest that we want, and nobody can look into that guest.
    with checks.step("MAA guest", CLAUSE):
        tee_claims = _tee_claims(claims, policy)
        tee = read_tee(tee_claims, policy.tee)
        _require_tcb_status(tee, policy)
        checks.passed("MAA guest", CLAUSE, expected=f"{policy.kind} on {policy.tee}", got="as expected")

    # 6. It answers us.
    with checks.step("MAA nonce", CLAUSE):
        runtime = _object(claims, "x-ms-runtime") if "x-ms-runtime" in claims else {}
        _require_nonce(runtime, tee, policy, nonce, checks)

    return VerifiedMaa(
        vendor=vendor,
        issuer=policy.issuer,
        kind=policy.kind,
        tee=tee,
        policy_hash=policy_hash,
        runtime=runtime,
        fresh=nonce is not None,
        issued_at=times.issued_at,
        not_after=min(times.expires_at, key_end or times.expires_at),
    )


def _text(token: bytes) -> str:
    try:
        return token.decode("ascii").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise Malformed("maa-parts", "not ASCII", clause="RFC 7515 section 7.1") from error


def _choose_vendor(keys: JwkSetCollateral, policy: MaaPolicy, roots: MaaRoots) -> Vendor:
    got = hashlib.sha256(keys.jwks).hexdigest()
    is_mock = roots.mock_jwks_sha256 is not None and hmac.compare_digest(got, roots.mock_jwks_sha256)
    # The mock's name belongs to the mock's keys and no other name does: neither can pass for the other.
    if is_mock and policy.issuer == MOCK_MAA_ISSUER:
        return "mock"
    if not is_mock and roots.azure and policy.issuer != MOCK_MAA_ISSUER:
        return "azure"
    raise Refused(
        "maa-root-not-trusted",
        "trust file",
        expected=roots.mock_jwks_sha256 or ("Azure's instance" if roots.azure else "no service"),
        got=f"key set {got} for {policy.issuer}",
    )


def _key_end(key: SigningKey, keys: JwkSetCollateral, now: datetime) -> datetime | None:
    require_usable(keys, now)
    certified = (
        require_current(key.certificates[0], now, role="MAA signing key") if key.certificates else None
    )
    return min((end for end in (certified, keys.not_after) if end is not None), default=None)


def _tee_claims(claims: dict[str, Any], policy: MaaPolicy) -> dict[str, Any]:
    _claim_among(claims, "x-ms-attestation-type", frozenset({policy.kind}), code="maa-kind")
    if policy.kind != "azurevm":
        if "x-ms-compliance-status" in claims:  # the service judges it only for guests of its own cloud
            _claim_among(claims, "x-ms-compliance-status", policy.compliance, code="maa-compliance")
        return claims
    require_safe_boot(claims)
    inner = _object(claims, "x-ms-isolation-tee")
    _claim_among(inner, "x-ms-attestation-type", frozenset({policy.tee}), code="maa-kind")
    _claim_among(inner, "x-ms-compliance-status", policy.compliance, code="maa-compliance")
    return inner


def _require_tcb_status(tee: MaaSnp | MaaTdx, policy: MaaPolicy) -> None:
    if isinstance(tee, MaaTdx) and tee.tcb_status not in policy.tcb_statuses:
        raise Refused(
            "maa-tcb-status",
            CLAUSE,
            expected=", ".join(sorted(policy.tcb_statuses)),
            got=shown(tee.tcb_status),
        )


def _require_nonce(
    runtime: dict[str, Any], tee: MaaSnp | MaaTdx, policy: MaaPolicy, nonce: bytes | None, checks: CheckList
) -> None:
    if nonce is None:
        checks.noted("MAA nonce", CLAUSE, expected="an answer to our nonce", got="none was asked for")
        return
    if not nonce:
        raise ValueError("an empty nonce asks nothing")
    if policy.kind == "azurevm":
        payload = _object(runtime, "client-payload")
        answered = strict_json.b64decode(payload.get("nonce"), name="maa", max_bytes=MAX_NONCE_BYTES)
        expected, place = nonce, "client-payload"
    else:
        answered = tee.report_data
        expected, place = hashlib.sha256(nonce).digest().ljust(2 * _DIGEST_SIZE, b"\x00"), "report data"
    checks.require(
        hmac.compare_digest(answered, expected),
        "maa-nonce",
        "MAA nonce",
        CLAUSE,
        expected=f"our nonce in the {place}",
        got="ours" if hmac.compare_digest(answered, expected) else "another",
    )


def _object(claims: dict[str, Any], name: str) -> dict[str, Any]:
    value = claims.get(name)
    if not isinstance(value, dict):
        raise Malformed("maa-claims", f"{name} is not an object", clause=CLAUSE)
    return value


def _claim_among(claims: dict[str, Any], name: str, accepted: frozenset[str], code: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or value not in accepted:
        raise Refused(code, CLAUSE, expected=f"{name} {', '.join(sorted(accepted))}", got=shown(value))
    return value
