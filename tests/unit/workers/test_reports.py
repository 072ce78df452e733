# SPDX-License-Identifier: MIT
"""What a worker has counted reaches the desk once, also when it has to wait for that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from relay.clock import Clock
from relay.stats import Stats, Tally
from relay.workers.reports import Reporter, Reports


class Desk(Reports):
    """Takes a report or refuses it. meanwhile: what happens while the first one waits."""

    def __init__(self) -> None:  # without the sockets
        self.takes = True
        self.meanwhile: Callable[[], None] = lambda: None
        self.heard: Counter[str] = Counter()

    def send(self, worker: int, tally: Tally) -> bool:
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        if self.takes:
            self.heard.update(tally.events)
        return self.takes


def test_what_is_refused_goes_with_the_next() -> None:
    desk, stats = Desk(), Stats(Clock())
    reporter = Reporter(desk, 1, stats)
    desk.takes = False
    for name in ("first", "second"):
        stats.event(name)
        reporter.report()
    assert not desk.heard
    desk.takes = True
    reporter.report()
    assert desk.heard == {"first": 1, "second": 1}


def test_the_last_report_comes_while_another_one_waits() -> None:
    """The drain is over and the desk does not read: nothing goes twice, and nothing is left out."""
    desk, stats = Desk(), Stats(Clock())
    reporter = Reporter(desk, 1, stats)

    def drained() -> None:
        stats.event("second")
        reporter.report()

    stats.event("first")
    desk.meanwhile = drained
    reporter.report()
    assert desk.heard == {"first": 1, "second": 1}
