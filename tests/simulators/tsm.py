"""Linux configfs-tsm with a mock chip behind it, in memory."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping

from attest.evidence.certificate_table import ASK, CRL, VCEK
from attest.evidence.cpu import SnpCollateral


def certificate_table(entries: Mapping[bytes, bytes]) -> bytes:
    """A table as a host writes it."""
    offset = 24 * (len(entries) + 1)
    headers, bodies = b"", b""
    for guid, body in entries.items():
        position = offset + len(bodies)
        headers += guid + position.to_bytes(4, "little") + len(body).to_bytes(4, "little")
        bodies += body
    return headers + bytes(24) + bodies


def table_of(collateral: SnpCollateral) -> bytes:
    """The table that a host would offer for this collateral."""
    entries = {VCEK: collateral.leaf, ASK: collateral.intermediate, CRL: collateral.crl}
    return certificate_table({guid: body for guid, body in entries.items() if body is not None})


class SimulatedTsm:
    """Behaves as the kernel does: attributes appear with the directory, each write counts.

    Args:
        report: the firmware.
        table: what the host offers.
        provider: name of the driver.
        busy: how many reads of ``outblob`` fail with EBUSY first.
        interference: how many reports another process spoils by a write of its own.
    """

    def __init__(
        self,
        report: Callable[[bytes], bytes],
        table: bytes,
        *,
        provider: bytes = b"sev_guest\n",
        busy: int = 0,
        interference: int = 0,
    ) -> None:
        self._report = report
        self._table = table
        self._provider = provider
        self.busy = busy
        self.interference = interference
        self.directories: dict[str, dict[str, bytes]] = {}
        self.made = 0
        self.privilege_levels: list[bytes] = []

    def make(self, name: str) -> None:
        """Create the directory of one report."""
        if name in self.directories:
            raise OSError(errno.EEXIST, "File exists")
        self.directories[name] = {"generation": b"0\n", "provider": self._provider}
        self.made += 1

    def write(self, name: str, attribute: str, value: bytes) -> None:
        """Write one attribute."""
        directory = self.directories[name]
        directory[attribute] = value
        directory["generation"] = b"%d\n" % (int(directory["generation"]) + 1)
        if attribute == "privlevel":
            self.privilege_levels.append(value)

    def read(self, name: str, attribute: str) -> bytes:
        """Read one attribute."""
        directory = self.directories[name]
        if attribute == "outblob":
            if self.busy:
                self.busy -= 1
                raise OSError(errno.EBUSY, "Device or resource busy")
            if self.interference:
                self.interference -= 1
                self.write(name, "inblob", b"\xee" * 64)
            return self._report(directory["inblob"])
        if attribute == "auxblob":
            return self._table
        return directory[attribute]

    def remove(self, name: str) -> None:
        """Remove the directory."""
        del self.directories[name]
