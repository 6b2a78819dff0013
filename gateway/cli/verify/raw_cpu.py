"""``--snp`` and ``--tdx``: what a CPU signed."""

from __future__ import annotations

import hashlib

from attest.collateral.snp import SnpRoots
from attest.collateral.tdx import TdxCollateral, TdxRoots
from attest.evidence.certificate_table import CertificateTable
from attest.evidence.cpu import SnpCollateral
from attest.judge.snp import judge_snp
from attest.judge.tdx import judge_tdx
from attest.verify.rtmr import require_rtmrs
from attest.verify.snp import VerifiedSnp, verify_snp
from attest.verify.tdx import VerifiedTdx, verify_tdx
from gateway.cli.verify.raw_files import certificates, read
from gateway.cli.verify.raw_task import Facts, Found, Task


def judge_report(task: Task) -> Found:
    """Judge a SEV-SNP report.

    Raises:
        Refused: as ``verify_snp`` and ``judge_snp`` do, ``pem-*``, ``snp-certificate-table-*``.
    """
    with task.checks.under("CPU"):
        verified = verify_snp(
            read(task.files.snp), snp_collateral(task), snp_roots(task), now=task.now, checks=task.checks
        )
    task.appraise("snp", lambda accepted: judge_snp(verified, accepted, task.checks))
    return Found(frozenset({verified.vendor}), snp_facts(verified))


def judge_quote(task: Task) -> Found:
    """Judge a TDX quote, and the event log beside it.

    Raises:
        Refused: as ``verify_tdx``, ``require_rtmrs`` and ``judge_tdx`` do.
    """
    log = None if task.files.event_log is None else read(task.files.event_log)
    with task.checks.under("CPU"):
        verified = verified_quote(task, azure_paravisor=task.files.azure_paravisor)
        if log is not None and task.reference is None:
            require_rtmrs(verified, log, checks=task.checks)
    task.appraise("tdx", lambda accepted: judge_tdx(verified, log, accepted, task.checks))
    return Found(frozenset({verified.vendor}), tdx_facts(verified))


def verified_quote(task: Task, *, azure_paravisor: bool) -> VerifiedTdx:
    """The named quote, genuine; raises as ``verify_tdx`` does."""
    return verify_tdx(
        read(task.files.tdx),
        TdxCollateral.from_json(read(task.files.collateral)),
        TdxRoots(intel=task.roots.intel, mock_root_sha256=task.mock.tdx_root_sha256),
        now=task.now,
        checks=task.checks,
        azure_paravisor=azure_paravisor,
    )


def snp_collateral(task: Task) -> SnpCollateral:
    """The chip's certificates: those named on the command line, and from the host's table what was not.

    Raises:
        Malformed: ``pem-*``, ``snp-certificate-table-*``, ``evidence-too-large``.
    """
    files = task.files
    table = CertificateTable() if files.table is None else CertificateTable.parse(read(files.table))
    leaf, chain = certificates(files.leaf), certificates(files.intermediate)
    ark = chain[1] if len(chain) > 1 else table.ark
    # AMD's root is pinned and needs no copy; one that came along counts only if the trust file names it.
    is_mock = ark is not None and hashlib.sha256(ark).hexdigest() == task.mock.ark_sha256
    return SnpCollateral(
        leaf=leaf[0] if leaf else table.vcek or table.vlek,
        intermediate=chain[0] if chain else table.ask,
        ark=ark if is_mock else None,
        crl=table.crl if files.crl is None else read(files.crl),
    )


def snp_roots(task: Task) -> SnpRoots:
    """What the chip's chain may end in."""
    return SnpRoots(amd=task.roots.amd, mock_ark_sha256=task.mock.ark_sha256)


def snp_facts(verified: VerifiedSnp) -> Facts:
    """What a report says, for people."""
    return {
        "vendor": verified.vendor,
        "product": verified.product,
        "signing key": verified.signing_key.upper(),
        "reported firmware": str(verified.reported_tcb),
        "debugging": "allowed: its host can read the guest"
        if verified.report.policy.debug_allowed
        else "not allowed",
        "measurement": verified.report.measurement.hex(),
        "report data": verified.report.report_data.hex(),
    }


def tdx_facts(verified: VerifiedTdx) -> Facts:
    """What a quote says, for people."""
    return {
        "vendor": verified.vendor,
        "platform status": str(verified.tcb_status),
        "advisories": ", ".join(verified.advisory_ids) or "none",
        "FMSPC": verified.fmspc.hex(),
        "MRTD": verified.quote.report.mrtd.hex(),
        "report data": verified.quote.report.report_data.hex(),
    }
