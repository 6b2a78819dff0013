"""``sealgate verify`` on raw evidence, offline: ``--snp``, ``--tdx``, ``--nvidia``, ``--azure``, tokens.

A raw file says nothing about a runtime of ours: no statement binds it. It may be genuine, and with reference
values (``--policy``) of the kind that is accepted; no data can be sent on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from rich.markup import escape

from attest.checks import Check, CheckList
from attest.reference import ReferenceValues
from attest.refusal import Refused
from attest.trust import HARDWARE_ONLY, TrustRoots
from gateway.cli.check_table import render_checks
from gateway.cli.failure import Failure
from gateway.cli.output import Output
from gateway.cli.verify.inputs import load, moment_of, usage
from gateway.cli.verify.raw_azure import judge_azure
from gateway.cli.verify.raw_cpu import judge_quote, judge_report
from gateway.cli.verify.raw_gpu import judge_devices
from gateway.cli.verify.raw_options import RawFiles
from gateway.cli.verify.raw_task import Found, Task
from gateway.cli.verify.raw_token import judge_maa, judge_nras
from gateway.cli.verify.show import end_document, end_fact, refusal_document, show_refusal

_JUDGES: Final[Mapping[str, Callable[[Task], Found]]] = {
    "azure": judge_azure,
    "snp": judge_report,
    "tdx": judge_quote,
    "nvidia": judge_devices,
    "nras": judge_nras,
    "maa": judge_maa,
}
_TOKENS: Final = frozenset({"nras", "maa"})


@dataclass(frozen=True)
class RawResult:
    """What a raw file turned out to be.

    Args:
        checks: the rows.
        found: what it is and says; None if it was refused.
        appraised: whether reference values were asked.
        refusal: how it was refused, or None.
    """

    checks: tuple[Check, ...]
    found: Found | None
    appraised: bool
    refusal: Refused | None = None


def verify_raw(
    files: RawFiles,
    output: Output,
    *,
    at: str | None,
    trust: Path | None,
    policy: Path | None,
    full: bool = False,
) -> None:
    """Judge one raw piece of evidence and print the tree of checks.

    Args:
        files: what to judge.
        output: where to print.
        at: RFC 3339 moment to judge by; None is now.
        trust: trust file; None is every vendor's pinned roots, and no mock.
        policy: reference values whose table of the kind judges it; None asks only whether it is genuine.
        full: everything about every check.

    Raises:
        Failure: with exit code 10, 20 or 30 if it is refused; 2 for options that do not fit.
        Malformed: if the trust file or the reference values are.
    """
    now = moment_of(at)
    roots = HARDWARE_ONLY if trust is None else load(TrustRoots.load, trust, "trust file")
    reference = None if policy is None else load(ReferenceValues.load, policy, "reference values")
    result = judge_raw(files, roots, reference, now)
    if output.as_json:
        output.document(_as_document(result, now))
    else:
        _show(result, output, now, full)
    if result.refusal is not None:
        raise Failure("", code=result.refusal.code, exit_code=result.refusal.exit_code)


def judge_raw(
    files: RawFiles, roots: TrustRoots, reference: ReferenceValues | None, now: datetime
) -> RawResult:
    """Verify, and appraise if there are reference values; a refusal is an answer here, not an exception.

    Raises:
        Failure: usage, for options that do not fit.
    """
    kind = files.kind
    if kind is None:
        raise usage(
            "nothing to verify", "name a URL, a bundle, or raw evidence: see 'sealgate verify --help'"
        )
    if kind in _TOKENS and reference is not None:
        # Reference values hold a token against evidence beside it; alone, it would be judged by nothing.
        raise usage("--policy judges CPU and GPU evidence", f"--{kind} is judged by its options")
    task = Task(files, roots, reference, now, CheckList())
    try:
        with task.checks.explaining():
            found = _JUDGES[kind](task)
    except Refused as refusal:
        return RawResult(refusal.checks, None, reference is not None, refusal)
    return RawResult(task.checks.rows, found, reference is not None)


def _as_document(result: RawResult, now: datetime) -> dict[str, Any]:
    document: dict[str, Any] = {
        "ok": result.refusal is None,
        "judged_at": now.isoformat(),
        "appraised": result.appraised,
        "ends_first": end_document(result.checks),
        "checks": [check.as_dict() for check in result.checks],
        "facts": {},
    }
    if result.found is not None:
        document["mock"] = result.found.is_mock
        document["facts"] = result.found.facts
    if result.refusal is not None:
        document["refusal"] = refusal_document(result.refusal)
    return document


def _show(result: RawResult, output: Output, now: datetime, full: bool) -> None:
    output.stdout.print(render_checks(result.checks, output, now=now, full=full))
    output.say()
    if result.refusal is not None:
        show_refusal(result.refusal, output)
        return
    found = result.found or Found(frozenset(), {})
    if found.is_mock:
        output.say("[mock] MOCK [/] made by software: it protects nothing from the machine that it runs on")
    good, dash = output.symbols.good, output.symbols.dash
    if result.appraised:
        output.say(f"[good]{good} genuine and accepted[/] {dash} by the reference values; binds no statement")
    else:
        output.say(f"[good]{good} genuine[/] {dash} not appraised: --policy says what is accepted")
    output.facts(
        [*end_fact(result.checks, now), *((name, escape(value)) for name, value in found.facts.items())]
    )
