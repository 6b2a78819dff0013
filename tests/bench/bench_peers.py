"""Sealgate's engine beside transformers, vLLM and llama.cpp. Prints one JSON object, and a table beside it.

Run: make bench-peers (which installs the peers), or python -m tests.bench.bench_peers [--rounds 5] [--resume]

Each peer runs in a process of its own, in its own environment, on the same weights and the same threads, by
the settings that are its best here. They take turns within a round, and all but one stand still; medians over
the rounds are compared. Prompts are of 64 tokens, each stream gets 32 more, and the rate is taken while all
streams decode. ``--resume`` adds rounds to those of an earlier run with the same peers. On a machine that is
not one's own, ``--by-turns`` lets each peer wait for a line on standard input before it takes its turn (the
line ``end`` ends the run); and a figure does not count, and is taken again, if other programs had more than
``--others`` of the processors.

The files that peers read lie in build/peers/models and are made from the model that Sealgate itself runs, by
``peers.models``: its tensors as they dequantise, rounded once, as GGUF in BF16, F16 and Q8_0 for llama.cpp,
whose Q4_1 is the pulled file itself, and as a Hugging Face folder in bfloat16 for transformers and vLLM.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from runtime.model.loaded import open_model
from tests.bench.peers import models
from tests.bench.peers.child import Child, PeerFailed

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "build" / "peers"
DRIVERS: Final = Path(__file__).parent / "peers"
TEXT: Final = ROOT / "docs" / "explanation" / "architecture.md"
PROMPT, TOKENS, LONG, STREAMS = 64, 32, 1024, (1, 8, 32)
TRIES: Final = 2
COMPARED: Final = 8
"""Tokens of each of 8 streams that are compared with transformers' in float32."""

Rounds = dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class Goal:
    """At least ``times`` as fast at ``what``.

    Args:
        what: rows of the figures.
        ours: a weight mode.
        peers: the fastest of them counts.
        times: at least.
    """

    what: str
    ours: str
    peers: tuple[str, ...]
    times: float


HF, Q8 = ("transformers bf16", "transformers float32"), ("llama.cpp Q8_0",)
VLLM, QUANTISED = ("vLLM bf16",), ("llama.cpp Q8_0", "llama.cpp Q4_1")
GOALS: Final = (
    Goal("decode_1", "ours bf16", VLLM, 1.2),
    *(
        Goal(f"decode_{n}", "ours bf16", peers, times)
        for n in (8, 32)
        for peers, times in ((HF, 5), (VLLM, 1.5))
    ),
    Goal("prefill", "ours bf16", VLLM, 1.2),
    Goal("prefill", "ours int8", QUANTISED, 1.0),
    Goal("decode_1", "ours int8", Q8, 1.0),
    Goal("decode_8", "ours int8", Q8, 1.2),
    Goal("decode_32", "ours int8", Q8, 1.5),
)


def commands(threads: int) -> dict[str, list[str]]:
    """How each peer is started."""
    here, count = sys.executable, str(threads)
    pulled, made = str(models.pulled_file()), FOLDER / "models"
    batched = str(FOLDER / "llama" / "cmake" / "bin" / "llama-batched-bench")
    vllm = str(FOLDER / "vllm" / "bin" / "python")
    folder = str(models.hugging_face_folder(made))
    files = {kind.upper(): str(models.gguf_file(kind, made)) for kind in models.GGUF_TYPES}
    module = [here, "-m"]
    return {
        **{
            f"ours {mode}": [*module, "tests.bench.peers.ours", mode, count]
            for mode in ("bf16", "int8", "float32")
        },
        **{
            f"transformers {short}": [*module, "tests.bench.peers.hugging_face", dtype, count, folder]
            for short, dtype in (("bf16", "bfloat16"), ("float32", "float32"))
        },
        "vLLM bf16": [vllm, str(DRIVERS / "vllm_cpu.py"), "bfloat16", count, folder],
        **{
            f"llama.cpp {kind}": [*module, "tests.bench.peers.llama_cpp", batched, count, file]
            for kind, file in {**files, "Q4_1": pulled}.items()
        },
    }


def prompts() -> list[list[int]]:
    """A long one, then one for each stream, of the same text from different places."""
    ids = open_model(models.MODEL).tokenizer.encode(TEXT.read_text())
    ids *= 1 + LONG // len(ids)
    return [ids[:LONG], *(ids[37 * i : 37 * i + PROMPT] for i in range(max(STREAMS)))]


def measured(child: Child, asked: list[list[int]], most_others: float) -> Iterator[tuple[str, Any]]:
    """One round of one peer: rows and answers, but for those that others disturbed each time."""
    long, *short = asked
    commands: dict[str, Any] = {"prefill": {"do": "prefill", "prompts": [long]}}
    for streams in STREAMS:
        commands[f"decode_{streams}"] = {"do": "decode", "prompts": short[:streams], "tokens": TOKENS}
    for row, command in commands.items():
        for _ in range(TRIES):
            busy, own, start = busy_s(), child.cpu_s(), time.monotonic()
            answer = child.ask(command)
            others = busy_s() - busy - (child.cpu_s() - own)
            if others <= most_others * (time.monotonic() - start) * (os.cpu_count() or 1):
                yield row, answer
                break


def busy_s() -> float:
    """Processor time that all programs took, since the machine started."""
    user, nice, system = map(int, Path("/proc/stat").read_text().split()[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def agreement(answers: dict[str, list[list[int]]]) -> dict[str, float]:
    """Which part of the first tokens of 8 streams is what transformers chooses in float32."""
    reference = answers.get("transformers float32", [])
    shares = {}
    for name, ids in answers.items():
        same = [
            one == other
            for mine, theirs in zip(ids, reference, strict=False)
            for one, other in zip(mine[:COMPARED], theirs[:COMPARED], strict=True)
        ]
        if same:
            shares[name] = round(sum(same) / len(same), 2)
    return shares


def verdicts(medians: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """Each goal with what was reached; goals whose peers did not run have no ratio."""
    rows = []
    for goal in GOALS:
        rates = {name: medians[name][goal.what] for name in goal.peers if goal.what in medians.get(name, {})}
        ours = medians.get(goal.ours, {}).get(goal.what)
        ratio = round(ours / max(rates.values()), 2) if rates and ours else None
        rows.append(
            {
                "what": goal.what,
                "ours": goal.ours,
                "peer": max(rates, key=rates.__getitem__) if rates else " or ".join(goal.peers),
                "goal": goal.times,
                "ratio": ratio,
                "verdict": "not measured" if ratio is None else "pass" if ratio >= goal.times else "MISS",
            }
        )
    return rows


def table(report: dict[str, Any]) -> str:
    """Markdown."""
    rows = ["prefill", *(f"decode_{streams}" for streams in STREAMS)]
    lines = ["| tokens/s | prefill 1,024 | 1 stream | 8 streams | 32 streams |", "|---|---|---|---|---|"]
    for name, figures in report["tokens_per_s"].items():
        cells = [f"{figures[row]:,.0f}" if row in figures else "-" for row in rows]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "| what | ours | peer | goal | ratio | |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {' | '.join(str(goal[key]) for key in ('what', 'ours', 'peer', 'goal', 'ratio', 'verdict'))} |"
        for goal in report["goals"]
    ]
    return "\n".join(lines)


class Run:
    """The peers that run, what was measured, and who failed.

    Args:
        rounds: measured before.
        most_others: part of the processors that other programs may have while a figure is taken.
    """

    def __init__(self, rounds: Rounds, most_others: float) -> None:
        self.rounds = rounds
        self._most_others = most_others
        self.children: dict[str, Child] = {}
        self.failures: dict[str, str] = {}
        self.answers: dict[str, list[list[int]]] = {}

    def start(self, wanted: dict[str, list[str]], threads: int, asked: list[list[int]]) -> None:
        """Start those wanted and let each warm up."""
        environment = {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
        for name, command in wanted.items():
            try:
                self.children[name] = Child(name, command, environment, FOLDER / "logs")
                self.children[name].ask({"do": "decode", "prompts": asked[1:3], "tokens": 4})
            except PeerFailed as failure:
                self.failures[name] = str(failure)

    def round(self, asked: list[list[int]], *, by_turns: bool = False) -> bool:
        """One turn of everyone who has not failed; ``by_turns``: each when a line is read.

        Returns:
            Whether to go on: the line was not ``end``.
        """
        for name, child in self.children.items():
            if name in self.failures:
                continue
            if by_turns and sys.stdin.readline().strip() == "end":
                return False
            start = time.monotonic()
            try:
                for row, answer in measured(child, asked, self._most_others):
                    self.rounds.setdefault(name, {}).setdefault(row, []).append(answer["tokens_per_s"])
                    if row == "decode_8" and "ids" in answer:
                        self.answers[name] = answer["ids"]
            except PeerFailed as failure:
                self.failures[name] = str(failure)
            print(f"{name}: {time.monotonic() - start:.0f} s", flush=True, file=sys.stderr)
        return True

    def report(self) -> dict[str, Any]:
        """Facts, medians and goals."""
        medians = {
            name: {row: round(statistics.median(values), 1) for row, values in figures.items()}
            for name, figures in self.rounds.items()
        }
        return {
            "peers": {name: child.facts for name, child in self.children.items()},
            "failures": self.failures,
            "figures": {
                name: {row: len(values) for row, values in figures.items()}
                for name, figures in self.rounds.items()
            },
            "tokens_per_s": medians,
            "spread": {
                name: {row: spread(values) for row, values in figures.items()}
                for name, figures in self.rounds.items()
            },
            "tokens_as_transformers_float32": agreement(self.answers),
            "goals": verdicts(medians),
        }


def spread(values: list[float]) -> float:
    """How far apart the rounds are, over their median."""
    return round((max(values) - min(values)) / statistics.median(values), 2)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--by-turns", action="store_true")
    parser.add_argument("--others", type=float, default=0.1)
    parser.add_argument("--only", default="", help="Peers whose names contain one of these, by commas.")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the children end too
    kept = FOLDER / "rounds.json"
    before: Rounds = json.loads(kept.read_text()) if options.resume and kept.exists() else {}
    run = Run(before, options.others)
    asked = prompts()
    wanted = {
        name: command
        for name, command in commands(options.threads).items()
        if any(each in name for each in options.only.split(","))
    }
    try:
        run.start(wanted, options.threads, asked)
        for _ in range(options.rounds):
            going_on = run.round(asked, by_turns=options.by_turns)
            kept.write_text(json.dumps(run.rounds))
            if not going_on:
                break
    finally:
        for child in run.children.values():
            child.end()
    facts = {
        "model": models.MODEL,
        "threads": options.threads,
        "prompt": PROMPT,
        "tokens": TOKENS,
        "load_average": round(os.getloadavg()[0], 1),
    }
    report = {**facts, **run.report()}
    (ROOT / "build" / "bench").mkdir(parents=True, exist_ok=True)
    (ROOT / "build" / "bench" / "peers.md").write_text(table(report) + "\n")
    print(f"\n{table(report)}", file=sys.stderr)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
