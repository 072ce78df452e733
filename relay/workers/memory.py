# SPDX-License-Identifier: MIT
"""Memory that several processes share: made before the fork, found at the same place behind it.

A cell is a number of eight octets, which is read and written in one piece. What only one process writes needs no lock;
all else is changed inside of one. A process may be killed at any moment: whoever comes next has to live with what it
has written so far.
"""

from __future__ import annotations

import fcntl
import mmap
import os

DIGEST_OCTETS = 32
_CELL = 8


def octets(count: int) -> memoryview:
    """So many zeros."""
    return memoryview(mmap.mmap(-1, max(count, 1)))


def cells(count: int) -> memoryview:
    """So many whole numbers, all of them 0."""
    return octets(count * _CELL).cast("q")


def moments(count: int) -> memoryview[float]:
    """So many moments of the monotonic clock, which is one for all processes of a machine; 0.0 to begin with."""
    return octets(count * _CELL).cast("d")


class Lock:
    """Held for microseconds by one process, with no switch between greenlets inside; the kernel frees it at its death.

    A record lock (fcntl(2)) on one octet of a file in memory: the process holds it, and not a thread.
    """

    def __init__(self, descriptor: int, number: int) -> None:
        self._descriptor = descriptor
        self._number = number

    def __enter__(self) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX, 1, self._number)

    def __exit__(self, *fault: object) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, self._number)


class Locks:
    """Makes locks."""

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("graph-smtp-relay-locks")
        self._made = 0

    def make(self) -> Lock:
        self._made += 1
        return Lock(self._descriptor, self._made)


class Digests:
    """A table of digests by index; all zeros: nothing there."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._octets = octets(size * DIGEST_OCTETS)

    def __getitem__(self, index: int) -> bytes:
        return bytes(self._octets[index * DIGEST_OCTETS : (index + 1) * DIGEST_OCTETS])

    def __setitem__(self, index: int, digest: bytes) -> None:
        self._octets[index * DIGEST_OCTETS : (index + 1) * DIGEST_OCTETS] = digest

    def find(self, digest: bytes, start: int = 0, stop: int | None = None) -> int:
        """The first index from start on, and below stop, where it stands; -1 where it stands nowhere."""
        stop = self.size if stop is None else stop
        part = bytes(self._octets[start * DIGEST_OCTETS : stop * DIGEST_OCTETS])
        at = part.find(digest)
        while at > 0 and at % DIGEST_OCTETS:
            at = part.find(digest, at + 1)
        return start + at // DIGEST_OCTETS if at >= 0 else -1


NOTHING = bytes(DIGEST_OCTETS)
