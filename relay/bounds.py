# SPDX-License-Identifier: MIT
"""What is counted and remembered for the whole service, whatever number of processes it has. It outlives a reload."""

from __future__ import annotations

from dataclasses import dataclass

from relay.clock import Clock
from relay.config import Config
from relay.graph.lanes import LaneStore, LocalLanes
from relay.graph.tokens import NoSiblings, Siblings
from relay.loginlimit import LoginLimit
from relay.resends import Resends
from relay.smtp.budget import Budget


@dataclass(frozen=True, slots=True)
class Bounds:
    """One process' view of it. With several processes, workers/shared.py makes it."""

    connections: Budget
    inflight: Budget  # octets of messages
    logins: LoginLimit
    resends: Resends
    lanes: LaneStore
    siblings: Siblings

    def take(self, config: Config) -> None:
        """From now on these limits hold; that of the connections needs a restart."""
        self.inflight.limit = config.limits.max_inflight_bytes
        self.logins.limit = config.access.auth_limit
        self.lanes.limit(config.graph.mailbox_concurrency)


def of_one_process(config: Config, clock: Clock) -> Bounds:
    """All of it is here."""
    return Bounds(
        connections=Budget(config.limits.max_connections),
        inflight=Budget(config.limits.max_inflight_bytes),
        logins=LoginLimit(config.access.auth_limit, clock),
        resends=Resends(clock),
        lanes=LocalLanes(clock, config.graph.mailbox_concurrency),
        siblings=NoSiblings(),
    )
