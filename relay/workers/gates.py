# SPDX-License-Identifier: MIT
"""Places that the requests of all workers share, by name: lanes of mailboxes, and one fetch at a time for one user.

A table in shared memory has a row for each name that is in use. In it every worker has two cells of its own: how many
places it has taken, and the ticket of whoever is next there. A ticket is the deadline, and a place that comes free
belongs to the lowest: first come, first served, whoever's it is. forget() zeroes a dead worker's cells.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from bisect import insort
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from relay.clock import Clock, Deadline
from relay.graph.lanes import LEAST_IN_ALL, RECOVER_S, places_now
from relay.workers.memory import DIGEST_OCTETS, NOTHING, Digests, Lock, cells, moments
from relay.workers.post import Inboxes

_ALL = 0  # the row of all mailboxes together
_GRACE_S = 2.0  # behind its deadline whoever waits is gone, unless its worker hangs: then nobody waits for it
_LOOK_AGAIN_S = 1.0  # a place may come free without anybody's doing: a narrowed lane grows
_RESTS_UNTIL, _NEXT_START, _NARROWED_AT = range(3)


class GateTable:
    """The memory; made before the fork."""

    def __init__(self, workers: int, rows: int, lock: Lock) -> None:
        self.workers = workers
        self.rows = rows
        self.lock = lock
        self.names = Digests(rows)
        self.moments = moments(rows * 3)
        self.narrowed_to = cells(rows)  # 0: not at all
        self.taken = cells(rows * workers)
        self.oldest = cells(rows * workers)  # tickets; 0: nobody waits there
        self.complained = Digests(1)
        self.complained_at = moments(1)
        self.names[_ALL] = digest_of("all", "")

    def forget(self, worker: int) -> None:
        """It is dead: what it has taken is free. The others have to be woken behind it."""
        with self.lock:
            for row in range(self.rows):
                self.taken[row * self.workers + worker] = 0
                self.oldest[row * self.workers + worker] = 0


class _Waiter:
    __slots__ = ("admitted", "highest", "ticket")

    def __init__(self, deadline: Deadline, highest: Callable[[], int]) -> None:
        self.ticket = 1 + int(deadline.at * 1_000_000)
        self.highest = highest
        self.admitted = threading.Event()

    def place(self) -> int:
        """By what it stands in the queue."""
        return self.ticket


class Gates:
    """One worker's view of the table."""

    def __init__(self, table: GateTable, worker: int, clock: Clock, inboxes: Inboxes) -> None:
        self._table = table
        self._worker = worker
        self._clock = clock
        self._inboxes = inboxes
        self._waiting: dict[int, list[_Waiter]] = {}  # by row
        self._known: dict[bytes, int] = {}  # where a name was last; the row may have become another's

    def look(self) -> None:
        """There may be a place: another worker says so, or a new configuration."""
        for row in list(self._waiting):
            self._look_at(row)

    def enter(self, name: bytes, highest: Callable[[], int], deadline: Deadline) -> bool:
        """Take a place, behind those with an earlier deadline; False at one's own, or when the table is full.

        highest: how many places there may be, which a reload can change while somebody waits.
        """
        with self._table.lock:
            row = self._row(name)
            if row < 0:
                return False
            if self._next(row) is None and sum(self._taken(row)) < self._places(row, highest()):
                self._table.taken[row * self._table.workers + self._worker] += 1
                return True
            waiter = _Waiter(deadline, highest)
            insort(self._waiting.setdefault(row, []), waiter, key=_Waiter.place)
            self._publish(row)
        try:
            left_s = deadline.remaining()
            while left_s > 0 and not waiter.admitted.wait(min(left_s, _LOOK_AGAIN_S)):
                left_s -= _LOOK_AGAIN_S
                self._look_at(row)
        except BaseException:  # ended from outside
            self._leave_queue(row, waiter, keep=False)
            raise
        return self._leave_queue(row, waiter, keep=True)

    def leave(self, name: bytes, highest: int) -> None:
        """Give the place to whoever is next."""
        with self._table.lock:
            row = self._row(name)
            self._table.taken[row * self._table.workers + self._worker] -= 1
            next_ = self._admit(row, highest)
        self._wake(next_)

    def rest(self, name: bytes, until: float) -> None:
        with self._table.lock:
            row = self._row(name)
            if row >= 0:
                at = row * 3 + _RESTS_UNTIL
                self._table.moments[at] = max(self._table.moments[at], until)

    def rests_until(self, name: bytes) -> float:
        row = self._known.get(name, -1)
        if row < 0 or self._table.names[row] != name:
            with self._table.lock:
                row = self._row(name, make=False)
        return float(self._table.moments[row * 3 + _RESTS_UNTIL]) if row >= 0 else 0.0

    def next_start(self, name: bytes, interval_s: float, latest: float) -> float | None:
        with self._table.lock:
            row = self._row(name)
            if row < 0:
                return None
            at = row * 3 + _NEXT_START
            start = max(self._clock.monotonic(), float(self._table.moments[at]))
            if start >= latest:
                return None
            self._table.moments[at] = start + interval_s
            return start

    def narrow(self, name: bytes, highest: int, least: int, began: float) -> bool:
        with self._table.lock:
            row = self._row(name)
            if row < 0 or began < self._table.moments[row * 3 + _NARROWED_AT]:
                return False
            before = self._places(row, highest)
            narrowed_to = max(least, min(before, sum(self._taken(row))) // 2)
            self._table.moments[row * 3 + _NARROWED_AT] = self._clock.monotonic()
            self._table.narrowed_to[row] = narrowed_to
            return narrowed_to < before

    def places(self, name: bytes, highest: int) -> int:
        with self._table.lock:
            row = self._row(name, make=False)
            return self._places(row, highest) if row >= 0 else highest

    def enter_all(self, deadline: Deadline) -> bool:
        """Past all mailboxes' common gate, which mostly stands open: no lock then."""
        if not self._table.narrowed_to[_ALL]:
            self._table.taken[_ALL * self._table.workers + self._worker] += 1
            return True
        return self.enter(self._table.names[_ALL], lambda: sys.maxsize, deadline)

    def leave_all(self) -> None:
        if not self._table.narrowed_to[_ALL]:
            self._table.taken[_ALL * self._table.workers + self._worker] -= 1
        else:
            self.leave(self._table.names[_ALL], sys.maxsize)

    def narrow_all(self, began: float) -> bool:
        return self.narrow(self._table.names[_ALL], sys.maxsize, LEAST_IN_ALL, began)

    def places_in_all(self) -> int:
        return self.places(self._table.names[_ALL], sys.maxsize)

    def complained(self, name: bytes) -> bool:
        """Whether another name complained within the time in which a narrowed lane grows."""
        table = self._table
        now = self._clock.monotonic()
        with table.lock:
            other, when = table.complained[0], table.complained_at[0]
            table.complained[0], table.complained_at[0] = name, now
        return other not in (NOTHING, name) and now - when < RECOVER_S

    def purge(self) -> None:
        """Free the rows of which there is nothing to remember."""
        with self._table.lock:
            if self._places(_ALL, sys.maxsize) == sys.maxsize and not any(self._oldest(_ALL)):
                self._table.narrowed_to[_ALL] = 0  # its gate stands open again
        for row in range(_ALL + 1, self._table.rows):
            if self._table.names[row] != NOTHING:
                with self._table.lock:
                    self._free(row)
        self._known.clear()

    # Under the lock:

    def _row(self, name: bytes, *, make: bool = True) -> int:
        """Where the name stands; -1 where it does not, and cannot."""
        row = self._known.get(name, -1)
        if row >= 0 and self._table.names[row] == name:
            return row
        row = self._table.names.find(name)
        if row < 0 and make:
            row = self._make(name)
        if row >= 0:
            self._known[name] = row
        return row

    def _make(self, name: bytes) -> int:
        row = self._table.names.find(NOTHING)
        if row < 0:
            for other in range(_ALL + 1, self._table.rows):
                self._free(other)
            row = self._table.names.find(NOTHING)
        if row >= 0:
            self._table.narrowed_to[row] = 0
            for at in range(row * 3, row * 3 + 3):
                self._table.moments[at] = 0.0
            self._table.names[row] = name  # last: a row without a name is nobody's
        return row

    def _free(self, row: int) -> None:
        now = self._clock.monotonic()
        used = any(self._taken(row)) or any(self._oldest(row))
        waits = max(self._table.moments[row * 3 + _RESTS_UNTIL], self._table.moments[row * 3 + _NEXT_START]) > now
        if not used and not waits and self._places(row, sys.maxsize) == sys.maxsize:
            self._table.names[row] = NOTHING

    def _taken(self, row: int) -> memoryview:
        return self._table.taken[row * self._table.workers : (row + 1) * self._table.workers]

    def _oldest(self, row: int) -> memoryview:
        return self._table.oldest[row * self._table.workers : (row + 1) * self._table.workers]

    def _places(self, row: int, highest: int) -> int:
        narrowed_to = self._table.narrowed_to[row]
        if not narrowed_to:
            return highest
        return places_now(highest, narrowed_to, self._clock.monotonic() - self._table.moments[row * 3 + _NARROWED_AT])

    def _publish(self, row: int) -> None:
        queue = self._waiting.get(row)
        if not queue:
            self._waiting.pop(row, None)
        self._table.oldest[row * self._table.workers + self._worker] = queue[0].ticket if queue else 0

    def _next(self, row: int) -> int | None:
        """The worker whose turn it is."""
        tickets = self._oldest(row)
        if not any(tickets):
            return None
        past = (self._clock.monotonic() - _GRACE_S) * 1_000_000
        return min(((ticket, worker) for worker, ticket in enumerate(tickets) if ticket > past), default=(0, None))[1]

    def _admit(self, row: int, highest: int) -> int:
        """Let in who is next, as long as there are places; the worker that has to be woken for it, or -1."""
        while sum(self._taken(row)) < self._places(row, highest):
            worker = self._next(row)
            if worker is None:
                return -1
            if worker != self._worker:
                return worker  # it takes the place itself; nobody else will
            self._table.taken[row * self._table.workers + self._worker] += 1
            self._waiting[row].pop(0).admitted.set()
            self._publish(row)
        return -1

    # And without it:

    def _look_at(self, row: int) -> None:
        with self._table.lock:
            queue = self._waiting.get(row)
            next_ = self._admit(row, queue[0].highest()) if queue else -1
        self._wake(next_)

    def _leave_queue(self, row: int, waiter: _Waiter, *, keep: bool) -> bool:
        """Whether the waiter has a place by now. keep: it stays then; else it is given back."""
        with self._table.lock:
            admitted = waiter.admitted.is_set()
            if admitted and keep:
                return True
            if admitted:
                self._table.taken[row * self._table.workers + self._worker] -= 1
            else:
                self._waiting[row].remove(waiter)
                self._publish(row)
            next_ = self._admit(row, waiter.highest())
        self._wake(next_)
        return False

    def _wake(self, worker: int) -> None:
        if worker >= 0:
            self._inboxes.wake(worker)


@contextmanager
def one_at_a_time(gates: Gates, name: str, deadline: Deadline) -> Iterator[bool]:
    """Inside of it nobody else in the service is, with this name; False where that did not come in time."""
    digest = digest_of("one", name)
    entered = gates.enter(digest, lambda: 1, deadline)
    try:
        yield entered
    finally:
        if entered:
            gates.leave(digest, 1)


def digest_of(kind: str, name: str) -> bytes:
    """By which a name of that kind stands in the table."""
    return hashlib.blake2b(
        name.encode("utf-8", "surrogatepass"), digest_size=DIGEST_OCTETS, person=kind.encode("ascii")
    ).digest()
