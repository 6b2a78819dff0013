"""The head file: how far the log was, so that opening it need not read all of it again.

``log.jsonl.head`` is written when the log is closed and every few thousand entries. It saves time and also
shows a log that was cut: one shorter than its head is refused. It is no proof against someone who may write
both files; a head noted elsewhere (``sealgate audit verify --head``) is.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attest.refusal import Malformed
from attest.strict_json import canonical, loads, members_exactly
from gateway.audit.chain import Chain
from gateway.audit.file import sync_folder
from gateway.audit.forms import require_count, require_digest, require_id

FORMAT = "sealgate-audit-head-v1"
_MAX_BYTES = 16 * 1024 * 1024
_MEMBERS = frozenset({"format", "length", "head", "offset", "last_line", "sequences"})


@dataclass(frozen=True, slots=True)
class Head:
    """A position in the log.

    Args:
        chain: the state there.
        offset: bytes of the log up to there.
        last_line: where the last line before ``offset`` starts.
    """

    chain: Chain
    offset: int
    last_line: int


def head_path(log: Path) -> Path:
    """Where the head of this log is kept."""
    return log.with_name(log.name + ".head")


def save_head(log: Path, head: Head) -> None:
    """Replace the head file as a whole.

    Raises:
        OSError: if the disk refuses; the old file stands.
    """
    document = {
        "format": FORMAT,
        "length": head.chain.length,
        "head": head.chain.head,
        "offset": head.offset,
        "last_line": head.last_line,
        "sequences": head.chain.sequences,
    }
    path = head_path(log)
    draft = path.with_name(path.name + ".new")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(canonical(document))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)


def load_head(log: Path) -> Head | None:
    """The head that was saved, or None if there is none or it cannot be read: then all of the log is."""
    try:
        return _head(head_path(log).read_bytes())
    except (OSError, Malformed):
        return None


def _head(data: bytes) -> Head:
    document: dict[str, Any] = members_exactly(
        loads(data, name="audit-head", max_bytes=_MAX_BYTES), _MEMBERS, name="audit-head"
    )
    for name in ("length", "offset", "last_line"):
        require_count(name, document[name])
    require_digest("head", document["head"])
    if document["format"] != FORMAT or not isinstance(document["sequences"], dict):
        raise Malformed("audit-head-members", "not a head")
    for tenant, sequence in document["sequences"].items():
        require_id("tenant", tenant)
        require_count("sequence", sequence, least=1)
    chain = Chain(document["length"], document["head"], dict(document["sequences"]))
    return Head(chain, document["offset"], document["last_line"])
