"""Which small changes to the verifiers does no test notice? ``python -m tests.mutation.run [MODULE ...]``.

One pytest session collects and runs the tests of ``tests/attest`` once, noting which lines of ``attest`` each
executes and how long it takes. Then, for each mutant, a forked child takes the mutant in and runs the tests
that execute the changed line, the fastest first, until one fails. Results go to
``build/mutation/results.json``, and from there with the reasons of ``survivors.toml`` to
``docs/security/mutation.md``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.mutation import report
from tests.mutation.session import MutationSession

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGES: Final = ("attest/verify", "attest/evidence", "attest/judge")
SINGLE: Final = ("attest/appraise.py", "attest/statement.py")
LEFT_OUT: Final = ("channel", "protocol", "keyrelease", "mock", "collateral", "attesters")
BIT_FLIPS: Final = "not bit_flips and not every_bit and not flipped_bit"
"""Those are killers of everything and teach nothing about a missing test; they are also the slowest."""

FAST: Final = ("--assert=plain", "--tb=no")
"""Nobody reads why a test failed."""


def main() -> int:
    """Run, and write the report; 1 if a survivor has no reason or a module is below the bar."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "modules", nargs="*", metavar="MODULE", help="attest/verify/crl.py and so on; default all"
    )
    parser.add_argument("--report-only", action="store_true")
    parser.add_argument(
        "--again",
        action="store_true",
        help="of modules that have not changed since, only survivors without a reason",
    )
    parser.add_argument(
        "--tests",
        nargs="+",
        metavar="PATH",
        default=["tests/attest"],
        help="only these: quicker, and what they do not notice counts as survived",
    )
    options = parser.parse_args()
    if not options.report_only:
        modules = [ROOT / module for module in options.modules or _all_modules()]
        traced = [ROOT / module for module in _all_modules()]
        session = MutationSession(modules, traced, again=options.again)
        plain = ["-q", "-s", "-p", "no:randomly", "-p", "no:cacheprovider", "--no-header", *FAST]
        ignored = [f"--ignore=tests/attest/{name}" for name in LEFT_OUT]
        code = pytest.main(
            [*plain, *options.tests, "-k", BIT_FLIPS, *ignored],
            plugins=[session],
        )
        if code:
            return int(code)
    return report.write(_all_modules())


def _all_modules() -> list[str]:
    found = [path for package in PACKAGES for path in sorted((ROOT / package).glob("*.py"))]
    return [str(path.relative_to(ROOT)) for path in found if path.name != "__init__.py"] + list(SINGLE)


if __name__ == "__main__":
    sys.exit(main())
