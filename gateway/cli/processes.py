"""Child processes: start, wait until ready, watch, end.

A child is another ``sealgate`` process that prints one JSON line ``{"ready": true, ...}`` on standard output
when it listens. Everything else it prints goes to its log file. Children run in process groups of their
own, so that Ctrl-C reaches them through us and in the right order, and only processes started here are
ever ended.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Any, NoReturn, Self

from gateway.cli.failure import Exit, Failure

GRACE_S = 8.0
"""How long a child may take to end after SIGTERM before it is killed."""
TAIL_LINES = 15
_TAIL_BYTES = 16 * 1024
_MAX_READY_LINE = 64 * 1024
_POLL_S = 0.1


class Child:
    """One child process and its log.

    Args:
        name: what people call it.
        argv: the command line.
        log: file that takes its output; opened with mode 0600 and emptied.
        env: variables to add to our own environment.
    """

    def __init__(
        self, name: str, argv: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = log
        self._ready: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        log.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            self._process = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=descriptor,
                env={**os.environ, **(env or {})},
                process_group=0,
            )
        finally:
            os.close(descriptor)
        self._reader = threading.Thread(target=self._read, name=f"{name}-output", daemon=True)
        self._reader.start()

    def __repr__(self) -> str:
        return f"Child({self.name}, pid {self.pid})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Its exit code, or None while it runs; negative is the signal that ended it."""
        return self._process.poll()

    def wait_ready(self, deadline_s: float) -> dict[str, Any]:
        """The ready line, once it comes.

        Args:
            deadline_s: seconds from now.

        Raises:
            Failure: ``child_died`` or ``child_not_ready``, with the end of the log.
        """
        end = time.monotonic() + deadline_s
        while True:
            try:
                ready = self._ready.get(timeout=_POLL_S)
            except queue.Empty:
                if time.monotonic() < end:
                    continue
                raise Failure(
                    f"the {self.name} was not ready within {deadline_s:.0f} s",
                    f"its whole log is {self.log}",
                    code="child_not_ready",
                    detail=self.tail(),
                ) from None
            if ready is None:  # end of its output
                raise self.died()
            return ready

    def died(self) -> Failure:
        """What to say about its unexpected end."""
        try:
            code = self._process.wait(GRACE_S)
            how = (
                f"ended with exit code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
            )
        except subprocess.TimeoutExpired:
            how = "closed its output without becoming ready"
        return Failure(
            f"the {self.name} {how}",
            f"the lines above are the end of its log, {self.log}",
            code="child_died",
            detail=self.tail(),
        )

    def tail(self) -> str:
        """The last lines of its log."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            lines = file.read(_TAIL_BYTES).decode("utf-8", "replace").splitlines()
        return "\n".join(lines[-TAIL_LINES:])

    def terminate(self) -> None:
        """Ask it to end; returns at once."""
        if self.exit_code is None:
            self._process.terminate()

    def stop(self, grace_s: float = GRACE_S) -> int:
        """End it: SIGTERM, and SIGKILL if it has not ended in time or the user insists.

        Returns:
            Its exit code.
        """
        self.terminate()
        try:
            self._process.wait(grace_s)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):  # a second Ctrl-C will not wait
            self._process.kill()
            self._process.wait()
        self._reader.join(grace_s)
        return int(self._process.returncode)

    def _read(self) -> None:
        output = self._process.stdout
        if output is None:  # pragma: no cover - stdout is always a pipe, see Popen above
            return
        announced = False
        with output, self.log.open("ab") as log:
            while line := output.readline(_MAX_READY_LINE):
                ready = None if announced else _ready_line(line)
                if ready is not None:
                    announced = True
                    self._ready.put(ready)
                    continue
                _append(log, line)
        self._ready.put(None)


def runtime_argv(*arguments: str) -> list[str]:
    """The enclave's command line: a separate program, which the gateway's code never imports."""
    return [sys.executable, "-m", "runtime.cli", *arguments]


def ask_runtime(*arguments: str) -> Any:
    """What the enclave's program answers to a question with ``--json``.

    Raises:
        Failure: ``runtime_failed`` with what it said, and its exit code.
    """
    ran = subprocess.run(runtime_argv(*arguments), capture_output=True, text=True, check=False)
    if ran.returncode == 0:
        return json.loads(ran.stdout)
    raise Failure(
        f"'{' '.join(('runtime', *arguments[:2]))}' failed",
        "the lines above are what it said",
        code="runtime_failed",
        exit_code=ran.returncode if ran.returncode > 0 else Exit.FAULT,
        detail="\n".join(ran.stderr.splitlines()[-TAIL_LINES:]),
    )


def become_runtime(*arguments: str) -> NoReturn:
    """Replace this process by the enclave's program."""
    sys.stdout.flush()
    sys.stderr.flush()
    argv = runtime_argv(*arguments)
    os.execv(argv[0], argv)  # noqa: S606 - our own interpreter, arguments as a list


def gateway_argv(*arguments: str) -> list[str]:
    """The gateway's command line as a process of its own."""
    return [sys.executable, "-m", "gateway.cli.main", "gateway", *arguments]


class Children:
    """Children that end together, the last started first.

    Used as a context: whatever ends the block, a signal too, ends them all.
    """

    def __init__(self) -> None:
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __iter__(self) -> Iterator[Child]:
        return iter(self._children)

    def start(
        self, name: str, argv: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None
    ) -> Child:
        """Start one more; see ``Child``."""
        child = Child(name, argv, log, env=env)
        self._children.append(child)
        return child

    def watch(self) -> None:
        """Return never; raise when a child ends by itself.

        Raises:
            Failure: ``child_died``.
        """
        while True:
            for child in self._children:
                if child.exit_code is not None:
                    raise child.died()
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """End them, newest first: who sends ends before who receives."""
        while self._children:
            self._children.pop().stop()


@contextmanager
def interruptible() -> Iterator[None]:
    """Make SIGTERM and SIGHUP unwind the block as Ctrl-C does, so that children are never left behind.

    SIGINT is in the list because a shell starts background jobs with it ignored, and Python keeps that.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ready_line(line: bytes) -> dict[str, Any] | None:
    if not line.startswith(b"{"):
        return None
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) and value.get("ready") is True else None


def _append(log: IO[bytes], line: bytes) -> None:
    log.write(line)
    log.flush()
