"""Signed reports by way of Linux configfs-tsm (Documentation/ABI/testing/configfs-tsm-report).

One directory is one report: write ``inblob`` (64 bytes), read ``outblob`` (the report). ``generation`` counts
the writes to the directory: if it is not what our own writes make it, somebody else wrote between them, and
what was read may answer another question.
"""

from __future__ import annotations

import errno
import os
import secrets
import time
from pathlib import Path
from typing import Final, Protocol

from attest.attesters.base import AttesterFailure

TSM_REPORT_FOLDER: Final = Path("/sys/kernel/config/tsm/report")
PAUSE_SECONDS: Final = 0.05  # a firmware request takes milliseconds; the host may also throttle the guest
REPORT_DATA_SIZE: Final = 64
_ATTEMPTS: Final = 5
# EBUSY: another request is at the firmware. EWOULDBLOCK: the directory changed under us.
_TRY_AGAIN: Final = frozenset({errno.EBUSY, errno.EWOULDBLOCK, errno.EINTR})


class ReportFolder(Protocol):
    """The four file operations that configfs-tsm answers to."""

    def make(self, name: str) -> None:
        """Create the directory of one report; the kernel fills it with attributes."""
        ...

    def write(self, name: str, attribute: str, value: bytes) -> None:
        """Write one attribute in one call."""
        ...

    def read(self, name: str, attribute: str) -> bytes:
        """Read one attribute to its end."""
        ...

    def remove(self, name: str) -> None:
        """Remove the directory."""
        ...


class KernelReportFolder:
    """``ReportFolder`` on the real configfs."""

    def __init__(self, folder: Path = TSM_REPORT_FOLDER) -> None:
        self._folder = folder

    def make(self, name: str) -> None:
        """Create the directory of one report."""
        (self._folder / name).mkdir()

    def write(self, name: str, attribute: str, value: bytes) -> None:
        """Write one attribute; configfs takes a value in one write call or not at all."""
        descriptor = os.open(self._folder / name / attribute, os.O_WRONLY)
        try:
            if os.write(descriptor, value) != len(value):
                raise OSError(errno.EIO, f"short write to {attribute}")
        finally:
            os.close(descriptor)

    def read(self, name: str, attribute: str) -> bytes:
        """Read one attribute to its end."""
        return (self._folder / name / attribute).read_bytes()

    def remove(self, name: str) -> None:
        """Remove the directory."""
        (self._folder / name).rmdir()


class TsmReports:
    """Asks one driver for reports, again while it is busy.

    Args:
        folder: where configfs-tsm is.
        provider: the driver that must answer, e.g. ``"sev_guest"``.
        answers: the attributes that together are the answer.
        pause_seconds: how long to wait before asking a busy firmware again.
    """

    def __init__(
        self,
        folder: ReportFolder,
        *,
        provider: str,
        answers: tuple[str, ...] = ("outblob",),
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        self._folder = folder
        self._provider = provider
        self._answers = answers
        self._pause_seconds = pause_seconds

    def ask(self, report_data: bytes, *, privilege_level: int | None = None) -> tuple[bytes, ...]:
        """The answers to ``report_data``, in the order of the attributes.

        Raises:
            AttesterFailure: another driver, or the firmware stayed busy.
            ValueError: ``report_data`` is not 64 bytes.
        """
        if len(report_data) != REPORT_DATA_SIZE:
            raise ValueError(f"report_data takes {REPORT_DATA_SIZE} bytes, not {len(report_data)}")
        for _ in range(_ATTEMPTS):
            try:
                return self._ask_once(report_data, privilege_level)
            except OSError as error:
                if error.errno not in _TRY_AGAIN:
                    raise AttesterFailure(f"configfs-tsm: {error.strerror}") from error
                time.sleep(self._pause_seconds)
        raise AttesterFailure(f"configfs-tsm: busy after {_ATTEMPTS} attempts")

    def _ask_once(self, report_data: bytes, privilege_level: int | None) -> tuple[bytes, ...]:
        name = f"sealgate-{secrets.token_hex(8)}"
        self._folder.make(name)
        try:
            provider = self._folder.read(name, "provider").decode("ascii", "replace").strip()
            if provider != self._provider:
                raise AttesterFailure(f"configfs-tsm: provider is {provider!r}, not {self._provider!r}")
            before = self._generation(name)
            writes = 1
            if privilege_level is not None:
                self._folder.write(name, "privlevel", str(privilege_level).encode())
                writes += 1
            self._folder.write(name, "inblob", report_data)
            answers = tuple(self._folder.read(name, attribute) for attribute in self._answers)
            if self._generation(name) != before + writes:
                raise OSError(errno.EWOULDBLOCK, "the report directory changed")
            return answers
        finally:
            self._folder.remove(name)

    def _generation(self, name: str) -> int:
        text = self._folder.read(name, "generation")
        try:
            return int(text)
        except ValueError as error:
            raise AttesterFailure("configfs-tsm: generation is not a number") from error
