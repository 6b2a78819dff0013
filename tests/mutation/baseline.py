"""Which lines each test executes, kept from run to run as long as neither it nor what is measured changes."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import pytest

_FILE: Final = Path("build") / "mutation" / "baseline.pickle"


@dataclass(frozen=True, slots=True)
class Seen:
    """What one test did: seconds of the processor under the tracer, and lines by file."""

    seconds: float
    lines: dict[str, list[int]]


class Known:
    """The tests seen before.

    Args:
        root: of the checkout; the file is our own, below ``build``.
        measured: the files that are to be mutated. What a test does in others may have changed since.
    """

    def __init__(self, root: Path, measured: set[str]) -> None:
        self._path = root / _FILE
        self._measured = measured
        self._seen: dict[str, tuple[dict[str, str], Seen]] = {}
        if self._path.is_file():
            self._seen = pickle.loads(self._path.read_bytes())  # noqa: S301 - written by ourselves

    def get(self, item: pytest.Item) -> Seen | None:
        """What ``item`` did, unless it or a measured file that it executed is another since."""
        digests, seen = self._seen.get(item.nodeid, ({}, None))
        if seen is None or digests.get(str(item.path)) != _of(str(item.path)):
            return None
        if any(digests[file] != _of(file) for file in self._measured & digests.keys()):
            return None
        return seen

    def put(self, item: pytest.Item, seen: Seen) -> None:
        """Remember what ``item`` did."""
        self._seen[item.nodeid] = ({path: _of(path) for path in (str(item.path), *seen.lines)}, seen)

    def save(self) -> None:
        """For the next run."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_bytes(pickle.dumps(self._seen))


@cache
def _of(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
