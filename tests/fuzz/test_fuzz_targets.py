"""Every fuzz target, without atheris: seeds, inputs that once crashed, and damaged seeds.

So a target that no longer runs is noticed, and what fuzzing found stays mended.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from attest.refusal import Refused
from tests.fuzz.measured import BoundExceeded, execute
from tests.fuzz.targets import TARGETS, Target

DAMAGED = 150
REGRESSIONS = Path(__file__).parent / "regressions"
# These take several steps that no one input can all pass, so a seed shows only that none of them crashes.
NEVER_ACCEPTING = {"snp-leaf", "gpu-facts", "x509", "nras-device", "maa-claims", "strict-toml"}


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_understood(name: str) -> None:
    """Fuzzing starts from inputs that the parser accepts, not from ones it refuses at the first byte."""
    accepted = [execute(TARGETS[name], seed) for seed in TARGETS[name].seeds()]
    assert accepted
    assert any(accepted) or name in NEVER_ACCEPTING


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_seeds_are_refused_or_accepted(name: str) -> None:
    """Whatever happens to an input, nothing but a refusal leaves the parser, and within its bounds."""
    target, dice = TARGETS[name], random.Random(name)  # noqa: S311 - must be the same each time
    seeds = [seed for seed in target.seeds() if len(seed) <= target.max_bytes] or [b""]
    for _ in range(DAMAGED):
        execute(target, damaged(dice.choice(seeds), dice))


@pytest.mark.parametrize(
    "path", sorted(REGRESSIONS.glob("*/*")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_inputs_that_once_crashed(path: Path) -> None:
    """What fuzzing found is refused, or accepted, and no more than that."""
    execute(TARGETS[path.parent.name], path.read_bytes())


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff" * 64, bytes(4096)])
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_and_noise(name: str, data: bytes) -> None:
    """No input at all, and inputs without any structure."""
    execute(TARGETS[name], data)


def test_a_foreign_exception_is_let_out() -> None:
    """The harness itself would see a crash: it swallows refusals and nothing else."""

    def run(data: bytes) -> None:
        raise Refused("no") if data else KeyError("leak")

    target = Target("harness", run, lambda: iter(()))
    assert not execute(target, b"x")
    with pytest.raises(KeyError):
        execute(target, b"")


def test_a_slow_or_greedy_parser_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bounds are measured, not hoped for."""
    monkeypatch.setattr("tests.fuzz.measured.MAX_SECONDS", -1.0)
    with pytest.raises(BoundExceeded, match=" s for 0 bytes"):
        execute(TARGETS["pem"], b"")
    monkeypatch.undo()
    monkeypatch.setattr("tests.fuzz.measured.MAX_GROWTH_KIB", -1)
    with pytest.raises(BoundExceeded, match="MiB for 0 bytes"):
        execute(TARGETS["pem"], b"")


def damaged(seed: bytes, dice: random.Random) -> bytes:
    """``seed`` after one to four of the things that fuzzers do."""
    data = bytearray(seed)
    for _ in range(dice.randint(1, 4)):
        place = dice.randrange(len(data) + 1)
        match dice.randrange(6):
            case 0 if place < len(data):
                data[place] ^= 1 << dice.randrange(8)
            case 1 if place < len(data):
                data[place] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, 0x22, 0x2D, 0x30))
            case 2:
                del data[place : place + dice.randint(1, 16)]
            case 3:
                data[place:place] = data[max(0, place - dice.randint(1, 16)) : place]
            case 4:
                del data[place:]
            case _:
                data[place:place] = dice.randbytes(dice.randint(1, 4))
    return bytes(data)
