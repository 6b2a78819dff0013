"""GPU verdict tokens against the mock service: each rule on its own, and hostile answers."""

from __future__ import annotations

import base64
import json
import time
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
from attest.collateral.tokens import JwkSetCollateral, NrasRoots
from attest.evidence.tokens import MAX_EAT_BYTES
from attest.mock.nras import MockDevice, MockNras
from attest.refusal import Malformed, Refused, Unsupported
from attest.verify.nras import VerifiedNras, verify_nras
from tests.simulators.token_services import nras_roots

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
NONCE = bytes(range(32))
SERVICE = MockNras.create()
ROOTS = nras_roots(SERVICE)
KEYS = SERVICE.keys
ALL = (MockDevice("GPU-0"), MockDevice("GPU-1"), MockDevice("SWITCH-0"))


def judge(
    answer: bytes,
    *,
    nonce: bytes | None = NONCE,
    now: datetime = NOW,
    keys: JwkSetCollateral = KEYS,
    roots: NrasRoots = ROOTS,
    checks: CheckList | None = None,
) -> VerifiedNras:
    """``verify_nras`` with what does not matter filled in."""
    rows = CheckList() if checks is None else checks
    return verify_nras(answer, keys, roots, nonce=nonce, now=now, checks=rows)


def refusal(call: Callable[[], object]) -> Refused:
    """How a call refuses."""
    with pytest.raises(Refused) as caught:
        call()
    return caught.value


def device(version: str = "3.0", name: str = "GPU-0", **changed: Any) -> bytes:
    """An answer with claims of one device changed; ``_`` in a keyword stands for ``-``."""
    kind = "gpu" if name.startswith("GPU") else "switch"
    claims = {
        key.replace("KIND", f"x-nvidia-{kind}").replace("_", "-"): value for key, value in changed.items()
    }
    return SERVICE.answer(NONCE, (MockDevice(name, claims),), now=NOW, version=version)  # type: ignore[arg-type]  # a literal of the tests


def overall(**changed: Any) -> bytes:
    """An answer with claims of the overall token changed."""
    claims = {key.replace("__", "-"): value for key, value in changed.items()}
    return SERVICE.answer(NONCE, now=NOW, changed=claims)


@pytest.mark.parametrize("version", ["2.0", "3.0"])
def test_a_good_answer(version: str) -> None:
    """Every device and fact comes out; the verdict ends with the tokens."""
    checks = CheckList()
    verified = judge(SERVICE.answer(NONCE, ALL, now=NOW, version=version), checks=checks)  # type: ignore[arg-type]  # a literal of the tests
    assert (verified.vendor, verified.version, verified.nonce) == ("mock", version, NONCE)
    assert [(each.name, each.kind) for each in verified.devices] == [
        ("GPU-0", "gpu"),
        ("GPU-1", "gpu"),
        ("SWITCH-0", "switch"),
    ]
    gpu, switch = verified.devices[0], verified.devices[2]
    assert (gpu.driver_version, gpu.vbios_version) == ("580.95.05", "96.00.D9.00.0C")
    assert (switch.driver_version, switch.vbios_version) == (None, "96.10.55.00.01")
    assert verified.issued_at == NOW
    assert verified.not_after == checks.expires == NOW + timedelta(hours=1)
    assert {row.outcome for row in checks} == {Outcome.PASSED}
    assert len(checks) == 6 + len(ALL)
    assert checks.rows[3].clause == "RFC 9711 section 4.2.18"
    judge(overall(iss="https://nras.mock.invalid"))


def test_a_saved_answer_and_a_warning_are_noted() -> None:
    """What no rule decides about has a row of its own."""
    checks = CheckList()
    verified = judge(device(x_nvidia_attestation_warning="old RIM\x1b[2J"), nonce=None, checks=checks)
    noted = [row for row in checks if row.outcome is Outcome.NOTED]
    assert [row.name for row in noted] == ["NRAS nonce", "NRAS GPU-0 warning"]
    assert verified.devices[0].warning == noted[1].got == "old RIM?[2J"
    for warning, shown in (("w" * 101, "w" * 100), ({"code": 1}, "not a text")):
        assert judge(device(x_nvidia_attestation_warning=warning)).devices[0].warning == shown


def test_texts_at_their_bounds() -> None:
    """One character is a text, and so are a hundred."""
    for text in ("x", "x" * 100):
        assert judge(device(hwmodel=text)).devices[0].hardware_model == text


def test_the_first_moment_and_the_first_end_of_all_tokens_count() -> None:
    """A device's token may be older than the overall one, and end before it."""
    moment = int(NOW.timestamp())
    older = MockDevice("GPU-1", {"iat": moment - 60, "nbf": moment - 60, "exp": moment + 1800})
    verified = judge(SERVICE.answer(NONCE, (MockDevice("GPU-0"), older, MockDevice("SWITCH-0")), now=NOW))
    assert verified.issued_at == NOW - timedelta(minutes=1)
    assert verified.not_after == NOW + timedelta(minutes=30)


def test_the_verdict_ends_with_the_first_chain_that_ends() -> None:
    """A chain that the service checked may end before the token does, and then so does the verdict."""
    chain = {
        "x-nvidia-cert-status": "valid",
        "x-nvidia-cert-ocsp-status": "good",
        "x-nvidia-cert-expiration-date": "2026-06-01T12:30:00Z",
    }
    answer = device(KIND_driver_rim_cert_chain=chain)
    end = datetime(2026, 6, 1, 12, 30, tzinfo=UTC)
    assert judge(answer).not_after == judge(answer, now=end).not_after == end
    late = refusal(lambda: judge(answer, now=datetime(2026, 6, 1, 12, 30, 1, tzinfo=UTC)))
    assert late.code == "nras-certificate-chain"


@pytest.mark.parametrize("text", ["", "ab", "00" * 33])
def test_a_saved_answer_must_have_a_whole_nonce(text: str) -> None:
    """Without a nonce of ours to compare with, its form is all that is left to judge."""
    answer = SERVICE.answer(
        NONCE, (MockDevice("GPU-0", {"eat_nonce": text}),), now=NOW, changed={"eat_nonce": text}
    )
    assert refusal(lambda: judge(answer, nonce=None)).code == "nras-nonce"


REQUIRED = {
    version: {
        claim
        for name in ("GPU-0", "SWITCH-0")
        for token in json.loads(SERVICE.answer(NONCE, (MockDevice(name),), now=NOW, version=version))[
            1
        ].values()  # type: ignore[arg-type]  # literals
        for claim, value in json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "==")).items()
        if value is True
    }
    for version in ("2.0", "3.0")
}


@pytest.mark.parametrize(
    ("version", "claim"), [(version, claim) for version in REQUIRED for claim in sorted(REQUIRED[version])]
)
@pytest.mark.parametrize("value", [False, None, "true", 1])
def test_every_yes_is_needed(version: str, claim: str, value: object) -> None:
    """A claim that is missing, or anything but JSON true, refuses."""
    name = "SWITCH-0" if "switch" in claim else "GPU-0"
    answer = SERVICE.answer(NONCE, (MockDevice(name, {claim: value}),), now=NOW, version=version)  # type: ignore[arg-type]  # a literal of the tests
    assert refusal(lambda: judge(answer)).code == "nras-device-claim"


def test_the_list_of_claims_is_that_of_the_format() -> None:
    """Counted by hand from the format: the mock and the verifier cannot both forget one."""
    assert {version: len(claims) for version, claims in REQUIRED.items()} == {"2.0": 27, "3.0": 27}


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"measres": "fail"}, "nras-device-claim"),
        ({"measres": None}, "nras-device-claim"),
        ({"measres": ["success"]}, "nras-device-claim"),
        ({"dbgstat": "enabled"}, "nras-device-claim"),
        ({"dbgstat": None}, "nras-device-claim"),
        ({"oemid": "5704"}, "nras-device-claim"),
        ({"oemid": None}, "nras-device-claim"),
        ({"KIND_tomorrows_check": False}, "nras-device-claim"),
        ({"x_nvidia_mismatch_measurement_records": [{"index": 9}]}, "nras-device-claim"),
        ({"x_nvidia_error_details": {"code": 4010}}, "nras-device-error"),
        ({"KIND_driver_rim_cert_chain": None}, "nras-certificate-chain"),
        ({"KIND_vbios_rim_cert_chain": None}, "nras-certificate-chain"),
        ({"KIND_attestation_report_cert_chain": None}, "nras-certificate-chain"),
        ({"hwmodel": None}, "nras-device-fact"),
        ({"hwmodel": ""}, "nras-device-fact"),
        ({"hwmodel": "x" * 101}, "nras-device-fact"),
        ({"hwmodel": "a\nb"}, "nras-device-fact"),
        ({"ueid": "0x10"}, "nras-device-fact"),
        ({"ueid": 10}, "nras-device-fact"),
        ({"ueid": "\u0661"}, "nras-device-fact"),
        ({"KIND_driver_version": None}, "nras-device-fact"),
        ({"KIND_vbios_version": 3}, "nras-device-fact"),
        ({"iss": "https://nras.attestation.nvidia.com"}, "nras-issuer"),
        ({"eat_nonce": None, "nonce": NONCE.hex()}, "nras-nonce"),
        ({"iat": True}, "nras-times"),
        ({"exp": 10**17}, "nras-times"),
    ],
)
def test_one_device_that_is_not_right(changed: dict[str, Any], code: str) -> None:
    """Each claim of a device's token is judged."""
    claims = {
        key if key == "eat_nonce" else key.replace("KIND", "x-nvidia-gpu").replace("_", "-"): value
        for key, value in changed.items()
    }
    answer = SERVICE.answer(NONCE, (MockDevice("GPU-0"), MockDevice("GPU-1", claims)), now=NOW)
    assert refusal(lambda: judge(answer)).code == code


@pytest.mark.parametrize(
    "changed",
    [
        {"x-nvidia-cert-status": "expired"},
        {"x-nvidia-cert-ocsp-status": "revoked"},
        {"x-nvidia-cert-ocsp-status": None},
        {"x-nvidia-cert-revocation-reason": "key compromise"},
        {"x-nvidia-cert-ocsp-nonce-matches": False},
        {"x-nvidia-cert-ocsp-response-valid": False},
        {"x-nvidia-cert-expiration-date": "2026-06-01T11:59:59Z"},
    ],
)
def test_a_chain_that_the_service_found_wanting(changed: dict[str, Any]) -> None:
    """The state of each chain is read, not only that there is one."""
    chain = {
        "x-nvidia-cert-status": "valid",
        "x-nvidia-cert-ocsp-status": "good",
        "x-nvidia-cert-expiration-date": "9999-12-31T23:59:59Z",
    }
    judge(device(KIND_vbios_rim_cert_chain=chain))
    answer = device(KIND_vbios_rim_cert_chain=chain | changed)
    assert refusal(lambda: judge(answer)).code == "nras-certificate-chain"


@pytest.mark.parametrize("date", [None, 5, "tomorrow", "2026-06-01"])
def test_a_chain_without_a_readable_end(date: object) -> None:
    """The end of a chain is part of the verdict's end, so it must be readable."""
    chain = {
        "x-nvidia-cert-status": "valid",
        "x-nvidia-cert-ocsp-status": "good",
        "x-nvidia-cert-expiration-date": date,
    }
    assert refusal(lambda: judge(device(KIND_vbios_rim_cert_chain=chain))).code == "nras-device-fact"


def test_a_switch_is_judged_by_its_own_claims() -> None:
    """A GPU's claims do not make a switch pass, nor the other way round."""
    assert refusal(lambda: judge(device(name="SWITCH-0", oemid="5704"))).code == "nras-device-claim"
    token = json.loads(SERVICE.answer(NONCE, (MockDevice("GPU-0"),), now=NOW))[1]["GPU-0"]
    assert refusal(lambda: judge(_bundle({"SWITCH-0": token}))).code == "nras-device-claim"


def _bundle(tokens: dict[str, str], **changed: Any) -> bytes:
    """A well signed answer over given device tokens."""
    import hashlib  # noqa: PLC0415 - needed here only

    submods = {
        name: ["DIGEST", ["SHA-256", hashlib.sha256(token.encode()).hexdigest()]]
        for name, token in tokens.items()
    }
    body = json.loads(SERVICE.answer(NONCE, now=NOW, changed={"submods": submods} | changed))
    return json.dumps([body[0], tokens]).encode()


@pytest.mark.parametrize("value", [False, None, "true", 1])
def test_the_overall_result_must_be_true(value: object) -> None:
    """A genuine token that says no, or says nothing, refuses."""
    assert refusal(lambda: judge(overall(x__nvidia__overall__att__result=value))).code == "nras-result"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"iss": "https://nras.attestation.nvidia.com"}, "nras-issuer"),
        ({"iss": "https://nras.mock.invalid/"}, "nras-issuer"),
        ({"iss": None}, "nras-issuer"),
        ({"sub": "NVIDIA-GPU-ATTESTATION"}, "nras-subject"),
        ({"sub": None}, "nras-subject"),
        ({"x__nvidia__ver": "4.0"}, "nras-version"),
        ({"x__nvidia__ver": None}, "nras-version"),
        ({"x__nvidia__ver": ["3.0"]}, "nras-version"),
        ({"eat_nonce": NONCE.hex().upper()}, "nras-nonce"),
        ({"eat_nonce": "00" * 32}, "nras-nonce"),
        ({"eat_nonce": NONCE.hex()[:62]}, "nras-nonce"),
        ({"eat_nonce": [NONCE.hex()]}, "nras-nonce"),
        ({"eat_nonce": "zz" * 32}, "nras-nonce"),
        ({"eat_nonce": None}, "nras-nonce"),
        ({"submods": None}, "nras-submodules"),
        ({"submods": {}}, "nras-submodules"),
        ({"submods": {"GPU-0": ["DIGEST", ["SHA-256", "00" * 32]]}}, "nras-submodules"),
        ({"submods": {"GPU-1": ["DIGEST", ["SHA-256", "00" * 32]]}}, "nras-submodules"),
        ({"iat": None}, "nras-times"),
        ({"nbf": "1"}, "nras-times"),
        ({"exp": -1}, "nras-times"),
        ({"exp": int(NOW.timestamp()) + 3601}, "nras-lifetime"),
        ({"exp": int(NOW.timestamp())}, "nras-lifetime"),
        ({"nbf": int(NOW.timestamp()) + 61}, "nras-not-yet-valid"),
    ],
)
def test_an_overall_token_that_is_not_right(changed: dict[str, Any], code: str) -> None:
    """Each claim of the overall token is judged."""
    assert refusal(lambda: judge(overall(**changed))).code == code


def test_an_unknown_version_is_unsupported() -> None:
    """It may be genuine: this verifier is too old for it."""
    assert isinstance(refusal(lambda: judge(overall(x__nvidia__ver="4.0"))), Unsupported)


@pytest.mark.parametrize(
    ("seconds", "code"),
    [(-61, "nras-not-yet-valid"), (-60, None), (0, None), (3599, None), (3600, "nras-expired")],
)
def test_the_times_to_the_second(seconds: int, code: str | None) -> None:
    """A minute is granted to the issuer's clock at the start, nothing at the end."""
    answer = SERVICE.answer(NONCE, now=NOW)
    moment = NOW + timedelta(seconds=seconds)
    if code is None:
        judge(answer, now=moment)
    else:
        assert refusal(lambda: judge(answer, now=moment)).code == code


def test_a_device_token_has_its_own_end_and_its_own_nonce() -> None:
    """A device's token from an older answer refuses in a new one, even if the service signed it in."""
    old = json.loads(SERVICE.answer(NONCE, now=NOW - timedelta(hours=2)))[1]["GPU-0"]
    assert refusal(lambda: judge(_bundle({"GPU-0": old}))).code == "nras-expired"
    unsigned = json.loads(SERVICE.answer(NONCE, now=NOW))[1]["GPU-0"].rpartition(".")[0]
    signature = base64.urlsafe_b64encode(bytes(96)).decode()
    assert refusal(lambda: judge(_bundle({"GPU-0": f"{unsigned}.{signature}"}))).code == "nras-signature"
    foreign = json.loads(SERVICE.answer(bytes(32), now=NOW))[1]["GPU-0"]
    assert refusal(lambda: judge(_bundle({"GPU-0": foreign}))).code == "nras-nonce"


def test_exchanged_added_and_missing_device_tokens() -> None:
    """The devices are exactly those that the overall token names."""
    overall_part, tokens = json.loads(SERVICE.answer(NONCE, ALL, now=NOW))
    cut = json.dumps([overall_part, tokens | {"GPU-0": "a.b"}]).encode()
    assert refusal(lambda: judge(cut)).code == "nras-parts"
    swapped = tokens | {"GPU-0": tokens["SWITCH-0"], "SWITCH-0": tokens["GPU-0"]}
    added = tokens | {"GPU-2": tokens["GPU-0"]}
    missing = {name: tokens[name] for name in ("GPU-0", "GPU-1")}
    for devices in (swapped, added, missing):
        answer = json.dumps([overall_part, devices]).encode()
        assert refusal(lambda answer=answer: judge(answer)).code == "nras-submodules"  # type: ignore[misc]  # the default binds the loop's value


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", "nras-not-json"),
        (b"{}", "nras-bundle"),
        (b'[["JWT","a.b.c"]]', "nras-bundle"),
        (b'[["JWT","a.b.c"],{}]', "nras-bundle"),
        (b'[["JWS","a.b.c"],{"GPU-0":"a.b.c"}]', "nras-bundle"),
        (b'[["JWT","a.b.c"],{"GPU-0":"a.b.c"},{}]', "nras-bundle"),
        (b'[["JWT","a.b.c"],{"GPU-0":5}]', "nras-bundle"),
        (b'[["JWT","a.b.c"],{"GPU-0":"a.b.c","GPU-1":5}]', "nras-bundle"),
        (b'[["JWT","a.b.c"],{"GPU-01":"a.b.c"}]', "nras-device-name"),
        (b'[["JWT","a.b.c"],{"DPU-0":"a.b.c"}]', "nras-device-name"),
        (b'[["JWT","a.b"],{"GPU-0":"a.b.c"}]', "nras-parts"),
        (b'[["JWT","a.b.c"],{"GPU-0":"a.b.c"}]', "nras-base64"),
        (b'[["JWT","YQ.YQ.YQ"],{"GPU-0":"a.b.c"}]', "nras-not-json"),
        (b" " * (MAX_EAT_BYTES + 1), "nras-too-large"),
        (b'[["JWT","' + b"a" * 33000 + b'"],{"GPU-0":"a.b.c"}]', "nras-too-large"),
        (b'[["JWT","a.b.c"],{"GPU-0":"a","GPU-0":"b"}]', "nras-duplicate-member"),
        (b"[" * 100_000, "nras-too-deep"),
        (json.dumps([["JWT", "a.b.c"], {f"GPU-{n}": "a" for n in range(33)}]).encode(), "nras-bundle"),
    ],
)
def test_what_is_no_answer(answer: bytes, code: str) -> None:
    """Bytes of another form are malformed, with their own code."""
    caught = refusal(lambda: judge(answer))
    assert isinstance(caught, Malformed)
    assert caught.code == code


def _with_header(header: dict[str, Any]) -> bytes:
    overall_part, tokens = json.loads(SERVICE.answer(NONCE, now=NOW))
    _, payload, signature = overall_part[1].split(".")
    encoded = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return json.dumps([["JWT", f"{encoded}.{payload}.{signature}"], tokens]).encode()


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({"alg": "none", "kid": "mock-nras-1"}, "nras-algorithm"),
        ({"alg": "HS256", "kid": "mock-nras-1"}, "nras-algorithm"),
        ({"alg": "HS384", "kid": "mock-nras-1"}, "nras-algorithm"),
        ({"alg": "ES256", "kid": "mock-nras-1"}, "nras-algorithm"),
        ({"alg": "es384", "kid": "mock-nras-1"}, "nras-algorithm"),
        ({"alg": "ES384", "kid": "mock-nras-2"}, "jwks-key-unknown"),
        ({"alg": "ES384", "kid": "../key"}, "jwks-key-unknown"),
        ({"kid": "mock-nras-1", "alg": "ES384"}, "nras-signature"),
        ({"alg": "ES384", "kid": "mock-nras-1", "typ": "JWT"}, "nras-signature"),
        ({"alg": "ES384"}, "nras-header"),
        ({"kid": "mock-nras-1"}, "nras-header"),
        ({"alg": "ES384", "kid": 1}, "nras-header"),
        ({"alg": "ES384", "kid": "k" * 201}, "nras-header"),
        ({"alg": "ES384", "kid": "mock-nras-1", "b64": False, "crit": ["b64"]}, "nras-header"),
        ({"alg": "ES384", "kid": "mock-nras-1", "jwk": {}}, "nras-header"),
        ({"alg": "ES384", "kid": "mock-nras-1", "x5u": "https://evil.invalid/key"}, "nras-header"),
        ([], "nras-header"),
    ],
)
def test_headers_that_choose(header: Any, code: str) -> None:
    """The header chooses neither algorithm nor key nor what is signed."""
    assert refusal(lambda: judge(_with_header(header))).code == code


def test_no_bit_of_an_answer_can_be_changed() -> None:
    """Bits of both tokens' text, flipped one at a time in every eighth character, refuse."""
    answer = SERVICE.answer(NONCE, now=NOW)
    start = answer.index(b"eyJ")
    for place in range(start, len(answer) - 2, 8):
        for bit in range(0, 7, 2):
            changed = bytearray(answer)
            changed[place] ^= 1 << bit
            if json.loads(answer) != _loaded(bytes(changed)):
                refusal(lambda changed=changed: judge(bytes(changed)))  # type: ignore[misc]  # the default binds the loop's value


def _loaded(data: bytes) -> object:
    try:
        return json.loads(data)
    except ValueError:
        return None


def test_another_service_is_nobody() -> None:
    """Another mock's answer refuses under this one's keys, and an unpinned key set refuses whoever signs."""
    other = MockNras.create()
    answer = other.answer(NONCE, now=NOW)
    assert refusal(lambda: judge(answer)).code == "nras-signature"
    assert refusal(lambda: judge(answer, keys=other.keys)).code == "nras-root-not-trusted"
    assert refusal(lambda: judge(answer, keys=other.keys, roots=NrasRoots(nvidia=False))).code == (
        "nras-root-not-trusted"
    )
    judge(answer, keys=other.keys, roots=nras_roots(other))


def test_a_mock_is_never_nvidia() -> None:
    """Under NVIDIA's roots a mock's keys have no certificate, so its answers refuse (P8)."""
    answer = SERVICE.answer(NONCE, now=NOW)
    assert refusal(lambda: judge(answer, roots=NrasRoots(nvidia=True))).code == "nras-key-chain"
    both = replace(nras_roots(SERVICE), nvidia=True)
    assert judge(answer, roots=both).vendor == "mock"
    real = SERVICE.answer(NONCE, now=NOW, changed={"iss": "https://nras.attestation.nvidia.com"})
    assert refusal(lambda: judge(real, roots=both)).code == "nras-issuer"


def test_a_key_set_has_an_end() -> None:
    """A key set that was fetched too long ago refuses, and ends the verdict if it ends first."""
    end = NOW + timedelta(minutes=5)
    keys, answer = replace(KEYS, not_after=end), SERVICE.answer(NONCE, now=NOW)
    assert judge(answer, keys=keys, now=end).not_after == end
    assert refusal(lambda: judge(answer, keys=keys, now=end + timedelta(seconds=1))).code == "jwks-expired"


def test_a_time_without_a_zone_is_a_bug() -> None:
    """Not a refusal: the caller is wrong."""
    with pytest.raises(ValueError, match="zone"):
        judge(SERVICE.answer(NONCE, now=NOW), now=NOW.replace(tzinfo=None))


def test_the_mock_keeps_its_key(tmp_path: Path) -> None:
    """A second start has the same key set; the file is the owner's only; another kind of key is refused."""
    first, second = MockNras.load_or_create(tmp_path / "mock"), MockNras.load_or_create(tmp_path / "mock")
    assert first.jwks_sha256 == second.jwks_sha256
    assert (tmp_path / "mock" / "nras-key.pem").stat().st_mode & 0o777 == 0o600
    from attest.mock.key_file import save_private_key  # noqa: PLC0415 - needed here only

    save_private_key(tmp_path / "mock" / "nras-key.pem", ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(ValueError, match="mock service"):
        MockNras.load_or_create(tmp_path / "mock")
    assert "key" not in repr(first).lower()


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes_only_refuse(data: bytes) -> None:
    """No bytes raise anything else."""
    refusal(lambda: judge(data))


@settings(max_examples=60, deadline=None)
@given(
    claims=st.dictionaries(
        st.sampled_from(["iss", "iat", "nbf", "exp", "eat_nonce", "submods", "sub", "x-nvidia-ver"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
            ),
            max_leaves=4,
        ),
        min_size=1,
    )
)
def test_any_claims_only_refuse(claims: dict[str, Any]) -> None:
    """Even a signer that writes nonsense makes nothing but refusals."""
    overall_part, tokens = json.loads(SERVICE.answer(NONCE, now=NOW))
    overall_part[1] = SERVICE.sign(claims)
    refusal(lambda: judge(json.dumps([overall_part, tokens]).encode()))


def test_the_largest_answer_is_quick() -> None:
    """As many devices as are read at all: well under a second."""
    answer = SERVICE.answer(NONCE, tuple(MockDevice(f"GPU-{n}") for n in range(32)), now=NOW)
    start = time.perf_counter()
    assert len(judge(answer).devices) == 32
    assert time.perf_counter() - start < 1
