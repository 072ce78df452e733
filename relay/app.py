# SPDX-License-Identifier: MIT
"""The composition root: builds every object from a Config, owns greenlets and signals, reloads, drains, stops."""

from __future__ import annotations

import logging
import resource
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any

import gevent
import requests
from gevent.event import Event
from gevent.threadpool import ThreadPool

from relay import __version__, logs, service
from relay.accounts import Accounts
from relay.authentication import Authenticator
from relay.clock import Clock, Deadline
from relay.config import Config, ListenAddress
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
from relay.health import EVERY_S as LOOK_EVERY_S
from relay.health import Probe, own_login, watched
from relay.identity import Client
from relay.janitor import Janitor, Task
from relay.loginlimit import LoginLimit
from relay.resends import Resends
from relay.smtp import tls
from relay.smtp.backend import SessionSettings
from relay.smtp.budget import Budget
from relay.smtp.lineio import LineIO
from relay.smtp.server import SPARE_PLACES, Door, SmtpServer, listen
from relay.smtp.session import Session
from relay.stats import WARN_DAYS, Stats, secret_warning
from relay.submission import Submission

if TYPE_CHECKING:
    from relay.admin.live import Mail
    from relay.admin.server import AdminServer

log = logging.getLogger(__name__)

_Source = ListenAddress | socket.socket
_PURGE_EVERY_S = 60.0
_DAY_S = 86_400.0
_LAST_DAYS = 7  # of the client secret: from then on it is an error
_THREADS = 2  # for parsing large messages: they share one interpreter, more would only take turns
_SPARE_FILES = 64 + SPARE_PLACES  # listeners, log, libraries; and clients that are being turned away


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
    submission: Submission
    http: tuple[requests.Session, ...]
    probe: Probe


class Relay:
    """The running program."""

    def __init__(
        self,
        config: Config,
        reload: Callable[[], Config] | None = None,
        mails: Callable[[], Sequence[Mail]] | None = None,
    ) -> None:
        """reload: reads the configuration again for SIGHUP; None where there is no file.

        mails: what the sandbox has caught, for the admin page.
        """
        self._clock = Clock()
        self._reload = reload
        self._mails = mails
        self._stats = Stats(self._clock)
        self._admin: AdminServer | None = None
        # What was counted so far outlives a reload.
        self._budget = Budget(config.limits.max_inflight_bytes)
        self._login_limit = LoginLimit(config.access.auth_limit, self._clock)
        self._threads = ThreadPool(_THREADS)
        self._resends = Resends(self._clock)
        self._now = self._build(config)
        door = Door(
            admits=lambda address: self._now.accounts.admits(address),
            speaks_proxy=lambda address: self._now.accounts.speaks_proxy(address),
            make_session=self._session,
            turned_away=self._stats.problem,
        )
        self._server = SmtpServer(config.limits.max_connections, door)
        self._stop = Event()

    def start(self) -> list[str]:
        """Listen, and say where. Raises OSError with an address in its text."""
        gevent.signal_handler(signal.SIGTERM, self._on_stop, "SIGTERM")
        gevent.signal_handler(signal.SIGINT, self._on_stop, "SIGINT")
        gevent.signal_handler(signal.SIGHUP, self._on_reload)
        config = self._now.config
        _allow_files(config.limits.max_connections)
        inherited, inherited_implicit = service.inherited_sockets()  # those of systemd go before the configuration's
        plain: Sequence[_Source] = inherited or config.listen.addresses
        implicit: Sequence[_Source] = inherited_implicit or config.tls.implicit_addresses
        if inherited_implicit and not config.tls.cert_file:
            raise OSError(None, "the inherited socket smtps: set tls.cert_file and tls.key_file")
        admin = config.admin.addr
        sockets: list[socket.socket] = []
        try:
            for source in (*plain, *implicit, *([admin] if admin else ())):
                sockets.append(listen(source) if isinstance(source, ListenAddress) else source)
        except OSError:
            for sock in sockets:
                sock.close()
            raise
        self._server.start(sockets[: len(plain)])
        self._server.start(sockets[len(plain) : len(plain) + len(implicit)], implicit_tls=True)
        if admin is not None:
            self._start_admin(sockets[-1], admin.host)
        janitor = Janitor(
            (
                Task("purge_tokens", _PURGE_EVERY_S, lambda: self._now.tokens.purge()),
                Task("renew_app_token", _PURGE_EVERY_S, self._renew_app_token),
                Task("purge_denied_mailboxes", _PURGE_EVERY_S, lambda: self._now.large.purge()),
                Task("purge_failed_logins", _PURGE_EVERY_S, self._login_limit.purge),
                Task("secret_expires", _DAY_S, self._warn_of_secret),
                Task("status", _PURGE_EVERY_S, self._say_status),
                Task("look_upstream", LOOK_EVERY_S, self._look_upstream),
                Task("purge_denied_searches", _PURGE_EVERY_S, lambda: self._now.mailer.sent_items.purge()),
                Task("purge_lanes", _PURGE_EVERY_S, lambda: self._now.lanes.purge()),
                Task("purge_resends", _PURGE_EVERY_S, self._resends.purge),
            ),
            self._clock,
        )
        gevent.spawn(janitor.run)
        gevent.spawn(service.feed_watchdog, self._clock.sleep)
        gevent.spawn(self._look_upstream)
        addresses = self._server.addresses()
        for warning in config.warnings:
            log.warning("config", extra={"reason": warning})
        log.info("started", extra={"version": __version__})
        for address in addresses:
            log.info("listening", extra={"address": address})
        if self._admin is not None:
            log.info("admin_listening", extra={"address": self._admin.where()})
        self._warn_of_secret()
        service.notify("READY=1", f"STATUS=listening on {', '.join(addresses)}")
        return addresses

    def admin_address(self) -> str:
        """HOST:PORT of the admin page; empty where it is off."""
        return self._admin.where() if self._admin is not None else ""

    def run(self) -> None:
        """Until SIGTERM or SIGINT; then drain."""
        self._stop.wait()
        service.notify("STOPPING=1")
        self._server.drain(self._now.config.limits.shutdown_timeout_s)
        if self._admin is not None:
            self._admin.stop(timeout=0)
        log.info("stopped")

    def _start_admin(self, sock: socket.socket, host: str) -> None:
        from relay.admin.live import Live  # here and not above: most relays run without, and start sooner
        from relay.admin.server import AdminServer
        from relay.admin.wsgi import Admin

        live = Live(
            connections=lambda: self._server.connections,
            max_connections=lambda: self._now.config.limits.max_connections,
            inflight_bytes=lambda: self._budget.used,
            tokens=lambda: self._now.tokens.held,
            mails=self._mails,
        )
        config = self._now.config
        admin = Admin(self._stats, live, config.admin.password_hash, (host, config.listen.hostname), _verify_in_thread)
        self._admin = AdminServer(sock, admin)
        self._admin.start()

    def _warn_of_secret(self) -> None:
        days = self._stats.secret_days_left()
        if days is None or days > WARN_DAYS:
            return
        level = logging.WARNING if days > _LAST_DAYS else logging.ERROR
        log.log(level, "secret_expires", extra={"days_left": days, "reason": secret_warning(days)})

    def _say_status(self) -> None:
        troubles = self._stats.troubles()
        service.notify(f"STATUS={'; '.join(troubles) or 'healthy'}; {self._server.connections} connections")

    def _look_upstream(self) -> None:
        if self._admin is not None:
            self._now.probe.look()

    def _renew_app_token(self) -> None:
        self._now.tokens.renew_app_token(Deadline(self._clock, _PURGE_EVERY_S))

    def _on_stop(self, name: str) -> None:
        log.info("stopping", extra={"signal": name})
        self._stop.set()

    def _build(self, config: Config) -> _Generation:
        entra, graph, clock = config.entra, config.graph, self._clock
        # Every session may be in a call of its own at the same time.
        connections = config.limits.max_connections
        proxy = graph.https_proxy.reveal()
        entra_session = http_session(
            entra.authority, connections, proxy, graph.ca_bundle, partial(self._stats.upstream, "entra")
        )
        graph_session = http_session(
            graph.url, connections, proxy, graph.ca_bundle, partial(self._stats.upstream, "graph")
        )
        flow = flow_of(entra, EntraHttpClient(entra_session, entra.authority), guard)
        tokens = TokenSource(watched(flow.acquire, own_login(config), self._stats), clock)
        client = GraphClient(graph_session, graph.url, guard)
        repeat_unknown = graph.ambiguous_outcome == "retry"
        policy = RetryPolicy(graph.retry_attempts, graph.retry_initial_delay_ms / 1000, repeat_unknown)
        lanes = Lanes(clock, graph.mailbox_concurrency, graph.mailbox_rate)
        mailer = Mailer(client, tokens, policy, clock, lanes=lanes)
        large = LargeMail(client, tokens, policy, clock, graph.single_request_limit_bytes, lanes=lanes)
        accounts = Accounts(config, _verify_in_thread)
        authenticator = Authenticator(accounts, self._login_limit, tokens, clock, self._stats)
        delivery = Delivery(mailer, large, graph, clock, self._in_thread)
        submission = Submission(authenticator, delivery, self._resends, graph.submit_timeout_s, clock, self._stats)
        settings = _session_settings(config, self._budget, self._stats)
        probe = Probe(config, tokens, graph_session, self._stats, clock)
        expires = config.entra.secret_expires
        self._stats.secret_expires = date.fromisoformat(expires) if expires else None
        http = (entra_session, graph_session)
        return _Generation(config, settings, accounts, tokens, mailer, large, lanes, submission, http, probe)

    def _in_thread(self, work: Callable[[], Any]) -> Any:
        """What work gives, with the event loop going on meanwhile."""
        return self._threads.apply(work)

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
            let_others_run=gevent.sleep,
        )
        return Session(line_io, client, now.submission, now.settings, implicit_tls=implicit_tls)

    def _on_reload(self) -> None:
        """SIGHUP: sessions that run end with the configuration they began with; a faulty one changes nothing."""
        if self._reload is None:
            log.warning("reload_ignored", extra={"reason": "started without a configuration file"})
            return
        service.notify_reloading()
        try:
            config = self._reload()
            new = self._build(config)
            logs.set_up(config.log)
        except (ConfigError, AppMisconfigured, OSError) as fault:
            self._reopen_log()  # which may have been rotated all the same
            for line in str(fault).splitlines():
                log.error("reload_failed", extra={"reason": f"{line}; the old configuration stays"})
            service.notify("READY=1")
            return
        old, self._now = self._now, new
        self._budget.limit = config.limits.max_inflight_bytes
        self._login_limit.limit = config.access.auth_limit
        for session in old.http:
            session.close()  # what is in use goes on, and is closed behind it
        for warning in config.warnings:
            log.warning("config", extra={"reason": warning})
        for name in _needs_restart(old.config, config):
            log.warning("restart_needed", extra={"reason": f"{name} changes only with a restart"})
        log.info("reloaded")
        self._warn_of_secret()
        service.notify("READY=1")

    def _reopen_log(self) -> None:
        try:
            logs.set_up(self._now.config.log)
        except OSError as fault:
            log.error("reload_failed", extra={"reason": f"the log file cannot be opened: {fault.strerror}"})


def _allow_files(connections: int) -> None:
    """Each session has a socket, and may need one to Entra ID or Graph; many services start with 1024 in all."""
    wanted = 2 * connections + _SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        reason = f"max_connections may need {wanted} open files and the system allows {hard}; raise LimitNOFILE"
        log.warning("config", extra={"reason": reason})


def _session_settings(config: Config, budget: Budget, stats: Stats) -> SessionSettings:
    """Raises OSError when certificate and key cannot be used."""
    given = config.tls
    return SessionSettings(
        config.listen.hostname or socket.getfqdn(),
        config.limits.max_message_bytes,
        config.limits.max_recipients,
        budget=budget,
        tls=tls.server_context(given.cert_file, given.key_file, given.min_version) if given.cert_file else None,
        tls_for_auth=given.require_for_auth,
        refused=stats.message,
    )


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
    return changed
