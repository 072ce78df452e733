# SPDX-License-Identifier: MIT
"""Time as the rest of the program sees it: a clock that tests can replace, and deadlines that travel down a call."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime


class Clock:
    """The real clock. Intervals are measured on the monotonic one, so a clock that is set does no harm."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Let the other greenlets run for that long."""
        time.sleep(seconds)

    def now(self) -> datetime:
        """Wall clock time, UTC."""
        return datetime.now(UTC)


class Deadline:
    """A moment by which the answer must be there. spent: where the time went, in seconds, by the name of the work."""

    __slots__ = ("_at", "_clock", "spent")

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._at = clock.monotonic() + seconds
        self.spent: dict[str, float] = {}

    @contextmanager
    def spending(self, name: str) -> Iterator[None]:
        """Put the time within the block down to that name."""
        start = self._clock.monotonic()
        try:
            yield
        finally:
            self.spent[name] = self.spent.get(name, 0.0) + self._clock.monotonic() - start

    def remaining(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self._at - self._clock.monotonic())
