# SPDX-License-Identifier: MIT
"""Clock and Deadline, and the fake clock that the other tests trust."""

from __future__ import annotations

from datetime import UTC

from relay.clock import Clock, Deadline
from tests.support.clock import FakeClock


def test_a_deadline_counts_down_and_stops_at_zero() -> None:
    clock = FakeClock()
    deadline = Deadline(clock, 10)
    assert deadline.remaining() == 10
    clock.sleep(4)
    assert deadline.remaining() == 6
    clock.advance(600)
    assert deadline.remaining() == 0
    assert Deadline(clock, -1).remaining() == 0


def test_the_real_clock() -> None:
    clock = Clock()
    before = clock.monotonic()
    clock.sleep(0)
    assert clock.monotonic() >= before
    assert clock.now().tzinfo is UTC


def test_the_fake_clock_moves_only_when_told() -> None:
    clock = FakeClock()
    assert clock.monotonic() == clock.monotonic()
    began = clock.now()
    clock.sleep(60)
    assert (clock.now() - began).total_seconds() == 60
    assert clock.sleeps == [60]
