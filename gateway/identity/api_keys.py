"""API keys: who an application is to the gateway.

A key is ``sg-`` and 256 random bits in base64url. At rest there is its SHA-256 only: with that much entropy
a slow hash would add nothing but latency. The store is one SQLite file, so that the command line can create
and revoke keys while the gateway runs; a revocation holds from the next request on.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gateway.errors import InvalidApiKey

_KEY_FORM = re.compile(r"sg-[A-Za-z0-9_-]{43}")
_NAME_FORM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@ -]{0,63}")
_GROUP_FORM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PREFIX_LENGTH = 7  # "sg-" and four characters: enough to recognise a key, 232 bits short of using it

_SCHEMA = """
CREATE TABLE IF NOT EXISTS api_keys (
    id TEXT PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    prefix TEXT NOT NULL,
    name TEXT NOT NULL,
    groups TEXT NOT NULL,
    created_at TEXT NOT NULL,
    revoked_at TEXT
) STRICT
"""


@dataclass(frozen=True)
class Caller:
    """An authenticated application."""

    key_id: str
    name: str
    groups: tuple[str, ...]


@dataclass(frozen=True)
class ApiKeyInfo:
    """What may be shown of a key: everything but the key."""

    id: str
    prefix: str
    name: str
    groups: tuple[str, ...]
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, repr=False)
class NewApiKey:
    """A key at the only moment when it is known."""

    secret: str
    info: ApiKeyInfo

    def __repr__(self) -> str:
        return f"NewApiKey({self.info.id}, {self.info.prefix}...)"


class ApiKeyStore:
    """The keys of one gateway.

    Args:
        path: the SQLite file; made with mode 0600 if absent.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=True)
        # One connection for lookups, used by one thread at a time; writers open their own.
        self._path = path
        self._reader = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
        self._reader.execute("PRAGMA journal_mode = WAL")  # a writer never blocks a lookup
        self._reader.execute(_SCHEMA)

    def close(self) -> None:
        """Release the file."""
        self._reader.close()

    def create(self, name: str, *, groups: tuple[str, ...] = (), now: datetime) -> NewApiKey:
        """A new key, returned once.

        Raises:
            ValueError: if the name or a group is not a short plain name.
        """
        if not _NAME_FORM.fullmatch(name):
            raise ValueError("a key's name is 1 to 64 of A-Z a-z 0-9 . _ @ - and space")
        if not all(_GROUP_FORM.fullmatch(group) for group in groups):
            raise ValueError("a group is 1 to 64 of A-Z a-z 0-9 . _ -")
        secret = f"sg-{secrets.token_urlsafe(32)}"
        info = ApiKeyInfo(
            id=f"key_{secrets.token_hex(8)}",
            prefix=secret[:_PREFIX_LENGTH],
            name=name,
            groups=tuple(sorted(set(groups))),
            created_at=now.astimezone(UTC).replace(microsecond=0),
            revoked_at=None,
        )
        row = (
            info.id,
            _digest(secret),
            info.prefix,
            name,
            json.dumps(info.groups),
            info.created_at.isoformat(),
        )
        with self._writer() as database:
            database.execute("INSERT INTO api_keys VALUES (?, ?, ?, ?, ?, ?, NULL)", row)
        return NewApiKey(secret=secret, info=info)

    def all(self) -> list[ApiKeyInfo]:
        """All keys, revoked ones too, oldest first."""
        rows = self._reader.execute(
            "SELECT id, prefix, name, groups, created_at, revoked_at FROM api_keys ORDER BY created_at, id"
        )
        return [_info(row) for row in rows]

    def revoke(self, key_id: str, *, now: datetime) -> ApiKeyInfo:
        """End a key for good; ending it again changes nothing.

        Raises:
            KeyError: if there is no such key.
        """
        moment = now.astimezone(UTC).replace(microsecond=0).isoformat()
        with self._writer() as database:
            database.execute(
                "UPDATE api_keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", (moment, key_id)
            )
        for info in self.all():
            if info.id == key_id:
                return info
        raise KeyError(key_id)

    def authenticate(self, authorization: str | None) -> Caller:
        """Who sent this Authorization header.

        Raises:
            InvalidApiKey: for every reason alike, so that an answer tells nothing about which keys exist.
        """
        scheme, _, secret = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not _KEY_FORM.fullmatch(secret.strip()):
            raise InvalidApiKey("No valid API key.")
        # The lookup's time depends on a digest that nobody can steer without the key.
        row = self._reader.execute(
            "SELECT id, name, groups FROM api_keys WHERE digest = ? AND revoked_at IS NULL",
            (_digest(secret.strip()),),
        ).fetchone()
        if row is None:
            raise InvalidApiKey("No valid API key.")
        key_id, name, groups = row
        return Caller(key_id=key_id, name=name, groups=tuple(json.loads(groups)))

    @contextmanager
    def _writer(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(self._path, timeout=5)
        try:
            with database:
                yield database
        finally:
            database.close()


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("ascii")).digest()


def _info(row: tuple[str, str, str, str, str, str | None]) -> ApiKeyInfo:
    key_id, prefix, name, groups, created_at, revoked_at = row
    return ApiKeyInfo(
        id=key_id,
        prefix=prefix,
        name=name,
        groups=tuple(json.loads(groups)),
        created_at=datetime.fromisoformat(created_at),
        revoked_at=None if revoked_at is None else datetime.fromisoformat(revoked_at),
    )
