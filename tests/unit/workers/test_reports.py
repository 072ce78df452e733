# SPDX-License-Identifier: MIT
"""What a worker has counted reaches the desk once, also when it has to wait for that."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable

import pytest

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


def test_one_that_no_datagram_holds_is_not_in_the_way_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of users are the clients' choice, and may be long."""
    read_from, written_to = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    monkeypatch.setattr(socket, "socketpair", lambda *_: (read_from, written_to))
    heard: list[int] = []

    class Heard(BaseException):
        """Ends the reading, which would go on for ever."""

    def absorb(worker: int, tally: Tally) -> None:
        heard.append(tally.events["next"])
        raise Heard

    with read_from, written_to:
        reports, stats = Reports(), Stats(Clock())
        reporter = Reporter(reports, 1, stats)
        stats.problem("auth_failed", {"user": "u" * 8_000_000})
        reporter.report()
        stats.event("next")
        reporter.report()
        with pytest.raises(Heard):
            reports.read(absorb)
    assert heard == [1]


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
