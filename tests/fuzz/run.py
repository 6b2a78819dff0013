"""Fuzz one target with atheris: ``python -m tests.fuzz.run TARGET CORPUS [libFuzzer options]``.

The corpus folder is filled with the target's seeds, and libFuzzer adds what reaches new code. A crash leaves
``crash-*`` in the folder named by ``-artifact_prefix``; move it to ``tests/fuzz/regressions/TARGET/``.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["attest"]):
    from tests.fuzz.measured import execute
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Fill the corpus and hand over to libFuzzer, which ends the process."""
    target, corpus = TARGETS[sys.argv[1]], Path(sys.argv[2])
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds():
        if len(seed) <= target.max_bytes:
            execute(target, seed)  # fills caches of the mock vendors before memory is watched
            (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)

    def one_input(data: bytes) -> None:
        execute(target, data)

    atheris.Setup([sys.argv[0], f"-max_len={target.max_bytes}", *sys.argv[3:], str(corpus)], one_input)
    atheris.Fuzz()


main()
