"""``sealgate runtime top`` itself: asked of a real runtime, of nobody, and of those who answer badly."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gateway.cli.failure import Exit
from gateway.cli.processes import Child
from gateway.cli.top.page import MAX_PAGE_BYTES
from tests.gateway.cli.conftest import Ran
from tests.simulators.runtime_pages import WatchedRuntime

PAGE = WatchedRuntime(tokens=2560, refusals={"engine_overloaded": 3}).page().encode()
DEADLINE_S = 60


@contextmanager
def answering(body: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> Iterator[str]:
    """The address of a server that answers so, and knows one path."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # http.server calls it so
            self.send_response(status if self.path == "/metrics" else 404)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_one_frame_and_one_document(sealgate: Callable[..., Ran]) -> None:
    with answering(PAGE) as url:
        frame = sealgate("runtime", "top", "--once", "--url", f"{url}/")
        document = sealgate("runtime", "top", "--json", "--url", url)
    assert frame.code == document.code == Exit.OK
    assert "engine_overloaded 3" in frame.out
    assert "ends" not in frame.out  # no key does anything
    assert document.document["ok"] is True
    assert document.document["url"] == url
    assert document.document["refusals"] == {"engine_overloaded": 3}
    assert document.document["generated_per_s"] == 25.6


@pytest.mark.parametrize(
    ("body", "status", "headers", "says"),
    [
        (b"", 503, {}, "status 503"),
        (PAGE, 302, {"Location": "/metrics"}, "status 302"),
        (b"<html>", 200, {}, "not a page of metrics"),
        (b"go_threads 3\n", 200, {}, "not the metrics of a runtime"),
        (b"\xff\xfe", 200, {}, "decode"),
        (b"# a\n" * (MAX_PAGE_BYTES // 4 + 1), 200, {}, "too long"),
        (b"\x1f\x8b\x08\x00", 200, {"Content-Encoding": "gzip"}, "decode"),
    ],
    ids=["status", "redirect", "html", "another", "bytes", "long", "packed"],
)
def test_what_is_not_a_runtimes_answer_is_said(
    sealgate: Callable[..., Ran], body: bytes, status: int, headers: dict[str, str], says: str
) -> None:
    with answering(body, status=status, headers=headers) as url:
        ran = sealgate("runtime", "top", "--once", "--url", url)
    assert ran.code == Exit.FAULT
    assert says in ran.err
    assert ran.out == ""


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "127.0.0.1:9", "http://[::", "ftp://x", ""])
def test_nobody_there_is_a_failure_with_a_code(sealgate: Callable[..., Ran], url: str) -> None:
    told = sealgate("runtime", "top", "--json", "--url", url)
    assert told.code == Exit.FAULT
    error = told.document["error"]
    assert (error["code"], error["exit_code"]) == ("runtime_unreachable", 1)
    assert error["message"].startswith(f"{url}: ")
    assert "hint: is this the outer address of a runtime?" in sealgate("runtime", "top", "--url", url).err


def test_a_wrong_interval_is_wrong_usage(sealgate: Callable[..., Ran]) -> None:
    assert sealgate("runtime", "top", "--interval", "0").code == Exit.USAGE


class Terminal:
    """A command in a terminal of its own, 80 by 24.

    Args:
        arguments: of ``sealgate``.
    """

    def __init__(self, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self._screen = ""
        environment = {**os.environ, "TERM": "xterm", "LANG": "C.UTF-8", "PYTHONIOENCODING": "utf-8"}
        environment.pop("NO_COLOR", None)
        self.before = termios.tcgetattr(theirs)
        self.theirs = theirs
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli.main", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
        )

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Read until the output matches; what was read is not looked at again."""
        until = time.monotonic() + DEADLINE_S
        os.set_blocking(self._ours, False)
        while time.monotonic() < until:
            if match := re.search(pattern, self._screen, re.DOTALL):
                self._screen = self._screen[match.end() :]
                return match
            try:
                self._screen += os.read(self._ours, 65536).decode(errors="replace")
            except BlockingIOError:
                time.sleep(0.02)
        raise AssertionError(f"{pattern!r} did not come in {self._screen[-2000:]!r}")

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._ours, keys.encode())

    def close(self) -> None:
        """End the command, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE_S)
        os.close(self._ours)
        os.close(self.theirs)


@contextmanager
def terminal(*arguments: str) -> Iterator[Terminal]:
    shown = Terminal(*arguments)
    try:
        yield shown
    finally:
        shown.close()


def test_a_real_runtime_is_watched_until_q(home: Path, tmp_path: Path, sealgate: Callable[..., Ran]) -> None:
    """The whole way: a runtime process, its page, a terminal; frames go on when the runtime has gone."""
    argv = [sys.executable, "-m", "runtime.cli", "serve", "--dev", "--engine", "stub", "--port", "0"]
    with Child("runtime", argv, tmp_path / "runtime.log") as runtime:
        url = f"http://127.0.0.1:{runtime.wait_ready(DEADLINE_S)['port']}"
        once = sealgate("runtime", "top", "--json", "--url", url)
        assert once.document["backend"] == "stub"
        with terminal("runtime", "top", "--interval", "0.5", "--url", url) as shown:
            shown.wait_for(r"\x1b\[\?1049h.*sealgate runtime top.*q or Ctrl-C ends.*stub, weights")
            shown.press("x")
            shown.wait_for("running / waiting")
            runtime.stop()
            shown.wait_for(r"no metrics for \d+ s.*stub, weights")
            shown.press("xq")  # both at once: the second must not get lost
            shown.wait_for(r"\x1b\[\?1049l")
            assert shown.process.wait(DEADLINE_S) == Exit.OK
            assert termios.tcgetattr(shown.theirs) == shown.before


def test_an_interrupt_gives_the_terminal_back() -> None:
    with answering(PAGE) as url, terminal("runtime", "top", "--url", url) as shown:
        shown.wait_for("generated")
        shown.process.send_signal(signal.SIGINT)
        shown.wait_for(r"\x1b\[\?1049l")
        assert shown.process.wait(DEADLINE_S) == Exit.INTERRUPTED
        assert termios.tcgetattr(shown.theirs) == shown.before
