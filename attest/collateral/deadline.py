"""End one HTTP exchange at its time, however slowly its bytes come.

An HTTP client's time-outs are for each read, so that a peer who sends one byte of a header now and then holds
its caller for as long as it likes. A connection that is used once may be shut down by a timer instead.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

_OPENED: Final = ("connect_tcp.complete", "start_tls.complete")


class Deadline:
    """A timer over one exchange; a context manager.

    ``opened`` is to be told the client's trace events (extension ``trace``), which carry the connection.

    Args:
        seconds: until the connection is shut down.
    """

    def __init__(self, seconds: float) -> None:
        self._connection: socket.socket | None = None
        self._guard = threading.Lock()
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self.passed = False

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()

    def opened(self, event: str, facts: Mapping[str, Any]) -> None:
        """Remember the connection of an exchange, and its TLS when that stands."""
        if event.endswith(_OPENED):
            with self._guard:
                self._connection = facts["return_value"].get_extra_info("socket")
                passed = self.passed
            if passed:
                self._end()

    def _end(self) -> None:
        with self._guard:
            self.passed = True
            if self._connection is not None:
                with contextlib.suppress(OSError):  # it is closed already
                    self._connection.shutdown(socket.SHUT_RDWR)
