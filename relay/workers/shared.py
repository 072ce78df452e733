# SPDX-License-Identifier: MIT
"""All that the processes of one service share. The parent makes it before it forks; each child takes its view of it.

A member is a worker, or the process of the desk, which comes last.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from relay.bounds import Bounds
from relay.clock import Clock
from relay.config import Config
from relay.resends import MOST_REMEMBERED, Resends
from relay.workers import logins, siblings
from relay.workers.budget import SharedBudget
from relay.workers.gates import Gates, GateTable
from relay.workers.handover import Handover
from relay.workers.journal import Journal
from relay.workers.lanes import SharedLanes
from relay.workers.logins import SharedLoginLimit
from relay.workers.memory import Locks, cells, moments, octets
from relay.workers.post import Inboxes, Post
from relay.workers.reports import Reports
from relay.workers.resends import Elsewhere, ResendTable
from relay.workers.siblings import TokenSiblings

_ROWS = 4096  # for mailboxes that rest or are paced, beside those that are in use
_STATUS_OCTETS = 1024
_PIECE = 1 << 16  # of a message, as it comes in


@dataclass(frozen=True, slots=True)
class View:
    """One member's."""

    bounds: Bounds
    post: Post


class Shared:
    """The memory, the inboxes and the way of the reports."""

    def __init__(self, config: Config, workers: int) -> None:
        members = workers + 1
        connections = config.limits.max_connections
        locks = Locks()
        self.workers = workers
        self._max_connections = connections  # over a reload too: the tables are made for that many
        self.reports = Reports()
        self.handover = Handover(locks.make())
        self.taken = cells(members)  # the number of the configuration that a member has taken; 0: it is not up yet
        self.pids = cells(members)
        self.starts = cells(members)
        self.tokens = cells(members)  # access tokens in memory
        self.beats = moments(members)  # when a member's event loop last went round
        self._connections, self._connections_lock = cells(members), locks.make()
        self._inflight, self._inflight_lock = cells(members), locks.make()
        self._gates = GateTable(members, _ROWS + 2 * connections, locks.make())
        self._resends = ResendTable(members, connections, MOST_REMEMBERED, locks.make(), os.urandom(32))
        self._logins = Journal(logins.MOST_FAILURES, logins.RECORD_OCTETS, locks.make())
        self._refusals = Journal(siblings.MOST_REFUSALS, siblings.RECORD_OCTETS, locks.make())
        self._digest_key = os.urandom(32)
        self._inboxes = Inboxes(members)
        self._status = octets(_STATUS_OCTETS)

    def view(self, member: int, config: Config, clock: Clock) -> View:
        """To be called in the member's own process."""
        post = Post(self._inboxes, member)
        gates = Gates(self._gates, member, clock, self._inboxes)
        post.subscribe("wake", gates.look)
        elsewhere = Elsewhere(self._resends, member, clock, post, self._inboxes)
        resends = Resends(clock, elsewhere=elsewhere)
        elsewhere.answers_for(resends)
        bounds = Bounds(
            connections=SharedBudget(self._max_connections, self._connections, member, self._connections_lock),
            inflight=SharedBudget(
                config.limits.max_inflight_bytes, self._inflight, member, self._inflight_lock, _PIECE
            ),
            logins=SharedLoginLimit(config.access.auth_limit, clock, self._logins),
            resends=resends,
            lanes=SharedLanes(gates, config.graph.mailbox_concurrency),
            siblings=TokenSiblings(self._refusals, gates, self._digest_key),
        )
        return View(bounds, post)

    def connections_of(self, member: int) -> int:
        return int(self._connections[member])

    def inflight_of(self, member: int) -> int:
        return int(self._inflight[member])

    def forget(self, member: int) -> None:
        """It is dead: what it held is free, and the others look whether they have waited for it."""
        self._connections[member] = self._inflight[member] = self.tokens[member] = 0
        self.taken[member] = self.pids[member] = 0
        self._gates.forget(member)
        self._resends.forget(member)
        for other in range(self.workers + 1):
            if other != member:
                self._inboxes.wake(other)

    def say_status(self, text: str) -> None:
        """For the parent to tell the service manager."""
        said = text.encode("utf-8")[:_STATUS_OCTETS]
        self._status[:] = said.ljust(_STATUS_OCTETS, b"\0")

    def status(self) -> str:
        """What was said last; empty: nothing."""
        return bytes(self._status).rstrip(b"\0").decode("utf-8", "ignore")
