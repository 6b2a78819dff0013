"""The soak: real traces against a real runtime for a long while, with everything that goes wrong in service.

    python -m tests.soak.run [--minutes 30] [--out build/soak]

A runtime process (``server``), clients in processes of their own (``client``), of which one is killed with
SIGKILL every now and then, and a sample of the runtime's memory every second. A quarter of the requests
repeat ones whose answers were made alone before the load began, and must get those tokens again. JSON and a
page of Markdown are written to the folder named; the exit code is 0 only if every check held. The whole may
be paused (SIGSTOP to its process group): no check counts that time.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.soak.client import Client
from tests.soak.clock import ActiveClock
from tests.soak.judge import flatness, longest_gap, outcomes, spot_checks, stalls
from tests.soak.load import Ask, Scale, arrivals, asks, references
from tests.soak.report import page

ROOT = Path(__file__).resolve().parents[2]
ADAPTERS, REFERENCES, WORKERS = 200, 24, 4
KILL_EVERY_S, SAMPLE_EVERY_S, LOOK_EVERY_S = 20.0, 1.0, 10.0
WARM_UP = 0.25  # of the load's time: caches fill, the allocator finds its size
STALL_S = 5.0
DRAIN_S, LONGEST_DRAIN_S = 120.0, 900.0  # the first without what the server waited for a processor
MOST_GROWTH = 0.02


@dataclass
class Worker:
    """A process of clients, and what it has been asked."""

    process: subprocess.Popen[str]
    open: dict[int, Ask] = field(default_factory=dict)


class Clients:
    """Hands requests to worker processes and collects what they saw.

    Args:
        port: of the server.
        adapters: their digests.
    """

    def __init__(self, port: int, adapters: list[str]) -> None:
        self._port, self._adapters = port, adapters
        self._lock = threading.Lock()
        self.results: list[dict[str, Any]] = []
        self.killed: list[int] = []
        self.kills = 0
        self._workers = [self._start() for _ in range(WORKERS)]

    def send(self, ask: Ask) -> None:
        """Begin a request."""
        with self._lock:
            worker = self._workers[ask.number % WORKERS]
            worker.open[ask.number] = ask
        stream = worker.process.stdin
        if stream is None:
            raise RuntimeError("a worker without input")
        stream.write(json.dumps(self.wire(ask)) + "\n")
        stream.flush()

    def wire(self, ask: Ask) -> dict[str, Any]:
        """A request as a client takes it, its adapter by digest."""
        digest = None if ask.adapter is None else self._adapters[ask.adapter]
        if ask.kind == "unknown-adapter":
            digest = "sha256:" + "0" * 64
        return {**ask.plain(), "adapter": digest}

    def kill_one(self, chance: random.Random) -> None:
        """End one process with all its requests, without a word to the server, and start another."""
        place = chance.randrange(WORKERS)
        fresh = self._start()
        with self._lock:
            worker, self._workers[place] = self._workers[place], fresh
        worker.process.kill()
        worker.process.wait()
        with self._lock:
            self.kills += 1
            self.killed += worker.open

    @property
    def open(self) -> int:
        """Requests without an end."""
        with self._lock:
            return sum(len(worker.open) for worker in self._workers)

    def close(self) -> None:
        """End all processes."""
        for worker in self._workers:
            worker.process.kill()
            worker.process.wait()

    def _start(self) -> Worker:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.client", str(self._port)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        worker = Worker(process)
        threading.Thread(target=self._follow, args=(worker,), daemon=True).start()
        return worker

    def _follow(self, worker: Worker) -> None:
        if worker.process.stdout is None:
            raise RuntimeError("a worker without output")
        for line in worker.process.stdout:
            if not line.endswith("\n"):  # it was killed while it wrote
                return
            result = json.loads(line)
            with self._lock:
                ask = worker.open.pop(result["number"], None)
                if ask is not None:
                    self.results.append({**result, "reference": ask.reference})


class Watch:
    """Samples the server's memory and looks at its books.

    Args:
        port: of the server.
        pid: of the server.
        clock: of the soak.
    """

    def __init__(self, port: int, pid: int, clock: ActiveClock) -> None:
        self._port, self._pid, self._clock = port, pid, clock
        self.memory: list[tuple[float, int]] = []
        self.waits: list[tuple[float, float]] = []
        self.looks: list[dict[str, Any]] = []
        self._delays: dict[str, int] = {}
        self._waited = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def waited_s(self) -> float:
        """Seconds for which the server could run and others had the processors."""
        return self._waited

    def stop(self) -> None:
        """Take no more samples."""
        self._stop.set()
        self._thread.join()

    def look(self) -> dict[str, Any]:
        """How the engine and the store stand; the server checks its books for it."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=900)
        connection.request("GET", "/soak")
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise SystemExit("the server's books do not balance")
        found: dict[str, Any] = json.loads(response.read())
        connection.close()
        return found

    def _run(self) -> None:
        looked = 0.0
        while not self._stop.wait(SAMPLE_EVERY_S):
            now = self._clock.now()
            self.memory.append((round(now, 1), resident(self._pid)))
            self._waited += self._longest_wait()
            self.waits.append((time.monotonic(), self._waited))
            if now - looked >= LOOK_EVERY_S:
                looked = now
                self.looks.append({"at": round(now, 1), **self.look()})

    def _longest_wait(self) -> float:
        """Seconds since the last sample for which some thread of the server could run and did not."""
        longest = 0
        for task in Path(f"/proc/{self._pid}/task").iterdir():
            with suppress(OSError):  # the thread has ended
                delay = int((task / "schedstat").read_text().split()[1])
                longest = max(longest, delay - self._delays.get(task.name, delay))
                self._delays[task.name] = delay
        return longest / 1e9


def resident(pid: int) -> int:
    """Bytes of a process in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def start_server(stack: ExitStack, folder: Path, log: Path, options: list[str]) -> dict[str, Any]:
    """The server's first line, once it listens."""
    argv = [sys.executable, "-m", "tests.soak.server", str(folder), *options]
    process = stack.enter_context(
        subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=log.open("w"), text=True)
    )
    stack.callback(process.kill)
    if process.stdout is None:
        raise RuntimeError("a server without output")
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"the server did not start: {log.read_text()[-2000:]}")
    ready: dict[str, Any] = json.loads(line)
    return ready


def alone(port: int, clients: Clients, wanted: list[Ask], clock: ActiveClock) -> list[dict[str, Any]]:
    """Each reference, one after the other, with nobody else there."""
    client = Client(port, clock)
    made = []
    for ask in wanted:
        result = client.run(clients.wire(ask))
        if not result.get("done"):
            raise SystemExit(f"reference {ask.number} was not answered: {result}")
        made.append(result)
    return made


def changed(truth: list[dict[str, Any]], base: dict[int, list[str]]) -> int:
    """How many references would be another answer without their adapter: what a mix-up would show."""
    return sum(
        each["pieces"][: len(tokens)] != tokens for each in truth if (tokens := base.get(each["number"]))
    )


def bombard(
    clients: Clients, plan: list[Ask], seconds: float, clock: ActiveClock, chance: random.Random
) -> None:
    """Send the plan in its time, and kill a process of clients now and then."""
    begun, killed = clock.now(), clock.now()
    for ask in plan:
        while clock.now() - begun < ask.at:
            clock.sleep_until(min(begun + ask.at, killed + KILL_EVERY_S))
            if clock.now() - killed >= KILL_EVERY_S:
                killed = clock.now()
                clients.kill_one(chance)
        clients.send(ask)
    clock.sleep_until(begun + seconds)


def drain(clients: Clients, watch: Watch, clock: ActiveClock) -> None:
    """Wait for the last answers, longer where others keep the server from working on them."""
    begun, waited = clock.now(), watch.waited_s
    while clients.open and (passed := clock.now() - begun) < LONGEST_DRAIN_S:
        if passed - (watch.waited_s - waited) > DRAIN_S:
            return
        time.sleep(0.2)


def soak(options: argparse.Namespace) -> dict[str, Any]:
    """Run it; all figures, checks among them."""
    chance = random.Random(options.seed)  # noqa: S311 a load's dice
    seconds = options.minutes * 60
    clock = ActiveClock().start()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.scratch)))
        subprocess.run(
            [sys.executable, "-m", "tests.soak.adapters", str(folder), str(ADAPTERS)], cwd=ROOT, check=True
        )
        log = options.out / "server.log"
        server = ["--mode", options.mode, "--threads", str(options.threads)]
        ready = start_server(stack, folder, log, server)
        clients = Clients(ready["port"], ready["adapters"])
        stack.callback(clients.close)
        wanted = references(REFERENCES, ADAPTERS, chance)
        truth = alone(ready["port"], clients, wanted, clock)
        plain = [replace(ask, adapter=None, tokens=8) for ask in wanted if ask.adapter is not None]
        base = {each["number"]: each["pieces"] for each in alone(ready["port"], clients, plain, clock)}
        watch = Watch(ready["port"], ready["pid"], clock)
        scale = Scale(shrink=options.shrink, rate=options.rate, seconds=seconds)
        came = arrivals(options.traces, scale, chance)
        plan = asks(came, wanted, ADAPTERS, chance)
        began, paused = clock.now(), clock.paused_s
        watch.start()
        bombard(clients, plan, seconds, clock, chance)
        drain(clients, watch, clock)
        loaded = clock.now() - began
        time.sleep(3)
        watch.stop()
        end = watch.look()
        return {
            "minutes": round(loaded / 60, 2),
            "paused_s": round(clock.paused_s - paused, 1),
            "mode": options.mode,
            "threads": options.threads,
            "load": described(plan, options),
            "adapters_that_changed_the_answer": f"{changed(truth, base)} of {len(base)}",
            **judged(Seen(plan, clients, truth, watch, end), began, loaded),
            "log_lines": log.read_text().splitlines()[:20],
        }


def described(plan: list[Ask], options: argparse.Namespace) -> dict[str, Any]:
    """What was sent."""
    return {
        "requests": len(plan),
        "rate_per_s": options.rate,
        "lengths_divided_by": options.shrink,
        "prompt_tokens": sum(len(ask.prompt) for ask in plan),
        "tokens_asked": sum(ask.tokens for ask in plan),
        "kinds": dict(Counter(ask.kind for ask in plan)),
        "adapters_used": len({ask.adapter for ask in plan}),
    }


@dataclass(frozen=True)
class Seen:
    """All that a soak leaves behind.

    Args:
        plan: what was sent.
        clients: who saw what came of it.
        truth: the references' answers.
        watch: over the server.
        end: how the server stood after it.
    """

    plan: list[Ask]
    clients: Clients
    truth: list[dict[str, Any]]
    watch: Watch
    end: dict[str, Any]


def judged(seen: Seen, began: float, loaded: float) -> dict[str, Any]:
    """What was seen, and what of it holds."""
    plan, clients, watch = seen.plan, seen.clients, seen.watch
    results = clients.results
    ended = outcomes({ask.number: ask.kind for ask in plan}, results)
    complete = [each for each in results if each["reference"] is not None and each.get("done")]
    spots = spot_checks(complete, seen.truth)
    warm = [sample for sample in watch.memory if began + WARM_UP * loaded <= sample[0] <= began + loaded]
    memory = flatness(warm)
    stalled = stalls(results, watch.waits, STALL_S)
    gaps = sorted(b - a for each in results for a, b in zip(each["events"], each["events"][1:], strict=False))
    first = sorted(each["events"][0] for each in results if each["events"])
    engine, store = seen.end["engine"], seen.end["store"]
    checks = {
        "memory flat": abs(memory.growth) <= MOST_GROWTH and memory.drift <= MOST_GROWTH,
        "no stall": not stalled,
        "no wrong token": not spots.wrong and spots.equal > 0,
        "no bad end": not any(word.startswith("bad") for word in ended),
        "every request ended": clients.open == 0 and len(results) + len(clients.killed) == len(plan),
        "nothing left running": engine["running"] == engine["waiting"] == 0,
        "no adapter left pinned": store["pinned"] == store["waiting"] == 0,
        "evictions happened": store["evicted"] > 0,
    }
    return {
        "ended": {**ended, "killed with their client": len(clients.killed)},
        "clients_killed": clients.kills,
        "spot_checks": asdict(spots),
        "stalls": stalled[:20],
        "longest_gap_s": round(max((longest_gap(each["events"])[0] for each in results), default=0.0), 3),
        "server_waited_for_a_processor_s": round(watch.waits[-1][1] - watch.waits[0][1], 1),
        "between_tokens_ms": percentiles(gaps),
        "first_token_ms": percentiles(first),
        "memory": {
            **{
                name: round(value / (1 << 20), 1) for name, value in asdict(memory).items() if name != "drift"
            },
            "growth_percent": round(100 * memory.growth, 2),
            "drift_percent": round(100 * memory.drift, 2),
        },
        "memory_samples": watch.memory[:: max(1, len(watch.memory) // 400)],
        "looks": watch.looks[:: max(1, len(watch.looks) // 60)],
        "end": seen.end,
        "checks": checks,
        "held": all(checks.values()),
    }


def percentiles(ordered: list[float]) -> dict[str, float]:
    """Of sorted seconds, in milliseconds."""
    if not ordered:
        return {}
    places = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {
        name: round(1000 * ordered[min(len(ordered) - 1, int(place * len(ordered)))], 1)
        for name, place in places.items()
    }


def main() -> None:
    """Parse, run, write, and say whether all held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=float(os.environ.get("SOAK_MINUTES", "30")))
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "soak")
    parser.add_argument("--traces", type=Path, default=ROOT.parent / "shared" / "data" / "traces")
    parser.add_argument("--scratch", type=Path, default=None, help="where the adapters are written")
    parser.add_argument("--mode", default="bf16")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rate", type=float, default=1.5, help="requests per second")
    parser.add_argument("--shrink", type=int, default=8, help="lengths are divided by this")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if os.getpgrp() != os.getpid():
        os.setpgrp()  # so that the whole can be paused by one signal
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    figures = soak(options)
    (options.out / "soak.json").write_text(json.dumps(figures, indent=1))
    (options.out / "soak.md").write_text(page(figures))
    sys.stdout.write(page(figures))
    sys.exit(0 if figures["held"] else 1)


if __name__ == "__main__":
    main()
