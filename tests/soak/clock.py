"""A clock that stands still while the whole soak does.

A soak may be paused for minutes (SIGSTOP to its process group, a laptop's lid). Time that its own ticker
missed is nobody's stall: a tick counts for at most twice its interval.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

TICK_S = 0.2


class ActiveClock:
    """Seconds that this process was awake.

    Args:
        clock: monotonic seconds, pauses included.
        tick_s: between two looks at it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, tick_s: float = TICK_S) -> None:
        self._clock, self._tick_s = clock, tick_s
        self._lock = threading.Lock()
        self._last = clock()
        self._active = 0.0
        self.paused_s = 0.0

    def start(self) -> ActiveClock:
        """Tick in the background until the process ends."""
        threading.Thread(target=self._run, name="active-clock", daemon=True).start()
        return self

    def now(self) -> float:
        """Awake seconds since this clock was made."""
        with self._lock:
            now = self._clock()
            elapsed, self._last = now - self._last, now
            counted = min(elapsed, 2 * self._tick_s + 1.0)  # a busy machine ticks late: that is not a pause
            self._active += counted
            self.paused_s += elapsed - counted
            return self._active

    def sleep_until(self, moment: float) -> None:
        """Return at ``moment`` of this clock, or soon after."""
        while (left := moment - self.now()) > 0:
            time.sleep(min(left, self._tick_s))

    def _run(self) -> None:
        while True:
            time.sleep(self._tick_s)
            self.now()
