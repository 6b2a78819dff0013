"""Keep what became of each mutant, and write docs/security/mutation.md."""

from __future__ import annotations

import hashlib
import json
import sys
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
RESULTS: Final = ROOT / "build" / "mutation" / "results.json"
REASONS: Final = Path(__file__).parent / "survivors.toml"
PAGE: Final = ROOT / "docs" / "security" / "mutation.md"
BAR: Final = 0.95

HEAD: Final = """# Mutation

Would a test notice if a check were taken out of the verifiers? `make mutation` changes them in some thousand
small ways, one at a time, and runs the tests that execute the changed line (`tests/mutation/`). Comparisons
are turned and moved by one, conditions negated, operands left out, raises and calls removed, numbers raised,
strings and codes altered, results and values replaced by nothing, `min` and `max` exchanged.

What is not changed, and why:

- what people read: docstrings, annotations, `repr`, and the words of refusals and of the rows of checks
  (clause, expected, got, role, reason, names of rows). Codes of refusals are changed: programs read them.
- decorators (sizes of caches), members of enumerations, names of types (`Literal`), and module-level calls
  (filters of warnings).

A test that computes from an imported constant keeps its value, so that for a bound it is measured whether a
test stands at the boundary. `mutmut` 3.8 was tried and not used: it leaves every decorated function alone,
which are the cached verifiers and the properties, and everything at the level of modules.

What the figures do not say:

- Only `tests/attest` is run, without the tests of the channel, the protocol, key release, collateral and
  attesters, and without those that flip every bit of some evidence: those kill everything and teach nothing
  about a missing test. A mutant that only another test would notice counts as survived.
- Of the tests that execute a changed line, tests of half a second and more are run only where there are no
  quicker ones, and no more than three seconds of tests in all; a mutant that survives may be tried again with
  four times as much of both. A property tries at most 30 examples.
- `statement.py`, `judge/runtime.py`, `evidence/spdm.py` and `evidence/rim.py` were last measured on part of
  the tests (`--tests`), as survivors of others were: what another test would notice counts as survived there.
- Each change is made alone, and is of one of the kinds above; a check that was never written is not found.

A test kills only if it fails twice, and passes in another process without the change, so that a test that
fails now and then scores nothing. Time is the processor's, not the clock's: a pause of the machine
kills no mutant.

Score = killed / (all - equivalent). A mutant that runs on for ever is killed; one that cannot even be
imported is not counted. **Equivalent** means that no input can tell the change from the original, with a
reason in `tests/mutation/survivors.toml`; a survivor that merely lacks a test counts against the score.
"""


def keep(module: str, source: str, outcomes: list[dict[str, Any]], seconds: float) -> None:
    """Add one module's outcomes to the results."""
    results = _results()
    results[module] = {
        "source_sha256": hashlib.sha256(source.encode()).hexdigest(),
        "seconds": round(seconds),
        "counts": dict(Counter(outcome["outcome"] for outcome in outcomes)),
        "survivors": [outcome for outcome in outcomes if outcome["outcome"] == "survived"],
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    counts = results[module]["counts"]
    say(f"{module}: {counts} in {seconds:.0f} s")


def untested(module: str) -> set[tuple[int, str, str]]:
    """Line, function and label of what survived in a module without a reason."""
    return {_key(each) for each in _results()[module]["survivors"] if not _why(module, each)}


def keep_again(module: str, source: str, outcomes: list[dict[str, Any]], seconds: float) -> None:
    """Replace what was said of a module's survivors by what became of them when they were tried again."""
    results = _results()
    result = results[module]
    if result["source_sha256"] != hashlib.sha256(source.encode()).hexdigest():
        say(f"{module} has changed since: run it whole")
        return
    tried = {_key(each) for each in outcomes}
    survivors = [each for each in result["survivors"] if _key(each) not in tried]
    counts = Counter(result["counts"])
    counts["survived"] = len(survivors)
    counts.update(outcome["outcome"] for outcome in outcomes)
    result["counts"] = dict(counts)
    result["survivors"] = survivors + [outcome for outcome in outcomes if outcome["outcome"] == "survived"]
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    say(f"{module}: {dict(counts)} after another {seconds:.0f} s")


def say(line: str) -> None:
    """Progress, past pytest's capture."""
    if sys.__stderr__ is not None:
        sys.__stderr__.write(f"{line}\n")
        sys.__stderr__.flush()


def write(modules: list[str]) -> int:
    """Write the page; 1 if a module is below the bar, or not measured as it is now.

    Args:
        modules: all that are to be measured.
    """
    rows, notes, below = [], [], []
    totals = Counter[str]()
    unmeasured = [module for module in modules if not is_measured(module)]
    for module, result in sorted(_results().items()):
        if module not in modules or module in unmeasured:
            continue
        counts = result["counts"]
        explained = [(each, _why(module, each)) for each in result["survivors"]]
        equivalent = [(each, why) for each, why in explained if why]
        killed = counts.get("killed", 0) + counts.get("timed out", 0)
        survived = len(explained) - len(equivalent)
        score = killed / (killed + survived) if killed + survived else 1.0
        totals.update(killed=killed, survived=survived, equivalent=len(equivalent))
        rows.append(f"| `{module}` | {killed} | {survived} | {len(equivalent)} | {score:.1%} |")
        notes += [f"- `{module}` {_shown(each)}: {why}" for each, why in equivalent]
        notes += [f"- `{module}` {_shown(each)}: **no test**" for each, why in explained if not why]
        if score < BAR:
            below.append(module)
    total = totals["killed"] / max(1, totals["killed"] + totals["survived"])
    rows.append(
        f"| **all** | **{totals['killed']}** | **{totals['survived']}** | **{totals['equivalent']}** | "
        f"**{total:.1%}** |"
    )
    head = "| module | killed | survived | equivalent | score |\n| --- | ---: | ---: | ---: | ---: |"
    table = "\n".join([head, *rows])
    parts = [HEAD, "## Scores\n", table, ""]
    if unmeasured:
        named = ", ".join(f"`{module}`" for module in unmeasured)
        parts += [f"Not measured since it was last changed: {named}.", ""]
    PAGE.write_text("\n".join([*parts, "## Survivors\n", *notes, ""]))
    return int(bool(below or unmeasured))


def is_measured(module: str) -> bool:
    """Whether the results are of a module as it is now."""
    result = _results().get(module)
    source = (ROOT / module).read_bytes()
    return result is not None and result["source_sha256"] == hashlib.sha256(source).hexdigest()


def _key(survivor: dict[str, Any]) -> tuple[int, str, str]:
    return survivor["line"], survivor["function"], survivor["label"]


@cache
def _reasons() -> dict[str, list[dict[str, Any]]]:
    return tomllib.loads(REASONS.read_text()) if REASONS.is_file() else {}


def _why(module: str, survivor: dict[str, Any]) -> str:
    for reason in _reasons().get(module, []):
        if (reason["function"], reason["label"]) == (survivor["function"], survivor["label"]) and reason.get(
            "text", survivor["text"]
        ) == survivor["text"]:
            return str(reason["why"])
    return ""


def _shown(survivor: dict[str, Any]) -> str:
    text = survivor["text"].replace("|", "\\|")
    return f"{survivor['function'] or 'module'}: `{text}` [{survivor['label']}]"


def _results() -> dict[str, Any]:
    return json.loads(RESULTS.read_bytes()) if RESULTS.is_file() else {}
