"""What was typed, as values: files of the operator's, moments, nonces."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from gateway.cli.failure import Exit, Failure

_NONCE: Final = re.compile(r"(?:[0-9a-fA-F]{2}){1,1024}", re.ASCII)


def load(reader: Any, path: Path, what: str) -> Any:
    """A file of the operator's, or a failure that says where it was looked for."""
    try:
        return reader(path)
    except FileNotFoundError as error:
        raise Failure(
            f"no {what} at {path}",
            "there is no default that accepts: write one (docs/reference/), or let 'sealgate up' write the "
            "development pair for the mock TEE of this machine",
            code="no_trust",
        ) from error


def moment_of(text: str | None) -> datetime:
    """The moment to judge by: an RFC 3339 text, or now."""
    if text is None:
        return datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise _bad_moment() from error
    if moment.tzinfo is None:
        raise _bad_moment()
    return moment.astimezone(UTC)


def nonce_bytes(text: str | None) -> bytes | None:
    """The nonce that raw evidence must answer; None if nobody says which."""
    if text is None:
        return None
    if _NONCE.fullmatch(text) is None:
        raise usage("--nonce takes hex digits, two for a byte", "a nonce that is text: give its bytes in hex")
    return bytes.fromhex(text)


def usage(message: str, hint: str) -> Failure:
    """The command was used wrongly."""
    return Failure(message, hint, code="usage", exit_code=Exit.USAGE)


def _bad_moment() -> Failure:
    return usage("--at takes an RFC 3339 moment with its offset", "for example --at 2026-03-01T12:00:00Z")
