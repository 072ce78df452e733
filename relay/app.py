# SPDX-License-Identifier: MIT
"""The composition root: builds every object from a Config, owns greenlets and signals, reloads, drains, stops."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import gevent
from gevent.event import Event

from relay import __version__, logs
from relay.accounts import Accounts
from relay.authentication import Authenticator
from relay.clock import Clock, Deadline
from relay.config import Config
from relay.configfile import ConfigError
from relay.credentials import verify_password
from relay.delivery import Delivery
from relay.graph.client import GraphClient
from relay.graph.entra import flow_of
from relay.graph.errors import AppMisconfigured
from relay.graph.http import EntraHttpClient, http_session
from relay.graph.lanes import Lanes
from relay.graph.large import LargeMail
from relay.graph.mail import Mailer
from relay.graph.retry import RetryPolicy
from relay.graph.tokens import TokenSource
from relay.identity import Client
from relay.janitor import Janitor, Task
from relay.loginlimit import LoginLimit
from relay.resends import Resends
from relay.smtp import tls
from relay.smtp.budget import Budget
from relay.smtp.lineio import LineIO
from relay.smtp.server import Door, SmtpServer, listen
from relay.smtp.session import Session, SessionSettings
from relay.submission import Submission

log = logging.getLogger(__name__)

_PURGE_EVERY_S = 60.0


@contextmanager
def guard(seconds: float) -> Iterator[None]:
    """Bounds a whole upstream call: HTTP timeouts count for each read anew. Raises TimeoutError."""
    with gevent.Timeout(max(seconds, 0.001), TimeoutError("upstream call took too long")):
        yield


def _verify_in_thread(password: str, encoded: str) -> bool:
    """scrypt takes a core for some 50 ms: not on the event loop."""
    return bool(gevent.get_hub().threadpool.apply(verify_password, (password, encoded)))


@dataclass(frozen=True, slots=True)
class _Generation:
    """What is built from one reading of the configuration; a reload makes the next one."""

    config: Config
    settings: SessionSettings
    accounts: Accounts
    tokens: TokenSource
    mailer: Mailer
    large: LargeMail
    lanes: Lanes
    login_limit: LoginLimit
    submission: Submission


class Relay:
    """The running program."""

    def __init__(self, config: Config, reload: Callable[[], Config] | None = None) -> None:
        """reload: reads the configuration again for SIGHUP; None where there is no file."""
        self._clock = Clock()
        self._reload = reload
        self._resends = Resends(self._clock)
        self._now = self._build(config)
        door = Door(
            admits=lambda address: self._now.accounts.admits(address),
            speaks_proxy=lambda address: self._now.accounts.speaks_proxy(address),
            make_session=self._session,
        )
        self._server = SmtpServer(config.limits.max_connections, door)
        self._stop = Event()

    def start(self) -> list[str]:
        """Listen, and say where. Raises OSError with an address in its text."""
        config = self._now.config
        sockets: list[socket.socket] = []
        try:
            for where in (*config.listen.addresses, *config.tls.implicit_addresses):
                sockets.append(listen(where))
        except OSError:
            for sock in sockets:
                sock.close()
            raise
        plain = len(config.listen.addresses)
        self._server.start(sockets[:plain])
        self._server.start(sockets[plain:], implicit_tls=True)
        janitor = Janitor(
            (
                Task("purge_tokens", _PURGE_EVERY_S, lambda: self._now.tokens.purge()),
                Task("renew_app_token", _PURGE_EVERY_S, self._renew_app_token),
                Task("purge_denied_mailboxes", _PURGE_EVERY_S, lambda: self._now.large.purge()),
                Task("purge_denied_searches", _PURGE_EVERY_S, lambda: self._now.mailer.sent_items.purge()),
                Task("purge_lanes", _PURGE_EVERY_S, lambda: self._now.lanes.purge()),
                Task("purge_resends", _PURGE_EVERY_S, self._resends.purge),
                Task("purge_failed_logins", _PURGE_EVERY_S, lambda: self._now.login_limit.purge()),
            ),
            self._clock,
        )
        gevent.spawn(janitor.run)
        addresses = self._server.addresses()
        for warning in config.warnings:
            log.warning("config", extra={"reason": warning})
        log.info("started", extra={"version": __version__})
        for address in addresses:
            log.info("listening", extra={"address": address})
        return addresses

    def run(self) -> None:
        """Until SIGTERM or SIGINT; then drain."""
        gevent.signal_handler(signal.SIGTERM, self._on_stop, "SIGTERM")
        gevent.signal_handler(signal.SIGINT, self._on_stop, "SIGINT")
        gevent.signal_handler(signal.SIGHUP, self._on_reload)
        self._stop.wait()
        self._server.drain(self._now.config.limits.shutdown_timeout_s)
        log.info("stopped")

    def _renew_app_token(self) -> None:
        self._now.tokens.renew_app_token(Deadline(self._clock, _PURGE_EVERY_S))

    def _on_stop(self, name: str) -> None:
        log.info("stopping", extra={"signal": name})
        self._stop.set()

    def _build(self, config: Config) -> _Generation:
        entra, graph, clock = config.entra, config.graph, self._clock
        # Every session may be in a call of its own at the same time.
        connections = config.limits.max_connections
        entra_session = http_session(entra.authority, connections, graph.https_proxy.reveal(), graph.ca_bundle)
        graph_session = http_session(graph.url, connections, graph.https_proxy.reveal(), graph.ca_bundle)
        flow = flow_of(entra, EntraHttpClient(entra_session, entra.authority), guard)
        tokens = TokenSource(flow.acquire, clock)
        client = GraphClient(graph_session, graph.url, guard)
        repeat_unknown = graph.ambiguous_outcome == "retry"
        policy = RetryPolicy(graph.retry_attempts, graph.retry_initial_delay_ms / 1000, repeat_unknown)
        lanes = Lanes(clock, graph.mailbox_concurrency, graph.mailbox_rate)
        mailer = Mailer(client, tokens, policy, clock, lanes=lanes)
        large = LargeMail(client, tokens, policy, clock, graph.single_request_limit_bytes, lanes=lanes)
        accounts = Accounts(config, _verify_in_thread)
        budget = Budget(config.limits.max_inflight_bytes)
        login_limit = LoginLimit(config.access.auth_limit, clock)
        authenticator = Authenticator(accounts, login_limit, tokens, clock)
        delivery = Delivery(mailer, large, graph, clock)
        submission = Submission(authenticator, delivery, self._resends, graph.submit_timeout_s, clock)
        settings = _session_settings(config, budget)
        return _Generation(config, settings, accounts, tokens, mailer, large, lanes, login_limit, submission)

    def _session(self, sock: socket.socket, client: Client, implicit_tls: bool) -> Session:
        now = self._now
        limits = now.config.limits
        line_io = LineIO(
            sock,
            self._clock,
            limits.command_timeout_s,
            Deadline(self._clock, limits.connection_timeout_s),
            bare_lf=now.accounts.ends_lines_with_lf(client.address),
            guard=guard,
        )
        return Session(line_io, client, now.submission, now.settings, implicit_tls=implicit_tls)

    def _on_reload(self) -> None:
        """SIGHUP: sessions that run end with the configuration they began with; a faulty one changes nothing."""
        if self._reload is None:
            log.warning("reload_ignored", extra={"reason": "started without a configuration file"})
            return
        try:
            config = self._reload()
            new = self._build(config)
            logs.set_up(config.log)
        except (ConfigError, AppMisconfigured, OSError) as fault:
            for line in str(fault).splitlines():
                log.error("reload_failed", extra={"reason": f"{line}; the old configuration stays"})
            return
        old, self._now = self._now.config, new
        for warning in config.warnings:
            log.warning("config", extra={"reason": warning})
        for name in _needs_restart(old, config):
            log.warning("restart_needed", extra={"reason": f"{name} changes only with a restart"})
        log.info("reloaded")


def _session_settings(config: Config, budget: Budget) -> SessionSettings:
    """Raises OSError when certificate and key cannot be used."""
    given = config.tls
    return SessionSettings(
        config.listen.hostname or socket.getfqdn(),
        config.limits.max_message_bytes,
        config.limits.max_recipients,
        budget=budget,
        tls=tls.server_context(given.cert_file, given.key_file, given.min_version) if given.cert_file else None,
        tls_for_auth=given.require_for_auth,
    )


def _needs_restart(old: Config, new: Config) -> Sequence[str]:
    changed = []
    if old.listen.addresses != new.listen.addresses:
        changed.append("listen_addr")
    if old.tls.implicit_addresses != new.tls.implicit_addresses:
        changed.append("tls.implicit_addr")
    if old.limits.max_connections != new.limits.max_connections:
        changed.append("max_connections")
    return changed
