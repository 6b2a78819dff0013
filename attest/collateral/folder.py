"""Files of the cache: read within bounds, written whole, by one writer at a time, for the owner only."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from attest.refusal import Refused

_BLOB: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Neither a link to elsewhere nor a pipe that never answers."""


def read(path: Path, longest: int) -> bytes | None:
    """The bytes of a file, one more than ``longest`` at most; None if there is none.

    Raises:
        Refused: ``collateral-cache-unusable``.
    """
    try:
        with os.fdopen(os.open(path, _READ), "rb") as file:
            return file.read(longest + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(error) from error


def write(path: Path, data: bytes) -> None:
    """All of it or nothing; only in one's ``turn``.

    Raises:
        Refused: ``collateral-cache-unusable``.
    """
    draft = path.with_name(f".{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            draft.replace(path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _unusable(error) from error


def drop(path: Path) -> None:
    """Delete a file that may be gone already.

    Raises:
        Refused: ``collateral-cache-unusable``.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _unusable(error) from error


def blobs(folder: Path) -> dict[str, int]:
    """Names and sizes of the blobs in ``folder``; other files are none.

    Raises:
        Refused: ``collateral-cache-unusable``.
    """
    try:
        with os.scandir(folder) as files:
            return {
                file.name: file.stat(follow_symlinks=False).st_size
                for file in files
                if _BLOB.fullmatch(file.name) and file.is_file(follow_symlinks=False)
            }
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _unusable(error) from error


@contextmanager
def turn(folder: Path) -> Iterator[None]:
    """Wait until nobody else writes the folder, in this process or another.

    Raises:
        Refused: ``collateral-cache-unusable``.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _unusable(error: OSError) -> Refused:
    return Refused(
        "collateral-cache-unusable",
        "docs/reference/collateral.md",
        expected="a folder of ours to read and write",
        got=type(error).__name__,
    )
