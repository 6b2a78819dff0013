"""The log's file: locked by one writer, appended to durably, checked for foreign hands.

An append that raised has had no effect that a later append could build on: a short write is cut off again,
and after a failed sync, or if cutting off fails, the file is given up until it is opened anew. (After a
failed ``fsync`` Linux may drop the unwritten pages and report success next time, so trying again would
turn "refused" into "lost".)
"""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

from attest.refusal import Refused


class AuditUnavailable(Refused):
    """The log cannot take an entry now, so nothing that needs one may happen.

    Args:
        code: ``audit-locked``, ``audit-unopenable``, ``audit-not-a-file``, ``audit-disk``, ``audit-moved``,
            ``audit-changed``, ``audit-broken``, ``audit-overloaded``, ``audit-closed``.
        reason: for a person.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code, "the audit log", got=reason)


class LogFile:
    """The open file; its owner calls from one thread at a time.

    Args:
        path: created with mode 0600 if absent; its folder (0700) too.

    Raises:
        AuditUnavailable: ``audit-unopenable``, ``audit-not-a-file``, ``audit-locked``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._broken = ""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # O_NONBLOCK: opening a FIFO that someone put there must not hang the gateway.
            self._fd = os.open(
                path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600
            )
        except OSError as error:
            raise AuditUnavailable("audit-unopenable", _why(error)) from error
        try:
            self._take()
        except BaseException:
            os.close(self._fd)
            raise
        self.size = os.fstat(self._fd).st_size

    def _take(self) -> None:
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            raise AuditUnavailable("audit-not-a-file", "the audit log's path is no regular file")
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise AuditUnavailable("audit-locked", "another process writes this audit log") from error
        try:
            sync_folder(self._path.parent)
        except OSError as error:
            raise AuditUnavailable("audit-unopenable", _why(error)) from error

    def read(self, offset: int, size: int) -> bytes:
        """At most ``size`` bytes from ``offset``."""
        return os.pread(self._fd, size, offset)

    def append(self, data: bytes) -> None:
        """Write ``data`` at the end and wait until the disk has it.

        Raises:
            AuditUnavailable: ``audit-disk``, ``audit-moved``, ``audit-changed``, ``audit-broken``.
        """
        if self._broken:
            raise AuditUnavailable("audit-broken", self._broken)
        self._require_untouched()
        try:
            self._write(data)
        except OSError as error:
            self._cut_back()
            raise AuditUnavailable("audit-disk", _why(error)) from error
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            self._broken = "a sync failed; what the disk holds is known only after opening the log anew"
            raise AuditUnavailable("audit-disk", _why(error)) from error
        self.size += len(data)

    def truncate(self, size: int) -> None:
        """Cut the file to ``size`` bytes, durably; for recovery.

        Raises:
            AuditUnavailable: ``audit-disk``.
        """
        try:
            os.ftruncate(self._fd, size)
            os.fsync(self._fd)
        except OSError as error:
            raise AuditUnavailable("audit-disk", _why(error)) from error
        self.size = size

    def close(self) -> None:
        """Release the lock and the file."""
        os.close(self._fd)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def _cut_back(self) -> None:
        try:
            os.ftruncate(self._fd, self.size)
        except OSError:
            self._broken = "a write failed half-way and could not be undone"

    def _require_untouched(self) -> None:
        """Entries written to a file that was moved away or cut would be lost with every sync succeeding."""
        try:
            mine = os.fstat(self._fd)
            named = self._path.stat()
        except OSError as error:
            raise AuditUnavailable("audit-moved", _why(error)) from error
        if (named.st_dev, named.st_ino) != (mine.st_dev, mine.st_ino):
            raise AuditUnavailable("audit-moved", "the audit log's path now names another file")
        if mine.st_size != self.size:
            raise AuditUnavailable("audit-changed", f"{mine.st_size} bytes, {self.size} were written")


def sync_folder(folder: Path) -> None:
    """Make names in ``folder`` durable.

    Raises:
        OSError: if the disk refuses.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _why(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else type(error).__name__
