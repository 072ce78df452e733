# SPDX-License-Identifier: MIT
"""Whose turn it is: how many requests at a time go for one mailbox and in all, and when a mailbox has to rest.

First come, first served, in each lane, by the deadline of the message: the later requests of one that has begun do not
queue behind those that came after it. Every wait is bounded by the deadline. Knows what Graph said of a mailbox's load,
and nothing of messages. Waits use threading, which the program has patched for greenlets. The lanes themselves
lie in a LaneStore, which outlives a reload: LocalLanes for one process, relay/workers/lanes.py for several.
Sources: Graph, "Throttling limits: Outlook service" (4 requests at a time for an app and a mailbox); RFC 9110 §10.2.3.
"""

from __future__ import annotations

import logging
import sys
import threading
from bisect import insort
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from relay.clock import Clock, Deadline
from relay.config import Rate
from relay.graph.errors import Congested, GraphError
from relay.graph.retry import LONGEST_RETRY_AFTER_S

log = logging.getLogger(__name__)

RECOVER_S = 30.0  # after it, a lowered number of places doubles, until it is where it was
LONGEST_REST_S = 3600.0  # whatever Retry-After says; an answer of the year 2199 must not end a mailbox's mail
_MOST_DOUBLINGS = 10  # then a limit of our own making is none any more
_LEAST_LEFT_S = 0.5  # a request that is broken off in the middle leaves nobody knowing whether the message went
LEAST_IN_ALL = 4  # by Graph's strictest reading: four for the app, whatever the mailbox
_TOO_MANY_AT_A_TIME = ("applicationthrottled", "mailboxconcurrency", "commandconcurrencylimitreached")


class Gate(Protocol):
    """Some places, and a queue before them."""

    def enter(self, deadline: Deadline) -> bool:
        """Take a place, behind those whose deadline is earlier; False when one's own comes first."""
        ...

    def leave(self) -> None:
        """Give the place to whoever is next."""
        ...

    def narrow(self, began: float) -> bool:
        """Halve what was in use; whether that is less. A request that began before the last time says nothing new."""
        ...

    def places(self) -> int:
        """How many there are now."""
        ...


class Lane(Gate, Protocol):
    """One mailbox."""

    @property
    def rests_until(self) -> float:
        """A moment of the monotonic clock; in the past for most."""
        ...

    def rest(self, until: float) -> None:
        """Let nothing in before, nor before an earlier word of that kind."""
        ...

    def next_start(self, interval_s: float, latest: float) -> float | None:
        """When the next message may go, which is taken then; None, and nothing taken, where that is latest or later."""
        ...


class LaneStore(Protocol):
    """Where the lanes are."""

    @property
    def all(self) -> Gate:
        """Through which every request goes, of whatever mailbox. It has no limit until it is narrowed."""
        ...

    def limit(self, concurrency: int) -> None:
        """How many places each lane is to have from now on: mailbox_concurrency."""
        ...

    def lane(self, name: str) -> AbstractContextManager[Lane]:
        """That of one mailbox, which stays as long as it is in use or there is something to remember."""
        ...

    def complained(self, name: str) -> bool:
        """Graph says that there are too many requests for this mailbox; whether it said so of another one lately."""
        ...

    def purge(self) -> None:
        """Forget the lanes of which there is nothing to remember."""
        ...


class Lanes:
    """The lanes of all mailboxes. In all, there is no limit until Graph complains of several mailboxes at a time."""

    def __init__(
        self, clock: Clock, concurrency: int = 4, rate: Rate | None = None, store: LaneStore | None = None
    ) -> None:
        """store: None makes one for these alone."""
        self._clock = clock
        self._rate = rate
        self._store = store or LocalLanes(clock, concurrency)

    @property
    def paced(self) -> bool:
        """Whether pace() is needed before each message."""
        return self._rate is not None

    def pace(self, mailbox: str, deadline: Deadline) -> None:
        """Wait until the mailbox's rate lets its next message go. Raises Congested at once when that is too late."""
        if self._rate is None:
            return
        with self._store.lane(mailbox.casefold()) as lane:
            now = self._clock.monotonic()
            start = lane.next_start(self._rate.interval_s, now + deadline.remaining())
            if start is None:
                raise Congested("more mail than mailbox_rate lets go within submit_timeout")
            if start > now:
                self._clock.sleep(start - now)

    @contextmanager
    def turn(self, mailbox: str, deadline: Deadline) -> Iterator[None]:
        """A request for this mailbox goes inside. Raises Congested when its turn does not come in time.

        What a GraphError that comes out says of the load is taken to heart, for this mailbox alone.
        """
        everybody = self._store.all
        with self._store.lane(mailbox.casefold()) as lane:
            with deadline.spending("waited"):
                self._enter(lane, everybody, deadline)
            began = self._clock.monotonic()
            try:
                yield
            except GraphError as failure:
                self._learn(mailbox, lane, began, failure)
                raise
            finally:
                try:
                    everybody.leave()
                finally:
                    lane.leave()

    def purge(self) -> None:
        """Forget the mailboxes of which there is nothing to remember; the janitor's task."""
        self._store.purge()

    def _enter(self, lane: Lane, everybody: Gate, deadline: Deadline) -> None:
        left_s = deadline.remaining()
        self._check(lane, deadline)
        if not lane.enter(deadline):
            raise Congested("too many messages for one mailbox wait for mailbox_concurrency")
        try:
            self._rest(lane, deadline)
            if deadline.remaining() < min(_LEAST_LEFT_S, left_s / 2):  # half: who did not wait may go
                raise Congested("the mailbox's turn came too late for a request within submit_timeout")
            if not everybody.enter(deadline):
                raise Congested("Graph takes few requests of this app at the moment")
        except BaseException:  # raised on; the greenlet may be killed while it waits
            lane.leave()
            raise

    def _check(self, lane: Lane, deadline: Deadline) -> float:
        """Seconds that the mailbox still has to rest. Raises Congested when that is too long to wait for."""
        rest_s = lane.rests_until - self._clock.monotonic()
        if rest_s > 0 and (rest_s > LONGEST_RETRY_AFTER_S or rest_s >= deadline.remaining()):
            raise Congested("Graph asked to leave this mailbox alone for a while (Retry-After)")
        return rest_s

    def _rest(self, lane: Lane, deadline: Deadline) -> None:
        while (rest_s := self._check(lane, deadline)) > 0:  # it may be made longer meanwhile
            self._clock.sleep(rest_s)

    def _learn(self, mailbox: str, lane: Lane, began: float, failure: GraphError) -> None:
        if failure.retry_after_s is not None:
            lane.rest(self._clock.monotonic() + min(failure.retry_after_s, LONGEST_REST_S))
        if failure.code.lower() in _TOO_MANY_AT_A_TIME:
            self._slow_down(mailbox, lane, began)

    def _slow_down(self, mailbox: str, lane: Lane, began: float) -> None:
        if lane.narrow(began):
            log.info("concurrency_lowered", extra={"mailbox": mailbox, "concurrency": lane.places()})
        if self._store.complained(mailbox.casefold()) and self._store.all.narrow(began):
            facts = {"concurrency": self._store.all.places(), "reason": "several mailboxes"}
            log.info("concurrency_lowered", extra=facts)


def places_now(highest: int, narrowed_to: int, since_s: float) -> int:
    """How many places a lane has that was narrowed so long ago."""
    doublings = int(since_s / RECOVER_S)
    return min(narrowed_to << doublings, highest) if doublings <= _MOST_DOUBLINGS else highest


class LocalLanes:
    """The lanes of one process."""

    def __init__(self, clock: Clock, concurrency: int) -> None:
        self._clock = clock
        self._concurrency = concurrency
        self._lanes: dict[str, _Lane] = {}
        self._all = _Lane(sys.maxsize, LEAST_IN_ALL, clock)
        self._complained = ("", 0.0)  # the last mailbox with too many requests at a time, and when

    @property
    def all(self) -> Gate:
        return self._all

    def limit(self, concurrency: int) -> None:
        self._concurrency = concurrency
        for lane in self._lanes.values():
            lane.widen(concurrency)

    def lane(self, name: str) -> _Lane:
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes.setdefault(name, _Lane(self._concurrency, 1, self._clock))
        return lane

    def complained(self, name: str) -> bool:
        other, when = self._complained
        now = self._clock.monotonic()
        self._complained = (name, now)
        return other not in ("", name) and now - when < RECOVER_S

    def purge(self) -> None:
        now = self._clock.monotonic()
        self._lanes = {name: lane for name, lane in self._lanes.items() if not lane.is_idle(now)}


class _Waiter:
    """Who waits for a place."""

    __slots__ = ("_deadline", "admitted")

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self.admitted = threading.Event()

    def place(self) -> float:
        """By what it stands in the queue."""
        return self._deadline


class _Lane:
    """Some places, and a queue before them. In use within its `with`."""

    def __init__(self, highest: int, least: int, clock: Clock) -> None:
        self._users = 0
        self._rests_until = 0.0
        self._next_message_at = 0.0
        self._highest = highest
        self._least = least
        self._clock = clock
        self._lock = threading.Lock()
        self._taken = 0
        self._waiting: list[_Waiter] = []  # whose turn comes first stands first
        self._narrowed_to = 0  # 0: not at all
        self._narrowed_at = 0.0

    def __enter__(self) -> _Lane:
        self._users += 1
        return self

    def __exit__(self, *fault: object) -> None:
        self._users -= 1

    @property
    def rests_until(self) -> float:
        return self._rests_until

    def is_idle(self, now: float) -> bool:
        """Whether it may be forgotten."""
        if self._users or self.places() < self._highest:
            return False
        return max(self._rests_until, self._next_message_at) <= now

    def widen(self, highest: int) -> None:
        """A reload has changed mailbox_concurrency, to more or to less."""
        with self._lock:
            self._highest = highest
            self._admit()

    def enter(self, deadline: Deadline) -> bool:
        with self._lock:
            if not self._waiting and self._taken < self.places():
                self._taken += 1
                return True
            mine = _Waiter(deadline.at)
            insort(self._waiting, mine, key=_Waiter.place)
        entered = False
        try:
            entered = mine.admitted.wait(deadline.remaining())
        finally:
            if not entered:  # too late, or ended from outside
                self._give_up(mine)
        return entered

    def leave(self) -> None:
        with self._lock:
            self._taken -= 1
            self._admit()

    def narrow(self, began: float) -> bool:
        with self._lock:
            if began < self._narrowed_at:
                return False
            before = self.places()
            self._narrowed_to = max(self._least, min(before, self._taken) // 2)
            self._narrowed_at = self._clock.monotonic()
            return self._narrowed_to < before

    def places(self) -> int:
        if not self._narrowed_to:
            return self._highest
        return places_now(self._highest, self._narrowed_to, self._clock.monotonic() - self._narrowed_at)

    def rest(self, until: float) -> None:
        self._rests_until = max(self._rests_until, until)

    def next_start(self, interval_s: float, latest: float) -> float | None:
        start = max(self._clock.monotonic(), self._next_message_at)
        if start >= latest:
            return None
        self._next_message_at = start + interval_s
        return start

    def _admit(self) -> None:
        while self._waiting and self._taken < self.places():
            self._taken += 1
            self._waiting.pop(0).admitted.set()

    def _give_up(self, mine: _Waiter) -> None:
        with self._lock:
            if mine.admitted.is_set():  # in the last moment
                self._taken -= 1
                self._admit()
            else:
                self._waiting.remove(mine)
