"""Which numbers each tenant has used: a request counts once.

A tenant's requests run concurrently and arrive out of order, so the rule is IPsec's (RFC 4303 section 3.4.3):
a window below the highest number seen, in which each number is good once; what lies below the window is too
old. Gaps are no error here: the tenant's own audit log is what must have none.
"""

from __future__ import annotations

from typing import Final

from attest.refusal import Refused

WINDOW: Final = 1024
"""Numbers. More requests than one gateway has in flight at once."""

CLAUSE: Final = "RFC 4303 section 3.4.3"
_MASK = (1 << WINDOW) - 1


class SequenceWindow:
    """One tenant's used numbers."""

    __slots__ = ("_highest", "_used")

    def __init__(self) -> None:
        self._highest = 0
        self._used = 0  # bit i: number (highest - i) was used

    def claim(self, sequence: int) -> None:
        """Use a number (at least 1).

        Raises:
            Refused: ``sequence-replayed``, ``sequence-too-old``.
        """
        ahead = sequence - self._highest
        if ahead > 0:
            # A jump past the window forgets it whole; shifting by the jump itself would build a huge number.
            self._used = ((self._used << ahead) & _MASK if ahead < WINDOW else 0) | 1
            self._highest = sequence
            return
        behind = -ahead
        if behind >= WINDOW:
            raise Refused("sequence-too-old", CLAUSE, expected=f"above {self._highest - WINDOW}")
        if self._used >> behind & 1:
            raise Refused("sequence-replayed", CLAUSE, expected="a number not used before", got=str(sequence))
        self._used |= 1 << behind


class Tenants:
    """The windows of all tenants of one keyset; they end with it.

    Args:
        capacity: tenants to remember. Anyone may make a key, so it is bounded; none is ever forgotten,
            because a forgotten tenant's requests could be repeated.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._windows: dict[str, SequenceWindow] = {}

    def __len__(self) -> int:
        return len(self._windows)

    def claim(self, tenant: str, sequence: int) -> None:
        """Use a tenant's number.

        Raises:
            Refused: ``sequence-replayed``, ``sequence-too-old``, ``tenant-store-full``.
        """
        window = self._windows.get(tenant)
        if window is None:
            if len(self._windows) >= self._capacity:
                raise Refused("tenant-store-full", expected=f"at most {self._capacity} tenants per keyset")
            window = self._windows[tenant] = SequenceWindow()
        window.claim(sequence)
