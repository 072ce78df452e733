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

from relay import __version__, listeners, logs, service, signals
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
        """Listen, and say where. Raises OSError with an address in its text."""
        on_signal(signal.SIGTERM, partial(self._on_stop, "SIGTERM"))
        on_signal(signal.SIGINT, partial(self._on_stop, "SIGINT"))
        config = self._intake.now.config
        listeners.allow_files(config.limits.max_connections)
        opened = listeners.open_listeners(config)
        self._intake.start(opened.plain, opened.implicit)
        if opened.admin is not None:
            self._admin_address = listeners.address_of(opened.admin)
            self._start_admin(opened.admin, config)
        log_start(config, opened)
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
            reopen_log(old)  # which may have been rotated all the same
            log_reload_fault(fault)
        else:
            self._intake.take(new)
            log_reload(old, config)
            log.info("reloaded")
            self._desk.take(config, new.upstream)
        service.notify("READY=1")


def log_start(config: Config, opened: listeners.Listeners) -> None:
    """What the log says at the start: the version, warnings, and each address listened on."""
    for warning in config.warnings:
        log.warning("config", extra={"reason": warning})
    log.info("started", extra={"version": __version__})
    for sock in opened.plain:
        log.info("listening", extra={"address": listeners.address_of(sock)})
    for sock in opened.implicit:
        log.info("listening", extra={"address": listeners.address_of(sock), "tls": "implicit"})
    if opened.admin is not None:
        log.info("admin_listening", extra={"address": listeners.address_of(opened.admin)})


def log_reload(old: Config, new: Config) -> None:
    """What the log says of a new configuration before it is taken."""
    for warning in new.warnings:
        log.warning("config", extra={"reason": warning})
    for name in _needs_restart(old, new):
        log.warning("restart_needed", extra={"reason": f"{name} changes only with a restart"})


def log_reload_fault(fault: Exception) -> None:
    """Why there is no new configuration."""
    text = f"{fault.filename}: {fault.strerror}" if isinstance(fault, OSError) and fault.filename else str(fault)
    for line in text.splitlines():
        log.error("reload_failed", extra={"reason": f"{line}; the old configuration stays"})


def reopen_log(config: Config, worker: int = 0) -> None:
    """As it is configured."""
    try:
        logs.set_up(config.log, worker)
    except OSError as fault:
        log.error("reload_failed", extra={"reason": f"the log file cannot be opened: {fault.strerror}"})


def _needs_restart(old: Config, new: Config) -> Sequence[str]:
    changed = []
    if old.listen.addresses != new.listen.addresses:
        changed.append("listen_addr")
    if old.tls.implicit_addresses != new.tls.implicit_addresses:
        changed.append("tls.implicit_addr")
    if old.limits.max_connections != new.limits.max_connections:
        changed.append("max_connections")
    if old.admin != new.admin:
        changed.append("admin_addr or admin_password_hash")
    if old.process != new.process:
        changed.append("workers")
    return changed
