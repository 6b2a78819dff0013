"""How long a person waits: ``sealgate --help``, a runtime until it is ready, ``up`` to the first token.

    python -m tests.bench.bench_start [--repeat N]

The model must have been pulled. Each start is a whole one. A runtime's is from its process's start to its
saying that it listens: imports, weights read, digested, laid out and checked, evidence of the mock TEE. That
of ``up`` adds the gateway process, the verdict and a sealed request. Goals on 2 cores: 0.5 s, 8 s, 15 s.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

MODES = ("bf16", "int8")
GOALS_S = {"help": 0.5, **{f"runtime_{mode}": 8.0 for mode in MODES}, "up_to_first_token": 15.0}
SEALGATE = str(Path(sys.executable).with_name("sealgate"))


def help_s() -> float:
    """One ``sealgate --help``."""
    start = time.perf_counter()
    subprocess.run([SEALGATE, "--help"], check=True, capture_output=True)
    return time.perf_counter() - start


def runtime_s(mode: str) -> float:
    """One runtime, until it listens; ended afterwards."""
    start = time.perf_counter()
    serve = ["serve", "--dev", "--port", "0", "--weights", mode]
    process = subprocess.Popen(
        [sys.executable, "-m", "runtime.cli", *serve], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        if not (process.stdout and process.stdout.readline()):
            raise SystemExit(f"the runtime did not start: exit code {process.wait()}")
        return time.perf_counter() - start
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def first_token(base_url: str, key: str) -> None:
    """Ask, and return when the first line with content has come."""
    url = urlsplit(base_url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
    body = {
        "model": "smollm2",
        "messages": [{"role": "user", "content": "Say hello."}],
        "max_tokens": 8,
        "stream": True,
    }
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    connection.request("POST", f"{url.path}/chat/completions", json.dumps(body), headers)
    response = connection.getresponse()
    while line := response.readline():
        if b'"content"' in line:
            return
    raise SystemExit(f"no token came: status {response.status}")


def read_document(process: subprocess.Popen[str]) -> dict[str, str]:
    """The JSON document that the command prints when it is ready, and goes on running."""
    lines = iter(process.stdout or ())
    text = next(lines, "")
    while not text.endswith("}\n"):
        text += next(lines)
    document: dict[str, str] = json.loads(text)
    return document


def up_s() -> float:
    """One ``sealgate up``, until its first token; ended afterwards."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [SEALGATE, "up", "--json", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ,
        text=True,
    )
    try:
        ready = read_document(process)
        first_token(ready["base_url"], ready["api_key"])
        return time.perf_counter() - start
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    calls: dict[str, Callable[[], float]] = {
        "help": help_s,
        **{f"runtime_{mode}": partial(runtime_s, mode) for mode in MODES},
        "up_to_first_token": up_s,
    }
    figures = {
        name: round(statistics.median(call() for _ in range(repeat)), 3) for name, call in calls.items()
    }
    met = {name: figures[name] <= goal for name, goal in GOALS_S.items()}
    print(
        json.dumps(
            {"unit": "s", "repeat": repeat, "figures": figures, "goals": GOALS_S, "met": met}, indent=2
        )
    )


if __name__ == "__main__":
    main()
