"""Azure Attestation tokens against the mock service: each rule on its own, and hostile tokens."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from attest.checks import CheckList, Outcome
from attest.collateral.tokens import MOCK_MAA_ISSUER, JwkSetCollateral, MaaRoots
from attest.evidence.maa_claims import AttestationKind, MaaSnp, MaaTdx, TeeKind
from attest.mock.key_file import save_private_key
from attest.mock.maa import KEY_ID, POLICY_HASH, MockMaa
from attest.refusal import Malformed, Refused
from attest.verify.maa import MaaPolicy, VerifiedMaa, verify_maa
from tests.simulators.token_services import maa_roots, mock_policy

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
NONCE = b"a nonce of ours"
SERVICE = MockMaa.create()
ROOTS = maa_roots(SERVICE)
KEYS = SERVICE.keys
AZURE = "https://sharedweu.weu.attest.azure.net"
KINDS: tuple[tuple[AttestationKind, TeeKind], ...] = (
    ("azurevm", "sevsnpvm"),
    ("azurevm", "tdxvm"),
    ("sevsnpvm", "sevsnpvm"),
    ("tdxvm", "tdxvm"),
)


def judge(
    token: bytes,
    policy: MaaPolicy | None = None,
    *,
    nonce: bytes | None = NONCE,
    now: datetime = NOW,
    keys: JwkSetCollateral = KEYS,
    roots: MaaRoots = ROOTS,
    checks: CheckList | None = None,
) -> VerifiedMaa:
    """``verify_maa`` with what does not matter filled in."""
    rows = CheckList() if checks is None else checks
    return verify_maa(token, keys, policy or mock_policy(), roots, nonce=nonce, now=now, checks=rows)


def refusal(call: Callable[[], object]) -> Refused:
    """How a call refuses."""
    with pytest.raises(Refused) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(("kind", "tee"), KINDS)
def test_a_good_token(kind: AttestationKind, tee: TeeKind) -> None:
    """All facts come out; the verdict ends with the token."""
    checks = CheckList()
    verified = judge(SERVICE.token(NONCE, now=NOW, kind=kind, tee=tee), mock_policy(kind, tee), checks=checks)
    assert (verified.vendor, verified.issuer, verified.kind) == ("mock", MOCK_MAA_ISSUER, kind)
    assert verified.policy_hash == POLICY_HASH
    assert verified.fresh
    assert verified.not_after == checks.expires == NOW + timedelta(hours=8)
    assert {row.outcome for row in checks} == {Outcome.PASSED}
    assert len(checks) == 6
    if tee == "sevsnpvm":
        assert isinstance(verified.tee, MaaSnp)
        assert (verified.tee.measurement, verified.tee.microcode_svn) == (b"\xab" * 48, 219)
    else:
        assert isinstance(verified.tee, MaaTdx)
        assert verified.tee.rtmrs == tuple(bytes([index]) * 48 for index in range(4))


def test_a_saved_token_is_noted_and_not_fresh() -> None:
    """Without a nonce of ours a token proves nothing about now, and says so."""
    checks = CheckList()
    assert not judge(SERVICE.token(NONCE, now=NOW), nonce=None, checks=checks).fresh
    assert [row.name for row in checks if row.outcome is Outcome.NOTED] == ["MAA nonce"]


def test_an_empty_nonce_is_a_bug() -> None:
    """Every token with an empty payload would answer it."""
    with pytest.raises(ValueError, match="empty"):
        judge(SERVICE.token(b"", now=NOW), nonce=b"")


@pytest.mark.parametrize(("kind", "tee"), KINDS)
def test_another_nonce(kind: AttestationKind, tee: TeeKind) -> None:
    """A token that answers somebody else refuses, whichever way the nonce travels."""
    token = SERVICE.token(b"another", now=NOW, kind=kind, tee=tee)
    caught = refusal(lambda: judge(token, mock_policy(kind, tee)))
    place = "client-payload" if kind == "azurevm" else "report data"
    assert (caught.code, caught.expected) == ("maa-nonce", f"our nonce in the {place}")


def test_report_data_is_the_digest_and_nothing_else() -> None:
    """Of a raw report the second half is zero: no other data rides along."""
    data = (hashlib.sha256(NONCE).digest() + b"\x01" * 32).hex()
    token = SERVICE.token(NONCE, now=NOW, kind="sevsnpvm", changed_tee={"x-ms-sevsnpvm-reportdata": data})
    assert refusal(lambda: judge(token, mock_policy("sevsnpvm"))).code == "maa-nonce"


@pytest.mark.parametrize(
    ("runtime", "code"),
    [
        (None, "maa-claims"),
        ([], "maa-claims"),
        ({}, "maa-claims"),
        ({"client-payload": []}, "maa-claims"),
        ({"client-payload": {}}, "maa-base64"),
        ({"client-payload": {"nonce": NONCE.decode()}}, "maa-base64"),
        ({"client-payload": {"nonce": base64.b64encode(b"n" * 1027).decode()}}, "maa-too-large"),
        ({"client-payload": {"nonce": base64.b64encode(b"n" * 1026).decode()}}, "maa-nonce"),
        ({"client-payload": {"nonce": base64.b64encode(NONCE + b"x").decode()}}, "maa-nonce"),
        ({"client-payload": {"nonce": ""}}, "maa-nonce"),
    ],
)
def test_client_payloads(runtime: object, code: str) -> None:
    """The nonce of a guest's own attestation is base64 in the client's payload."""
    token = SERVICE.token(NONCE, now=NOW, changed={"x-ms-runtime": runtime})
    assert refusal(lambda: judge(token)).code == code


SNP_ONLY: list[tuple[dict[str, Any], str]] = [
    ({"x-ms-sevsnpvm-is-debuggable": True}, "maa-debug"),
    ({"x-ms-sevsnpvm-is-debuggable": None}, "maa-debug"),
    ({"x-ms-sevsnpvm-is-debuggable": "false"}, "maa-debug"),
    ({"x-ms-sevsnpvm-is-debuggable": 0}, "maa-debug"),
    ({"x-ms-sevsnpvm-migration-allowed": True}, "maa-migration"),
    ({"x-ms-sevsnpvm-migration-allowed": None}, "maa-migration"),
    ({"x-ms-sevsnpvm-launchmeasurement": None}, "maa-fact"),
    ({"x-ms-sevsnpvm-launchmeasurement": "ab" * 47}, "maa-fact"),
    ({"x-ms-sevsnpvm-launchmeasurement": "zz" * 48}, "maa-fact"),
    ({"x-ms-sevsnpvm-launchmeasurement": "ab" * 47 + " ab"}, "maa-fact"),
    ({"x-ms-sevsnpvm-launchmeasurement": "ab" * 48 + "\n"}, "maa-fact"),
    ({"x-ms-sevsnpvm-launchmeasurement": "ab" * 10_000}, "maa-fact"),
    ({"x-ms-sevsnpvm-reportdata": "ab" * 32}, "maa-fact"),
    ({"x-ms-sevsnpvm-hostdata": 5}, "maa-fact"),
    ({"x-ms-sevsnpvm-idkeydigest": ""}, "maa-fact"),
    ({"x-ms-sevsnpvm-vmpl": "0"}, "maa-fact"),
    ({"x-ms-sevsnpvm-vmpl": False}, "maa-fact"),
    ({"x-ms-sevsnpvm-guestsvn": -1}, "maa-fact"),
    ({"x-ms-sevsnpvm-microcode-svn": 65536}, "maa-fact"),
    ({"x-ms-sevsnpvm-snpfw-svn": None}, "maa-fact"),
    ({"x-ms-sevsnpvm-tee-svn": None}, "maa-fact"),
    ({"x-ms-sevsnpvm-bootloader-svn": None}, "maa-fact"),
]
TDX_ONLY: list[tuple[dict[str, Any], str]] = [
    ({"dbgstat": "enabled"}, "maa-debug"),
    ({"dbgstat": None}, "maa-debug"),
    ({"tdx_td_attributes_debug": True}, "maa-debug"),
    ({"tdx_td_attributes_debug": None}, "maa-debug"),
    ({"eat_profile": "https://example.invalid"}, "maa-tdx-profile"),
    ({"attester_tcb_status": "OutOfDate"}, "maa-tcb-status"),
    ({"attester_tcb_status": "a b"}, "maa-fact"),
    ({"attester_tcb_status": "\u0430bc"}, "maa-fact"),
    ({"attester_tcb_status": None}, "maa-fact"),
    ({"tdx_rtmr3": None}, "maa-fact"),
    ({"tdx_mrtd": "ab"}, "maa-fact"),
    ({"tdx_report_data": "ab" * 48}, "maa-fact"),
    ({"tdx_mrconfigid": None}, "maa-fact"),
]


@pytest.mark.parametrize(
    ("kind", "tee", "changed", "code"),
    [
        (kind, tee, changed, code)
        for kind, tee in KINDS
        for changed, code in (SNP_ONLY if tee == "sevsnpvm" else TDX_ONLY)
    ],
)
def test_hardware_that_is_not_right(
    kind: AttestationKind, tee: TeeKind, changed: dict[str, Any], code: str
) -> None:
    """Each claim about the hardware is judged, in either shape of token."""
    token = SERVICE.token(NONCE, now=NOW, kind=kind, tee=tee, changed_tee=changed)
    assert refusal(lambda: judge(token, mock_policy(kind, tee))).code == code


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"iss": AZURE}, "maa-issuer"),
        ({"iss": MOCK_MAA_ISSUER + "/"}, "maa-issuer"),
        ({"iss": None}, "maa-issuer"),
        ({"x-ms-policy-hash": "A" * 43}, "maa-policy-hash"),
        ({"x-ms-policy-hash": None}, "maa-policy-hash"),
        ({"x-ms-policy-hash": [POLICY_HASH]}, "maa-policy-hash"),
        ({"x-ms-attestation-type": "sevsnpvm"}, "maa-kind"),
        ({"x-ms-attestation-type": None}, "maa-kind"),
        ({"x-ms-isolation-tee": None}, "maa-claims"),
        ({"exp": int(NOW.timestamp()) + 8 * 3600 + 1}, "maa-lifetime"),
        ({"iat": None}, "maa-times"),
        ({"secureboot": False}, "maa-boot"),
        ({"secureboot": None}, "maa-boot"),
        ({"secureboot": "true"}, "maa-boot"),
        ({"x-ms-azurevm-bootdebug-enabled": True}, "maa-boot"),
        ({"x-ms-azurevm-flightsigning-enabled": True}, "maa-boot"),
        ({"x-ms-azurevm-hypervisordebug-enabled": True}, "maa-boot"),
        ({"x-ms-azurevm-kerneldebug-enabled": True}, "maa-boot"),
        ({"x-ms-azurevm-kerneldebug-enabled": None}, "maa-boot"),
        ({"x-ms-azurevm-testsigning-enabled": True}, "maa-boot"),
        ({"x-ms-azurevm-dbvalidated": False}, "maa-boot"),
        ({"x-ms-azurevm-debuggersdisabled": False}, "maa-boot"),
        ({"x-ms-azurevm-signingdisabled": None}, "maa-boot"),
    ],
)
def test_a_token_that_is_not_right(changed: dict[str, Any], code: str) -> None:
    """Each claim of the token itself is judged."""
    assert refusal(lambda: judge(SERVICE.token(NONCE, now=NOW, changed=changed))).code == code


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"x-ms-attestation-type": "tdxvm"}, "maa-kind"),
        ({"x-ms-attestation-type": "sgx"}, "maa-kind"),
        ({"x-ms-attestation-type": None}, "maa-kind"),
        ({"x-ms-compliance-status": "azure-signed-policy"}, "maa-compliance"),
        ({"x-ms-compliance-status": None}, "maa-compliance"),
    ],
)
def test_the_nested_kind_and_compliance(changed: dict[str, Any], code: str) -> None:
    """What is under the guest's attestation is judged as well as the guest's."""
    assert refusal(lambda: judge(SERVICE.token(NONCE, now=NOW, changed_tee=changed))).code == code


def test_a_raw_report_need_not_be_compliant_but_must_not_be_otherwise() -> None:
    """A raw token without the claim passes; one with another value refuses."""
    token = SERVICE.token(NONCE, now=NOW, kind="sevsnpvm", changed={"x-ms-compliance-status": "no"})
    assert refusal(lambda: judge(token, mock_policy("sevsnpvm"))).code == "maa-compliance"
    compliant = {"x-ms-compliance-status": "azure-compliant-cvm"}
    judge(SERVICE.token(NONCE, now=NOW, kind="sevsnpvm", changed=compliant), mock_policy("sevsnpvm"))


def test_a_token_of_one_kind_is_not_one_of_another() -> None:
    """A raw token does not pass for a guest's, nor the other way round."""
    for kind, tee in KINDS:
        token = SERVICE.token(NONCE, now=NOW, kind=kind, tee=tee)
        for other_kind, other_tee in KINDS:
            if (kind, tee) != (other_kind, other_tee):
                policy = mock_policy(other_kind, other_tee)
                caught = refusal(lambda token=token, policy=policy: judge(token, policy))  # type: ignore[misc]  # defaults bind the loop's values
                assert caught.code == "maa-kind"


@pytest.mark.parametrize(
    ("seconds", "code"),
    [(-61, "maa-not-yet-valid"), (-60, None), (8 * 3600 - 1, None), (8 * 3600, "maa-expired")],
)
def test_the_times_to_the_second(seconds: int, code: str | None) -> None:
    """A minute is granted to the issuer's clock at the start, nothing at the end."""
    token, moment = SERVICE.token(NONCE, now=NOW), NOW + timedelta(seconds=seconds)
    if code is None:
        judge(token, now=moment)
    else:
        assert refusal(lambda: judge(token, now=moment)).code == code


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (b"", "maa-parts"),
        (b"a.b", "maa-parts"),
        (b"a.b.c.d", "maa-parts"),
        ("é.b.c".encode(), "maa-parts"),
        (b"a.b.c", "maa-base64"),
        (b"YQ.YQ.YQ", "maa-not-json"),
        (b"a" * 40_000, "maa-too-large"),
    ],
)
def test_what_is_no_token(token: bytes, code: str) -> None:
    """Bytes of another form are malformed, with their own code."""
    caught = refusal(lambda: judge(token))
    assert isinstance(caught, Malformed)
    assert caught.code == code


@pytest.mark.parametrize("claims", [b"[]", b"5", b'"x"'])
def test_claims_that_are_no_object(claims: bytes) -> None:
    """Even a good signature over them does not help."""
    token = SERVICE.sign({})
    from jwt.api_jws import PyJWS  # noqa: PLC0415 - needed here only

    text = PyJWS(algorithms=["RS256"]).encode(claims, SERVICE._key, "RS256", {"kid": KEY_ID})
    assert refusal(lambda: judge(text.encode())).code == "maa-claims"
    assert refusal(lambda: judge(token)).code == "maa-issuer"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({"alg": "none", "kid": KEY_ID}, "maa-algorithm"),
        ({"alg": "HS256", "kid": KEY_ID}, "maa-algorithm"),
        ({"alg": "PS256", "kid": KEY_ID}, "maa-algorithm"),
        ({"alg": "RS512", "kid": KEY_ID}, "maa-algorithm"),
        ({"alg": "RS256", "kid": "other"}, "jwks-key-unknown"),
        ({"alg": "RS256", "kid": KEY_ID}, "maa-signature"),
        ({"alg": "RS256", "kid": KEY_ID, "jku": "https://evil.invalid/certs"}, "maa-signature"),
        ({"alg": "RS256", "kid": KEY_ID, "x5c": []}, "maa-header"),
    ],
)
def test_headers_that_choose(header: dict[str, Any], code: str) -> None:
    """The header chooses neither algorithm nor key."""
    _, payload, signature = SERVICE.token(NONCE, now=NOW).decode().split(".")
    encoded = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    assert refusal(lambda: judge(f"{encoded}.{payload}.{signature}".encode())).code == code


def test_no_bit_of_a_token_can_be_changed() -> None:
    """Each bit, flipped on its own, refuses; the sample covers every fourth character."""
    token = SERVICE.token(NONCE, now=NOW)
    for place in range(0, len(token), 4):
        for bit in range(8):
            changed = bytearray(token)
            changed[place] ^= 1 << bit
            refusal(lambda changed=changed: judge(bytes(changed)))  # type: ignore[misc]  # the default binds the loop's value


def test_one_newline_at_the_end_is_overlooked_and_nothing_else() -> None:
    """Files of tokens end in a newline; a second one, or a space, is another text."""
    token = SERVICE.token(NONCE, now=NOW)
    judge(token + b"\n")
    for tail in (b"\n\n", b" ", b"\r\n", b"="):
        assert refusal(lambda tail=tail: judge(token + tail)).code == "maa-base64"  # type: ignore[misc]  # the default binds the loop's value


def test_the_profile_of_a_tdx_token() -> None:
    """Microsoft's, to the letter, where the token names one."""
    profile = {"eat_profile": "https://aka.ms/maa-eat-profile-tdxvm"}
    token = SERVICE.token(NONCE, now=NOW, kind="tdxvm", tee="tdxvm", changed_tee=profile)
    assert isinstance(judge(token, mock_policy("tdxvm", "tdxvm")).tee, MaaTdx)


def test_another_service_is_nobody() -> None:
    """Another mock's token refuses under this one's keys, and an unpinned key set whoever signs."""
    other = MockMaa.create()
    token = other.token(NONCE, now=NOW)
    assert refusal(lambda: judge(token)).code == "maa-signature"
    assert refusal(lambda: judge(token, keys=other.keys)).code == "maa-root-not-trusted"
    assert refusal(lambda: judge(token, keys=other.keys, roots=MaaRoots(azure=True))).code == (
        "maa-root-not-trusted"
    )
    judge(token, keys=other.keys, roots=maa_roots(other))


def test_a_mock_is_never_azure() -> None:
    """The mock's keys count for the mock's name only, and the mock's name for the mock's keys only (P8)."""
    both = replace(maa_roots(SERVICE), azure=True)
    azure = replace(mock_policy(), issuer=AZURE)
    token = SERVICE.token(NONCE, now=NOW, changed={"iss": AZURE})
    assert refusal(lambda: judge(token, azure, roots=both)).code == "maa-root-not-trusted"
    assert (
        judge(token, azure, roots=MaaRoots(azure=True)).vendor == "azure"
    )  # a key set that is configured as Azure's
    assert refusal(lambda: judge(token, azure, roots=MaaRoots(azure=False))).code == "maa-root-not-trusted"
    assert judge(SERVICE.token(NONCE, now=NOW), roots=both).vendor == "mock"


@pytest.mark.parametrize(
    "changed",
    [
        {"issuer": "http://sharedweu.weu.attest.azure.net"},
        {"issuer": "https://sharedweu.weu.test.attest.azure.net"},
        {"issuer": "https://sharedweu.weu.attest.azure.net/"},
        {"issuer": "https://sharedweu.weu.attest.azure.net.evil.example"},
        {"issuer": "https://evil.example/.weu.attest.azure.net"},
        {"issuer": "https://attest.azure.net"},
        {"kind": "tdxvm"},
        {"policy_hashes": frozenset()},
        {"policy_hashes": frozenset({"short"})},
        {"policy_hashes": frozenset({"short", POLICY_HASH})},
    ],
)
def test_policies_that_say_nothing(changed: dict[str, Any]) -> None:
    """A policy names a production instance, a kind that fits its TEE, and a policy's hash."""
    with pytest.raises(Malformed) as caught:
        replace(replace(mock_policy(), issuer=AZURE), **changed)
    assert caught.value.code == "maa-policy"


def test_a_key_set_has_an_end() -> None:
    """A key set that was fetched too long ago refuses, and ends the verdict if it ends first."""
    end = NOW + timedelta(minutes=5)
    keys, token = replace(KEYS, not_after=end), SERVICE.token(NONCE, now=NOW)
    assert judge(token, keys=keys, now=end).not_after == end
    assert refusal(lambda: judge(token, keys=keys, now=end + timedelta(seconds=1))).code == "jwks-expired"


def test_a_certificate_that_has_ended() -> None:
    """The key's certificate must be valid, and ends the verdict if it ends first."""
    token = SERVICE.token(NONCE, now=datetime(2050, 12, 30, 20, tzinfo=UTC))
    verified = judge(token, now=datetime(2050, 12, 30, 21, tzinfo=UTC))
    assert verified.not_after == datetime(2050, 12, 31, tzinfo=UTC)
    late = refusal(lambda: judge(token, now=datetime(2050, 12, 31, 1, tzinfo=UTC)))
    assert late.code == "certificate-expired"


def test_the_mock_keeps_its_key(tmp_path: Path) -> None:
    """A second start has the same key set; the file is the owner's only; another kind of key is refused."""
    first, second = MockMaa.load_or_create(tmp_path / "mock"), MockMaa.load_or_create(tmp_path / "mock")
    assert first.jwks_sha256 == second.jwks_sha256
    assert (tmp_path / "mock" / "maa-key.pem").stat().st_mode & 0o777 == 0o600
    save_private_key(tmp_path / "mock" / "maa-key.pem", ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(ValueError, match="mock service"):
        MockMaa.load_or_create(tmp_path / "mock")
    assert "key" not in repr(first).lower()


@settings(max_examples=60, deadline=None)
@given(
    claims=st.dictionaries(
        st.sampled_from(
            [
                "x-ms-isolation-tee",
                "x-ms-runtime",
                "x-ms-policy-hash",
                "iat",
                "exp",
                "secureboot",
                "x-ms-attestation-type",
            ]
        ),
        st.recursive(
            st.booleans() | st.integers() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
            ),
            max_leaves=4,
        ),
        min_size=2,
    )
)
def test_any_claims_only_refuse(claims: dict[str, Any]) -> None:
    """Even a signer that writes nonsense makes nothing but refusals, unless what it wrote does not matter."""
    changed = {name: value for name, value in claims.items() if name != "secureboot" or value is not True}
    if changed:
        refusal(lambda: judge(SERVICE.token(NONCE, now=NOW, changed=changed)))
