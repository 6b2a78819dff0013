"""``sealgate demo``: the whole promise in one minute, on this machine, with separate processes.

    1  the runtime proves itself         evidence fetched with a nonce of our own, every check shown
    2  an answer                         the stock openai client, streaming through the gateway
    3  what it leaves behind             receipt, log, and what the runtime's host saw
    4  liars                             each refused; what their hosts saw is searched for the prompt

Exit code 0 means that every claim held.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from attest.appraise import AttestedRuntime
from attest.reference import ReferenceValues
from attest.trust import TrustRoots
from gateway.cli.check_table import render_checks, shorten, valid_for
from gateway.cli.demo import trail
from gateway.cli.demo.ask import Asked, Tap, ask, client, spare_loopback_the_proxy
from gateway.cli.demo.hosts import Host, Scene, liars_choice, start_hosts
from gateway.cli.demo.liars import NUMBERS, Meeting, liars_of, meet
from gateway.cli.demo.search import MIN_PROMPT, PLANTED, find_prompt, plant
from gateway.cli.demo.stage import Stage
from gateway.cli.dev_world import write_dev_world
from gateway.cli.failure import Exit, Failure
from gateway.cli.output import Output
from gateway.cli.processes import Children, interruptible
from gateway.cli.up import RuntimeChoice
from gateway.cli.verify.bundle import judge
from gateway.cli.verify.fetch import fetch_evidence
from gateway.settings import load_settings
from gateway.trust.judge import Judge

QUESTION = "Write a short thank-you note to the Heliotrope team for working so hard this year."
MAX_TOKENS = 70
_TOGETHER = 3
"""Liars that are started at once: six more processes beside the first two, which two cores still carry."""


def play(choice: RuntimeChoice, *, prompt: str | None = None, as_json: bool = False) -> None:
    """Play all acts.

    Args:
        choice: the runtime, and the machine it stands on.
        prompt: what to ask; None asks the built-in question.
        as_json: one document at the end instead of a play.

    Raises:
        Failure: exit code 1 if a claim did not hold or the demo could not be played.
    """
    output = Output(as_json=as_json)
    asked = QUESTION if prompt is None else prompt
    if len(asked.encode()) < MIN_PROMPT:
        raise Failure(
            f"the demo searches for the prompt, so it needs at least {MIN_PROMPT} bytes of it",
            "ask something longer",
            code="usage",
            exit_code=Exit.USAGE,
        )
    started = time.monotonic()
    settings = load_settings()
    with interruptible(), _scratch(settings.home) as folder:
        world = write_dev_world(
            settings.home,
            folder,
            choice.digests(settings.home),
            machine=choice.machine,
            now=datetime.now(UTC),
        )
        stage = Stage(output)
        scene = Scene(stage, folder, settings, world, choice, asked)
        stage.title()
        answer = _honest(scene)
        meetings = _liars(scene)
        kept = None if stage.all_held else _keep(folder, settings.home)
        _end(stage, answer, meetings, time.monotonic() - started, kept)
        if kept is not None:
            raise Failure("", code="demo_failed")  # the ledger has said so, claim by claim


def _honest(scene: Scene) -> Asked:
    stage = scene.stage
    with Children() as children, ExitStack() as keys:
        stage.act("The runtime proves what it is")
        with stage.waiting(f"the runtime loads {scene.choice.model}"):
            (host,) = start_hosts(scene, children, keys, {"honest": ()})
        runtime = _verdict(scene, host)
        stage.act("An application asks, with the stock openai client")
        tap = Tap()
        asked = _answer(scene, host, tap)
        stage.act("What the answer leaves behind")
        for claim in trail.check(host.log, asked, tap, runtime):
            stage.claim(claim.text, claim.held, claim.detail)
        _search(scene, host)
    return asked


def _verdict(scene: Scene, host: Host) -> AttestedRuntime:
    """Our own verdict, reached with our own nonce; the gateway reaches its own."""
    stage = scene.stage
    nonce, now = secrets.token_hex(32), datetime.now(UTC)
    roots = TrustRoots.load(scene.world.trust_file)
    reference = ReferenceValues.load(scene.world.reference_file)
    judgement = judge(fetch_evidence(host.runtime_url, nonce), nonce, Judge(roots, reference), now)
    stage.show(render_checks(judgement.checks, stage.output, now=now))
    if judgement.runtime is None:
        raise Failure(
            f"the honest runtime was refused: {judgement.refusal}",
            "were the sources changed while the demo ran? They are what the mock measures",
            code="honest_refused",
        )
    runtime = judgement.runtime
    stage.line("")
    stage.claim(
        "verified, before a byte of prompt exists",
        runtime.is_mock,
        f"{len(judgement.checks)} checks, good for {valid_for(runtime.valid_until, now)}",
    )
    return runtime


def _answer(scene: Scene, host: Host, tap: Tap) -> Asked:
    stage = scene.stage
    stage.line(
        f'[faint]client = OpenAI(base_url="http://127.0.0.1:{host.port}/v1", api_key="{host.key[:7]}...")[/]'
    )
    stage.said(scene.prompt)
    with stage.streaming():
        asked = ask(
            client(host.port, host.key, tap),
            host.model,
            scene.prompt,
            max_tokens=MAX_TOKENS,
            on_text=stage.piece,
        )
    stage.line("")
    if asked.code is not None:
        raise Failure(
            f"the gateway answered the honest question with {asked.code}"
            + (f" [{asked.refusal}]" if asked.refusal else ""),
            code=asked.code,
        )
    what = "a real model" if scene.choice.engine == "sealgate" else "the stub engine"
    stage.claim(f"a streamed answer from {what}", asked.accepted and asked.pieces > 1, _speed(asked))
    rests = [
        f"{name[9:]} {shorten(value)}"
        for name, value in asked.headers.items()
        if name.startswith("sealgate-")
    ]
    stage.line(f"  [faint]it rests on: {', '.join(rests)}[/]")
    return asked


def _speed(asked: Asked) -> str:
    first = asked.first_token_s or 0.0
    rate = (asked.pieces - 1) / (asked.total_s - first) if asked.total_s > first else 0.0
    return f"first token after {first:.2f} s, then {rate:.0f} tokens a second"


def _search(scene: Scene, host: Host) -> None:
    """Search what the honest host saw, and show that the search would have found it."""
    seen = host.recording.read_bytes()
    found = find_prompt(seen, scene.prompt)
    scene.stage.claim(
        "the prompt is not in what the runtime's host saw",
        bool(seen) and not found,
        f"{len(seen):,} bytes searched",
    )
    controls = [form for form, planted in plant(seen, scene.prompt) if find_prompt(planted, scene.prompt)]
    scene.stage.claim(
        "the search finds the prompt where it is planted",
        len(controls) == len(PLANTED),
        f"{len(controls)} of {len(PLANTED)} forms: raw, hex, base64 at every alignment, gzip ...",
    )


def _liars(scene: Scene) -> list[Meeting]:
    stage = scene.stage
    names = liars_of(scene.choice.machine)
    stage.act(f"{NUMBERS[len(names)]} liars")
    stage.line("[faint]the same runtime, each with one lie; its host records every byte that it gets[/]")
    choice = liars_choice(scene.choice, scene.settings.home)
    meetings = []
    for start in range(0, len(names), _TOGETHER):
        together = names[start : start + _TOGETHER]
        with Children() as children, ExitStack() as keys:
            with stage.waiting(f"starting {', '.join(together)}"):
                faults = {name: ("--fault", name) for name in together}
                hosts = start_hosts(replace(scene, choice=choice), children, keys, faults)
            for name, host in zip(together, hosts, strict=True):
                with stage.waiting(f"asking {name}"):
                    stock = client(host.port, host.key)
                    meeting = meet(
                        name,
                        stock,
                        model=host.model,
                        prompt=scene.prompt,
                        recording=host.recording,
                        log=host.log,
                    )
                meetings.append(meeting)
                stage.met(meeting)
    return meetings


def _end(stage: Stage, answer: Asked, meetings: list[Meeting], seconds: float, kept: Path | None) -> None:
    if stage.quiet:
        stage.output.document(
            {
                "ok": stage.all_held,
                "seconds": round(seconds, 2),
                "kept": None if kept is None else str(kept),
                "mock": True,
                "claims": [{"claim": text, "held": held} for text, held in stage.claims],
                "answer": {
                    "text": answer.text,
                    "first_token_s": answer.first_token_s,
                    "total_s": round(answer.total_s, 3),
                    "headers": {k: v for k, v in answer.headers.items() if k.startswith("sealgate-")},
                },
                "liars": [meeting.as_dict() for meeting in meetings],
            }
        )
        return
    stage.curtain(seconds)
    if kept is not None:
        stage.line(f"[faint]recordings and logs are kept in {kept}[/]")


@contextmanager
def _scratch(home: Path) -> Iterator[Path]:
    """A private folder for recordings, keys and logs: gone afterwards, kept in ``home`` after a failure."""
    spare_loopback_the_proxy()
    folder = Path(tempfile.mkdtemp(prefix="sealgate-demo-"))
    try:
        yield folder
    except Failure as failure:
        if failure.message and any(folder.glob("*/*")):
            failure.hint = (*failure.hint, f"recordings and logs are kept in {_keep(folder, home)}")
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _keep(folder: Path, home: Path) -> Path:
    kept = home / f"demo-{secrets.token_hex(4)}"
    shutil.copytree(folder, kept)
    return kept
