"""Child processes: ready or a clear reason, and never one left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.cli.failure import Failure
from gateway.cli.processes import Child, Children

READY = 'import sys,time; print(\'{"ready": true, "port": 7}\', flush=True); '


def child(tmp_path: Path, code: str) -> Child:
    return Child("runtime", [sys.executable, "-c", code], tmp_path / "runtime.log")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_waits_for_the_ready_line_among_others(tmp_path: Path) -> None:
    with child(tmp_path, "print('loading'); print('{\"not\": 1}'); " + READY + "time.sleep(60)") as process:
        assert process.wait_ready(20)["port"] == 7
    assert "loading" in (tmp_path / "runtime.log").read_text()


def test_says_why_a_child_died_with_the_end_of_its_log(tmp_path: Path) -> None:
    code = "import sys; [print('line', n, file=sys.stderr) for n in range(40)]; sys.exit('no such model')"
    with child(tmp_path, code) as process, pytest.raises(Failure) as caught:
        process.wait_ready(20)
    assert caught.value.code == "child_died"
    assert "exit code 1" in caught.value.message
    assert caught.value.detail.endswith("no such model")
    assert "line 1\n" not in caught.value.detail  # the end, not all of it


def test_gives_up_at_the_deadline_and_ends_the_child(tmp_path: Path) -> None:
    with child(tmp_path, "import time; time.sleep(60)") as process, pytest.raises(Failure) as caught:
        process.wait_ready(0.3)
    assert caught.value.code == "child_not_ready"
    assert not alive(process.pid)


def test_kills_a_child_that_ignores_sigterm(tmp_path: Path) -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + READY + "time.sleep(60)"
    process = child(tmp_path, code)
    process.wait_ready(20)
    assert process.stop(grace_s=0.3) == -signal.SIGKILL


def test_children_end_newest_first(tmp_path: Path) -> None:
    note = tmp_path / "order"
    code = (
        f"import signal, sys; note = open({str(note)!r}, 'a')\n"
        "signal.signal(signal.SIGTERM, lambda *_: (note.write(sys.argv[1]), sys.exit()))\n"
    )
    with Children() as children:
        for name in ("a", "b"):
            argv = [sys.executable, "-c", code + READY + "time.sleep(60)", name]
            children.start(name, argv, tmp_path / f"{name}.log").wait_ready(20)
    assert note.read_text() == "ba"


def test_watch_reports_a_child_that_ends_by_itself(tmp_path: Path) -> None:
    with Children() as children:
        children.start("gateway", [sys.executable, "-c", "import sys; sys.exit(3)"], tmp_path / "log")
        with pytest.raises(Failure) as caught:
            children.watch()
    assert "the gateway ended with exit code 3" in caught.value.message


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_parent_ends_the_children(tmp_path: Path, number: signal.Signals) -> None:
    """Whatever ends ``sealgate up`` ends what it started."""
    script = f"""
import sys
from pathlib import Path
from gateway.cli.processes import Children, interruptible
with interruptible(), Children() as children:
    argv = [sys.executable, "-c", {READY + "time.sleep(60)"!r}]
    child = children.start("c", argv, Path({str(tmp_path)!r}) / "c.log")
    child.wait_ready(20)
    try:
        print(child.pid, flush=True)
        children.watch()
    except KeyboardInterrupt:
        print("stopped", flush=True)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.send_signal(number)
        assert parent.stdout.readline() == "stopped\n"
        assert parent.wait(20) == 0
    deadline = time.monotonic() + 5
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pid)


def test_the_log_is_private(tmp_path: Path) -> None:
    with child(tmp_path, READY) as process:
        process.wait_ready(20)
    assert (tmp_path / "runtime.log").stat().st_mode & 0o077 == 0
