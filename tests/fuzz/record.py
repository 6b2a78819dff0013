"""Fuzz every target and write docs/security/fuzzing.md: ``python -m tests.fuzz.record``.

Runs end at whichever comes first, executions or seconds. Results are kept in ``build/fuzz/results.json`` and
add up over calls, so a long campaign may be run in pieces; ``--fresh`` begins a new one.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tests.fuzz.targets import TARGETS

ROOT: Final = Path(__file__).resolve().parents[2]
BUILD: Final = ROOT / "build" / "fuzz"
RESULTS: Final = BUILD / "results.json"
PAGE: Final = ROOT / "docs" / "security" / "fuzzing.md"
_EXECUTED: Final = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_PROGRESS: Final = re.compile(r"^#(\d+)\t", re.MULTILINE)
_COVERED: Final = re.compile(r"cov: (\d+)")
_GRACE_SECONDS: Final = 120

HEAD: Final = """# Fuzzing

Every parser of untrusted bytes is a target in `tests/fuzz/targets.py`. A target may return or refuse
(`Refused`, `Unsupported`, `Malformed`); any other exception, more than one second of processor time for one
input, or more than 64 MiB of growth is a crash. Seeds are the genuine evidence in the shared vectors and what
the mock vendors make. Parsers behind a signature get inputs that are signed first.

    make fuzz                          # every target, FUZZ_RUNS executions or FUZZ_SECONDS each
    make fuzz FUZZ_TARGETS="rim crl" FUZZ_RUNS=1000000 FUZZ_SECONDS=600

`atheris` is not in the locks, for it has no wheels for some of the Pythons and machines that Sealgate runs
on; `make fuzz` installs `requirements/fuzz.in`. Each target also runs in the ordinary suite without it, over
its seeds, its regressions and some hundred damaged seeds (`tests/fuzz/test_fuzz_targets.py`). A crashing
input goes to `tests/fuzz/regressions/TARGET/`, where that test replays it for good.

What it found, all mended, each with a regression:

- a request token whose claims are not ASCII left the runtime with an error of text encoding;
- a manifest with a relative namespace, which has no canonical form, let the library's error out;
- a certificate with a kind of name that the library does not read (ediPartyName, x400Address) likewise;
- an archive of collateral with a number beyond 2**53, or half a surrogate pair, likewise.

Below is the last recorded campaign. "Points" are the places in `attest` that libFuzzer saw reached.
"""


def main() -> int:
    """Run the campaign; 1 if a target crashed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--runs", type=int, default=200_000)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    if RESULTS.is_file() and not options.fresh:
        results = json.loads(RESULTS.read_bytes())
    BUILD.mkdir(parents=True, exist_ok=True)
    for name in options.targets or TARGETS:
        results[name] = _added(results.get(name), _campaign(name, options.runs, options.seconds))
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        _ = sys.stdout.write(f"{name}: {results[name]}\n")
        sys.stdout.flush()
        PAGE.write_text(page(results))
    return int(any(result["crashes"] for result in results.values()))


def page(results: dict[str, Any]) -> str:
    """The document for these results."""
    lines = [
        f"| `{name}` | {result['executions']:,} | {result['seconds']:,} s | {result['points']:,} | "
        f"{result['outcome']} |"
        for name, result in sorted(results.items())
    ]
    total = sum(result["executions"] for result in results.values())
    crashed = sum(bool(result["crashes"]) for result in results.values())
    seconds = sum(result["seconds"] for result in results.values())
    last = max((result["date"] for result in results.values()), default="")
    verdict = f"{crashed} crashed" if crashed else "no crash"
    table = "\n".join(
        [
            "| target | executions | time | points | outcome |",
            "| --- | ---: | ---: | ---: | --- |",
            *lines,
            f"| **{len(results)} targets** | **{total:,}** | **{seconds:,} s** | | **{verdict}** |",
        ]
    )
    return f"{HEAD}\nEnded {last}.\n\n{table}\n"


def _campaign(name: str, runs: int, seconds: int) -> dict[str, Any]:
    artifacts = BUILD / "crashes" / name
    artifacts.mkdir(parents=True, exist_ok=True)
    before = set(artifacts.iterdir())
    command = [sys.executable, "-m", "tests.fuzz.run", name, str(BUILD / "corpus" / name)]
    command += [f"-runs={runs}", f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=4096"]
    command += [f"-artifact_prefix={artifacts}/", "-print_final_stats=1"]
    started = time.monotonic()
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=seconds + _GRACE_SECONDS, check=False
        )
        log, code = done.stdout + done.stderr, done.returncode
    except subprocess.TimeoutExpired as late:
        log, code = _text(late.stdout) + _text(late.stderr), -1
    (BUILD / f"{name}.log").write_text(log[-100_000:])
    counts = [int(match) for match in (_EXECUTED.findall(log) or _PROGRESS.findall(log))]
    crashes = sorted(path.name for path in set(artifacts.iterdir()) - before)
    if code and not crashes:
        crashes = [f"exit {code}"]
    return {
        "executions": max(counts, default=0),
        "seconds": round(time.monotonic() - started),
        "points": max((int(match) for match in _COVERED.findall(log)), default=0),
        "crashes": crashes,
        "outcome": f"{len(crashes)} crashing" if crashes else "clean",
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    }


def _added(earlier: dict[str, Any] | None, result: dict[str, Any]) -> dict[str, Any]:
    """A target's campaign so far. A crash starts the count anew: executions before its mending prove less."""
    if earlier is None or earlier["crashes"] or result["crashes"]:
        return result
    added = {name: earlier[name] + result[name] for name in ("executions", "seconds")}
    return {**result, **added, "points": max(earlier["points"], result["points"])}


def _text(output: bytes | str | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


if __name__ == "__main__":
    sys.exit(main())
