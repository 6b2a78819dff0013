"""Every file of shared/vectors/{maa,nvidia/nras} and the NRAS part of joint/: its times, its outcome."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from attest.checks import CheckList, Outcome
from attest.collateral.tokens import NRAS_INTERMEDIATES_SHA256, JwkSetCollateral, MaaRoots, NrasRoots
from attest.evidence.maa_claims import MaaSnp, read_tee, require_safe_boot
from attest.evidence.nras_claims import read_device
from attest.evidence.tokens import CompactToken, DetachedEat
from attest.mock.maa import MockMaa
from attest.mock.nras import MockNras
from attest.refusal import Refused
from attest.verify.jwk_set import signing_key
from attest.verify.maa import MaaPolicy, VerifiedMaa, verify_maa
from attest.verify.nras import VerifiedNras, verify_nras
from tests.simulators.genuine_tokens import (
    FALSE_KEYS,
    JOINT,
    JOINT_KEYS,
    JOINT_NONCE,
    MAA_CASES,
    MAA_ISSUER,
    MAA_KEYS,
    MAA_POLICY_HASH,
    NRAS,
    NRAS_CASES,
    NRAS_CLAIMS,
    TokenCase,
)
from tests.simulators.token_services import maa_roots, nras_roots

pytestmark = pytest.mark.shared
NVIDIA, AZURE = NrasRoots(nvidia=True), MaaRoots(azure=True)
POLICY = MaaPolicy(
    issuer=MAA_ISSUER, kind="azurevm", tee="sevsnpvm", policy_hashes=frozenset({MAA_POLICY_HASH})
)


@pytest.fixture(scope="module")
def vectors(shared: Path) -> Path:
    """The folder of shared vectors."""
    return shared / "vectors"


def judge_nras(
    case: TokenCase, vectors: Path, checks: CheckList, roots: NrasRoots = NVIDIA, keys: bytes | None = None
) -> VerifiedNras:
    """``verify_nras`` on a case."""
    jwks = JwkSetCollateral((vectors / case.keys).read_bytes() if keys is None else keys)
    answer, nonce = (vectors / case.file).read_bytes(), bytes.fromhex(case.nonce)
    return verify_nras(answer, jwks, roots, nonce=nonce, now=case.now, checks=checks)


def judge_maa(
    case: TokenCase,
    vectors: Path,
    checks: CheckList,
    *,
    policy: MaaPolicy = POLICY,
    roots: MaaRoots = AZURE,
    keys: bytes | None = None,
) -> VerifiedMaa:
    """``verify_maa`` on a case."""
    jwks = JwkSetCollateral((vectors / case.keys).read_bytes() if keys is None else keys)
    token, nonce = (vectors / case.file).read_bytes(), case.nonce.encode()
    return verify_maa(token, jwks, policy, roots, nonce=nonce, now=case.now, checks=checks)


def test_every_file_is_used_and_is_the_one_in_the_manifest(vectors: Path) -> None:
    """No vector is left out, and each is the file that the manifest describes."""
    uses = Counter(file for case in (*NRAS_CASES, *MAA_CASES) for file in (case.file, case.keys))
    files = {
        path.relative_to(vectors).as_posix()
        for pattern in ("maa/*", f"{NRAS}/*", f"{JOINT}/nras_*")
        for path in vectors.glob(pattern)
    }
    assert files == set(uses)
    manifest = {
        entry["file"]: entry["sha256"] for entry in json.loads((vectors / "manifest.json").read_bytes())
    }
    for file in files:
        assert hashlib.sha256((vectors / file).read_bytes()).hexdigest() == manifest[file]
    folders = Counter(Path(file).parent.as_posix() for file in files)
    print("\n".join(f"{folder}: {count} files" for folder, count in sorted(folders.items())))  # noqa: T201  shown by pytest -s


@pytest.mark.parametrize("case", NRAS_CASES, ids=str)
def test_gpu_verdicts(case: TokenCase, vectors: Path) -> None:
    """Each answer verifies at its time, or refuses with its code."""
    checks = CheckList()
    if case.code:
        with pytest.raises(Refused) as refusal:
            judge_nras(case, vectors, checks)
        assert refusal.value.code == case.code
        assert checks.rows[-1].outcome is Outcome.REFUSED
        return
    verified = judge_nras(case, vectors, checks)
    assert (verified.vendor, verified.version, verified.nonce.hex()) == ("nvidia", "2.0", JOINT_NONCE)
    assert verified.not_after == checks.expires == datetime(2026, 6, 29, 3, 8, 3, tzinfo=UTC)
    (gpu,) = verified.devices
    assert (gpu.hardware_model, gpu.driver_version, gpu.vbios_version) == (
        "GH100",
        "595.71.05",
        "96.00.D9.00.02",
    )
    assert gpu.ueid == "645491728318197586580044110930866076104639838622"


@pytest.mark.parametrize("case", MAA_CASES, ids=str)
def test_azure_tokens(case: TokenCase, vectors: Path) -> None:
    """Each token verifies at its time, or refuses with its code."""
    checks = CheckList()
    if case.code:
        with pytest.raises(Refused) as refusal:
            judge_maa(case, vectors, checks)
        assert refusal.value.code == case.code
        assert checks.rows[-1].outcome is Outcome.REFUSED
        return
    verified = judge_maa(case, vectors, checks)
    assert (verified.vendor, verified.issuer, verified.fresh) == ("azure", MAA_ISSUER, True)
    assert verified.not_after == datetime(2022, 9, 8, 5, 4, 47, tzinfo=UTC)
    assert isinstance(verified.tee, MaaSnp)
    assert verified.tee.measurement.hex().startswith("ad6de16ac59ee523")
    assert (verified.tee.snp_svn, verified.tee.microcode_svn, verified.tee.vmpl) == (6, 93, 0)
    assert [key["kid"] for key in verified.runtime["keys"]] == ["TpmEphemeralEncryptionKey"]


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"issuer": "https://sharedeus2.eus2.attest.azure.net"}, "maa-issuer"),
        ({"policy_hashes": frozenset({"QsNi9UE365SgcskuV_a4p-uFQyGlNcIlQkrsi0UIy7o"})}, "maa-policy-hash"),
        ({"kind": "sevsnpvm"}, "maa-kind"),
        ({"tee": "tdxvm"}, "maa-kind"),
        ({"compliance": frozenset({"another"})}, "maa-compliance"),
    ],
)
def test_the_genuine_azure_token_under_another_policy(
    changed: dict[str, Any], code: str, vectors: Path
) -> None:
    """A genuine token that is not what the policy wants refuses."""
    with pytest.raises(Refused) as refusal:
        judge_maa(MAA_CASES[0], vectors, CheckList(), policy=replace(POLICY, **changed))
    assert refusal.value.code == code


def test_genuine_tokens_under_mock_roots_and_the_other_way_round(vectors: Path) -> None:
    """What is real fails where only a mock is trusted, and a mock's tokens where only the real service is."""
    nras, maa = MockNras.create(), MockMaa.create()
    for keys, code in ((None, "nras-root-not-trusted"), (nras.keys.jwks, "jwks-key-unknown")):
        with pytest.raises(Refused) as refusal:
            judge_nras(NRAS_CASES[0], vectors, CheckList(), nras_roots(nras), keys)
        assert refusal.value.code == code
    for keys, code in ((None, "maa-root-not-trusted"), (maa.keys.jwks, "maa-root-not-trusted")):
        with pytest.raises(Refused) as refusal:
            judge_maa(MAA_CASES[0], vectors, CheckList(), roots=maa_roots(maa), keys=keys)
        assert refusal.value.code == code
    now, nonce = NRAS_CASES[0].now, bytes(32)
    jwks = JwkSetCollateral((vectors / JOINT_KEYS).read_bytes())
    with pytest.raises(Refused) as refusal:
        verify_nras(nras.answer(nonce, now=now), jwks, NVIDIA, nonce=nonce, now=now, checks=CheckList())
    assert refusal.value.code == "jwks-key-unknown"
    jwks = JwkSetCollateral((vectors / MAA_KEYS).read_bytes())
    with pytest.raises(Refused) as refusal:
        verify_maa(maa.token(nonce, now=now), jwks, POLICY, AZURE, nonce=nonce, now=now, checks=CheckList())
    assert refusal.value.code == "jwks-key-unknown"


@pytest.mark.parametrize(("file", "now", "version"), NRAS_CLAIMS)
def test_claims_of_every_device_token(file: str, now: datetime, version: str, vectors: Path) -> None:
    """Where the service said yes, every claim of the genuine token passes; and the digests are right."""
    bundle = DetachedEat.parse((vectors / file).read_bytes())
    overall = bundle.overall.claims(name="nras")
    assert overall["x-nvidia-ver"] == version
    for name, token in bundle.devices.items():
        digest = hashlib.sha256(token.text.encode()).hexdigest()
        assert overall["submods"][name] == ["DIGEST", ["SHA-256", digest]]
        device = read_device(name, token.claims(name="nras"), version, now=now)  # type: ignore[arg-type]  # a literal of the table
        assert device.kind == ("switch" if name.startswith("SWITCH") else "gpu")
        assert device.ueid.isdecimal()


def test_the_decoded_oracle_and_the_local_sdk_agree(vectors: Path) -> None:
    """The decoded claims are the token's; the SDK's claims of a local verification are of the same shape."""
    decoded = json.loads((vectors / NRAS / "v4-claims3.0-decoded.json").read_bytes())
    bundle = DetachedEat.parse((vectors / NRAS / "v4-claims3.0-token.json").read_bytes())
    assert {name: token.claims(name="nras") for name, token in bundle.devices.items()} == decoded
    local = json.loads((vectors / NRAS / "local-claims3.0-h100.json").read_bytes())
    claims = local["claims"][0]
    # The SDK does not repeat the schema's check; the service does, so its absence refuses there.
    claims |= {f"x-nvidia-gpu-{rim}-rim-schema-validated": True for rim in ("driver", "vbios")}
    device = read_device("GPU-0", claims, "3.0", now=datetime(2026, 7, 16, tzinfo=UTC))
    assert device.driver_version == "580.159.03"
    assert device.certificates_end == datetime(2027, 4, 30, 23, 59, 59, tzinfo=UTC)
    with pytest.raises(Refused) as refusal:  # signed by nobody: alg none, no key id
        DetachedEat.parse(json.dumps(local["detached_eat"]).encode())
    assert refusal.value.code == "nras-header"


def test_errors_about_devices_refuse_even_if_the_overall_result_said_yes(vectors: Path) -> None:
    """The device tokens of the refused answer say why."""
    bundle = DetachedEat.parse((vectors / NRAS / "v3-overall-false-8gpu.json").read_bytes())
    assert len(bundle.devices) == 8
    for name, token in bundle.devices.items():
        with pytest.raises(Refused) as refusal:
            read_device(name, token.claims(name="nras"), "2.0", now=datetime(2026, 5, 20, 2, tzinfo=UTC))
        assert refusal.value.code == "nras-device-error"


def test_every_key_of_the_stored_sets_is_read_and_certified(vectors: Path) -> None:
    """Each key's certificate is by the pinned intermediate; the lone chain is one of the same kind."""
    count = 0
    for file in (JOINT_KEYS, FALSE_KEYS):
        jwks = (vectors / file).read_bytes()
        for entry in json.loads(jwks)["keys"]:
            key = signing_key(jwks, entry["kid"])
            assert hashlib.sha256(key.chain[1]).hexdigest() in NRAS_INTERMEDIATES_SHA256
            count += 1
    assert count == 33
    chain = json.loads((vectors / NRAS / "nras_gpu_x5c_chain.json").read_bytes())["x5c"]
    jwks = json.dumps({"keys": [{"kty": "EC", "kid": "k", "x5c": chain}]}).encode()
    assert hashlib.sha256(signing_key(jwks, "k").chain[1]).hexdigest() in NRAS_INTERMEDIATES_SHA256


def test_claims_of_the_azure_tokens_without_a_key_set(vectors: Path) -> None:
    """The newer protocol's claims are read, and the decoded sample; a raw report's token as well."""
    newer = CompactToken.parse((vectors / "maa/azurevm-snp-protocol3-2025.jwt").read_text(), name="maa")
    claims = newer.claims(name="maa")
    require_safe_boot(claims)
    tee = read_tee(claims["x-ms-isolation-tee"], "sevsnpvm")
    assert isinstance(tee, MaaSnp)
    assert (tee.guest_svn, tee.microcode_svn) == (10, 219)
    assert base64.b64decode(claims["x-ms-runtime"]["client-payload"]["nonce"]) == b"midnight-srs"
    sample = json.loads((vectors / "maa/sample-claims-2022.json").read_bytes())
    require_safe_boot(sample)
    assert isinstance(read_tee(sample["x-ms-isolation-tee"], "sevsnpvm"), MaaSnp)
    raw = CompactToken.parse((vectors / "maa/sevsnpvm-toplevel-2025.jwt").read_text(), name="maa")
    assert isinstance(read_tee(raw.claims(name="maa"), "sevsnpvm"), MaaSnp)


@pytest.mark.parametrize("entry", ["x", "y", "x5c", "kid"])
def test_a_key_set_with_one_key_tampered(entry: str, vectors: Path) -> None:
    """A key that is another's in part, or whose chain is cut short, or whose id is there twice, refuses."""
    case = NRAS_CASES[0]
    document = json.loads((vectors / JOINT_KEYS).read_bytes())
    kid = DetachedEat.parse((vectors / case.file).read_bytes()).overall.key_id
    place = next(index for index, key in enumerate(document["keys"]) if key["kid"] == kid)
    other = document["keys"][place - 1]
    document["keys"][place][entry] = other[entry] if entry != "x5c" else document["keys"][place]["x5c"][:1]
    with pytest.raises(Refused) as refusal:
        judge_nras(case, vectors, CheckList(), keys=json.dumps(document).encode())
    expected = {
        "x": "jwks-coordinate",
        "y": "jwks-coordinate",
        "x5c": "nras-key-chain",
        "kid": "jwks-duplicate-key",
    }
    assert refusal.value.code == expected[entry]


def test_a_key_set_of_somebody_elses_key(vectors: Path) -> None:
    """A key that is the attacker's own, beside or without NVIDIA's certificate, is not NVIDIA's."""
    case = NRAS_CASES[0]
    document = json.loads((vectors / JOINT_KEYS).read_bytes())
    kid = DetachedEat.parse((vectors / case.file).read_bytes()).overall.key_id
    key = next(key for key in document["keys"] if key["kid"] == kid)
    mine = json.loads(MockNras.create().keys.jwks)["keys"][0]
    for changed, code in (
        (key | {"x": mine["x"], "y": mine["y"]}, "jwks-certificate-mismatch"),
        (mine | {"kid": kid}, "nras-key-chain"),
    ):
        with pytest.raises(Refused) as refusal:
            judge_nras(case, vectors, CheckList(), keys=json.dumps({"keys": [changed]}).encode())
        assert refusal.value.code == code
    for pinned in (frozenset[str](), frozenset({"00" * 32})):
        with pytest.raises(Refused) as refusal:
            judge_nras(case, vectors, CheckList(), replace(NVIDIA, intermediates=pinned))
        assert refusal.value.code == "nras-key-chain"


def test_a_key_set_that_the_operator_vouches_for(vectors: Path) -> None:
    """A key set named by its digest needs no pinned intermediate; its certificates must still be current."""
    case = NRAS_CASES[0]
    digest = hashlib.sha256((vectors / case.keys).read_bytes()).hexdigest()
    roots = NrasRoots(nvidia=True, intermediates=frozenset(), key_sets=frozenset({digest}))
    assert judge_nras(case, vectors, CheckList(), roots).vendor == "nvidia"
    late = next(each for each in NRAS_CASES if each.code == "certificate-expired")
    with pytest.raises(Refused) as refusal:
        judge_nras(late, vectors, CheckList(), roots)
    assert refusal.value.code == "certificate-expired"
    with pytest.raises(Refused) as refusal:
        judge_nras(case, vectors, CheckList(), replace(roots, nvidia=False))
    assert refusal.value.code == "nras-root-not-trusted"


def test_a_chain_that_only_looks_pinned(vectors: Path) -> None:
    """The pinned intermediate beside a certificate that it did not sign is no chain."""
    case = NRAS_CASES[0]
    document = json.loads((vectors / JOINT_KEYS).read_bytes())
    kid = DetachedEat.parse((vectors / case.file).read_bytes()).overall.key_id
    key = next(key for key in document["keys"] if key["kid"] == kid)
    leaf = bytearray(base64.b64decode(key["x5c"][0]))
    leaf[-1] ^= 1
    own = base64.b64decode(json.loads(MockMaa.create().keys.jwks)["keys"][0]["x5c"][0])
    for forged, kty in ((bytes(leaf), "EC"), (own, "RSA")):
        entry = {"kty": kty, "kid": kid, "x5c": [base64.b64encode(forged).decode(), key["x5c"][1]]}
        with pytest.raises(Refused) as refusal:
            judge_nras(case, vectors, CheckList(), keys=json.dumps({"keys": [entry]}).encode())
        assert refusal.value.code == "nras-key-chain"
