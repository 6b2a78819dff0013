"""The one bounded cursor that every binary parser reads through.

No parser slices bytes itself: a slice past the end is silently short in Python, and a length taken
from the input is an attacker's number. ``Reader`` raises ``Malformed`` with the offset instead.
"""

from __future__ import annotations

from attest.refusal import Malformed


class Reader:
    """A forward-only cursor over immutable bytes.

    Args:
        data: the input; never copied whole.
        name: the format's name, which becomes the prefix of the refusal code (``{name}-truncated``).
    """

    __slots__ = ("_data", "_name", "_position")

    def __init__(self, data: bytes | memoryview, name: str) -> None:
        self._data = memoryview(data)
        self._name = name
        self._position = 0

    def __repr__(self) -> str:
        return f"Reader({self._name}, {self._position}/{len(self._data)} bytes)"

    @property
    def position(self) -> int:
        """Offset of the next unread byte."""
        return self._position

    @property
    def remaining(self) -> int:
        """Number of unread bytes."""
        return len(self._data) - self._position

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes.

        Raises:
            Malformed: ``{name}-truncated`` if fewer are left.
        """
        if size < 0 or size > self.remaining:
            raise Malformed(
                f"{self._name}-truncated",
                f"{size} bytes wanted, {self.remaining} left",
                offset=self._position,
            )
        start = self._position
        self._position += size
        return bytes(self._data[start : self._position])

    def uint_le(self, size: int) -> int:
        """An unsigned little-endian integer of ``size`` bytes."""
        return int.from_bytes(self.take(size), "little")

    def uint_be(self, size: int) -> int:
        """An unsigned big-endian integer of ``size`` bytes."""
        return int.from_bytes(self.take(size), "big")

    def zeros(self, size: int, field: str) -> None:
        """Consume ``size`` reserved bytes that must be zero.

        Raises:
            Malformed: ``{name}-reserved-not-zero`` otherwise.
        """
        start = self._position
        if self.take(size).strip(b"\x00"):
            raise Malformed(f"{self._name}-reserved-not-zero", field, offset=start)

    def end(self) -> None:
        """Require that nothing is left.

        Raises:
            Malformed: ``{name}-trailing-bytes`` otherwise.
        """
        if self.remaining:
            raise Malformed(
                f"{self._name}-trailing-bytes", f"{self.remaining} bytes too many", offset=self._position
            )
