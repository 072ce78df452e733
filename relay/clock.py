# SPDX-License-Identifier: MIT
"""Time as the rest of the program sees it: a clock that tests can replace, and deadlines that travel down a call."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Clock:
    """The real clock. Intervals are measured on the monotonic one, so a clock that is set does no harm."""

    # Seconds since some fixed moment. It is asked some forty times for each message: no function of ours in between.
    monotonic = staticmethod(time.monotonic)

    def sleep(self, seconds: float) -> None:
        """Let the other greenlets run for that long."""
        time.sleep(seconds)

    def now(self) -> datetime:
        """Wall clock time, UTC."""
        return datetime.now(UTC)


def give_way() -> None:
    """Let whoever is ready run now: a socket that never makes its reader wait would keep all others waiting."""
    time.sleep(0)


class Deadline:
    """A moment by which the answer must be there. spent: where the time went, in seconds, by the name of the work.

    at: that moment, by the monotonic clock. Who has waited longest has the earliest, since all are given the same time.
    """

    __slots__ = ("_clock", "at", "spent")

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self.at = clock.monotonic() + seconds
        self.spent: dict[str, float] = {}

    def spending(self, name: str) -> _Spending:
        """Put the time within the block down to that name."""
        return _Spending(self._clock, self.spent, name)

    def remaining(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self.at - self._clock.monotonic())


class _Spending:
    """A context manager. Several are entered for each message, one made of a generator costs three times as much."""

    __slots__ = ("_clock", "_name", "_spent", "_start")

    def __init__(self, clock: Clock, spent: dict[str, float], name: str) -> None:
        self._clock = clock
        self._spent = spent
        self._name = name

    def __enter__(self) -> None:
        self._start = self._clock.monotonic()

    def __exit__(self, *fault: object) -> None:
        self._spent[self._name] = self._spent.get(self._name, 0.0) + self._clock.monotonic() - self._start
