# SPDX-License-Identifier: MIT
"""The administrator's side of the service: admin page and metrics, what is looked for upstream, warnings, the status.

There is one, however many workers there are.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING

from relay.clock import Clock
from relay.config import Config
from relay.generation import Upstream
from relay.greenlets import verify_in_thread
from relay.health import EVERY_S as LOOK_EVERY_S
from relay.health import Probe
from relay.janitor import Task
from relay.stats import WARN_DAYS, Stats, secret_warning

if TYPE_CHECKING:
    from relay.admin.live import Live
    from relay.admin.server import AdminServer

log = logging.getLogger(__name__)

_STATUS_EVERY_S = 60.0
_DAY_S = 86_400.0
_LAST_DAYS = 7  # of the client secret: from then on it is an error


class Desk:
    """What it shows, it reads from stats."""

    def __init__(self, clock: Clock, stats: Stats, say_status: Callable[[str], None]) -> None:
        """say_status: tells the service manager in a few words how things are."""
        self._clock = clock
        self._stats = stats
        self._say_status = say_status
        self._probe: Probe | None = None
        self._admin: AdminServer | None = None

    def take(self, config: Config, upstream: Upstream) -> None:
        """From now on this is the configuration, and this is asked."""
        self._probe = Probe(config, upstream.tokens, upstream.graph, self._stats, self._clock)
        expires = config.entra.secret_expires
        self._stats.secret_expires = date.fromisoformat(expires) if expires else None
        self._warn_of_secret()

    def start(self, sock: socket.socket, config: Config, live: Live) -> None:
        """The admin page on a socket that listens already."""
        from relay.admin.server import AdminServer  # here and not above: most relays run without, and start sooner
        from relay.admin.wsgi import Admin

        addr = config.admin.addr
        hosts = (addr.host if addr else "", config.listen.hostname)
        admin = Admin(self._stats, live, config.admin.password_hash, hosts, self._clock, verify_in_thread)
        self._admin = AdminServer(sock, admin)
        self._admin.start()

    def stop(self) -> None:
        if self._admin is not None:
            self._admin.stop(timeout=0)

    def tasks(self) -> tuple[Task, ...]:
        """For the janitor."""
        return (
            Task("secret_expires", _DAY_S, self._warn_of_secret),
            Task("status", _STATUS_EVERY_S, self._tell_status),
            Task("look_upstream", LOOK_EVERY_S, self.look_upstream),
        )

    def look_upstream(self) -> None:
        """For the admin page and /readyz; where there is none, traffic tells enough."""
        if self._admin is not None and self._probe is not None:
            self._probe.look()

    def _warn_of_secret(self) -> None:
        days = self._stats.secret_days_left()
        if days is None or days > WARN_DAYS:
            return
        level = logging.WARNING if days > _LAST_DAYS else logging.ERROR
        log.log(level, "secret_expires", extra={"days_left": days, "reason": secret_warning(days)})

    def _tell_status(self) -> None:
        self._say_status("; ".join(self._stats.troubles()) or "healthy")
