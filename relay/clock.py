# SPDX-License-Identifier: MIT
"""Time as the rest of the program sees it: a clock that tests can replace, and deadlines that travel down a call."""

from __future__ import annotations

import time
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
    """A moment by which the answer must be there."""

    __slots__ = ("_at", "_clock")

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._at = clock.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self._at - self._clock.monotonic())
