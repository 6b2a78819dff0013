"""Ask, show, wait; until 'q' or Ctrl-C."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import httpx2
from rich.live import Live

from attest.protocol import paths
from gateway.cli.failure import Failure
from gateway.cli.output import Output
from gateway.cli.top.figures import Figures, figures
from gateway.cli.top.page import MAX_PAGE_BYTES, Page
from gateway.cli.top.view import Frame

WINDOW_S: Final = 30.0
"""Paces and quantiles are of the last so many seconds."""

RESTART_S: Final = 5.0
"""An uptime that rose by so much less than our own clock is another process's; a page stands for two."""

_TIMEOUT_S: Final = 5.0
_KEYS: Final = "q or Ctrl-C ends"


def top(url: str, *, once: bool, interval_s: float, as_json: bool) -> None:
    """Show a runtime's metrics.

    Args:
        url: of the runtime's outer address.
        once: one frame, of the time since the runtime started.
        interval_s: between two questions.
        as_json: one document instead, of the same.

    Raises:
        Failure: no answer, or not a runtime's; later than the first frame that is shown instead.
    """
    output = Output(as_json=as_json)
    # What is not compressed cannot grow on the way in.
    with httpx2.Client(
        timeout=_TIMEOUT_S, trust_env=False, headers={"Accept-Encoding": "identity"}
    ) as client:
        watched = Watched(lambda: fetch(client, url))
        if as_json or once or not output.stdout.is_terminal:
            watched.look()
            if watched.figures is None:
                raise _no_answer(url, watched.trouble)
            if as_json:
                output.document({"ok": True, "url": url, **watched.figures.as_dict()})
            else:
                output.stdout.print(Frame(url, watched.figures))
            return
        with (
            _keys() as pressed,
            Live(console=output.stdout, screen=True, auto_refresh=False) as live,
        ):
            while True:
                watched.look()
                live.update(Frame(url, watched.figures, trouble=watched.trouble, keys=_KEYS), refresh=True)
                if pressed(interval_s) == "q":
                    return


class Watched:
    """What is known of a runtime.

    Args:
        ask: gives a page; ``OSError``, ``ValueError`` or ``httpx2.HTTPError`` if there is none.
        clock: seconds, monotonic.
    """

    def __init__(self, ask: Callable[[], str], clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._clock = clock
        self._pages: deque[Page] = deque()
        self._answered = clock()
        self.figures: Figures | None = None
        self.trouble = ""

    def look(self) -> None:
        """Ask once more; if there is no answer, ``trouble`` says so and the figures stay."""
        try:
            page = Page(self._ask())
            since_start = figures(page)
        except (OSError, ValueError, httpx2.HTTPError) as error:
            self.trouble = str(error) or type(error).__name__
            if self.figures is not None:
                self.trouble = f"no metrics for {self._clock() - self._answered:.0f} s: {self.trouble}"
            return
        now = self._clock()
        if self.figures is not None:
            behind = (now - self._answered) - (since_start.up_s - self.figures.up_s)
            if behind > RESTART_S or since_start.up_s < self.figures.up_s:
                self._pages.clear()  # another process: its counters began again
            elif since_start.up_s == self.figures.up_s:
                self.trouble = ""
                return  # the same page, which stands for a while
        self._answered, self.trouble = now, ""
        self._pages.append(page)
        while len(self._pages) > 1 and since_start.up_s - _up_s(self._pages[1]) >= WINDOW_S:
            self._pages.popleft()
        self.figures = since_start if len(self._pages) == 1 else figures(page, self._pages[0])


def fetch(client: httpx2.Client, url: str) -> str:
    """A runtime's page of metrics.

    Raises:
        httpx2.HTTPError: no answer.
        ValueError: no address, another answer, or one too long or too slow.
    """
    body = bytearray()
    until = time.monotonic() + _TIMEOUT_S
    try:
        with client.stream("GET", url.rstrip("/") + paths.METRICS_PATH) as response:
            if response.status_code != httpx2.codes.OK:
                raise ValueError(f"status {response.status_code}")
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > MAX_PAGE_BYTES:
                    raise ValueError("the page is too long")
                if time.monotonic() > until:
                    raise ValueError("the page comes too slowly")
    except httpx2.InvalidURL:
        raise ValueError("this is no address") from None
    return body.decode()


def _up_s(page: Page) -> float:
    return page.value("sealgate_runtime_uptime_seconds") or 0.0


def _no_answer(url: str, trouble: str) -> Failure:
    return Failure(
        f"{url}: {trouble}",
        "is this the outer address of a runtime? --url names it",
        code="runtime_unreachable",
    )


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Waits for a key, so long at most: ``q`` if that was among them, or nobody can press one any more.

    Keys are not echoed meanwhile.
    """
    if not sys.stdin.isatty():

        def sleep(seconds: float) -> str:
            time.sleep(seconds)
            return ""

        yield sleep
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def wait(seconds: float) -> str:
        ready, _, _ = select.select([descriptor], [], [], seconds)
        if not ready:
            return ""
        # Not by sys.stdin, which would keep further keys where select does not see them.
        return "q" if (keys := os.read(descriptor, 64)) == b"" or b"q" in keys.lower() else " "

    try:
        tty.setcbreak(descriptor)
        yield wait
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
