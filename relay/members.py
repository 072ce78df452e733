# SPDX-License-Identifier: MIT
"""What a child of the supervisor does until it is told to stop: a worker takes mail, one has the desk."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

from relay import lifelog, logs
from relay.admin.live import Live, WorkerState
from relay.clock import Clock
from relay.config import Config
from relay.desk import Desk
from relay.generation import Upstream, upstream_of
from relay.graph.errors import AppMisconfigured
from relay.greenlets import Event, on_signal, spawn
from relay.intake import Intake
from relay.janitor import Janitor, Task
from relay.listeners import Listeners
from relay.stats import Stats, Tally
from relay.workers.reports import EVERY_S, Reporter
from relay.workers.shared import Shared

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """What the parent leaves to a child. lifeline: it ends with the parent. signals: they are held back until now."""

    index: int
    parent: int
    shared: Shared
    listeners: Listeners
    lifeline: socket.socket
    signals: Collection[signal.Signals]

    @property
    def worker(self) -> int:
        """Its number in the log; 0: none, it is the desk."""
        return 0 if self.index == self.shared.workers else self.index + 1

    def tell_parent(self) -> None:
        """That there is something new in the shared memory."""
        if os.getppid() == self.parent:
            os.kill(self.parent, signal.SIGUSR1)


class _Child:
    """What both have in common: signals, the configuration, the end."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.clock = Clock()
        self.stats = Stats(self.clock)
        self._number, self.config = place.shared.handover.take()
        logs.set_up(self.config.log, place.worker)
        self.view = place.shared.view(place.index, self.config, self.clock)
        self._stop = Event()

    def run(self, take: Callable[[Config], None], tasks: Sequence[Task]) -> None:
        """Until the end. take: makes a new configuration the one that holds, or raises AppMisconfigured, OSError."""
        on_signal(signal.SIGTERM, self._stop.set)
        on_signal(signal.SIGINT, self._stop.set)
        on_signal(signal.SIGHUP, lambda: self._on_reload(take))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self.place.signals)
        spawn(self.view.post.run)
        spawn(self._watch_parent)
        for task in (*tasks, Task("beat", EVERY_S, self._beat)):  # each for itself: some of them may take their time
            spawn(Janitor((task,), self.clock).run)
        self._say_taken()
        self._stop.wait()

    def _on_reload(self, take: Callable[[Config], None]) -> None:
        """The parent found the new configuration good, or there is none and the log was rotated."""
        number, config = self.place.shared.handover.take()
        try:
            if number != self._number:
                take(config)
                self.config = config
        except (AppMisconfigured, OSError) as fault:  # a file has gone since the parent looked at it
            lifelog.reload_failed(fault)
        lifelog.reopen(self.config, self.place.worker)
        self._number = number
        self._say_taken()

    def _beat(self) -> None:
        """For the parent, which watches over us where systemd watches over it."""
        self.place.shared.beats[self.place.index] = self.clock.monotonic()

    def _say_taken(self) -> None:
        self._beat()
        self.place.shared.taken[self.place.index] = self._number
        self.place.tell_parent()

    def _watch_parent(self) -> None:
        """Without it nobody would stop us, and the next service could not listen."""
        self.place.lifeline.recv(1)
        log.error("parent_gone", extra={"reason": "the parent process has ended; this one drains and ends too"})
        self._stop.set()


def run_worker(place: Place) -> None:
    """Takes mail until the end."""
    if place.listeners.admin is not None:
        place.listeners.admin.close()
    child = _Child(place)
    shared, stats = place.shared, child.stats
    intake = Intake(child.config, child.view.bounds, child.clock, stats, shares_listeners=True)
    reporter = Reporter(shared.reports, place.worker, stats)

    def report() -> None:
        shared.tokens[place.index] = intake.now.upstream.tokens.held
        reporter.report()

    intake.start(place.listeners.plain, place.listeners.implicit)
    log.info("worker_started", extra={"pid": os.getpid()})
    child.run(lambda config: intake.take(intake.prepare(config)), (*intake.tasks(), Task("report", EVERY_S, report)))
    intake.drain()
    report()


def run_desk(place: Place) -> None:
    """Shows what the workers do, until the end."""
    for sock in (*place.listeners.plain, *place.listeners.implicit):
        sock.close()
    child = _Child(place)
    shared, stats, clock = place.shared, child.stats, child.clock
    messages: Counter[int] = Counter()  # by worker

    def upstream_for(config: Config) -> Upstream:
        return upstream_of(config, clock, stats, child.view.bounds.siblings)

    upstream = upstream_for(child.config)

    def say_status(how: str) -> None:
        shared.say_status(f"{how}; {child.view.bounds.connections.used} connections")
        place.tell_parent()

    def take(config: Config) -> None:
        nonlocal upstream
        old, upstream = upstream, upstream_for(config)
        if config.entra == child.config.entra:
            upstream.tokens.take_over(old.tokens)
        desk.take(config, upstream)
        old.close()

    def absorb(worker: int, tally: Tally) -> None:
        stats.absorb(tally)
        messages[worker] += tally.by_reply.total()

    desk = Desk(clock, stats, say_status)
    desk.take(child.config, upstream)
    if place.listeners.admin is not None:
        live = Live(
            connections=lambda: child.view.bounds.connections.used,
            max_connections=lambda: child.view.bounds.connections.limit,
            inflight_bytes=lambda: child.view.bounds.inflight.used,
            tokens=lambda: sum(shared.tokens),
            workers=lambda: [_state(shared, index, messages) for index in range(shared.workers)],
        )
        desk.start(place.listeners.admin, child.config, live)
    spawn(partial(shared.reports.read, absorb))
    spawn(desk.look_upstream)
    child.run(take, desk.tasks())
    desk.stop()


def _state(shared: Shared, index: int, messages: Counter[int]) -> WorkerState:
    return WorkerState(
        number=index + 1,
        pid=shared.pids[index],
        connections=shared.connections_of(index),
        inflight_bytes=shared.inflight_of(index),
        messages=messages[index + 1],
        restarts=shared.starts[index] - 1,
    )
