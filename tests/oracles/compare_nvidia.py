"""Compare verdicts with NVIDIA's local verifier: ``python -m tests.oracles.compare_nvidia PYTHON``.

``PYTHON`` is the interpreter of an environment with ``nv-local-gpu-verifier`` (see
``nvidia_local_verifier.py``). Writes docs/security/nvidia-oracle.md; ends with 1 if a difference has no
reason.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from attest.checks import CheckList
from attest.collateral.nvidia import NvidiaRoots
from attest.evidence.gpu import GpuCollateral, GpuEvidence
from attest.refusal import Refused
from attest.verify.nvidia import verify_gpu, verify_report
from attest.verify.rim import verify_rim
from tests.simulators.genuine_nvidia import COMPLETE, MARCH_2026, REPORTS, RIMS, SUMMER_2025, ReportCase

ROOT: Final = Path(__file__).resolve().parents[2]
VECTORS: Final = ROOT.parent / "shared" / "vectors" / "nvidia"
PAGE: Final = ROOT / "docs" / "security" / "nvidia-oracle.md"
ORACLE: Final = Path(__file__).with_name("nvidia_local_verifier.py")
ROOTS: Final = NvidiaRoots(nvidia=True)
OTHER_NONCE: Final = "ab" * 32
FLIPS: Final = 24

# Differences that are meant, by a part of the case's name.
REASONS: Final = {
    "hopper-580.95.05-trailing-nul": (
        "one NUL that a tool left behind the signature, outside what is signed, is allowed here (and no more)"
    ),
}

HEAD: Final = """# NVIDIA's local verifier as oracle

`tests/oracles/compare_nvidia.py` puts genuine and altered evidence to Sealgate and to NVIDIA's own
`nv-local-gpu-verifier` and compares what comes out. The oracle runs in an environment of its own and is no
dependency; how to make it is said in `tests/oracles/nvidia_local_verifier.py`. Revocation is left out on both
sides, since the oracle can only ask NVIDIA's service for it. The clock is each case's. The oracle reached its
end of support in September 2026; NVIDIA's successor is a C++ library.

| evidence | altered by | time | NVIDIA's | Sealgate | |
| --- | --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One question.

    Args:
        name: what is judged.
        change: what was done to it.
        now: time of verification, aware.
        asked: what the oracle is told.
        ours: refusal code, or empty.
    """

    name: str
    change: str
    now: datetime
    asked: dict[str, Any]
    ours: str


def main() -> int:
    """Compare, write the page."""
    cases = [*_sets(), *_reports(), *_manifests()]
    asked = json.dumps([case.asked for case in cases])
    done = subprocess.run([sys.argv[1], str(ORACLE)], input=asked, capture_output=True, text=True, check=True)
    answers = json.loads(done.stdout[done.stdout.rindex("[") :])
    lines, unexplained = [], 0
    for case, theirs in zip(cases, answers, strict=True):
        same = (theirs is True) is (case.ours == "")
        why = "" if same else _reason(case)
        unexplained += not same and not why
        verdict = "accepts" if theirs is True else f"refuses ({theirs or 'result false'})"
        lines.append(
            f"| {case.name} | {case.change or '-'} | {case.now:%Y-%m-%d} | {verdict} | "
            f"{'refuses (`' + case.ours + '`)' if case.ours else 'accepts'} | "
            f"{'same' if same else 'differs: ' + (why or '**unexplained**')} |"
        )
    agreed = sum(line.endswith("| same |") for line in lines)
    tail = f"\n{len(lines)} cases, {agreed} with the same verdict.\n"
    PAGE.write_text(HEAD + "\n".join(lines) + "\n" + tail)
    _ = sys.stdout.write(tail)
    return int(bool(unexplained))


def _reason(case: Case) -> str:
    named = f"{case.name} {case.change}"
    return next((why for part, why in REASONS.items() if part in named), "")


def _asked(what: str, now: datetime, evidence: GpuEvidence, case: ReportCase, nonce: str) -> dict[str, Any]:
    return {
        "what": what,
        "now": now.isoformat(),
        "arch": evidence.arch,
        "driver": case.driver,
        "vbios": case.vbios,
        "nonce": nonce,
        "report": base64.b64encode(evidence.report).decode(),
        "chain": base64.b64encode(evidence.certificate_chain).decode(),
    }


def _code(call: Any, *arguments: Any, **options: Any) -> str:
    try:
        call(*arguments, **options)
    except Refused as refusal:
        return refusal.code
    return ""


def _flips(data: bytes) -> list[tuple[int, bytes]]:
    """``data`` with one bit flipped, at places spread over it."""
    places = [len(data) * (2 * number + 1) // (2 * FLIPS) for number in range(FLIPS)]
    return [(place, data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]) for place in places]


def _sets() -> list[Case]:
    """The one set in which everything belongs together, and what is done to it."""
    report = REPORTS[0]
    evidence = report.read(VECTORS)
    driver = (VECTORS / COMPLETE / "driver_rim.xml").read_bytes()
    vbios = (VECTORS / COMPLETE / "vbios_rim.xml").read_bytes()
    other = (VECTORS / "hopper-535.86.09" / "vbios_rim.xml").read_bytes()
    good = (VECTORS / "rim-negative" / "good_NV_GPU_DRIVER_GH100_550.144.03.xml").read_bytes()
    chain = (VECTORS / "hopper-535.86.09" / "cert_chain.pem").read_bytes()
    nonce = evidence.report[4:36].hex()
    asked = [
        ("", SUMMER_2025, evidence, driver, vbios, nonce),
        ("time", MARCH_2026, evidence, driver, vbios, nonce),
        ("another nonce", SUMMER_2025, evidence, driver, vbios, OTHER_NONCE),
        ("another VBIOS manifest", SUMMER_2025, evidence, driver, other, nonce),
        ("another driver manifest", SUMMER_2025, evidence, good, vbios, nonce),
        ("manifests exchanged", SUMMER_2025, evidence, vbios, driver, nonce),
        (
            "another device's chain",
            SUMMER_2025,
            replace(evidence, certificate_chain=chain),
            driver,
            vbios,
            nonce,
        ),
        *(
            (
                f"bit {8 * place} of the report",
                SUMMER_2025,
                replace(evidence, report=flipped),
                driver,
                vbios,
                nonce,
            )
            for place, flipped in _flips(evidence.report)
        ),
        *(
            (f"bit {8 * place} of the driver manifest", SUMMER_2025, evidence, flipped, vbios, nonce)
            for place, flipped in _flips(driver)
        ),
    ]
    cases = []
    for change, now, each, first, second, asked_nonce in asked:
        question = _asked("gpu", now, each, report, asked_nonce)
        question |= {
            "driver_rim": base64.b64encode(first).decode(),
            "vbios_rim": base64.b64encode(second).decode(),
        }
        code = _code(
            verify_gpu,
            each,
            GpuCollateral(first, second),
            ROOTS,
            nonce=bytes.fromhex(asked_nonce),
            now=now,
            checks=CheckList(),
        )
        cases.append(Case(f"`{COMPLETE}`", change, now, question, code))
    return cases


def _reports() -> list[Case]:
    """Every genuine report of a GPU, alone."""
    cases = []
    for case in REPORTS:
        if case.arch == "LS10":
            continue  # the local verifier knows no switches
        evidence = case.read(VECTORS)
        nonce = evidence.report[4:36]
        for change, asked in (("", nonce), ("another nonce", bytes.fromhex(OTHER_NONCE))):
            code = _code(verify_report, evidence, ROOTS, nonce=asked, now=SUMMER_2025, checks=CheckList())
            question = _asked("report", SUMMER_2025, evidence, case, asked.hex())
            cases.append(Case(f"`{case}` (report)", change, SUMMER_2025, question, code))
    return cases


def _manifests() -> list[Case]:
    """Every signed manifest, alone, at the time of its case."""
    cases = []
    for case in RIMS:
        document = (VECTORS / case.file).read_bytes()
        question = {
            "what": "manifest",
            "now": case.now.isoformat(),
            "kind": "vbios" if "vbios" in case.file else "driver",
            "rim": base64.b64encode(document).decode(),
            "version": case.version or "0",
        }
        cases.append(Case(f"`{case.file}`", "", case.now, question, _code(_current, document, case.now)))
    return cases


def _current(document: bytes, now: datetime) -> None:
    verify_rim(document, ROOTS).chain.require_current("rim", now)


if __name__ == "__main__":
    sys.exit(main())
