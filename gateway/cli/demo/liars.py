"""Hosts that lie, each in one way, and what happens when a gateway meets them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from openai import OpenAI

from attest.evidence.cpu import CpuKind
from attest.mock.faults import FAULTS, Fault
from gateway.cli.demo.ask import Asked, ask
from gateway.cli.demo.search import Trace, find_prompt
from gateway.cli.demo.trail import sent_prompts
from gateway.cli.dev_world import Machine

_LAUNCHED: Final[dict[CpuKind, tuple[str, ...]]] = {
    "snp": ("wrong-measurement", "debug-guest"),
    "tdx": ("wrong-mrtd", "debug-td"),
    "azure-snp": ("wrong-pcr", "vtpm-of-another"),
}
_ANYWHERE: Final = ("key-swapped", "stale-nonce", "replayed-answer", "truncated-stream")
_BESIDE: Final = ("gpu-left-out", "gpu-firmware")
NUMBERS: Final = {6: "Six", 8: "Eight"}
WARM_UP = "Please answer this harmless first question: how many days does a week have?"
"""What the liar that replays is asked first, so that it has an answer to replay."""
MAX_TOKENS = 24
_POST = b"POST "


def liars_of(machine: Machine) -> tuple[str, ...]:
    """The liars of the demo on ``machine``; each is a name in ``attest.mock.faults``."""
    return (*_LAUNCHED[machine.tee], *_ANYWHERE, *(_BESIDE if machine.gpus else ()))


@dataclass(frozen=True)
class Meeting:
    """What came of asking one liar.

    Args:
        fault: its lie.
        asked: what the application got.
        recorded: how many bytes the liar's host saw.
        sealed_requests: how many requests other than questions for evidence it got.
        traces: forms in which a prompt was found in those bytes.
        why_not: what did not hold, empty if all did.
    """

    fault: Fault
    asked: Asked
    recorded: int
    sealed_requests: int
    traces: tuple[Trace, ...] = ()
    why_not: tuple[str, ...] = field(default=())

    @property
    def held(self) -> bool:
        """Whether the lie was refused as it must be."""
        return not self.why_not

    def as_dict(self) -> dict[str, Any]:
        """The meeting for JSON output."""
        return {
            "liar": self.fault.name,
            "lie": self.fault.title,
            "expected_refusal": self.fault.expected_code,
            "refusal": self.asked.refusal,
            "error": self.asked.code,
            "answer_accepted": self.asked.accepted,
            "bytes_recorded": self.recorded,
            "sealed_requests": self.sealed_requests,
            "prompt_found": [trace.form for trace in self.traces],
            "held": self.held,
            "why_not": list(self.why_not),
        }


def meet(name: str, stock: OpenAI, *, model: str, prompt: str, recording: Path, log: Path) -> Meeting:
    """Ask one liar through the gateway that ``stock`` points at, and look at what its host saw.

    Args:
        name: one of ``liars_of``.
        stock: the application's client.
        model: model to ask for.
        prompt: what must not be found in the recording.
        recording: every byte that the liar's host received.
        log: audit log of that gateway.
    """
    fault = FAULTS[name]
    if name == "replayed-answer":
        first = ask(stock, model, WARM_UP, max_tokens=MAX_TOKENS)
        if not first.accepted:
            return Meeting(fault, first, 0, 0, why_not=("its first, honest answer was not accepted",))
    asked = ask(stock, model, prompt, max_tokens=MAX_TOKENS)
    seen = recording.read_bytes()
    traces = tuple(trace for text in (prompt, WARM_UP) for trace in find_prompt(seen, text))
    why_not = _why_not(fault, asked, seen, let_out=sent_prompts(log))
    if traces:
        why_not = (*why_not, "the prompt was found in what its host saw")
    return Meeting(fault, asked, len(seen), seen.count(_POST), traces, why_not)


def _why_not(fault: Fault, asked: Asked, seen: bytes, *, let_out: int) -> tuple[str, ...]:
    """Everything that did not hold.

    Args:
        fault: the lie.
        asked: what the application got.
        seen: what the liar's host received.
        let_out: prompts that the gateway's log says were sent.
    """
    before_sending = fault.level == "bundle"
    posted = seen.count(_POST)
    conditions = {
        "the answer was accepted": not asked.accepted,
        "the application got no error": asked.code is not None,
        f"the refusal was {asked.refusal or asked.code}, not {fault.expected_code}": (
            asked.refusal == fault.expected_code
        ),
        "text reached the application before the verdict": not (before_sending and asked.text),
        "something was sent to it": not (before_sending and posted),
        "the log says that a prompt was sent": not (before_sending and let_out),
        # Without these two, "nothing was found" would mean nothing.
        "the liar recorded nothing at all": bool(seen),
        "nothing sealed reached it": before_sending or (posted > 0 and posted == let_out),
    }
    return tuple(text for text, holds in conditions.items() if not holds)
