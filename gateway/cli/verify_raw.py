"""``sealgate verify --snp``, ``--tdx``, ``--nvidia``, ``--nras``, ``--maa``: raw evidence, offline.

A raw file says nothing about a runtime of ours: no statement binds it. It may be genuine, and with reference
values (``--policy``) of the kind that is accepted; no data can be sent on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from attest.checks import Check, CheckList
from attest.collateral.nvidia import NvidiaRoots
from attest.collateral.snp import SnpRoots
from attest.collateral.tdx import TdxCollateral, TdxRoots
from attest.collateral.tokens import JwkSetCollateral, MaaRoots, NrasRoots
from attest.evidence.cpu import SnpCollateral
from attest.evidence.maa_claims import MaaSnp
from attest.judge.gpu import judge_gpus
from attest.judge.snp import judge_snp
from attest.judge.tdx import judge_tdx
from attest.reference import ReferenceValues
from attest.refusal import Refused
from attest.trust import HARDWARE_ONLY, MockRoots, TrustRoots
from attest.verify.gpu_set import require_one_set
from attest.verify.maa import MaaPolicy, verify_maa
from attest.verify.nras import verify_nras
from attest.verify.nvidia import verify_gpu
from attest.verify.rtmr import require_rtmrs
from attest.verify.snp import verify_snp
from attest.verify.tdx import verify_tdx
from gateway.cli.check_table import render_checks
from gateway.cli.failure import Exit, Failure
from gateway.cli.output import Output
from gateway.cli.raw_files import certificate, gpu_devices, read
from gateway.cli.verify import load, moment_of, refusal_document, show_refusal

_NO_MOCK: Final = "0" * 64
"""A digest that no certificate has: where a trust file names no mock root of a kind."""


@dataclass(frozen=True, kw_only=True)
class RawFiles:
    """What was named on the command line; exactly one of the first five.

    Args:
        snp: SEV-SNP report.
        tdx: TDX quote.
        nvidia: GPU evidence: the JSON of NVIDIA's tools, or one binary report.
        nras: answer of NVIDIA's attestation service.
        maa: token of Azure Attestation.
        leaf: VCEK or VLEK, PEM or DER.
        intermediate: ASK or ASVK; None is AMD's pinned one.
        crl: AMD's revocation list, DER.
        collateral: of a quote, JSON as dcap-qvl writes it.
        event_log: of a TD, as ACPI CCEL holds it.
        azure_paravisor: take the quote of an Azure TD under its paravisor.
        chain: of one binary GPU report, PEM.
        arch: of one binary GPU report.
        rims: golden values.
        ocsp: OCSP answers, DER.
        jwks: key set of the token's service.
        issuer: address of the instance of Azure Attestation.
        policy_hashes: accepted policies of that instance.
        tee: hardware under an Azure token: ``sevsnpvm`` or ``tdxvm``.
        nonce: hex that GPUs or service must have answered; None proves no freshness.
    """

    snp: Path | None = None
    tdx: Path | None = None
    nvidia: Path | None = None
    nras: Path | None = None
    maa: Path | None = None
    leaf: Path | None = None
    intermediate: Path | None = None
    crl: Path | None = None
    collateral: Path | None = None
    event_log: Path | None = None
    azure_paravisor: bool = False
    chain: Path | None = None
    arch: str | None = None
    rims: tuple[Path, ...] = ()
    ocsp: tuple[Path, ...] = ()
    jwks: Path | None = None
    issuer: str | None = None
    policy_hashes: tuple[str, ...] = ()
    tee: str = "sevsnpvm"
    nonce: str | None = None

    @property
    def kind(self) -> str | None:
        """The one kind of evidence that was named; None if none was.

        Raises:
            Failure: usage, if two were, or a part without its whole.
        """
        named = [kind for kind in _JUDGES if getattr(self, kind) is not None]
        if len(named) > 1:
            raise usage("one kind of evidence at a time", f"not --{' and --'.join(named)} together")
        given = {field.name for field in fields(self) if getattr(self, field.name) != field.default}
        if not named:
            if given - {"nonce"}:
                raise usage(f"--{min(given)} belongs to raw evidence", "name it: --snp, --tdx, --nvidia ...")
            return None
        for name in _NEEDS[named[0]]:
            if name not in given:
                raise usage(f"--{named[0]} needs --{name.replace('_', '-')}", "see 'sealgate verify --help'")
        return named[0]


@dataclass(frozen=True)
class RawResult:
    """What a raw file turned out to be.

    Args:
        checks: the rows.
        facts: what it says, for people; empty if it was refused.
        appraised: whether reference values were asked.
        refusal: how it was refused, or None.
    """

    checks: tuple[Check, ...]
    facts: Mapping[str, str]
    appraised: bool
    refusal: Refused | None = None


@dataclass(frozen=True)
class _Task:
    files: RawFiles
    roots: TrustRoots
    reference: ReferenceValues | None
    now: datetime
    checks: CheckList


def verify_raw(
    files: RawFiles, *, at: str | None, trust: Path | None, policy: Path | None, as_json: bool = False
) -> None:
    """Judge one raw piece of evidence and print the tree of checks.

    Args:
        files: what to judge.
        at: RFC 3339 moment to judge by; None is now.
        trust: trust file; None is every vendor's pinned roots, and no mock.
        policy: reference values whose table of the kind judges it; None asks only whether it is genuine.
        as_json: one document instead of a tree.

    Raises:
        Failure: with exit code 10, 20 or 30 if it is refused; 2 for options that do not fit.
        Malformed: if the trust file or the reference values are.
    """
    output = Output(as_json=as_json)
    now = moment_of(at)
    roots = HARDWARE_ONLY if trust is None else load(TrustRoots.load, trust, "trust file")
    reference = None if policy is None else load(ReferenceValues.load, policy, "reference values")
    result = judge_raw(files, roots, reference, now)
    if as_json:
        output.document(_as_document(result, now))
    else:
        _show(result, output, now)
    if result.refusal is not None:
        raise Failure("", code=result.refusal.code, exit_code=result.refusal.exit_code)


def judge_raw(
    files: RawFiles, roots: TrustRoots, reference: ReferenceValues | None, now: datetime
) -> RawResult:
    """Verify, and appraise if there are reference values; a refusal is an answer here, not an exception."""
    kind = files.kind
    if kind is None:
        raise usage("nothing to verify", "name a URL, a bundle, or raw evidence")
    task = _Task(files, roots, reference, now, CheckList())
    try:
        with task.checks.explaining():
            facts = _JUDGES[kind](task)
    except Refused as refusal:
        return RawResult(refusal.checks, {}, reference is not None, refusal)
    return RawResult(task.checks.rows, facts, reference is not None)


def _snp(task: _Task) -> dict[str, str]:
    files, mock = task.files, task.roots.mock or MockRoots(ark_sha256=_NO_MOCK)
    collateral = SnpCollateral(
        leaf=certificate(files.leaf),
        intermediate=certificate(files.intermediate),
        crl=None if files.crl is None else read(files.crl),
    )
    with task.checks.under("CPU"):
        verified = verify_snp(
            read(files.snp),
            collateral,
            SnpRoots(amd=task.roots.amd, mock_ark_sha256=mock.ark_sha256),
            now=task.now,
            checks=task.checks,
        )
    _appraise(task, "snp", lambda reference: judge_snp(verified, reference.snp, task.checks))
    return {
        "vendor": verified.vendor,
        "product": verified.product,
        "signing key": verified.signing_key.upper(),
        "reported firmware": str(verified.reported_tcb),
        "measurement": verified.report.measurement.hex(),
        "report data": verified.report.report_data.hex(),
    }


def _tdx(task: _Task) -> dict[str, str]:
    files, mock = task.files, task.roots.mock or MockRoots(ark_sha256=_NO_MOCK)
    log = None if files.event_log is None else read(files.event_log)
    with task.checks.under("CPU"):
        verified = verify_tdx(
            read(files.tdx),
            TdxCollateral.from_json(read(files.collateral)),
            TdxRoots(intel=task.roots.intel, mock_root_sha256=mock.tdx_root_sha256),
            now=task.now,
            checks=task.checks,
            azure_paravisor=files.azure_paravisor,
        )
        if log is not None and task.reference is None:
            require_rtmrs(verified, log, checks=task.checks)
    _appraise(task, "tdx", lambda reference: judge_tdx(verified, log, reference.tdx, task.checks))
    return {
        "vendor": verified.vendor,
        "platform status": str(verified.tcb_status),
        "advisories": ", ".join(verified.advisory_ids) or "none",
        "FMSPC": verified.fmspc.hex(),
        "MRTD": verified.quote.report.mrtd.hex(),
        "report data": verified.quote.report.report_data.hex(),
    }


def _nvidia(task: _Task) -> dict[str, str]:
    files, mock = task.files, task.roots.mock
    roots = NvidiaRoots(
        task.roots.nvidia,
        None if mock is None else mock.gpu_device_root_sha256,
        None if mock is None else mock.gpu_rim_root_sha256,
    )
    rims, answers = tuple(map(read, files.rims)), tuple(map(read, files.ocsp))
    devices = gpu_devices(read(files.nvidia), files.chain, files.arch, rims, answers)
    nonce = None if files.nonce is None else bytes.fromhex(files.nonce)
    verified = []
    for number, (evidence, collateral) in enumerate(devices):
        with task.checks.under(f"device {number}"):
            device = verify_gpu(evidence, collateral, roots, nonce=nonce, now=task.now, checks=task.checks)
            verified.append(device)
    with task.checks.under("devices"), task.checks.step("devices form one set", "NVIDIA protected PCIe"):
        require_one_set(verified)
    _appraise(task, "gpu", lambda reference: judge_gpus(verified, reference.gpu, task.checks))
    return {
        f"device {number}": f"{device.vendor} {device.chip}, driver {device.driver_version or 'none'}, "
        f"VBIOS {device.vbios_version}, mode {device.feature_flag or 'unsaid'}"
        for number, device in enumerate(verified)
    }


def _nras(task: _Task) -> dict[str, str]:
    mock = task.roots.mock
    roots = NrasRoots(task.roots.nvidia, None if mock is None else mock.nras_jwks_sha256)
    nonce = None if task.files.nonce is None else bytes.fromhex(task.files.nonce)
    with task.checks.under("NRAS"):
        verified = verify_nras(
            read(task.files.nras),
            JwkSetCollateral(read(task.files.jwks)),
            roots,
            nonce=nonce,
            now=task.now,
            checks=task.checks,
        )
    return {
        "vendor": verified.vendor,
        "nonce": verified.nonce.hex(),
        **{
            device.name: f"{device.hardware_model}, driver {device.driver_version or 'none'}, "
            f"VBIOS {device.vbios_version}"
            for device in verified.devices
        },
    }


def _maa(task: _Task) -> dict[str, str]:
    files, mock = task.files, task.roots.mock
    roots = MaaRoots(task.roots.azure, None if mock is None else mock.maa_jwks_sha256)
    policy = MaaPolicy(
        issuer=files.issuer or "",
        kind="azurevm" if files.tee.startswith("azurevm") else files.tee,  # type: ignore[arg-type]  # checked there
        tee="tdxvm" if files.tee.endswith("tdxvm") else "sevsnpvm",
        policy_hashes=frozenset(files.policy_hashes),
    )
    nonce = None if files.nonce is None else bytes.fromhex(files.nonce)
    with task.checks.under("MAA"):
        verified = verify_maa(
            read(files.maa),
            JwkSetCollateral(read(files.jwks)),
            policy,
            roots,
            nonce=nonce,
            now=task.now,
            checks=task.checks,
        )
    tee = verified.tee
    measured = tee.measurement if isinstance(tee, MaaSnp) else tee.mrtd
    return {
        "vendor": verified.vendor,
        "issuer": verified.issuer,
        "kind": verified.kind,
        "measurement": measured.hex(),
        "report data": tee.report_data.hex(),
    }


_JUDGES: Final[dict[str, Callable[[_Task], dict[str, str]]]] = {
    "snp": _snp,
    "tdx": _tdx,
    "nvidia": _nvidia,
    "nras": _nras,
    "maa": _maa,
}
_NEEDS: Final[dict[str, tuple[str, ...]]] = {
    "snp": ("leaf",),
    "tdx": ("collateral",),
    "nvidia": ("rims",),
    "nras": ("jwks",),
    "maa": ("jwks", "issuer", "policy_hashes"),
}


def _appraise(task: _Task, table: str, judge: Callable[[Any], None]) -> None:
    """Hold genuine evidence against the reference values' table of its kind."""
    reference = task.reference
    if reference is None:
        return
    with task.checks.under("appraisal"):
        clause = "docs/reference/reference-values.md"
        accepted = getattr(reference, table) is not None
        got = "a table" if accepted else "none"
        task.checks.require(
            accepted, "tee-not-accepted", f"the policy has a table [{table}]", clause, expected="one", got=got
        )
        judge(reference)
        task.checks.require(
            task.now < reference.not_after,
            "reference-expired",
            "reference in date",
            clause,
            expected=f"before {reference.not_after.isoformat()}",
            got=task.now.isoformat(),
            expires=reference.not_after,
        )


def _as_document(result: RawResult, now: datetime) -> dict[str, Any]:
    document: dict[str, Any] = {
        "ok": result.refusal is None,
        "judged_at": now.isoformat(),
        "appraised": result.appraised,
        "checks": [check.as_dict() for check in result.checks],
        "facts": dict(result.facts),
    }
    if result.refusal is not None:
        document["refusal"] = refusal_document(result.refusal)
    return document


def _show(result: RawResult, output: Output, now: datetime) -> None:
    output.stdout.print(render_checks(result.checks, output, now=now))
    output.say()
    if result.refusal is not None:
        show_refusal(result.refusal, output)
        return
    good, dash = output.symbols.good, output.symbols.dash
    if result.appraised:
        output.say(f"[good]{good} genuine and accepted[/] {dash} by the reference values; binds no statement")
    else:
        output.say(f"[good]{good} genuine[/] {dash} not appraised: --policy says what is accepted")
    output.facts(list(result.facts.items()))


def usage(message: str, hint: str) -> Failure:
    """The command was used wrongly."""
    return Failure(message, hint, code="usage", exit_code=Exit.USAGE)
