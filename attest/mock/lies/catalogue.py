"""How a lie is named and registered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from attest.mock.world import MockWorld

Lie = Callable[[MockWorld, str], bytes]
Needs = Literal["any", "snp", "tdx", "azure-snp", "gpu", "board"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One lie.

    Args:
        name: as typed after ``--fault``.
        title: what the liar does, for people.
        promise: which promise it attacks, e.g. ``P1``.
        expected_code: the refusal that must meet it.
        exit_code: what ``sealgate verify`` exits with.
        level: ``bundle`` lies in evidence, ``channel`` after it.
        needs: which machine can tell it: one of that TEE, one with a GPU, or one with a board of several.
    """

    name: str
    title: str
    promise: str
    expected_code: str
    exit_code: int = 10
    level: Literal["bundle", "channel"] = "bundle"
    needs: Needs = "any"

    def fits(self, world: MockWorld) -> bool:
        """Whether this world's machine can tell the lie."""
        board = world.machine.board
        if self.needs in {"gpu", "board"}:
            return board is not None and (self.needs == "gpu" or len(board.devices) > 1)
        return self.needs in {"any", world.machine.cpu.kind}


class Catalogue:
    """Bundle lies under their names.

    Args:
        needs: which machine can tell them.
        promise: which promise they attack, unless one says otherwise.
    """

    def __init__(self, needs: Needs = "any", promise: str = "P1") -> None:
        self.faults: dict[str, Fault] = {}
        self.lies: dict[str, Lie] = {}
        self._needs = needs
        self._promise = promise

    def __call__(
        self,
        name: str,
        title: str,
        expected_code: str,
        *,
        promise: str | None = None,
        exit_code: int = 10,
        needs: Needs | None = None,
    ) -> Callable[[Lie], Lie]:
        """Register the decorated lie."""
        fault = Fault(
            name, title, promise or self._promise, expected_code, exit_code, needs=needs or self._needs
        )

        def register(lie: Lie) -> Lie:
            self.faults[name] = fault
            self.lies[name] = lie
            return lie

        return register


def other_digest(digest: str) -> str:
    """One bit away, and still 64 hex digits."""
    return "sha256:" + other_hex(digest.removeprefix("sha256:"))


def other_hex(text: str) -> str:
    """One bit away, and still hex: digits come in such pairs, and so do b, c and d, e."""
    for index, character in enumerate(text):
        other = chr(ord(character) ^ 1)
        if other in "0123456789abcdef":
            return text[:index] + other + text[index + 1 :]
    return text[:-1] + "0"


def other_bytes(data: bytes, at: int = 0) -> bytes:
    """One bit away."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
