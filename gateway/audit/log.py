"""The write-ahead log: no effect without an entry that the disk has.

    with AuditLog.open(path) as log:
        entry = await log.append(record)    # returns when the entry is durable
        ...                                 # only now the effect

Group commit: callers queue their records, one thread takes all that wait, chains them, writes them at once
and syncs once, so sixty-four callers share a sync that one alone would wait for as long. Order in the file is
the order of arrival; a batch stands as a whole or is refused as a whole.

The rest of the gateway knows ``DecisionLog`` only, so that a transparency log can take this one's place.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from gateway.audit.chain import Entry
from gateway.audit.file import AuditUnavailable, LogFile
from gateway.audit.head import Head, save_head
from gateway.audit.record import AdministrationRecord, AuditRecord
from gateway.audit.recovery import MAX_BATCH, Recovered, recover

MAX_WAITING = 16 * 1024
HEAD_EVERY = 4096  # entries; opening after a crash reads at most this many again, and one batch

_Ticket = tuple[AuditRecord, "Future[Entry]"]


class DecisionLog(Protocol):
    """What the gateway needs of a log."""

    async def append(self, record: AuditRecord) -> Entry:
        """Return when ``record`` is durably in the log.

        Raises:
            AuditUnavailable: it is not, and nothing may follow from it.
        """
        ...

    def append_sync(self, record: AuditRecord) -> Entry:
        """``append`` for callers without an event loop."""
        ...


class AuditLog:
    """A hash-chained file with one writer; made by ``open``. Safe to use from many threads and loops."""

    def __init__(self, path: Path, file: LogFile, recovered: Recovered) -> None:
        self.path = path
        self._file = file
        self._chain = recovered.chain
        self._last_line = recovered.last_line
        self._head_saved = recovered.chain.length
        self._waiting: deque[_Ticket] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="audit-log", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"AuditLog({self._chain.length} entries)"

    @classmethod
    def open(cls, path: Path, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> AuditLog:
        """Open or create the log, mend a torn end, and become its only writer.

        Args:
            path: of the file; the head file and what a recovery sets aside lie beside it.
            clock: for the entry that reports a recovery.

        Raises:
            AuditUnavailable: ``audit-unopenable``, ``audit-not-a-file``, ``audit-locked``, ``audit-disk``.
            LogRefused: it does not follow, or is shorter than its head file says.
        """
        file = LogFile(path)
        try:
            recovered = recover(file, path)
        except BaseException:
            file.close()
            raise
        log = cls(path, file, recovered)
        if recovered.torn is not None:
            log._report(recovered, clock())
        return log

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def length(self) -> int:
        """How many entries are durable."""
        return self._chain.length

    @property
    def head(self) -> str:
        """The hash of the last durable entry: note it elsewhere to make a cut end visible."""
        return self._chain.head

    def submit(self, record: AuditRecord) -> Future[Entry]:
        """Queue ``record``; the future is done when it is durable or refused.

        Raises:
            AuditUnavailable: ``audit-closed``, ``audit-overloaded``.
        """
        future: Future[Entry] = Future()
        with self._wake:
            if self._closing:
                raise AuditUnavailable("audit-closed", "the audit log is closed")
            if len(self._waiting) >= MAX_WAITING:
                raise AuditUnavailable("audit-overloaded", f"{MAX_WAITING} entries wait to be written")
            self._waiting.append((record, future))
            self._wake.notify()
        return future

    async def append(self, record: AuditRecord) -> Entry:
        """Return when ``record`` is durably in the log. Cancelling waits for nothing but may still log it.

        Raises:
            AuditUnavailable: it is not, and nothing may follow from it.
            Malformed: the record cannot be an entry: ``audit-event-too-large``, ``audit-decision-index``.
        """
        return await asyncio.wrap_future(self.submit(record))

    def append_sync(self, record: AuditRecord) -> Entry:
        """``append`` for callers without an event loop; never call it on a loop's thread.

        Raises:
            AuditUnavailable: as ``append``.
            Malformed: as ``append``.
        """
        return self.submit(record).result()

    def close(self) -> None:
        """Write what waits, save the head, and let go of the file. Closing twice is harmless."""
        with self._wake:
            if self._closing:
                return
            self._closing = True
            self._wake.notify()
        self._thread.join()
        self._save_head()
        self._file.close()

    def _report(self, recovered: Recovered, now: datetime) -> None:
        torn = recovered.torn
        if torn is None:
            return
        try:
            self.append_sync(
                AdministrationRecord(
                    time=now, actor="svc:gateway", act="log-recovered", digest=torn.digest, count=torn.size
                )
            )
        except BaseException:
            self.close()
            raise

    def _run(self) -> None:
        while batch := self._next_batch():
            self._commit(batch)
            if self._chain.length - self._head_saved >= HEAD_EVERY:
                self._save_head()

    def _next_batch(self) -> list[_Ticket]:
        """All that wait, up to a bound; empty when closing and nothing is left."""
        with self._wake:
            while not self._waiting and not self._closing:
                self._wake.wait()
            taken = min(len(self._waiting), MAX_BATCH)
            return [self._waiting.popleft() for _ in range(taken)]

    def _commit(self, batch: list[_Ticket]) -> None:
        # The state moves on only with the disk: a refused batch leaves no index and no sequence behind.
        trial = self._chain.copy()
        written: list[tuple[Future[Entry], Entry]] = []
        lines: list[bytes] = []
        for record, future in batch:
            if not future.set_running_or_notify_cancel():
                continue
            try:
                entry, line = trial.extend(record)
            except Exception as error:  # noqa: BLE001 - whatever it is, who waits must hear of it
                future.set_exception(error)
                continue
            written.append((future, entry))
            lines.append(line)
        if not lines:
            return
        try:
            self._file.append(b"".join(lines))
        except AuditUnavailable as error:
            for future, _ in written:
                future.set_exception(error)
            return
        self._chain = trial
        self._last_line = self._file.size - len(lines[-1])
        for future, entry in written:
            future.set_result(entry)

    def _save_head(self) -> None:
        if self._chain.length == self._head_saved:
            return
        try:
            save_head(self.path, Head(self._chain, self._file.size, self._last_line))
        except OSError:
            return  # the log itself is what counts; without a newer head, opening it reads more of it
        self._head_saved = self._chain.length
