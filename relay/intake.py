# SPDX-License-Identifier: MIT
"""The mail side of one process: its SMTP server, with what stands behind it. There is one in every worker."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from relay.bounds import Bounds
from relay.clock import Clock, Deadline
from relay.config import Config
from relay.generation import Generation, generation_of
from relay.greenlets import Alarm, Threads, let_others_run
from relay.identity import Client
from relay.janitor import Task
from relay.sideprocess import SideProcess
from relay.smtp.lineio import LineIO
from relay.smtp.server import Door, SmtpServer
from relay.smtp.session import Session
from relay.stats import Stats

_PURGE_EVERY_S = 60.0


class Intake:
    """Takes mail and delivers it."""

    def __init__(
        self, config: Config, bounds: Bounds, clock: Clock, stats: Stats, *, shares_listeners: bool = False
    ) -> None:
        """Raises AppMisconfigured, and OSError when certificate and key cannot be used."""
        self._bounds = bounds
        self._clock = clock
        self._stats = stats
        self._threads = Threads()
        self._side_process = SideProcess(self._threads.run)
        self._now = self._build(config)
        door = Door(
            admits=lambda address: self._now.accounts.admits(address),
            speaks_proxy=lambda address: self._now.accounts.speaks_proxy(address),
            make_session=self._session,
            turned_away=stats.problem,
        )
        self._server = SmtpServer(bounds.connections, door, shares_listeners=shares_listeners)

    @property
    def now(self) -> Generation:
        """What new sessions get."""
        return self._now

    def start(self, plain: Sequence[socket.socket], implicit: Sequence[socket.socket]) -> None:
        """Accept on sockets that listen already; implicit: with TLS from the first octet."""
        self._server.start(plain)
        self._server.start(implicit, implicit_tls=True)

    def prepare(self, config: Config) -> Generation:
        """For take(); changes nothing yet. Raises AppMisconfigured, and OSError as the constructor."""
        return self._build(config)

    def take(self, new: Generation) -> None:
        """From now on new sessions get this; those that run end with what they began with."""
        old = self._now
        new.large.take_over(old.large)
        if new.config.entra == old.config.entra:
            new.upstream.tokens.take_over(old.upstream.tokens)
        self._now = new
        self._bounds.take(new.config)
        old.upstream.close()

    def drain(self) -> None:
        """Stop accepting; finish what is in flight up to shutdown_timeout."""
        self._server.drain(self._now.config.limits.shutdown_timeout_s)
        self._side_process.close()

    def tasks(self) -> tuple[Task, ...]:
        """For the janitor."""
        return (
            Task("rest_side_process", _PURGE_EVERY_S, self._side_process.rest),
            Task("purge_tokens", _PURGE_EVERY_S, lambda: self._now.upstream.tokens.purge()),
            Task("renew_app_token", _PURGE_EVERY_S, self._renew_app_token),
            Task("delete_left_drafts", _PURGE_EVERY_S, lambda: self._now.large.delete_left()),
            Task("purge_denied_mailboxes", _PURGE_EVERY_S, lambda: self._now.large.purge()),
            Task("purge_denied_searches", _PURGE_EVERY_S, lambda: self._now.mailer.sent_items.purge()),
            Task("purge_failed_logins", _PURGE_EVERY_S, self._bounds.logins.purge),
            Task("purge_lanes", _PURGE_EVERY_S, self._bounds.lanes.purge),
            Task("purge_resends", _PURGE_EVERY_S, self._bounds.resends.purge),
        )

    def _renew_app_token(self) -> None:
        self._now.upstream.tokens.renew_app_token(Deadline(self._clock, _PURGE_EVERY_S))

    def _build(self, config: Config) -> Generation:
        return generation_of(config, self._bounds, self._clock, self._stats, self._threads.run, self._side_process.run)

    def _session(self, sock: socket.socket, client: Client, implicit_tls: bool) -> Session:
        now = self._now
        limits = now.config.limits
        line_io = LineIO(
            sock,
            self._clock,
            limits.command_timeout_s,
            Deadline(self._clock, limits.connection_timeout_s),
            bare_lf=now.accounts.ends_lines_with_lf(client.address),
            alarm=Alarm(),
            let_others_run=let_others_run,
        )
        return Session(line_io, client, now.submission, now.settings, implicit_tls=implicit_tls)
