"""``sealgate up`` and ``sealgate gateway`` as processes: ready, used, ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.verify import verify_log
from gateway.identity.api_keys import ApiKeyStore

DEADLINE_S = 120


@dataclass(frozen=True)
class Up:
    """A running ``sealgate up``."""

    process: subprocess.Popen[str]
    ready: dict[str, Any]
    home: Path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "gateway.cli.main", *arguments]


def environment(home: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "SEALGATE_HOME": str(home), **more}


@contextmanager
def up(home: Path) -> Iterator[Up]:
    process = subprocess.Popen(
        command("up", "--engine", "stub", "--port", "0", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(home),
    )
    with process:
        try:
            yield Up(process, _document(process), home)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(DEADLINE_S)


def _document(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The first JSON document on standard output, which goes on while the process runs."""
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if line == "}\n":
            break
    document: dict[str, Any] = json.loads(text)
    return document


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def program(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def chat(running: Up, *arguments: str) -> subprocess.CompletedProcess[str]:
    url = running.ready["base_url"].removesuffix("/v1")
    return subprocess.run(
        command("chat", "--gateway", url, *arguments),
        capture_output=True,
        text=True,
        check=False,
        input="",
        env=environment(running.home, SEALGATE_API_KEY=running.ready["api_key"]),
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_serves_and_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with up(tmp_path) as running:
        assert running.ready["mock"] is True
        answer = chat(running, "hello there", "--model", running.ready["model"], "--json")
        assert answer.returncode == 0, answer.stdout
        assert json.loads(answer.stdout)["tee"] == "MOCK"
        pids = children(running.process.pid)
        assert len(pids) == 2
        running.process.send_signal(number)
        assert running.process.wait(DEADLINE_S) == 0
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    store = ApiKeyStore(tmp_path / "gateway" / "keys.sqlite")
    assert all(info.revoked_at is not None for info in store.all())
    store.close()
    assert sum(verify_log(tmp_path / "audit" / "log.jsonl").sequences.values()) == 1


def test_the_pair_that_up_writes_lets_verify_accept_its_runtime(tmp_path: Path) -> None:
    """And nothing else does: the same runtime is refused under a home whose values were changed."""
    with up(tmp_path) as running:
        verify = command("verify", running.ready["runtime_url"], "--json")
        good = subprocess.run(verify, capture_output=True, text=True, check=False, env=environment(tmp_path))
        assert good.returncode == 0, good.stdout
        reference = tmp_path / "reference.toml"
        reference.write_text(reference.read_text().replace("this-machine", "elsewhere"))
        bad = subprocess.run(verify, capture_output=True, text=True, check=False, env=environment(tmp_path))
        assert bad.returncode == 10
        assert json.loads(bad.stdout)["refusal"]["code"] == "region-not-accepted"


@pytest.mark.parametrize("victim", ["runtime.cli", "gateway.cli.main"])
def test_when_a_child_dies_up_says_which_and_ends_the_other(tmp_path: Path, victim: str) -> None:
    with up(tmp_path) as running:
        pids = {pid: program(pid) for pid in children(running.process.pid)}
        (dying,) = [pid for pid, name in pids.items() if victim in name]
        os.kill(dying, signal.SIGKILL)
        assert running.process.wait(DEADLINE_S) == 1
        assert running.process.stdout is not None
        error = json.loads(running.process.stdout.read())["error"]
    assert error["code"] == "child_died"
    assert "SIGKILL" in error["message"]
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_up_on_a_taken_port_shows_the_log_and_leaves_nothing(tmp_path: Path) -> None:
    with up(tmp_path) as running:
        port = running.ready["base_url"].rpartition(":")[2].removesuffix("/v1")
        second = subprocess.run(
            command("up", "--engine", "stub", "--port", port),
            capture_output=True,
            text=True,
            check=False,
            env=environment(tmp_path / "other"),
        )
    assert second.returncode == 1
    assert "the gateway ended with exit code 1" in second.stderr
    assert "Address already in use" in " ".join(second.stderr.split())
