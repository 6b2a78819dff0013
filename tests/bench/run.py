"""Run every benchmark of this folder in turn; JSON to build/bench, one file each.

python -m tests.bench.run [NAME ...]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
OUT = FOLDER.parent.parent / "build" / "bench"


def main() -> int:
    """Run those named, or all; the exit code counts the ones that did not run."""
    names = sys.argv[1:] or sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))
    OUT.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in names:
        print(f"== {name}", flush=True)
        with (OUT / f"{name}.json").open("w") as file:
            done = subprocess.run(
                [sys.executable, "-m", f"tests.bench.bench_{name}"], stdout=file, check=False
            )
        print((OUT / f"{name}.json").read_text())
        failed += done.returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
