"""``--azure``: an Azure confidential VM, from the hardware to the boot."""

from __future__ import annotations

import re
from typing import Final

from attest.checks import CheckList
from attest.evidence.hcl import HclReport
from attest.evidence.reader import Reader
from attest.evidence.tpm import DIGEST_SIZE, MAX_EXTRA_DATA, PCR_COUNT, TpmQuote
from attest.judge.snp import judge_snp
from attest.judge.tdx import judge_tdx
from attest.verify.azure import PcrPolicy, VerifiedVtpm, verify_azure_cvm, verify_azure_vtpm
from gateway.cli.verify.inputs import nonce_bytes, usage
from gateway.cli.verify.raw_cpu import snp_collateral, snp_facts, snp_roots, tdx_facts, verified_quote
from gateway.cli.verify.raw_files import read
from gateway.cli.verify.raw_task import Facts, Found, Task

_PCR: Final = re.compile(r"([0-9]{1,2})=([0-9a-fA-F]{64})", re.ASCII)


def judge_azure(task: Task) -> Found:
    """Judge an Azure VM on SEV-SNP or, with its quote beside the report, on TDX.

    Raises:
        Failure: usage, for accepted PCR values or a nonce of another form.
        Refused: as ``verify_azure_cvm``, ``verify_azure_vtpm`` and the kind's verifier and judge do.
    """
    policy = _policy(task.files.pcrs)
    nonce = nonce_bytes(task.files.nonce)
    if nonce is not None and len(nonce) > MAX_EXTRA_DATA:
        raise usage(f"--nonce takes at most {MAX_EXTRA_DATA} bytes here", "a vTPM's quote carries no more")
    return (_on_snp if task.files.tdx is None else _on_tdx)(task, policy, nonce)


def _on_snp(task: Task, policy: PcrPolicy, nonce: bytes | None) -> Found:
    with task.checks.under("Azure VM"):
        verified = verify_azure_cvm(
            read(task.files.azure),
            _quote(task),
            snp_collateral(task),
            snp_roots(task),
            nonce=nonce,
            pcr_policy=policy,
            now=task.now,
            checks=task.checks,
        )
    task.appraise("snp", lambda accepted: judge_snp(verified.snp, accepted, task.checks))
    return Found(frozenset({verified.snp.vendor}), snp_facts(verified.snp) | _facts(verified.vtpm))


def _on_tdx(task: Task, policy: PcrPolicy, nonce: bytes | None) -> Found:
    checks: CheckList = task.checks
    with checks.under("Azure VM"):
        if task.files.collateral is None:
            raise usage("--tdx needs --collateral", "see 'sealgate verify --help'")
        hcl = HclReport.parse(read(task.files.azure))
        quote = verified_quote(task, azure_paravisor=True)
        vtpm = verify_azure_vtpm(
            hcl,
            _quote(task),
            hardware_report_data=quote.quote.report.report_data,
            nonce=nonce,
            pcr_policy=policy,
            checks=checks,
        )
    task.appraise("tdx", lambda accepted: judge_tdx(quote, None, accepted, checks))
    return Found(frozenset({quote.vendor}), tdx_facts(quote) | _facts(vtpm))


def _quote(task: Task) -> TpmQuote:
    reader = Reader(read(task.files.tpm_pcrs), "tpm-pcrs")
    pcrs = tuple(reader.take(DIGEST_SIZE) for _ in range(PCR_COUNT))
    reader.end()
    return TpmQuote(read(task.files.tpm_quote), read(task.files.tpm_signature), pcrs)


def _policy(accepted: tuple[str, ...]) -> PcrPolicy:
    values: dict[int, frozenset[bytes]] = {}
    for text in accepted:
        match = _PCR.fullmatch(text)
        if match is None or int(match[1]) >= PCR_COUNT:
            raise usage("--pcr takes INDEX=HEX", f"an index below {PCR_COUNT}, and 64 hex digits")
        index = int(match[1])
        values[index] = values.get(index, frozenset()) | {bytes.fromhex(match[2])}
    return PcrPolicy(values)


def _facts(vtpm: VerifiedVtpm) -> Facts:
    return {
        "VM": vtpm.runtime.vm_id,
        "secure boot": "on" if vtpm.runtime.secure_boot else "off",
        "quoted PCRs": ", ".join(map(str, sorted(vtpm.pcrs))),
    }
