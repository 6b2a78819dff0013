"""Azure confidential VMs on the mock vendor: each link from the chip to the boot, cut on its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from attest.checks import CheckList, Outcome
from attest.collateral.snp import SnpRoots
from attest.evidence.cpu import SnpCollateral
from attest.evidence.hcl import MAX_SIZE, HclReport
from attest.evidence.tpm import QuoteFacts, TpmQuote
from attest.mock.azure import MockAzureCvm, quote_message
from attest.mock.snp_report import MockLaunch
from attest.mock.vendor import MockKeys, MockVendor
from attest.refusal import Malformed, Refused, Unsupported
from attest.verify.azure import PcrPolicy, VerifiedAzureSnp, verify_azure_cvm, verify_azure_vtpm

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
NONCE = bytes(range(32))
OTHER_KEY = rsa.generate_private_key(65537, 2048)


class Bench:
    """One VM and the verifier that trusts its vendor."""

    def __init__(self, keys: MockKeys) -> None:
        self.vendor = MockVendor(keys, issued_at=NOW)
        self.cvm = MockAzureCvm(self.vendor)
        self.collateral = self.vendor.collateral(now=NOW)
        self.roots = SnpRoots(amd=False, mock_ark_sha256=self.vendor.ark_sha256)
        self.policy = PcrPolicy({index: frozenset({self.cvm.pcrs[index]}) for index in (0, 4, 7)})
        self.hcl = self.cvm.hcl_report()
        self.quote = self.cvm.quote(NONCE)

    def judge(
        self,
        hcl: bytes | None = None,
        quote: TpmQuote | None = None,
        *,
        nonce: bytes | None = NONCE,
        policy: PcrPolicy | None = None,
        roots: SnpRoots | None = None,
        collateral: SnpCollateral | None = None,
        checks: CheckList | None = None,
    ) -> VerifiedAzureSnp:
        """``verify_azure_cvm`` with what does not matter filled in."""
        return verify_azure_cvm(
            self.hcl if hcl is None else hcl,
            quote or self.quote,
            collateral or self.collateral,
            roots or self.roots,
            nonce=nonce,
            pcr_policy=policy or self.policy,
            now=NOW,
            checks=CheckList() if checks is None else checks,
        )


@pytest.fixture(scope="module")
def bench(mock_keys: MockKeys) -> Bench:
    """An honest VM."""
    return Bench(mock_keys)


def refusal(call: Callable[[], object]) -> Refused:
    """How a call refuses."""
    with pytest.raises(Refused) as caught:
        call()
    return caught.value


def test_an_honest_vm(bench: Bench) -> None:
    """All facts come out; the rows tell the whole way."""
    checks = CheckList()
    verified = bench.judge(checks=checks)
    assert verified.snp.vendor == "mock"
    assert verified.vtpm.nonce == NONCE
    assert verified.vtpm.pcrs == dict(enumerate(bench.cvm.pcrs))
    runtime = verified.vtpm.runtime
    assert (runtime.secure_boot, runtime.console_enabled, runtime.user_data) == (True, True, bytes(64))
    assert runtime.vm_id == "00000000-0000-4000-8000-000000000000"
    assert checks.expires == verified.snp.not_after
    assert {row.outcome for row in checks} == {Outcome.PASSED}
    names = [row.name for row in checks]
    assert names[0] == "HCL report format"
    assert names[-6:] == [
        "HCL privilege level",
        "HCL runtime claims",
        "vTPM quote signature",
        "vTPM PCR digest",
        "vTPM quote nonce",
        "vTPM PCRs",
    ]


def test_saved_evidence_is_noted_and_not_fresh(bench: Bench) -> None:
    """Without a nonce of ours the quote proves nothing about now, and says so."""
    checks = CheckList()
    bench.judge(nonce=None, checks=checks)
    assert [row.name for row in checks if row.outcome is Outcome.NOTED] == ["vTPM quote nonce"]


def test_another_nonce(bench: Bench) -> None:
    """An old quote, a longer and a shorter nonce refuse; one that cannot be carried is the caller's bug."""
    for nonce in (bytes(32), NONCE + b"\x00", NONCE[:-1]):
        quote = bench.cvm.quote(nonce)
        assert refusal(lambda quote=quote: bench.judge(quote=quote)).code == "azure-quote-nonce"  # type: ignore[misc]  # the default binds the loop's value
    for nonce in (b"\x01", bytes(64)):
        bench.judge(quote=bench.cvm.quote(nonce), nonce=nonce)
    for nonce in (b"", bytes(65)):
        with pytest.raises(ValueError, match="64"):
            bench.judge(nonce=nonce)


def test_runtime_claims_that_the_hardware_did_not_vouch_for(bench: Bench) -> None:
    """An attacker's own key in the claims, under the genuine report, refuses."""
    attacker = replace(bench.cvm, key=OTHER_KEY)
    genuine = HclReport.parse(bench.hcl)
    hcl = attacker.hcl_report(report_data=genuine.report_data)
    assert refusal(lambda: bench.judge(hcl, attacker.quote(NONCE))).code == "azure-runtime-binding"
    tail = genuine.report_data[:32] + b"\x01" * 32
    assert (
        refusal(lambda: bench.judge(bench.cvm.hcl_report(report_data=tail))).code == "azure-runtime-binding"
    )


@pytest.mark.parametrize("vmpl", [1, 2, 3])
def test_a_report_that_the_guest_asked_for_itself(bench: Bench, vmpl: int) -> None:
    """A guest above VMPL 0 gets genuine reports over any digest, so over its own key: refused."""
    attacker = replace(bench.cvm, launch=MockLaunch(vmpl=vmpl), key=OTHER_KEY)
    assert refusal(lambda: bench.judge(attacker.hcl_report(), attacker.quote(NONCE))).code == "azure-vmpl"


def test_a_quote_by_another_key(bench: Bench) -> None:
    """Only the key that the claims name may quote; a changed message or signature refuses."""
    quote = bench.cvm.quote(NONCE, key=OTHER_KEY)
    assert refusal(lambda: bench.judge(quote=quote)).code == "azure-quote-signature"
    for signature in (b"", bench.quote.signature[:-1], bench.quote.signature + b"\x00", bytes(256)):
        cut = replace(bench.quote, signature=signature)
        assert refusal(lambda cut=cut: bench.judge(quote=cut)).code == "azure-quote-signature"  # type: ignore[misc]  # the default binds the loop's value


def test_a_quote_signed_in_another_way(bench: Bench) -> None:
    """One scheme and one hash are accepted."""
    message = bench.quote.message
    for scheme, digest in (
        (padding.PKCS1v15(), hashes.SHA1()),  # noqa: S303 - refused is what it is for
        (padding.PKCS1v15(), hashes.SHA384()),
        (padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()),
    ):
        quote = replace(bench.quote, signature=bench.cvm.key.sign(message, scheme, digest))
        assert refusal(lambda quote=quote: bench.judge(quote=quote)).code == "azure-quote-signature"  # type: ignore[misc]  # the default binds the loop's value


def test_pcr_values_that_were_not_quoted(bench: Bench) -> None:
    """Values beside the quote count only if they are what it is over."""
    for index in range(24):
        pcrs = tuple(bytes(32) if place == index else value for place, value in enumerate(bench.cvm.pcrs))
        quote = replace(bench.quote, pcrs=pcrs)
        assert refusal(lambda quote=quote: bench.judge(quote=quote)).code == "azure-pcr-digest"  # type: ignore[misc]  # the default binds the loop's value
    swapped = (bench.cvm.pcrs[1], bench.cvm.pcrs[0], *bench.cvm.pcrs[2:])
    assert refusal(lambda: bench.judge(quote=replace(bench.quote, pcrs=swapped))).code == "azure-pcr-digest"


@pytest.mark.parametrize("count", [0, 23, 25])
def test_pcr_lists_of_another_length(bench: Bench, count: int) -> None:
    """All 24 values come along, of 32 bytes each."""
    pcrs = (bench.cvm.pcrs * 2)[:count]
    assert refusal(lambda: bench.judge(quote=replace(bench.quote, pcrs=pcrs))).code == "tpm-pcrs"
    short = (*bench.cvm.pcrs[:23], bytes(31))
    assert refusal(lambda: bench.judge(quote=replace(bench.quote, pcrs=short))).code == "tpm-pcrs"


def test_another_boot(bench: Bench) -> None:
    """A PCR of another value refuses, with which and what; one left out of the quote is not trusted."""
    for index in (0, 4, 7):
        pcrs = tuple(bytes(32) if place == index else value for place, value in enumerate(bench.cvm.pcrs))
        other = replace(bench.cvm, pcrs=pcrs)
        caught = refusal(lambda other=other: bench.judge(quote=other.quote(NONCE)))  # type: ignore[misc]  # the default binds the loop's value
        assert caught.code == "azure-pcr"
        assert f"PCR {index}" in caught.expected
        assert caught.got == bytes(32).hex()
    bench.judge(quote=bench.cvm.quote(NONCE, (0, 4, 7)))
    for selected in ((0, 4), (), (1, 2, 3)):
        quote = bench.cvm.quote(NONCE, selected)
        assert refusal(lambda quote=quote: bench.judge(quote=quote)).code == "azure-pcr-unquoted"  # type: ignore[misc]  # the default binds the loop's value


def test_several_accepted_values(bench: Bench) -> None:
    """Each PCR may have any of its values, and no other's."""
    both = frozenset({bench.cvm.pcrs[4], bytes(32)})
    bench.judge(policy=PcrPolicy({4: both}))
    assert refusal(lambda: bench.judge(policy=PcrPolicy({5: both}))).code == "azure-pcr"


@pytest.mark.parametrize(
    "allowed",
    [
        {},
        {0: frozenset()},
        {24: frozenset({bytes(32)})},
        {-1: frozenset({bytes(32)})},
        {0: frozenset({bytes(20)})},
        {0: frozenset({bytes(20), bytes(32)})},
        {0: frozenset({bytes(32)}), 24: frozenset({bytes(32)})},
    ],
)
def test_policies_that_say_nothing(allowed: dict[int, frozenset[bytes]]) -> None:
    """A policy that accepts every boot, or none of this bank, is no policy."""
    assert refusal(lambda: PcrPolicy(allowed)).code == "azure-pcr-policy"


def test_a_policy_does_not_change_afterwards() -> None:
    """The caller's mapping is copied."""
    allowed = {0: frozenset({bytes(32)})}
    policy = PcrPolicy(allowed)
    allowed.clear()
    assert list(policy.allowed) == [0]


def test_roots_and_reports_are_judged_as_everywhere(bench: Bench) -> None:
    """What ``verify_snp`` refuses, this refuses; a mock VM is nobody under AMD's roots (P8)."""
    assert refusal(lambda: bench.judge(roots=SnpRoots(amd=True))).code == "snp-root-not-trusted"
    changed = bytearray(bench.hcl)
    changed[0x20 + 0x90] ^= 1
    assert refusal(lambda: bench.judge(bytes(changed))).code == "snp-report-signature"


def test_a_tdx_report_needs_a_quote(bench: Bench) -> None:
    """A TDREPORT cannot be verified from afar; the way on is a verified TD quote's REPORTDATA."""
    raw = bench.cvm.hcl_report(kind="tdx")
    caught = refusal(lambda: bench.judge(raw))
    assert isinstance(caught, Unsupported)
    assert caught.code == "azure-tdx-quote"
    hcl = HclReport.parse(raw)
    assert hcl.tdreport_data == hcl.report_data

    def vtpm(report_data: bytes, *, nonce: bytes = NONCE) -> object:
        return verify_azure_vtpm(
            hcl,
            bench.quote,
            hardware_report_data=report_data,
            nonce=nonce,
            pcr_policy=bench.policy,
            checks=CheckList(),
        )

    vtpm(hcl.report_data)
    assert refusal(lambda: vtpm(hcl.report_data, nonce=bytes(32))).code == "azure-quote-nonce"
    assert refusal(lambda: vtpm(bytes(64))).code == "azure-runtime-binding"
    assert refusal(lambda: vtpm(hcl.report_data[:32])).code == "azure-runtime-binding"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda claims: claims | {"keys": []}, "hcl-runtime"),
        (lambda claims: claims | {"keys": claims["keys"] * 2}, "hcl-runtime"),
        (lambda claims: claims | {"keys": [claims["keys"][0] | {"kid": "HCLEkPub"}]}, "hcl-runtime"),
        (lambda claims: claims | {"keys": [claims["keys"][0] | {"kty": "EC"}]}, "hcl-runtime"),
        (
            lambda claims: claims | {"keys": claims["keys"] + [{"kid": str(n)} for n in range(8)]},
            "hcl-runtime",
        ),
        (lambda claims: claims | {"keys": {}}, "hcl-runtime"),
        (lambda claims: claims | {"keys": [claims["keys"][0] | {"e": "Aw"}]}, "jwks-key-kind"),
        (lambda claims: claims | {"keys": [claims["keys"][0] | {"n": None}]}, "jwks-base64"),
        (lambda claims: claims | {"vm-configuration": None}, "hcl-runtime"),
        (lambda claims: claims | {"vm-configuration": {}}, "hcl-runtime"),
        (
            lambda claims: claims | {"vm-configuration": claims["vm-configuration"] | {"tpm-enabled": False}},
            "hcl-runtime",
        ),
        (
            lambda claims: claims | {"vm-configuration": claims["vm-configuration"] | {"secure-boot": 1}},
            "hcl-runtime",
        ),
        (
            lambda claims: claims | {"vm-configuration": claims["vm-configuration"] | {"vmUniqueId": "\n"}},
            "hcl-runtime",
        ),
        (lambda claims: claims | {"user-data": "00"}, "hcl-runtime"),
        (lambda claims: claims | {"user-data": 0}, "hcl-runtime"),
        (lambda _: [], "hcl-runtime"),
    ],
)
def test_runtime_claims_of_another_form(bench: Bench, change: Callable[[Any], Any], code: str) -> None:
    """Even claims that hardware vouches for are read strictly."""
    hcl = bench.cvm.hcl_report(change(bench.cvm.runtime_claims()))
    assert refusal(lambda: bench.judge(hcl)).code == code


def test_a_long_attestation_key(bench: Bench) -> None:
    """VTPMs have keys of 2048 bits; another size is another thing."""
    long = replace(bench.cvm, key=rsa.generate_private_key(65537, 3072))
    assert refusal(lambda: bench.judge(long.hcl_report(), long.quote(NONCE))).code == "azure-attestation-key"


@pytest.mark.parametrize(
    ("offset", "value", "code"),
    [
        (0, b"HCLB", "hcl-magic"),
        (4, b"\x00", "hcl-version"),
        (4, b"\x03", "hcl-version"),
        (8, b"\x00", "hcl-size"),
        (0xC, b"\x01", "hcl-field"),
        (0x10, b"\x01", "hcl-reserved-not-zero"),
        (0x1F, b"\x01", "hcl-reserved-not-zero"),
        (0x4C0, b"\x00", "hcl-size"),
        (0x4C4, b"\x02", "hcl-field"),
        (0x4C8, b"\x03", "hcl-report-type"),
        (0x4CC, b"\x02", "hcl-hash"),
        (0x4D0, b"\x00", "hcl-size"),
        (0x4D0, b"\xff\xff\xff\xff", "hcl-size"),
        (0x4D4, b"[", "azure-runtime-binding"),
        (MAX_SIZE - 1, b"\x01", "hcl-reserved-not-zero"),
    ],
)
def test_headers_of_another_form(bench: Bench, offset: int, value: bytes, code: str) -> None:
    """Nothing signs the headers, so each field has one value."""
    changed = bytearray(bench.hcl)
    changed[offset : offset + len(value)] = value
    assert refusal(lambda: bench.judge(bytes(changed))).code == code


def test_sizes_that_agree_with_each_other_and_not_with_the_data(bench: Bench) -> None:
    """A length beyond the end is truncation, not a short slice."""
    changed = bytearray(bench.hcl)
    for offset, size in ((8, 0x4C0 + 20 + 5000), (0x4C0, 20 + 5000), (0x4D0, 5000)):
        changed[offset : offset + 4] = size.to_bytes(4, "little")
    assert refusal(lambda: bench.judge(bytes(changed))).code == "hcl-truncated"


def test_lengths_of_the_report(bench: Bench) -> None:
    """The NV index may be cut after the claims; not within, and nothing may follow it."""
    hcl = HclReport.parse(bench.hcl)
    end = 0x4D4 + len(hcl.runtime_json)
    bench.judge(bench.hcl[:end])
    assert refusal(lambda: bench.judge(bench.hcl[: end - 1])).code == "hcl-truncated"
    assert refusal(lambda: bench.judge(bench.hcl + b"\x00")).code == "hcl-too-large"
    for size in (0, 3, 0x20, 0x4C0):
        assert refusal(lambda size=size: bench.judge(bench.hcl[:size])).code == "hcl-truncated"  # type: ignore[misc]  # the default binds the loop's value


def test_a_tdreport_area_has_no_tail(bench: Bench) -> None:
    """The rest of the hardware area behind a TDREPORT is zero."""
    changed = bytearray(bench.cvm.hcl_report(kind="tdx"))
    changed[0x20 + 1024] = 1
    assert refusal(lambda: HclReport.parse(bytes(changed))).code == "hcl-reserved-not-zero"


def test_no_bit_of_report_or_quote_can_be_changed(bench: Bench) -> None:
    """Each bit of message, and of the report outside its hardware part, flipped on its own, refuses."""
    for place in range(len(bench.quote.message)):
        for bit in range(8):
            changed = bytearray(bench.quote.message)
            changed[place] ^= 1 << bit
            quote = replace(bench.quote, message=bytes(changed))
            assert refusal(lambda quote=quote: bench.judge(quote=quote)).code == "azure-quote-signature"  # type: ignore[misc]  # the default binds the loop's value
    for place in (*range(8), *range(12, 0x20), *range(0x4C0, MAX_SIZE, 7)):
        changed = bytearray(bench.hcl)
        changed[place] ^= 1 << (place % 8)
        if place == 4 and changed[4] in {1, 2}:
            continue
        refusal(lambda changed=changed: bench.judge(bytes(changed)))  # type: ignore[misc]  # the default binds the loop's value


GOOD_MESSAGE = quote_message(NONCE, 0x91, bytes(32))


@pytest.mark.parametrize(
    ("offset", "value", "code"),
    [
        (0, b"\x00TCG", "tpm-quote-magic"),
        (4, b"\x80\x17", "tpm-quote-type"),
        (6, b"\x00\xff", "tpm-quote-size"),
        (42, b"\x00\x41", "tpm-quote-size"),
        (92, b"\x02", "tpm-quote-clock"),
        (101, b"\x00\x00\x00\x02", "tpm-quote-bank"),
        (101, b"\x00\x00\x00\x00", "tpm-quote-bank"),
        (105, b"\x00\x04", "tpm-quote-bank"),
        (107, b"\x04", "tpm-quote-bank"),
        (111, b"\x00\x1f", "tpm-quote-size"),
        (111, b"\x00\x21", "tpm-quote-size"),
    ],
)
def test_messages_of_another_form(offset: int, value: bytes, code: str) -> None:
    """Even what the TPM's key signed is read strictly: it may sign other things than quotes."""
    assert QuoteFacts.parse(GOOD_MESSAGE).selected == (0, 4, 7)
    changed = bytearray(GOOD_MESSAGE)
    changed[offset : offset + len(value)] = value
    assert refusal(lambda: QuoteFacts.parse(bytes(changed))).code == code


def test_lengths_of_the_message() -> None:
    """Cut anywhere, or longer, it is malformed."""
    for size in range(len(GOOD_MESSAGE)):
        assert isinstance(refusal(lambda size=size: QuoteFacts.parse(GOOD_MESSAGE[:size])), Malformed)  # type: ignore[misc]  # the default binds the loop's value
    assert refusal(lambda: QuoteFacts.parse(GOOD_MESSAGE + b"\x00")).code == "tpm-quote-trailing-bytes"
    assert refusal(lambda: QuoteFacts.parse(bytes(1025))).code == "tpm-quote-too-large"


def test_a_signed_message_that_is_no_quote(bench: Bench) -> None:
    """The key signs other structures too; none of them is a quote."""
    message = GOOD_MESSAGE[:4] + b"\x80\x17" + GOOD_MESSAGE[6:]
    signature = bench.cvm.key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    quote = replace(bench.quote, message=message, signature=signature)
    assert refusal(lambda: bench.judge(quote=quote)).code == "tpm-quote-type"


def test_nothing_is_shown_that_need_not_be(bench: Bench) -> None:
    """Sizes only."""
    assert repr(bench.quote) == f"TpmQuote({len(bench.quote.message)} bytes, 24 PCRs)"
    assert hashlib.sha256(bench.hcl).hexdigest() not in repr(HclReport.parse(bench.hcl))
    assert "keys" not in repr(HclReport.parse(bench.hcl))


@settings(max_examples=80, deadline=None)
@given(data=st.binary(max_size=200), place=st.integers(0, MAX_SIZE - 1))
def test_any_bytes_only_refuse(data: bytes, place: int) -> None:
    """No bytes raise anything else."""
    for call in (HclReport.parse, QuoteFacts.parse):
        for each in (data, b"HCLA\x01\x00\x00\x00" + data, GOOD_MESSAGE[: place % 40] + data):
            try:
                call(each)
            except Refused:
                continue
            pytest.fail("random bytes were parsed")
