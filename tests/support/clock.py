# SPDX-License-Identifier: MIT
"""A clock that moves only when somebody sleeps or a test says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from relay.clock import Clock

_START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class FakeClock(Clock):
    """sleeps: the seconds of each sleep() so far."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self.sleeps: list[float] = []

    def monotonic(self) -> float:
        return 1000.0 + self.elapsed

    def now(self) -> datetime:
        return _START + timedelta(seconds=self.elapsed)

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.elapsed += seconds

    def advance(self, seconds: float) -> None:
        """Let time pass without anybody sleeping."""
        self.elapsed += seconds
