# SPDX-License-Identifier: MIT
"""The service in one process: builds it from a Config, owns signals and greenlets, reloads, drains, stops.

With several processes, supervisor.py does the same with the same parts.
"""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from relay import lifelog, listeners, logs, service, signals
from relay.bounds import of_one_process
from relay.clock import Clock
from relay.config import Config
from relay.configfile import ConfigError
from relay.desk import Desk
from relay.graph.errors import AppMisconfigured
from relay.greenlets import Event, on_signal, spawn
from relay.intake import Intake
from relay.janitor import Janitor
from relay.stats import Stats

if TYPE_CHECKING:
    from relay.admin.live import Mail

log = logging.getLogger(__name__)


class Relay:
    """The running program."""

    def __init__(
        self,
        config: Config,
        reload: Callable[[], Config] | None = None,
        mails: Callable[[], Sequence[Mail]] | None = None,
    ) -> None:
        """reload: reads the configuration again for SIGHUP; None where there is no file.

        mails: what the sandbox has caught, for the admin page. Raises AppMisconfigured, OSError.
        """
        self._clock = Clock()
        self._reload = reload
        self._mails = mails
        self._stats = Stats(self._clock)
        self._bounds = of_one_process(config, self._clock)
        self._intake = Intake(config, self._bounds, self._clock, self._stats)
        self._desk = Desk(self._clock, self._stats, self._say_status)
        self._admin_address = ""
        self._stop = Event()

    def start(self) -> list[str]:
        """Listen, and say where. Raises CannotListen, OSError."""
        on_signal(signal.SIGTERM, partial(self._on_stop, "SIGTERM"))
        on_signal(signal.SIGINT, partial(self._on_stop, "SIGINT"))
        config = self._intake.now.config
        listeners.allow_files(config.limits.max_connections)
        opened = listeners.open_listeners(config)
        self._intake.start(opened.plain, opened.implicit)
        if opened.admin is not None:
            self._admin_address = listeners.address_of(opened.admin)
            self._start_admin(opened.admin, config)
        lifelog.started(config, opened)
        self._desk.take(config, self._intake.now.upstream)
        spawn(Janitor((*self._intake.tasks(), *self._desk.tasks()), self._clock).run)
        spawn(partial(service.feed_watchdog, self._clock.sleep))
        spawn(self._desk.look_upstream)
        addresses = opened.addresses()
        on_signal(signal.SIGHUP, self._on_reload)
        signals.let_come()  # one that came meanwhile has waited
        service.notify("READY=1", f"STATUS=listening on {', '.join(addresses)}")
        return addresses

    def admin_address(self) -> str:
        """HOST:PORT of the admin page; empty where it is off."""
        return self._admin_address

    def run(self) -> int:
        """Until SIGTERM or SIGINT; then drain. The exit code."""
        self._stop.wait()
        service.notify("STOPPING=1")
        self._intake.drain()
        self._desk.stop()
        log.info("stopped")
        return 0

    def _start_admin(self, sock: socket.socket, config: Config) -> None:
        from relay.admin.live import Live  # most relays run without

        live = Live(
            connections=lambda: self._bounds.connections.used,
            max_connections=lambda: self._bounds.connections.limit,
            inflight_bytes=lambda: self._bounds.inflight.used,
            tokens=lambda: self._intake.now.upstream.tokens.held,
            mails=self._mails,
        )
        self._desk.start(sock, config, live)

    def _say_status(self, how: str) -> None:
        service.notify(f"STATUS={how}; {self._bounds.connections.used} connections")

    def _on_stop(self, name: str) -> None:
        log.info("stopping", extra={"signal": name})
        self._stop.set()

    def _on_reload(self) -> None:
        """SIGHUP: sessions that run end with the configuration they began with; a faulty one changes nothing."""
        if self._reload is None:
            log.warning("reload_ignored", extra={"reason": "started without a configuration file"})
            return
        service.notify_reloading()
        old = self._intake.now.config
        try:
            config = self._reload()
            new = self._intake.prepare(config)
            logs.set_up(config.log)
        except (ConfigError, AppMisconfigured, OSError) as fault:
            lifelog.reopen(old)  # which may have been rotated all the same
            lifelog.reload_failed(fault)
        else:
            self._intake.take(new)
            lifelog.reloading(old, config)
            log.info("reloaded")
            self._desk.take(config, new.upstream)
        service.notify("READY=1")
