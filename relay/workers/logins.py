# SPDX-License-Identifier: MIT
"""auth_limit over all workers: each counts the failures of all, which a journal tells it."""

from __future__ import annotations

import struct

from relay.clock import Clock
from relay.config import AuthLimit
from relay.loginlimit import LoginLimit, key_of
from relay.workers.journal import Journal

MOST_FAILURES = 65_536
RECORD_OCTETS = 56  # a moment, and an IPv6 network as text
_MOMENT = struct.Struct("d")


class SharedLoginLimit(LoginLimit):
    """One worker's count."""

    def __init__(self, limit: AuthLimit, clock: Clock, journal: Journal) -> None:
        super().__init__(limit, clock)
        self._journal = journal

    def failed(self, address: str) -> None:
        self._journal.append(_MOMENT.pack(self._clock.monotonic()) + key_of(address).encode("ascii"))
        self._read_on()

    def reached(self, address: str) -> bool:
        self._read_on()
        return super().reached(address)

    def purge(self) -> None:
        self._read_on()
        super().purge()

    def _read_on(self) -> None:
        for record in self._journal.news():
            (when,) = _MOMENT.unpack_from(record)
            self._count(record[_MOMENT.size :].decode("ascii"), when)
