# SPDX-License-Identifier: MIT
"""What happened to any worker, for all of them to read: a ring of records in shared memory.

Every worker keeps its own conclusions and reads on before it looks at them. A worker that starts reads what is there.
"""

from __future__ import annotations

from relay.workers.memory import Lock, cells, octets


class Journal:
    """One process' view of it, from where it has read so far."""

    def __init__(self, most: int, record_octets: int, lock: Lock) -> None:
        self._most = most
        self._size = record_octets
        self._lock = lock
        self._head = cells(1)  # how many records were written since the start
        self._lengths = cells(most)
        self._octets = octets(most * record_octets)
        self._read = 0

    def append(self, record: bytes) -> None:
        """For all workers, this one too. One that is too long is left out."""
        if len(record) > self._size:
            return
        with self._lock:
            at = self._head[0] % self._most
            self._octets[at * self._size : at * self._size + len(record)] = record
            self._lengths[at] = len(record)
            self._head[0] += 1  # before that, nobody sees it

    def news(self) -> list[bytes]:
        """What was appended since the last call, oldest first, as far as it is still there."""
        if self._head[0] == self._read:
            return []
        with self._lock:
            head = self._head[0]
            numbers = range(max(self._read, head - self._most), head)
            records = [self._record(number % self._most) for number in numbers]
        self._read = head
        return records

    def _record(self, at: int) -> bytes:
        return bytes(self._octets[at * self._size : at * self._size + self._lengths[at]])
