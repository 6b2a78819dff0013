"""One line of the cache's index."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from attest import digest, strict_json
from attest.refusal import Malformed

MAX_ENTRY_BYTES: Final = 4096
_MEMBERS: Final = frozenset({"key", "digest", "fetched_at", "not_after", "source"})
_MAX_TEXT: Final = 1024
_END_OF_TIME: Final = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())


@dataclass(frozen=True, slots=True)
class Entry:
    """What is kept under a name.

    Args:
        key: of the item.
        digest: ``sha256:`` of what is kept.
        fetched_at: when it was fetched, aware, whole seconds.
        not_after: the end that the document itself names, or None; a hint.
        source: whose answer it is, for people.
    """

    key: str
    digest: str
    fetched_at: datetime
    not_after: datetime | None = None
    source: str = ""

    @classmethod
    def parse(cls, data: bytes) -> Entry:
        """Read one.

        Raises:
            Malformed: ``collateral-*``.
        """
        value = strict_json.loads(data, name="collateral", max_bytes=MAX_ENTRY_BYTES)
        members = strict_json.members_exactly(value, _MEMBERS, name="collateral")
        end = members["not_after"]
        return cls(
            key=_text(members["key"]),
            digest=digest.checked(members["digest"], code="collateral-members", field="digest"),
            fetched_at=_moment(members["fetched_at"]),
            not_after=None if end is None else _moment(end),
            source=_text(members["source"]),
        )

    def serialise(self) -> bytes:
        """The form that ``parse`` reads."""
        return strict_json.canonical(self.as_dict())

    def as_dict(self) -> dict[str, str | int | None]:
        """The members of that form."""
        return {
            "key": self.key,
            "digest": self.digest,
            "fetched_at": int(self.fetched_at.timestamp()),
            "not_after": None if self.not_after is None else int(self.not_after.timestamp()),
            "source": self.source,
        }

    def serves(self, *, not_before: datetime | None, at: datetime | None) -> bool:
        """Whether it was fetched in time, and had not ended.

        Args:
            not_before: fetched since, or None.
            at: fetched by, and not ended at, or None. A clock that was wrong, or an archive from elsewhere,
                may have dated an entry so that it would never be asked for again.
        """
        if not_before is not None and self.fetched_at < not_before.replace(microsecond=0):
            return False
        return at is None or (self.fetched_at <= at and (self.not_after is None or at <= self.not_after))


def _moment(value: Any) -> datetime:
    if type(value) is not int or not 0 <= value <= _END_OF_TIME:
        raise Malformed("collateral-members", "an entry's time")
    return datetime.fromtimestamp(value, UTC)


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not value.isascii():
        raise Malformed("collateral-members", "an entry's key or source")
    return value
