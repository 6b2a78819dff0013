"""How long a decision takes, and how many durable entries a second the log takes, as JSON.

    python -m tests.bench.bench_decide_and_log [--folder DIR] [--entries N]

``decide_us`` is the median of single decisions by the default policies; goal 300 us. The log is written in
``--folder`` (a new temporary one by default), so the figures are that disk's: ``sync_floor_per_s`` is how
often the same run can append one such line and sync it with nothing around it, and each ``*_per_s`` counts
entries that were durable when their caller went on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from gateway.audit.chain import Chain
from gateway.audit.log import AuditLog
from gateway.audit.record import DecisionRecord
from gateway.audit.verify import verify_log
from policies.decision import Decision, DecisionRequest, RuntimeFacts, send_prompt
from policies.engine import PolicySet
from policies.labels import enclave_atom, join_all, labelled

DIGEST = "sha256:" + "a" * 64
READER = enclave_atom(DIGEST)
DECIDE_GOAL_US = 300


def request() -> DecisionRequest:
    """An ordinary prompt to a verified runtime."""
    runtime = RuntimeFacts(DIGEST, frozenset({READER}), True, "amd", False, "eu", DIGEST)
    return send_prompt(
        key_id="key_1",
        groups=("support",),
        runtime=runtime,
        label=labelled({"svc:key_1": [READER]}),
        purpose="inference",
        stream=True,
        max_tokens=100,
        allow_mock=False,
    )


def record(decision: Decision, facts: DecisionRequest) -> DecisionRecord:
    """What is written before that prompt is sent."""
    return DecisionRecord(
        time=datetime.now(UTC),
        tenant="t" * 43,
        actor="key_1",
        action="send_prompt",
        request_id="req-1",
        verdict=decision.verdict,
        rules=decision.rules,
        policy_digest=decision.policy_digest,
        facts=facts.facts,
        statement_digest=DIGEST,
    )


def decision_figures(repeat: int) -> dict[str, float]:
    """Single decisions, and the join of a prompt made of fifty documents."""
    policies, asked = PolicySet.load(), request()
    readers = [f"user:u{number}" for number in range(200)]
    documents = [labelled({f"org:o{number % 5}": readers[number:]}) for number in range(50)]

    def median_us(call: Callable[[], object]) -> float:
        times = []
        for _ in range(repeat):
            start = time.perf_counter_ns()
            call()
            times.append(time.perf_counter_ns() - start)
        return round(statistics.median(times) / 1e3, 1)

    return {
        "facts_us": median_us(request),
        "decide_us": median_us(lambda: policies.decide(asked)),
        "join_50_documents_200_readers_us": median_us(lambda: join_all(documents)),
    }


async def _concurrently(log: AuditLog, callers: int, entry: DecisionRecord, entries: int) -> float:
    async def caller() -> None:
        for _ in range(entries // callers):
            await log.append(entry)

    start = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return round(entries // callers * callers / (time.perf_counter() - start))


def _floor(folder: Path, entry: DecisionRecord, entries: int) -> float:
    line = Chain().extend(entry)[1]
    fd = os.open(folder / "floor", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    start = time.perf_counter()
    for _ in range(entries):
        os.write(fd, line)
        os.fdatasync(fd)
    rate = entries / (time.perf_counter() - start)
    os.close(fd)
    return round(rate)


def log_figures(folder: Path, entries: int) -> dict[str, float]:
    """Appends by one caller, by many, and what reading the log back takes."""
    asked = request()
    entry = record(PolicySet.load().decide(asked), asked)
    figures = {"sync_floor_per_s": _floor(folder, entry, entries)}
    path = folder / "log.jsonl"
    with AuditLog.open(path) as log:
        for callers in (1, 8, 64, 256):
            rate = asyncio.run(_concurrently(log, callers, entry, entries * min(callers, 8)))
            figures[f"append_{callers}_callers_per_s"] = rate
    start = time.perf_counter()
    summary = verify_log(path)
    figures["verify_per_s"] = round(summary.entries / (time.perf_counter() - start))
    start = time.perf_counter()
    AuditLog.open(path).close()
    figures["open_ms"] = round((time.perf_counter() - start) * 1e3, 2)
    figures["bytes_per_entry"] = round(path.stat().st_size / summary.entries)
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where the log is written")
    parser.add_argument("--entries", type=int, default=1000, help="entries for one caller")
    arguments = parser.parse_args()
    decided = decision_figures(1000)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        logged = log_figures(Path(folder), arguments.entries)
    goals = {"decide_us": {"goal": DECIDE_GOAL_US, "met": decided["decide_us"] <= DECIDE_GOAL_US}}
    print(json.dumps({"decide": decided, "log": logged, "goals": goals}, indent=1))


if __name__ == "__main__":
    main()
