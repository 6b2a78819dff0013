"""The demo's liars, met as the demo meets them: separate processes, the stock client, recorded bytes.

The positive run shows that every lie is refused and nothing readable reaches a liar's host. The other tests
show that the demo could not have said so otherwise: with liars that do not lie, or a prompt that leaks, it
fails.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from attest.mock.faults import FAULTS
from gateway.cli.demo import hosts, liars, play
from gateway.cli.demo.ask import Asked, client
from gateway.cli.demo.liars import liars_of, meet
from gateway.cli.dev_world import Machine
from gateway.cli.failure import Failure
from gateway.cli.processes import Child, Children
from gateway.cli.up import RuntimeChoice, start_runtime

PROMPT = "The merger with Heliotrope closes on Friday: what should the press note say?"
DEADLINE_S = 240
LIARS = liars_of(Machine(gpus=1))


@dataclass(frozen=True)
class Played:
    """One demo that was played to its end."""

    code: int
    out: str
    err: str
    home: Path
    scratch: Path


def play_demo(folder: Path, *arguments: str, **environment: str) -> Played:
    home, scratch = folder / "home", folder / "scratch"
    scratch.mkdir()
    ran = subprocess.run(
        [sys.executable, "-m", "gateway.cli.main", "demo", "--engine", "stub", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        env={**os.environ, "SEALGATE_HOME": str(home), "TMPDIR": str(scratch), **environment},
    )
    return Played(ran.returncode, ran.stdout, ran.stderr, home, scratch)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return play_demo(tmp_path_factory.mktemp("demo"), "--json", "--prompt", PROMPT)


@pytest.fixture(scope="module")
def document(played: Played) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(played.out)
    return value


def test_the_demo_holds(played: Played, document: dict[str, Any]) -> None:
    assert played.code == 0, played.err
    assert document["ok"] is True
    assert document["mock"] is True
    assert all(claim["held"] for claim in document["claims"])
    assert len(document["claims"]) == 17


@pytest.mark.parametrize("name", LIARS)
def test_each_liar_is_refused_with_nothing_readable_sent(document: dict[str, Any], name: str) -> None:
    met = {meeting["liar"]: meeting for meeting in document["liars"]}[name]
    fault = FAULTS[name]
    assert met["refusal"] == fault.expected_code
    assert met["answer_accepted"] is False
    assert met["error"] is not None
    assert met["prompt_found"] == []
    assert met["bytes_recorded"] > 0
    if fault.level == "bundle":
        assert met["sealed_requests"] == 0
    else:
        assert met["sealed_requests"] > 0


def test_the_answer_says_what_it_rests_on(document: dict[str, Any]) -> None:
    headers = document["answer"]["headers"]
    assert headers["sealgate-tee"] == "MOCK"
    assert set(headers) == {
        "sealgate-tee",
        "sealgate-receipt-id",
        "sealgate-statement",
        "sealgate-label-id",
    }


def test_the_demo_leaves_nothing_behind(played: Played, document: dict[str, Any]) -> None:
    """No process, no scratch file, and in its home the mock vendor alone."""
    assert list(played.scratch.iterdir()) == []
    assert [path.name for path in played.home.iterdir()] == ["mock-tee"]
    left = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
        except OSError:  # ended meanwhile, or somebody else's
            continue
        if f"SEALGATE_HOME={played.home}\0".encode() in environment:
            left.append(process.name)
    assert left == []


def test_no_output_of_the_demo_shows_a_key(played: Played) -> None:
    assert "sg-" not in played.out + played.err


@pytest.mark.slow
def test_the_demo_on_a_board_of_eight(tmp_path: Path) -> None:
    """TDX, eight GPUs and four switches: the same claims, and every liar of that machine refused."""
    large = play_demo(tmp_path, "--json", "--tee", "tdx", "--gpus", "8", "--prompt", PROMPT)
    assert large.code == 0, large.err
    document = json.loads(large.out)
    assert [meeting["liar"] for meeting in document["liars"]] == list(liars_of(Machine("tdx", 8)))
    assert all(claim["held"] for claim in document["claims"])


@pytest.mark.slow
@pytest.mark.parametrize("columns", ["60", "100"])
def test_the_demo_without_a_terminal(tmp_path: Path, columns: str) -> None:
    """Plain text, no escape sequence, no line wider than asked for."""
    plain = play_demo(tmp_path, COLUMNS=columns, NO_COLOR="1")
    assert plain.code == 0, plain.err
    assert "\x1b" not in plain.out
    assert all(len(line) <= int(columns) for line in plain.out.splitlines())
    assert "all 17 claims held" in plain.out
    assert all(name in plain.out for name in LIARS)


def test_the_demo_fails_where_liars_are_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Liars that are honest after all are answered, so each of their claims must fall."""

    def honest(children: Children, choice: RuntimeChoice, log: Path, *extra: str) -> Child:
        kept: Sequence[str] = extra[: extra.index("--fault")] if "--fault" in extra else extra
        return start_runtime(children, choice, log, *kept)

    monkeypatch.setattr(hosts, "start_runtime", honest)
    monkeypatch.setenv("SEALGATE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(Failure) as caught:
        play.play(RuntimeChoice("smollm2", "stub", machine=Machine(gpus=1)), prompt=PROMPT, as_json=True)
    assert caught.value.code == "demo_failed"
    assert caught.value.exit_code == 1
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False
    assert [meeting["held"] for meeting in document["liars"]] == [False] * len(LIARS)
    assert [meeting["answer_accepted"] for meeting in document["liars"]] == [True] * len(LIARS)
    (kept,) = (tmp_path / "home").glob("demo-*")
    assert document["kept"] == str(kept)
    assert (kept / "debug-guest" / "host-saw.bin").is_file()


GET = b"GET /.well-known/sealgate/attestation?nonce=00 HTTP/1.1\r\n\r\n"
POST = b"POST /sealed HTTP/1.1\r\n\r\n\x01\x02"
REFUSED = Asked(code="runtime_refused", refusal="snp-debug")
CUT = Asked(text="The", code="runtime_interrupted", refusal="ohttp-truncated")
LEAK = base64.b64encode(b"x" + PROMPT.encode())


@dataclass(frozen=True)
class Case:
    """The ingredients of a meeting: which liar, what the application got, what was seen and logged."""

    name: str
    asked: Asked
    seen: bytes
    let_out: int
    why_not: str = ""


def meet_case(case: Case, monkeypatch: pytest.MonkeyPatch, folder: Path) -> liars.Meeting:
    monkeypatch.setattr(liars, "ask", lambda *_, **__: case.asked)
    monkeypatch.setattr(liars, "sent_prompts", lambda _: case.let_out)
    recording = folder / "host-saw.bin"
    recording.write_bytes(case.seen)
    with client(1, "sg-unused") as stock:
        return meet(case.name, stock, model="m", prompt=PROMPT, recording=recording, log=folder / "log")


@pytest.mark.parametrize(
    "case",
    [Case("debug-guest", REFUSED, GET, 0), Case("truncated-stream", CUT, GET + POST, 1)],
    ids=lambda case: case.name,
)
def test_a_refusal_as_it_must_be_holds(case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    met = meet_case(case, monkeypatch, tmp_path)
    assert met.held, met.why_not


@pytest.mark.parametrize(
    "case",
    [
        Case("debug-guest", Asked(accepted=True), GET, 0, "the answer was accepted"),
        Case("debug-guest", Asked(), GET, 0, "the application got no error"),
        Case("debug-guest", Asked(code="x", refusal="other"), GET, 0, "the refusal was other, not snp-debug"),
        Case(
            "debug-guest", Asked("a", code="x", refusal="snp-debug"), GET, 0, "text reached the application"
        ),
        Case("debug-guest", REFUSED, GET + POST, 0, "something was sent"),
        Case("debug-guest", REFUSED, GET, 1, "the log says that a prompt was sent"),
        Case("debug-guest", REFUSED, b"", 0, "the liar recorded nothing at all"),
        Case("debug-guest", REFUSED, GET + PROMPT.encode(), 0, "the prompt was found"),
        Case("truncated-stream", CUT, GET, 1, "nothing sealed reached it"),
        Case("truncated-stream", CUT, GET + POST + POST, 1, "nothing sealed reached it"),
        Case("truncated-stream", CUT, GET + POST + LEAK, 1, "the prompt was found"),
        Case("replayed-answer", CUT, GET + POST, 1, "its first, honest answer was not accepted"),
    ],
    ids=lambda case: case.why_not,
)
def test_whatever_falls_short_does_not_hold(
    case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    met = meet_case(case, monkeypatch, tmp_path)
    assert not met.held
    assert case.why_not in "; ".join(met.why_not)
