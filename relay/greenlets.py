# SPDX-License-Identifier: MIT
"""What the program needs of gevent besides its servers: bounded calls, threads for what computes, signals, forks."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event
from gevent.lock import Semaphore
from gevent.os import fork_gevent
from gevent.threadpool import ThreadPool

from relay.credentials import verify_password

__all__ = ["Alarm", "Event", "Threads", "fork", "guard", "let_others_run", "on_signal", "spawn", "verify_in_thread"]

_THREADS = 2  # for parsing large messages: they share one interpreter, more would only take turns


def guard(seconds: float) -> gevent.Timeout:
    """Bounds a whole upstream call inside of `with`: HTTP timeouts count for each read anew. Raises TimeoutError."""
    return gevent.Timeout(max(seconds, 0.001), TimeoutError("upstream call took too long"))


class Alarm:
    """Bounds what runs inside of `with alarm.within(seconds)`, as guard() does, for the greenlet that made it.

    It has one timer for all that this greenlet waits for, which is not stopped and started for each: when it goes off,
    it looks whether the time of what is being waited for is up. A timer for each wait takes longer than the read does.
    """

    __slots__ = ("_due", "_goes_off", "_greenlet", "_timer")

    def __init__(self) -> None:
        self._greenlet = gevent.getcurrent()
        self._timer: Any = None
        self._goes_off = math.inf
        self._due = math.inf  # nothing is being waited for

    def within(self, seconds: float) -> Alarm:
        """For `with`. Raises TimeoutError inside of it."""
        self._due = time.monotonic() + seconds
        if self._due < self._goes_off:
            self._start(seconds)
        return self

    def __enter__(self) -> None:
        """The time has begun."""

    def __exit__(self, *fault: object) -> None:
        self._due = math.inf

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None
            self._goes_off = math.inf

    def _start(self, seconds: float) -> None:
        self.close()
        self._goes_off = self._due
        self._timer = gevent.get_hub().loop.timer(seconds)
        self._timer.start(self._go_off)

    def _go_off(self) -> None:
        """Called by the event loop, while the greenlet waits: inside of `with`, or for something else."""
        self.close()
        left_s = self._due - time.monotonic()
        if left_s <= 0:
            self._due = math.inf
            self._greenlet.throw(TimeoutError("timed out"))
        elif left_s < math.inf:
            self._start(left_s)


def verify_in_thread(password: str, encoded: str) -> bool:
    """scrypt takes a core for some 50 ms: not on the event loop."""
    return bool(gevent.get_hub().threadpool.apply(verify_password, (password, encoded)))


class Threads:
    """A few, for what takes long to compute."""

    def __init__(self) -> None:
        self._pool = ThreadPool(_THREADS)

    def run(self, work: Callable[[], Any]) -> Any:
        """What work gives, with the event loop going on meanwhile."""
        return self._pool.apply(work)


def on_signal(number: signal.Signals, act: Callable[[], None]) -> None:
    """In a greenlet of its own; one that comes while act still runs waits for its end."""
    turn = Semaphore(1)

    def one_after_the_other() -> None:
        with turn:
            act()

    gevent.signal_handler(number, one_after_the_other)


def let_others_run() -> None:
    """Those that are waiting for their turn; then go on."""
    gevent.sleep()


def spawn(act: Callable[[], Any]) -> None:
    gevent.spawn(act)


def fork() -> int:
    """os.fork(), with an event loop that the child can use. Only while nothing but the caller runs."""
    gevent.get_hub().threadpool.size = 0  # a look-up of a name leaves a thread, and forks are for processes with one
    return int(fork_gevent())
