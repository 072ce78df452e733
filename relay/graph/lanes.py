# SPDX-License-Identifier: MIT
"""Whose turn it is: how many requests at a time go for one mailbox and in all, and when a mailbox has to rest.

First come, first served, in each lane; every wait is bounded by the deadline. Knows what Graph said of a mailbox's
load, and nothing of messages. Waits use threading, which the program has patched for greenlets.
Sources: Graph, "Throttling limits: Outlook service" (4 requests at a time for an app and a mailbox); RFC 9110 §10.2.3.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from relay.clock import Clock, Deadline
from relay.config import Rate
from relay.graph.errors import Congested, GraphError
from relay.graph.retry import LONGEST_RETRY_AFTER_S

log = logging.getLogger(__name__)

RECOVER_S = 30.0  # after it, a lowered number of places doubles, until it is where it was
LONGEST_REST_S = 3600.0  # whatever Retry-After says; an answer of the year 2199 must not end a mailbox's mail
_MOST_DOUBLINGS = 10  # then a limit of our own making is none any more
_LEAST_IN_ALL = 4  # by Graph's strictest reading: four for the app, whatever the mailbox
_TOO_MANY_AT_A_TIME = ("applicationthrottled", "mailboxconcurrency", "commandconcurrencylimitreached")


class Lanes:
    """The lanes of all mailboxes. In all, there is no limit until Graph complains of several mailboxes at a time."""

    def __init__(self, clock: Clock, concurrency: int = 4, rate: Rate | None = None) -> None:
        self._clock = clock
        self._concurrency = concurrency
        self._rate = rate
        self._lanes: dict[str, _Lane] = {}
        self._all = _Gate(sys.maxsize, _LEAST_IN_ALL, clock)
        self._complained = ("", 0.0)  # the last mailbox with too many requests at a time, and when

    def pace(self, mailbox: str, deadline: Deadline) -> None:
        """Wait until the mailbox's rate lets its next message go. Raises Congested at once when that is too late."""
        if self._rate is None:
            return
        with self._use(mailbox) as lane:
            now = self._clock.monotonic()
            start = max(now, lane.next_message_at)
            if start - now >= deadline.remaining():
                raise Congested("more mail than mailbox_rate lets go within submit_timeout")
            lane.next_message_at = start + self._rate.interval_s
            if start > now:
                self._clock.sleep(start - now)

    @contextmanager
    def turn(self, mailbox: str, deadline: Deadline) -> Iterator[None]:
        """A request for this mailbox goes inside. Raises Congested when its turn does not come in time.

        What a GraphError that comes out says of the load is taken to heart, for this mailbox alone.
        """
        with self._use(mailbox) as lane:
            with deadline.spending("waited"):
                self._check(lane, deadline)
                if not lane.gate.enter(deadline):
                    raise Congested("too many messages for one mailbox wait for mailbox_concurrency")
            try:
                with deadline.spending("waited"):
                    self._rest(lane, deadline)
                    if not self._all.enter(deadline):
                        raise Congested("Graph takes few requests of this app at the moment")
                try:
                    with self._learning(mailbox, lane):
                        yield
                finally:
                    self._all.leave()
            finally:
                lane.gate.leave()

    def purge(self) -> None:
        """Forget the mailboxes of which there is nothing to remember; the janitor's task."""
        now = self._clock.monotonic()
        self._lanes = {mailbox: lane for mailbox, lane in self._lanes.items() if not lane.is_idle(now)}

    @contextmanager
    def _use(self, mailbox: str) -> Iterator[_Lane]:
        name = mailbox.casefold()
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes.setdefault(name, _Lane(_Gate(self._concurrency, 1, self._clock)))
        lane.users += 1
        try:
            yield lane
        finally:
            lane.users -= 1

    def _check(self, lane: _Lane, deadline: Deadline) -> float:
        """Seconds that the mailbox still has to rest. Raises Congested when that is too long to wait for."""
        rest_s = lane.rests_until - self._clock.monotonic()
        if rest_s > 0 and (rest_s > LONGEST_RETRY_AFTER_S or rest_s >= deadline.remaining()):
            raise Congested("Graph asked to leave this mailbox alone for a while (Retry-After)")
        return rest_s

    def _rest(self, lane: _Lane, deadline: Deadline) -> None:
        while (rest_s := self._check(lane, deadline)) > 0:  # it may be made longer meanwhile
            self._clock.sleep(rest_s)

    @contextmanager
    def _learning(self, mailbox: str, lane: _Lane) -> Iterator[None]:
        began = self._clock.monotonic()
        try:
            yield
        except GraphError as failure:
            now = self._clock.monotonic()
            if failure.retry_after_s is not None:
                lane.rests_until = max(lane.rests_until, now + min(failure.retry_after_s, LONGEST_REST_S))
            if failure.code.lower() in _TOO_MANY_AT_A_TIME:
                self._slow_down(mailbox, lane, began)
            raise

    def _slow_down(self, mailbox: str, lane: _Lane, began: float) -> None:
        if lane.gate.narrow(began):
            log.info("concurrency_lowered", extra={"mailbox": mailbox, "concurrency": lane.gate.places()})
        other, when = self._complained
        now = self._clock.monotonic()
        self._complained = (mailbox.casefold(), now)
        if other and other != mailbox.casefold() and now - when < RECOVER_S and self._all.narrow(began):
            log.info("concurrency_lowered", extra={"concurrency": self._all.places(), "reason": "several mailboxes"})


class _Lane:
    """One mailbox."""

    __slots__ = ("gate", "next_message_at", "rests_until", "users")

    def __init__(self, gate: _Gate) -> None:
        self.gate = gate
        self.users = 0
        self.rests_until = 0.0
        self.next_message_at = 0.0

    def is_idle(self, now: float) -> bool:
        return not self.users and max(self.rests_until, self.next_message_at) <= now and not self.gate.is_narrowed()


class _Gate:
    """Some places, and a queue before them."""

    def __init__(self, highest: int, least: int, clock: Clock) -> None:
        self._highest = highest
        self._least = least
        self._clock = clock
        self._lock = threading.Lock()
        self._taken = 0
        self._waiting: deque[threading.Event] = deque()
        self._narrowed_to = highest
        self._narrowed_at = 0.0

    def enter(self, deadline: Deadline) -> bool:
        """Take a place, behind those who came before; False when the deadline comes first."""
        with self._lock:
            if not self._waiting and self._taken < self.places():
                self._taken += 1
                return True
            mine = threading.Event()
            self._waiting.append(mine)
        entered = False
        try:
            entered = mine.wait(deadline.remaining())
        finally:
            if not entered:  # too late, or ended from outside
                self._give_up(mine)
        return entered

    def leave(self) -> None:
        """Give the place to whoever is next."""
        with self._lock:
            self._taken -= 1
            self._admit()

    def narrow(self, began: float) -> bool:
        """Halve what was in use; whether that is less. A request that began before the last time says nothing new."""
        with self._lock:
            if began < self._narrowed_at:
                return False
            before = self.places()
            self._narrowed_to = max(self._least, min(before, self._taken) // 2)
            self._narrowed_at = self._clock.monotonic()
            return self._narrowed_to < before

    def places(self) -> int:
        """How many there are now."""
        doublings = int((self._clock.monotonic() - self._narrowed_at) / RECOVER_S)
        if self._narrowed_to < self._highest and doublings <= _MOST_DOUBLINGS:
            return min(self._narrowed_to << doublings, self._highest)
        return self._highest

    def is_narrowed(self) -> bool:
        """Whether it is still on its way back to the full number."""
        return self.places() < self._highest

    def _admit(self) -> None:
        while self._waiting and self._taken < self.places():
            self._taken += 1
            self._waiting.popleft().set()

    def _give_up(self, mine: threading.Event) -> None:
        with self._lock:
            if mine.is_set():  # in the last moment
                self._taken -= 1
                self._admit()
            else:
                self._waiting.remove(mine)
