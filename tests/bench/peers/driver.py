"""What every peer's child process does: read a command a line, measure, answer a line. Standard library only.

    -> {"do": "facts"}                                        <- {"version": ..., ...}
    -> {"do": "decode", "prompts": [[...]...], "tokens": 64}  <- {"tokens_per_s": ..., "ids": [[...]...]}
    -> {"do": "prefill", "prompts": [[...]]}                  <- {"tokens_per_s": ...}

A child runs in its peer's own environment, so it is started by path and imports nothing of Sealgate's but
what its peer is.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

Prompts = list[list[int]]
Answer = dict[str, Any]

_SAME_STEP_S = 0.002
"""What comes so close together was one step's: the shortest step here takes twice as long."""


class Peer(Protocol):
    """What is measured."""

    def facts(self) -> Answer:
        """Version and settings."""
        ...

    def decode(self, prompts: Prompts, tokens: int) -> Answer:
        """Continue all prompts greedily by so many tokens, past any end of sequence."""
        ...

    def prefill(self, prompts: Prompts) -> Answer:
        """Read one prompt, up to the logits of its last position."""
        ...


class Window:
    """The rate of tokens while every stream decodes: from the last one's first token to the first's last.

    Before and after that an engine reads prompts in the same steps or runs a smaller batch.

    Args:
        streams: how many there are.
    """

    def __init__(self, streams: int) -> None:
        self._times: list[list[float]] = [[] for _ in range(streams)]

    def add(self, stream: int, tokens: int, now: float) -> None:
        """A stream got tokens."""
        self._times[stream] += [now] * tokens

    def rate(self) -> float:
        """Tokens per second."""
        start = max(times[0] for times in self._times)
        everything = [at for times in self._times for at in times]
        end = max(at for at in everything if at <= min(times[-1] for times in self._times) + _SAME_STEP_S)
        return sum(start < at <= end for at in everything) / (end - start)


def serve(make: Callable[[], Peer]) -> None:
    """Answer commands until standard input ends; what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    start = time.perf_counter()
    peer = make()
    start_s = round(time.perf_counter() - start, 1)
    for line in sys.stdin:
        command = json.loads(line)
        match command["do"]:
            case "facts":
                answer = {**peer.facts(), "start_s": start_s}
            case "decode":
                answer = peer.decode(command["prompts"], command["tokens"])
            case "prefill":
                answer = peer.prefill(command["prompts"])
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def rate(tokens: int, work: Callable[[], object]) -> Answer:
    """An answer from one timed call."""
    start = time.perf_counter()
    work()
    return {"tokens_per_s": tokens / (time.perf_counter() - start)}
