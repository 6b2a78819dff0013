"""The bundle: one encoding of one set of parts, bounded, nothing unknown in it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest import strict_json
from attest.evidence.bundle import (
    MAX_BUNDLE_BYTES,
    MAX_TOKEN_BYTES,
    Bundle,
    VerdictToken,
)
from attest.evidence.bundle_collateral import MAX_CERTIFICATE_BYTES, MAX_CRL_BYTES
from attest.evidence.bundle_cpu import MAX_REPORT_BYTES
from attest.evidence.cpu import AzureSnpEvidence, SnpCollateral, SnpEvidence
from attest.evidence.device import DeviceEvidence, NvidiaCollateral
from attest.evidence.gpu import MAX_CHAIN_BYTES, MAX_OCSP_BYTES, MAX_RIM_BYTES, GpuEvidence
from attest.evidence.gpu import MAX_REPORT_BYTES as MAX_GPU_REPORT_BYTES
from attest.evidence.tdx_evidence import MAX_EVENT_LOG_BYTES, MAX_QUOTE_BYTES, TdxCollateral, TdxEvidence
from attest.evidence.tpm import TpmQuote
from attest.refusal import Refused

BUNDLE = Bundle(b"statement", b"keyset", SnpEvidence(b"report", SnpCollateral(b"leaf", b"ask", None, b"crl")))
DOCUMENT = json.loads(BUNDLE.serialise())
SNP = DOCUMENT["collateral"]["snp"]
DEVICE = {"kind": "nvidia-gpu", "index": 0, "arch": "HOPPER", "report": "", "certificate_chain": ""}
TOKEN = {"kind": "nras", "token": ""}
TDX = TdxCollateral("", b"", b"", "", "{}", bytes(64), "", "{}", bytes(64))
some = st.binary(max_size=64)
maybe = st.none() | some
digests = st.binary(min_size=32, max_size=32)
text = st.text(st.characters(max_codepoint=127), max_size=20)
signature = st.binary(min_size=64, max_size=64)
tdx_collateral = st.builds(TdxCollateral, text, some, some, text, text, signature, text, text, signature)
devices = st.dictionaries(
    st.integers(0, 255),
    st.builds(GpuEvidence, st.sampled_from(["HOPPER", "BLACKWELL", "LS10"]), some, some),
    max_size=3,
).map(
    lambda by_index: tuple(
        sorted(
            (DeviceEvidence.of(index, evidence) for index, evidence in by_index.items()),
            key=lambda device: (device.kind, device.index),
        )
    )
)
bundles = st.builds(
    Bundle,
    some,
    some,
    st.builds(SnpEvidence, some, st.builds(SnpCollateral, maybe, maybe, maybe, maybe))
    | st.builds(TdxEvidence, some, st.none() | tdx_collateral, maybe)
    | st.builds(
        AzureSnpEvidence,
        some,
        st.builds(TpmQuote, some, some, st.lists(digests, min_size=24, max_size=24).map(tuple)),
        st.builds(SnpCollateral, maybe, maybe, maybe, maybe),
    ),
    devices,
    st.none()
    | st.builds(
        NvidiaCollateral,
        st.dictionaries(st.from_regex(r"[A-Z0-9_.]{1,12}", fullmatch=True), some, max_size=3),
        st.lists(some, max_size=3).map(tuple),
    ),
    st.sampled_from(["", "maa", "nras", "maa nras"]).map(
        lambda kinds: tuple(VerdictToken(kind, b"token") for kind in kinds.split())
    ),
)


def _document(**changes: Any) -> bytes:
    return strict_json.canonical(DOCUMENT | changes)


def _snp(**changes: Any) -> bytes:
    return _document(collateral={"snp": SNP | changes, "tdx": None, "nvidia": None})


def _tdx(**changes: Any) -> bytes:
    cpu = {"kind": "tdx", "quote": "", "event_log": None} | changes
    return _document(cpu=cpu, collateral=dict.fromkeys(("snp", "tdx", "nvidia")))


def _nvidia(**changes: Any) -> bytes:
    nvidia = {"rims": {}, "ocsp": []} | changes
    return _document(collateral={"snp": SNP, "tdx": None, "nvidia": nvidia})


def _too_long(max_bytes: int) -> str:
    return "A" * ((max_bytes + 2) // 3 * 4 + 4)


@given(bundles)
@settings(max_examples=100)
def test_round_trip(bundle: Bundle) -> None:
    """What is written is read back as the same parts."""
    assert Bundle.parse(bundle.serialise()) == bundle


def test_the_document_is_the_documented_one() -> None:
    """The shape in docs/reference/bundle-format.md."""
    assert DOCUMENT == {
        "format": "sealgate-bundle-v1",
        "statement": "c3RhdGVtZW50",
        "keyset": "a2V5c2V0",
        "cpu": {"kind": "snp", "report": "cmVwb3J0"},
        "devices": [],
        "collateral": {
            "snp": {"leaf": "bGVhZg==", "intermediate": "YXNr", "ark": None, "crl": "Y3Js"},
            "tdx": None,
            "nvidia": None,
        },
        "tokens": [],
    }


AZURE = {"kind": "azure-snp", "hcl_report": "", "quote": "", "signature": "", "pcrs": "A" * 1024}


@pytest.mark.parametrize(
    ("document", "code", "exit_code"),
    [
        (_document(extra=1), "bundle-members", 30),
        (
            strict_json.canonical({name: DOCUMENT[name] for name in DOCUMENT if name != "devices"}),
            "bundle-members",
            30,
        ),
        (b"[]", "bundle-members", 30),
        (_document(format=1), "bundle-members", 30),
        (_document(format="sealgate-bundle-v2"), "bundle-format", 20),
        (_document(devices=[{"kind": "nvidia-gpu"}]), "bundle-members", 30),
        (_document(devices=[None]), "bundle-members", 30),
        (_document(devices=None), "bundle-members", 30),
        (_document(devices={}), "bundle-members", 30),
        (_document(devices=[DEVICE] * 65), "bundle-members", 30),
        (_document(devices=[DEVICE | {"arch": "AMPERE"}]), "device-architecture", 20),
        (_document(devices=[DEVICE | {"kind": "nvidia-switch"}]), "device-kind", 30),
        (_document(devices=[DEVICE | {"index": 256}]), "device-index", 30),
        (_document(devices=[DEVICE | {"index": True}]), "device-index", 30),
        (_document(devices=[DEVICE | {"index": -1}]), "device-index", 30),
        (_document(devices=[DEVICE, DEVICE]), "bundle-devices", 30),
        (_document(devices=[DEVICE | {"index": 1}, DEVICE]), "bundle-devices", 30),
        (_document(devices=[DEVICE | {"report": _too_long(MAX_GPU_REPORT_BYTES)}]), "bundle-too-large", 30),
        (
            _document(devices=[DEVICE | {"certificate_chain": _too_long(MAX_CHAIN_BYTES)}]),
            "bundle-too-large",
            30,
        ),
        (_document(tokens=[TOKEN, TOKEN]), "bundle-tokens", 30),
        (_document(tokens=[TOKEN] * 3), "bundle-members", 30),
        (_document(tokens=[TOKEN | {"more": 1}]), "bundle-members", 30),
        (_document(tokens=[TOKEN, TOKEN | {"kind": "maa"}]), "bundle-tokens", 30),
        (_document(tokens=[TOKEN | {"kind": "other"}]), "token-kind", 20),
        (_document(tokens=[TOKEN | {"token": _too_long(MAX_TOKEN_BYTES)}]), "bundle-too-large", 30),
        (_document(tokens=None), "bundle-members", 30),
        (_document(cpu={"kind": "tdx", "quote": "", "event_log": None}), "bundle-not-canonical", 30),
        (_document(cpu={"kind": "tdx", "quote": ""}), "bundle-members", 30),
        (_document(cpu={"kind": "sgx", "quote": ""}), "cpu-evidence-kind", 20),
        (_tdx(quote=_too_long(MAX_QUOTE_BYTES)), "bundle-too-large", 30),
        (_tdx(event_log=_too_long(MAX_EVENT_LOG_BYTES)), "bundle-too-large", 30),
        (_tdx(quote=None), "bundle-base64", 30),
        (_document(cpu={**AZURE, "pcrs": "AAAA"}), "bundle-truncated", 30),
        (_document(cpu={**AZURE, "pcrs": _too_long(24 * 32)}), "bundle-too-large", 30),
        (_document(cpu={**AZURE, "hcl_report": _too_long(2600)}), "bundle-too-large", 30),
        (_document(cpu={**AZURE, "quote": _too_long(1024)}), "bundle-too-large", 30),
        (_document(cpu={**AZURE, "signature": _too_long(512)}), "bundle-too-large", 30),
        (_document(cpu={**AZURE, "event_log": None}), "bundle-members", 30),
        (_document(cpu=AZURE, collateral=dict.fromkeys(("snp", "tdx", "nvidia"))), "bundle-members", 30),
        (_nvidia(rims=[]), "bundle-members", 30),
        (_nvidia(rims={"a/b": ""}), "bundle-members", 30),
        (_nvidia(rims={"": ""}), "bundle-members", 30),
        (_nvidia(rims={f"R{number}": "" for number in range(129)}), "bundle-members", 30),
        (_nvidia(rims={"A": _too_long(MAX_RIM_BYTES)}), "bundle-too-large", 30),
        (_nvidia(ocsp={}), "bundle-members", 30),
        (_nvidia(ocsp=[""] * 129), "bundle-members", 30),
        (_nvidia(ocsp=[_too_long(MAX_OCSP_BYTES)]), "bundle-too-large", 30),
        (_nvidia(more=1), "bundle-members", 30),
        (_document(cpu={"kind": "snp", "report": "", "more": ""}), "bundle-members", 30),
        (_document(cpu={"report": ""}), "bundle-members", 30),
        (_document(cpu=[]), "bundle-members", 30),
        (_document(collateral={}), "bundle-members", 30),
        (_document(collateral={"snp": SNP}), "bundle-members", 30),
        (_document(collateral={"snp": SNP, "tdx": {}, "nvidia": None}), "tdx-collateral-members", 30),
        (
            _document(collateral={"snp": SNP, "tdx": TDX.as_members(), "nvidia": None}),
            "bundle-not-canonical",
            30,
        ),
        (_document(collateral={"snp": None, "tdx": None, "nvidia": None}), "bundle-members", 30),
        (_snp(more=""), "bundle-members", 30),
        (_snp(leaf=1), "bundle-base64", 30),
        (_snp(crl=1), "bundle-base64", 30),
        (_snp(ark="bGVhZh=="), "bundle-base64", 30),
        (_snp(ark="bGVhZg"), "bundle-base64", 30),
        (_snp(ark="bGVh\nZg=="), "bundle-base64", 30),
        (_snp(ark="bGVhZg==="), "bundle-base64", 30),
        (_snp(ark="\u0660GVh"), "bundle-base64", 30),
        (_document(statement="-_-_"), "bundle-base64", 30),
        (_document(keyset=None), "bundle-base64", 30),
        (_document(cpu={"kind": "snp", "report": _too_long(MAX_REPORT_BYTES)}), "bundle-too-large", 30),
        (_snp(leaf=_too_long(MAX_CERTIFICATE_BYTES)), "bundle-too-large", 30),
        (_snp(intermediate=_too_long(MAX_CERTIFICATE_BYTES)), "bundle-too-large", 30),
        (_snp(ark=_too_long(MAX_CERTIFICATE_BYTES)), "bundle-too-large", 30),
        (_snp(crl=_too_long(MAX_CRL_BYTES)), "bundle-too-large", 30),
        (BUNDLE.serialise() + b"\n", "bundle-not-canonical", 30),
        (json.dumps(DOCUMENT).encode(), "bundle-not-canonical", 30),
        (json.dumps(DOCUMENT, indent=2, sort_keys=True).encode(), "bundle-not-canonical", 30),
        (BUNDLE.serialise().replace(b"keyset", b"\\u006beyset"), "bundle-not-canonical", 30),
        (
            BUNDLE.serialise().replace(b'"tokens":[]', b'"tokens":[],"tokens":[]'),
            "bundle-duplicate-member",
            30,
        ),
        (BUNDLE.serialise() + b"x", "bundle-not-json", 30),
        (BUNDLE.serialise()[:-1], "bundle-not-json", 30),
        (b" " * MAX_BUNDLE_BYTES + b" ", "bundle-too-large", 30),
        (b"[" * 100_000, "bundle-too-deep", 30),
        (_document(tokens=1).replace(b'"tokens":1', b'"tokens":NaN'), "bundle-bad-number", 30),
        (b"\xff\xfe", "bundle-not-json", 30),
    ],
)
def test_refuses(document: bytes, code: str, exit_code: int) -> None:
    """Everything that ``serialise`` would not have written is refused, each by its own code."""
    with pytest.raises(Refused) as refusal:
        Bundle.parse(document)
    assert (refusal.value.code, refusal.value.exit_code) == (code, exit_code)


def test_the_longest_parts_are_read() -> None:
    """Every bound is the documented one, and belongs to what is accepted."""
    gpu = GpuEvidence("HOPPER", bytes(16 * 1024), bytes(64 * 1024))
    longest = Bundle(
        b"statement",
        b"keyset",
        SnpEvidence(bytes(4096), SnpCollateral(*(bytes(16 * 1024) for _ in range(3)), bytes(256 * 1024))),
        (DeviceEvidence.of(255, gpu),),
        NvidiaCollateral({"R" * 160: bytes(128 * 1024)}, (bytes(8 * 1024),)),
        (VerdictToken("maa", bytes(256 * 1024)), VerdictToken("nras", b"")),
    )
    tdx = Bundle(b"", b"", TdxEvidence(bytes(16 * 1024), TDX, bytes(512 * 1024)))
    pcrs = tuple(bytes([place]) * 32 for place in range(24))
    azure = AzureSnpEvidence(bytes(2600), TpmQuote(bytes(1024), bytes(512), pcrs), SnpCollateral(None))
    for bundle in (longest, tdx, Bundle(b"", b"", azure)):
        assert Bundle.parse(bundle.serialise()) == bundle


def test_the_longest_lists_are_read() -> None:
    """Sixty-four devices, two manifests for each, 128 answers."""
    devices = tuple(DeviceEvidence.of(index, GpuEvidence("HOPPER", b"", b"")) for index in range(64))
    pool = NvidiaCollateral({f"R{number:03}": b"" for number in range(128)}, (b"",) * 128)
    most = Bundle(b"", b"", SnpEvidence(b"", SnpCollateral(None)), devices, pool)
    assert Bundle.parse(most.serialise()) == most
    with pytest.raises(Refused, match="bundle-devices"):
        replace(most, devices=(*devices, DeviceEvidence.of(64, GpuEvidence("HOPPER", b"", b""))))
    with pytest.raises(Refused, match="bundle-members"):
        Bundle.parse(_nvidia(rims={"R" * 161: ""}))


def test_parts_are_counted_before_they_are_read() -> None:
    """131072 commas and brackets; one more, of whichever kind, is too many."""
    for parts in (b"," * 131072, b"[" * 131072, b"{" * 131072, b",[" * 65535 + b"{,"):
        with pytest.raises(Refused) as refusal:
            Bundle.parse(parts)
        assert refusal.value.code != "bundle-members"
        with pytest.raises(Refused, match="bundle-members"):
            Bundle.parse(parts + b",")


def test_every_flipped_bit_of_the_document_changes_a_part() -> None:
    """No two encodings of one bundle."""
    data = BUNDLE.serialise()
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            assert Bundle.parse(bytes(flipped)) != BUNDLE
        except Refused:
            continue


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_fuzz_tail(data: bytes) -> None:
    """Only refusals leave the parser, whatever replaces the tail of a good document."""
    good = BUNDLE.serialise()
    for document in (data, good[: len(good) // 2] + data, good + data):
        if document != good:
            with pytest.raises(Refused):
                Bundle.parse(document)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(DOCUMENT)), json_values)
@settings(max_examples=200)
def test_fuzz_member(member: str, value: Any) -> None:
    """Any JSON value in any member: the same document back, or a refusal."""
    text = json.dumps(DOCUMENT | {member: value}, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    document = text.encode("utf-8", "surrogatepass")
    try:
        bundle = Bundle.parse(document)
    except Refused:
        return
    assert bundle.serialise() == document


def test_repr_holds_sizes_only() -> None:
    """Evidence names a machine; logs get sizes."""
    assert repr(BUNDLE) == (
        "Bundle(statement 9 bytes, keyset 6 bytes, SnpEvidence(report 6 bytes, "
        "SnpCollateral(leaf 4 bytes, intermediate 3 bytes, crl 3 bytes)), 0 devices)"
    )
