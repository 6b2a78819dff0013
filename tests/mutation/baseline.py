"""Which lines each test executes, kept from run to run as long as neither it nor those files change."""

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
    """

    def __init__(self, root: Path) -> None:
        self._path = root / _FILE
        self._seen: dict[str, tuple[str, Seen]] = {}
        if self._path.is_file():
            self._seen = pickle.loads(self._path.read_bytes())  # noqa: S301 - written by ourselves

    def get(self, item: pytest.Item) -> Seen | None:
        """What ``item`` did, unless it or a file that it executed is another since."""
        digest, seen = self._seen.get(item.nodeid, ("", None))
        if seen is None or digest != _digest(item.path, tuple(seen.lines)):
            return None
        return seen

    def put(self, item: pytest.Item, seen: Seen) -> None:
        """Remember what ``item`` did."""
        self._seen[item.nodeid] = (_digest(item.path, tuple(seen.lines)), seen)

    def save(self) -> None:
        """For the next run."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_bytes(pickle.dumps(self._seen))


def _digest(test: Path, files: tuple[str, ...]) -> str:
    return hashlib.sha256("".join(_of(path) for path in (str(test), *files)).encode()).hexdigest()


@cache
def _of(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
