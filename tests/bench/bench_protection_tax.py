"""What the seal costs: the same inner API through the gateway and plain, in one run.

    python -m tests.bench.bench_protection_tax [--quick] [--out FILE]

- time to first token on a warm verdict, plain and sealed requests in turn; the difference of percentiles
- decode throughput of one stream of the real model, pairs of plain and sealed runs; the median ratio
- sealed small requests per CPU second of gateway and runtime together, against the stub engine
- resident memory of the gateway after all that, and whether it loaded torch

CPU seconds are the processes' own (/proc/PID/stat), so the load generator and other work on the machine do
not count. Goals: issue "The main job", section "Speed and memory".
"""

from __future__ import annotations

import argparse
import concurrent.futures
import http.client
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gateway.cli.dev_world import ModelDigests, model_digests, write_dev_world
from gateway.cli.keys import borrowed_key
from gateway.cli.processes import Child, gateway_argv
from gateway.settings import load_settings
from runtime.dev import stub_model

MODEL = "smollm2"
GOALS = {
    "ttft_added_p50_ms": 5.0,
    "ttft_added_p99_ms": 10.0,
    "decode_ratio": 0.98,
    "sealed_requests_per_core_second": 300.0,
    "gateway_rss_mib": 150.0,
}
WARM_UP = 20
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class World:
    """The running pair."""

    plain_port: int
    gateway_port: int
    key: str
    runtime: Child
    gateway: Child


@contextmanager
def world(folder: Path, *engine: str) -> Iterator[World]:
    """Runtime with two doors, and a gateway before the sealed one."""
    home = Path(os.environ.get("SEALGATE_HOME", folder / "home"))
    with ExitStack() as stack:
        argv = [sys.executable, "-m", "tests.bench.two_doors", *engine]
        runtime = stack.enter_context(Child("runtime", argv, folder / "runtime.log"))
        ports = runtime.wait_ready(120)
        settings = load_settings({"home": home})
        files = write_dev_world(home, folder, digests(home, engine), now=datetime.now(UTC))
        flags = ["--json", "--port", "0", "--runtime-url", f"http://127.0.0.1:{ports['sealed']}"]
        flags += ["--trust", str(files.trust_file), "--reference", str(files.reference_file), "--allow-mock"]
        gateway = stack.enter_context(Child("gateway", gateway_argv(*flags), folder / "gateway.log"))
        url = gateway.wait_ready(30)["url"]
        key = stack.enter_context(borrowed_key(settings.keys_file, "bench"))
        yield World(ports["plain"], int(url.rsplit(":", 1)[1]), key, runtime, gateway)


def digests(home: Path, engine: tuple[str, ...]) -> ModelDigests:
    """What the runtime will state: the pulled model's digests, or the stub's own."""
    if "stub" not in engine:
        return model_digests(home, MODEL)
    served = stub_model(MODEL)
    return ModelDigests(served.base_model_digest, served.tokenizer_digest)


@dataclass(frozen=True)
class Door:
    """One way to the engine."""

    port: int
    key: str

    def connect(self) -> http.client.HTTPConnection:
        """A connection to keep."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def ask(self, connection: http.client.HTTPConnection, *, stream: bool, max_tokens: int) -> list[float]:
        """One chat completion; the moments (seconds since sending) at which its lines with content came."""
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": "Write a long story about the sea."}],
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": stream,
        }
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        start = time.perf_counter()
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise SystemExit(f"status {response.status}: {response.read().decode()}")
        moments = []
        if stream:
            while line := response.readline():
                if b'"content"' in line:
                    moments.append(time.perf_counter() - start)
        response.read()
        return moments


def percentile(values: list[float], rank: float) -> float:
    """The value at ``rank`` (0 to 1) of the sorted list."""
    return sorted(values)[min(len(values) - 1, int(rank * len(values)))]


def time_to_first_token(folder: Path, count: int) -> dict[str, float]:
    """Plain and sealed in turn, one stream each."""
    engine = ("--engine", "stub", "--first-token-s", "0.01", "--interval-s", "0.001", "--tokens", "4")
    with world(folder, *engine) as running:
        doors = {"plain": Door(running.plain_port, "none"), "sealed": Door(running.gateway_port, running.key)}
        connections = {name: door.connect() for name, door in doors.items()}
        times: dict[str, list[float]] = {"plain": [], "sealed": []}
        for turn in range(count + WARM_UP):
            for name, door in doors.items():
                moments = door.ask(connections[name], stream=True, max_tokens=4)
                if turn >= WARM_UP:
                    times[name].append(moments[0] * 1e3)
    figures = {
        f"ttft_{name}_{label}_ms": round(percentile(values, rank), 3)
        for name, values in times.items()
        for label, rank in (("p50", 0.5), ("p99", 0.99))
    }
    for label in ("p50", "p99"):
        figures[f"ttft_added_{label}_ms"] = round(
            figures[f"ttft_sealed_{label}_ms"] - figures[f"ttft_plain_{label}_ms"], 3
        )
    return figures


def decode_throughput(folder: Path, pairs: int, tokens: int) -> dict[str, float]:
    """Tokens per second of one stream of the real model, between its first and its last token."""
    with world(folder, "--engine", "sealgate") as running:
        doors = {"plain": Door(running.plain_port, "none"), "sealed": Door(running.gateway_port, running.key)}
        connections = {name: door.connect() for name, door in doors.items()}
        rates: dict[str, list[float]] = {"plain": [], "sealed": []}
        for turn in range(pairs + 1):
            for name in ("plain", "sealed") if turn % 2 else ("sealed", "plain"):
                moments = doors[name].ask(connections[name], stream=True, max_tokens=tokens)
                if turn:
                    rates[name].append((len(moments) - 1) / (moments[-1] - moments[0]))
    ratios = [sealed / plain for sealed, plain in zip(rates["sealed"], rates["plain"], strict=True)]
    return {
        "decode_plain_tokens_per_s": round(statistics.median(rates["plain"]), 2),
        "decode_sealed_tokens_per_s": round(statistics.median(rates["sealed"]), 2),
        "decode_ratio": round(statistics.median(ratios), 4),
        "decode_ratio_min": round(min(ratios), 4),
        "decode_ratio_max": round(max(ratios), 4),
    }


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def small_requests(folder: Path, count: int, workers: int) -> dict[str, float]:
    """Whole small answers, concurrently."""
    with world(folder, "--engine", "stub", "--tokens", "4") as running:
        door = Door(running.gateway_port, running.key)

        def work(share: int) -> None:
            connection = door.connect()
            for _ in range(share):
                door.ask(connection, stream=False, max_tokens=4)

        work(50)
        before = [cpu_seconds(child.pid) for child in (running.gateway, running.runtime)]
        start = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            list(pool.map(work, [count // workers] * workers))
        wall = time.perf_counter() - start
        spent = [
            cpu_seconds(child.pid) - earlier
            for child, earlier in zip((running.gateway, running.runtime), before, strict=True)
        ]
        done = count // workers * workers
        status = Path(f"/proc/{running.gateway.pid}/status").read_text()
        maps = Path(f"/proc/{running.gateway.pid}/maps").read_text()
        rss = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return {
        "sealed_requests_per_core_second": round(done / sum(spent), 1),
        "gateway_cpu_ms_per_request": round(spent[0] / done * 1e3, 3),
        "runtime_cpu_ms_per_request": round(spent[1] / done * 1e3, 3),
        "sealed_requests_per_gateway_core_second": round(done / spent[0], 1),
        "sealed_requests_per_wall_second": round(done / wall, 1),
        "gateway_rss_mib": round(int(rss) / 1024, 1),
        "gateway_loaded_torch": float("torch" in maps),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the repeats")
    parser.add_argument("--only", choices=("ttft", "decode", "requests"))
    arguments = parser.parse_args()
    part = 10 if arguments.quick else 1
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.only in {None, "ttft"}:
            figures |= time_to_first_token(folder, 500 // part)
        if arguments.only in {None, "requests"}:
            figures |= small_requests(folder, 3200 // part, 16)
        if arguments.only in {None, "decode"}:
            figures |= decode_throughput(folder, max(10 // part, 2), 128)
    at_most = {"ttft_added_p50_ms", "ttft_added_p99_ms", "gateway_rss_mib"}
    met = {
        goal: figures[goal] <= bound if goal in at_most else figures[goal] >= bound
        for goal, bound in GOALS.items()
        if goal in figures
    }
    print(json.dumps({"figures": figures, "goals": GOALS, "met": met}, indent=2))


if __name__ == "__main__":
    main()
