# SPDX-License-Identifier: MIT
"""The janitor: what is due and when, and that one task's fault is its own."""

from __future__ import annotations

import pytest

from relay.janitor import Janitor, Task
from tests.support.clock import FakeClock
from tests.support.dialog import all_records, check_records


class Killed(BaseException):
    """As gevent.GreenletExit: no Exception."""


class MortalClock(FakeClock):
    """Kills the greenlet after so much time."""

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if self.elapsed > 600:
            raise Killed


def test_each_task_at_its_own_pace() -> None:
    clock = MortalClock()
    ran: list[tuple[str, float]] = []
    tasks = tuple(
        Task(name, every_s, lambda name=name: ran.append((name, clock.elapsed)))  # type: ignore[misc]
        for name, every_s in (("often", 60.0), ("rarely", 300.0))
    )
    with pytest.raises(Killed):
        Janitor(tasks, clock).run()
    assert [at for name, at in ran if name == "often"] == [60 * n for n in range(1, 11)]
    assert [at for name, at in ran if name == "rarely"] == [300, 600]


def test_nothing_runs_before_it_is_due() -> None:
    clock = FakeClock()
    ran: list[float] = []
    janitor = Janitor((Task("task", 60, lambda: ran.append(clock.elapsed)),), clock)
    janitor.sweep()
    clock.advance(59.9)
    janitor.sweep()
    assert ran == []
    clock.advance(0.1)
    janitor.sweep()
    janitor.sweep()
    assert ran == [60]


def test_time_that_was_missed_is_not_made_up_for() -> None:
    clock = FakeClock()
    ran: list[float] = []
    janitor = Janitor((Task("task", 60, lambda: ran.append(clock.elapsed)),), clock)
    clock.advance(6000)
    for _ in range(5):
        janitor.sweep()
    assert ran == [6000]


def test_a_failing_task_is_logged_and_tried_again_and_hurts_no_other() -> None:
    clock = FakeClock()
    ran: list[str] = []

    def fail() -> None:
        ran.append("failing")
        raise RuntimeError("bug")

    janitor = Janitor((Task("failing", 60, fail), Task("other", 60, lambda: ran.append("other"))), clock)
    with all_records() as records:
        for _ in range(2):
            clock.advance(60)
            janitor.sweep()
    assert ran == ["failing", "other"] * 2
    assert [(r.getMessage(), r.__dict__["task"]) for r in records] == [("janitor_task_failed", "failing")] * 2
    check_records(records)


def test_a_killed_task_ends_the_janitor() -> None:
    clock = FakeClock()

    def die() -> None:
        raise Killed

    janitor = Janitor((Task("dying", 60, die),), clock)
    with pytest.raises(Killed):
        janitor.run()
