"""One execution of a target within the bounds that every parser keeps: one second, 64 MiB."""

from __future__ import annotations

import resource
import time
from typing import Final

from tests.fuzz.targets import Target

MAX_SECONDS: Final = 1.0
MAX_GROWTH_KIB: Final = 64 * 1024


class BoundExceeded(AssertionError):
    """An input cost more time or memory than any may."""


def execute(target: Target, data: bytes) -> bool:
    """Feed ``data`` to ``target``; whether it was accepted.

    Time is the process's own, so that a busy machine fails nobody; memory is the growth of its peak.

    Raises:
        BoundExceeded: it took too long, or too much.
    """
    peak, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        return target.accepts(data)
    finally:
        spent = time.process_time() - started
        growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
        if spent > MAX_SECONDS:
            raise BoundExceeded(f"{target.name}: {spent:.2f} s for {len(data)} bytes")
        if growth > MAX_GROWTH_KIB:
            raise BoundExceeded(f"{target.name}: {growth // 1024} MiB for {len(data)} bytes")
