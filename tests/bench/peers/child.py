"""A peer in a process of its own, which stands still while others are measured."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

START_S, COMMAND_S = 600.0, 180.0


class PeerFailed(Exception):
    """A peer did not answer; says why, or where its log lies."""


class Child:
    """One running peer.

    Args:
        name: for its log.
        command: starts it.
        environment: added to ours.
        logs: folder for what it prints.

    Raises:
        PeerFailed: it did not start.
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], logs: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._log = logs / f"{name.replace(' ', '-')}.log"
        if not Path(command[0]).exists():
            raise PeerFailed("its environment is not installed: make bench-peers")
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **environment},
                start_new_session=True,  # it may start processes itself, and all of them are to stand still
            )
        try:
            self.facts = self.ask({"do": "facts"}, START_S)
        except PeerFailed:
            self.end()
            raise

    def ask(self, command: Mapping[str, Any], timeout_s: float = COMMAND_S) -> Any:
        """Let it run, ask, and stop it again.

        Raises:
            PeerFailed: no answer, in time or at all.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise PeerFailed("no pipe")
        os.killpg(self._process.pid, signal.SIGCONT)
        try:
            stdin.write(json.dumps(command).encode() + b"\n")
            stdin.flush()
            if not select.select([stdout], [], [], timeout_s)[0]:
                raise PeerFailed(f"no answer to {command['do']} in {timeout_s:.0f} s")
            line = stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            raise PeerFailed(f"it ended: {self._last_words()}")
        os.killpg(self._process.pid, signal.SIGSTOP)
        return json.loads(line)

    def cpu_s(self) -> float:
        """Processor time that it and the processes it has waited for took."""
        figures = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, figures[11:15])) / os.sysconf("SC_CLK_TCK")  # proc_pid_stat(5): 14 to 17

    def end(self) -> None:
        """End it and what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _last_words(self) -> str:
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return f"{lines[-1][:200] if lines else 'it said nothing'} ({self._log})"
