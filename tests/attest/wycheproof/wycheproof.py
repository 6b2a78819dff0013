"""Vectors of C2SP/wycheproof under shared/vectors/wycheproof, case by case."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def cases(folder: Path, name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Group and test of each case of a file.

    Args:
        folder: the folder of all files.
        name: of one, without ``_test.json``.
    """
    document = json.loads((folder / f"{name}_test.json").read_bytes())
    for group in document["testGroups"]:
        for test in group["tests"]:
            yield group, test


def unhex(test: dict[str, Any], *names: str) -> list[bytes]:
    """Members that are written in hex."""
    return [bytes.fromhex(test[name]) for name in names]
