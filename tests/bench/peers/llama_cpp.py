"""llama.cpp by its own batch benchmark. ``llama_cpp.py BINARY THREADS GGUF``.

It feeds random tokens and chooses none, so its figures leave out sampling and hold no text to compare.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

from tests.bench.peers.driver import Answer, Prompts, serve

# Of flash attention on and off, one cache for all streams or one each, these are the fastest here.
BEST = ("--flash-attn", "on", "--batch-size", "2048", "--ubatch-size", "512")


class LlamaCpp:
    """One file.

    Args:
        binary: ``llama-batched-bench``.
        threads: of decoding and of reading.
        model: the GGUF file.
    """

    def __init__(self, binary: str, threads: int, model: str) -> None:
        self._command = [binary, "-m", model, "-t", str(threads), "-tb", str(threads), *BEST]

    def facts(self) -> Answer:
        """See ``Peer``."""
        done = subprocess.run([self._command[0], "--version"], capture_output=True, text=True, check=True)
        version = re.search(r"version: (\S+)", done.stdout + done.stderr)
        return {
            "version": f"llama.cpp {version[1] if version else 'unknown'}",
            "settings": " ".join(BEST),
        }

    def decode(self, prompts: Prompts, tokens: int) -> Answer:
        """See ``Peer``."""
        measured = self._run(len(prompts), len(prompts[0]), tokens)
        return {"tokens_per_s": measured["speed_tg"]}

    def prefill(self, prompts: Prompts) -> Answer:
        """See ``Peer``."""
        return {"tokens_per_s": self._run(1, len(prompts[0]), 1)["speed_pp"]}

    def _run(self, streams: int, prompt: int, tokens: int) -> Any:
        sizes = ["-npl", streams, "-npp", prompt, "-ntg", tokens, "-c", streams * (prompt + tokens)]
        command = [*self._command, *map(str, sizes), "--output-format", "jsonl"]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True
        )
        return next(json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))


if __name__ == "__main__":
    serve(lambda: LlamaCpp(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
