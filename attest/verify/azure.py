"""Is this an Azure confidential VM, and did it boot as it should?

From the hardware to the boot in three signatures: the chip signs a report whose REPORT_DATA is the digest of
the paravisor's runtime claims, these name the vTPM's attestation key, and that key signs a quote over the
PCRs and our nonce. The hardware report is made at boot, so freshness comes from the quote alone.

``verify_azure_cvm`` walks the whole way on SEV-SNP, ``verify_azure_snp`` as far as the evidence itself goes:
what was asked and how it should have booted are then for whoever takes its word. On TDX the hardware report
inside the HCL report cannot be verified from afar; there the caller verifies a TD quote and hands its
REPORTDATA to ``verify_azure_vtpm``.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from attest.checks import CheckList
from attest.collateral.snp import SnpCollateral, SnpRoots
from attest.evidence.hcl import CLAUSE, HclReport, RuntimeClaims
from attest.evidence.tpm import DIGEST_SIZE, MAX_EXTRA_DATA, PCR_COUNT, QuoteFacts, TpmQuote
from attest.refusal import Malformed, Refused, Unsupported
from attest.verify.jwk_set import rsa_public_key
from attest.verify.snp import VerifiedSnp, verify_snp

QUOTE_CLAUSE: Final = "TPM 2.0 part 3, TPM2_Quote"
_KEY_BITS: Final = 2048


@dataclass(frozen=True, slots=True)
class PcrPolicy:
    """Which values PCRs must have. An empty policy would accept every boot, so there is none.

    Args:
        allowed: index to the accepted values, 32 bytes each.

    Raises:
        Malformed: ``azure-pcr-policy``.
    """

    allowed: Mapping[int, frozenset[bytes]]

    def __post_init__(self) -> None:
        right = all(
            index in range(PCR_COUNT) and values and all(len(value) == DIGEST_SIZE for value in values)
            for index, values in self.allowed.items()
        )
        if not self.allowed or not right:
            raise Malformed(
                "azure-pcr-policy", "no PCR, or one without values of 32 bytes", clause=QUOTE_CLAUSE
            )
        object.__setattr__(self, "allowed", MappingProxyType(dict(self.allowed)))


@dataclass(frozen=True, slots=True)
class VerifiedVtpm:
    """A vTPM that hardware vouches for, and what it quoted. Made in this module only.

    Args:
        runtime: the paravisor's claims, now the hardware's word.
        pcrs: the quoted PCRs, index to value.
        nonce: what the quote carries.
    """

    runtime: RuntimeClaims
    pcrs: Mapping[int, bytes] = field(repr=False)
    nonce: bytes


@dataclass(frozen=True, slots=True)
class VerifiedAzureSnp:
    """A genuine Azure VM on SEV-SNP. Made in this module only.

    Args:
        snp: the hardware report: facts, vendor, firmware, and until when.
        vtpm: the paravisor's claims and the boot.
    """

    snp: VerifiedSnp
    vtpm: VerifiedVtpm


def verify_azure_cvm(
    hcl_report: bytes,
    tpm_quote: TpmQuote,
    collateral: SnpCollateral,
    roots: SnpRoots,
    *,
    nonce: bytes | None,
    pcr_policy: PcrPolicy,
    now: datetime,
    checks: CheckList,
) -> VerifiedAzureSnp:
    """Judge an Azure VM on SEV-SNP. What the hardware report says is for the appraisal, as everywhere.

    Args:
        hcl_report: from the vTPM's NV index.
        tpm_quote: over the PCRs and our nonce.
        collateral: of the hardware report; nothing in it is trusted.
        roots: what the report's chain may end in.
        nonce: what the quote must carry, at most 64 bytes; ``None`` for saved evidence, which proves no
            freshness.
        pcr_policy: how it must have booted.
        now: time of verification, aware.
        checks: gets one row per step, up to and including one that refuses.

    Raises:
        Unsupported: ``azure-tdx-quote`` for a TDX report, ``hcl-*``, ``tpm-*``, ``snp-*``.
        Malformed: ``hcl-*``, ``tpm-*``, ``snp-*``: not instances of their formats.
        Refused: ``azure-*``, and what ``verify_snp`` refuses.
    """
    verified = verify_azure_snp(hcl_report, tpm_quote, collateral, roots, now=now, checks=checks)
    _require_answer(verified.vtpm, nonce, pcr_policy, checks)
    return verified


def verify_azure_snp(
    hcl_report: bytes,
    tpm_quote: TpmQuote,
    collateral: SnpCollateral,
    roots: SnpRoots,
    *,
    now: datetime,
    checks: CheckList,
) -> VerifiedAzureSnp:
    """Judge whether evidence is a genuine Azure VM's, whatever it was asked and however it booted.

    Raises:
        Unsupported: as ``verify_azure_cvm``, whose arguments these are.
        Malformed: as ``verify_azure_cvm``.
        Refused: ``azure-vmpl``, ``azure-runtime-binding``, ``azure-attestation-key``,
            ``azure-quote-signature``, ``azure-pcr-digest``, and what ``verify_snp`` refuses.
    """
    # 1. The paravisor's report has its form and holds a report that can be verified from afar.
    with checks.step("HCL report format", CLAUSE):
        hcl = HclReport.parse(hcl_report)
        if hcl.kind != "snp":
            raise Unsupported(
                "azure-tdx-quote",
                CLAUSE,
                expected="a SEV-SNP report",
                got="a TDREPORT, which needs a TD quote",
            )
        checks.passed("HCL report format", CLAUSE, got=f"version {hcl.version}, {hcl.kind}")

    # 2. The hardware report is genuine.
    snp = verify_snp(hcl.hardware_report, collateral, roots, now=now, checks=checks)

    # 3. The paravisor asked for it. Above VMPL 0 the guest itself may ask, over whatever key it likes.
    with checks.step("HCL privilege level", CLAUSE):
        checks.require(
            snp.report.vmpl == 0,
            "azure-vmpl",
            "HCL privilege level",
            CLAUSE,
            expected="VMPL 0, the paravisor's",
            got=f"VMPL {snp.report.vmpl}",
        )

    # 4. It vouches for the vTPM's key, and that for the boot.
    return VerifiedAzureSnp(snp, _vouched(hcl, tpm_quote, snp.report.report_data, checks))


def verify_azure_vtpm(
    hcl: HclReport,
    tpm_quote: TpmQuote,
    *,
    hardware_report_data: bytes,
    nonce: bytes | None,
    pcr_policy: PcrPolicy,
    checks: CheckList,
) -> VerifiedVtpm:
    """Go from a verified hardware report to the boot.

    Args:
        hcl: the paravisor's report.
        tpm_quote: over the PCRs and our nonce.
        hardware_report_data: the 64 bytes of REPORT_DATA from a hardware report, or TD quote, that the caller
            has verified; never from ``hcl`` itself.
        nonce: what the quote must carry, or ``None``.
        pcr_policy: how it must have booted.
        checks: gets one row per step.

    Raises:
        Unsupported: ``tpm-quote-bank``.
        Malformed: ``hcl-runtime*``, ``tpm-*``, ``jwks-*``.
        Refused: ``azure-runtime-binding``, ``azure-attestation-key``, ``azure-quote-signature``,
            ``azure-pcr-digest``, ``azure-quote-nonce``, ``azure-pcr-unquoted``, ``azure-pcr``.
    """
    vtpm = _vouched(hcl, tpm_quote, hardware_report_data, checks)
    _require_answer(vtpm, nonce, pcr_policy, checks)
    return vtpm


def require_boot(vtpm: VerifiedVtpm, policy: PcrPolicy, checks: CheckList) -> None:
    """Require that the VM booted as it should.

    Raises:
        Refused: ``azure-pcr-unquoted``, ``azure-pcr``.
    """
    with checks.step("vTPM PCRs", QUOTE_CLAUSE):
        _require_policy(vtpm.pcrs, policy)
        wanted = ", ".join(map(str, sorted(policy.allowed)))
        checks.passed("vTPM PCRs", QUOTE_CLAUSE, expected=f"accepted values in PCR {wanted}", got="accepted")


def _vouched(
    hcl: HclReport, tpm_quote: TpmQuote, hardware_report_data: bytes, checks: CheckList
) -> VerifiedVtpm:
    # 1. The hardware vouches for the runtime claims.
    with checks.step("HCL runtime claims", CLAUSE):
        checks.require(
            hmac.compare_digest(hardware_report_data, hcl.report_data),
            "azure-runtime-binding",
            "HCL runtime claims",
            CLAUSE,
            expected=f"REPORT_DATA {hcl.report_data.hex()}",
            got=hardware_report_data.hex(),
        )
        runtime = hcl.runtime_claims()

    # 2. The key that they name signed the quote.
    with checks.step("vTPM quote signature", QUOTE_CLAUSE):
        _verify_signature(runtime, tpm_quote)
        facts = QuoteFacts.parse(tpm_quote.message)
        checks.passed("vTPM quote signature", QUOTE_CLAUSE, expected="RSASSA by HCLAkPub", got="signed by it")

    # 3. The PCR values are the quoted ones.
    with checks.step("vTPM PCR digest", QUOTE_CLAUSE):
        quoted = _quoted_pcrs(facts, tpm_quote)
        checks.passed(
            "vTPM PCR digest", QUOTE_CLAUSE, expected=facts.pcr_digest.hex(), got="that of the values"
        )
    return VerifiedVtpm(runtime, MappingProxyType(quoted), facts.extra_data)


def _require_answer(vtpm: VerifiedVtpm, nonce: bytes | None, policy: PcrPolicy, checks: CheckList) -> None:
    with checks.step("vTPM quote nonce", QUOTE_CLAUSE):
        _require_nonce(vtpm.nonce, nonce, checks)
    require_boot(vtpm, policy, checks)


def _verify_signature(runtime: RuntimeClaims, quote: TpmQuote) -> None:
    key = rsa_public_key(runtime.attestation_key)
    if key.key_size != _KEY_BITS:
        raise Refused(
            "azure-attestation-key", CLAUSE, expected=f"RSA of {_KEY_BITS} bits", got=f"{key.key_size} bits"
        )
    try:
        key.verify(quote.signature, quote.message, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature as error:
        raise Refused(
            "azure-quote-signature",
            QUOTE_CLAUSE,
            expected="a signature by HCLAkPub",
            got="a signature that does not verify",
        ) from error


def _require_nonce(carried: bytes, nonce: bytes | None, checks: CheckList) -> None:
    if nonce is None:
        checks.noted("vTPM quote nonce", QUOTE_CLAUSE, expected="our nonce", got="none was asked for")
        return
    if not 0 < len(nonce) <= MAX_EXTRA_DATA:
        raise ValueError(f"a quote carries 1 to {MAX_EXTRA_DATA} bytes")
    checks.require(
        hmac.compare_digest(carried, nonce),
        "azure-quote-nonce",
        "vTPM quote nonce",
        QUOTE_CLAUSE,
        expected=nonce.hex(),
        got=carried.hex(),
    )


def _quoted_pcrs(facts: QuoteFacts, quote: TpmQuote) -> dict[int, bytes]:
    if len(quote.pcrs) != PCR_COUNT or any(len(value) != DIGEST_SIZE for value in quote.pcrs):
        raise Malformed("tpm-pcrs", f"not {PCR_COUNT} values of {DIGEST_SIZE} bytes", clause=QUOTE_CLAUSE)
    quoted = {index: quote.pcrs[index] for index in facts.selected}
    digest = hashlib.sha256(b"".join(quoted.values())).digest()
    if not hmac.compare_digest(digest, facts.pcr_digest):
        raise Refused(
            "azure-pcr-digest",
            QUOTE_CLAUSE,
            expected=f"PCRs of digest {facts.pcr_digest.hex()}",
            got=digest.hex(),
        )
    return quoted


def _require_policy(quoted: Mapping[int, bytes], policy: PcrPolicy) -> None:
    for index, values in sorted(policy.allowed.items()):
        if index not in quoted:
            raise Refused("azure-pcr-unquoted", QUOTE_CLAUSE, expected=f"PCR {index} quoted", got="left out")
        if quoted[index] not in values:
            raise Refused(
                "azure-pcr",
                QUOTE_CLAUSE,
                expected=f"PCR {index}: {' or '.join(sorted(value.hex() for value in values))}",
                got=quoted[index].hex(),
            )
