# SPDX-License-Identifier: MIT
"""What is built from one reading of the configuration; a reload builds the next one beside it."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from functools import partial

import requests

from relay import configvalue
from relay.accounts import Accounts
from relay.authentication import Authenticator
from relay.bounds import Bounds
from relay.clock import Clock
from relay.config import Config
from relay.configvalue import BadValue
from relay.delivery import Delivery, Doing
from relay.graph.client import GraphClient
from relay.graph.entra import flow_of
from relay.graph.http import EntraHttpClient, http_session
from relay.graph.lanes import Lanes
from relay.graph.large import LargeMail
from relay.graph.mail import Mailer
from relay.graph.retry import RetryPolicy
from relay.graph.tokens import NoSiblings, Siblings, TokenSource
from relay.greenlets import guard, verify_in_thread
from relay.health import own_login, watched
from relay.smtp import tls
from relay.smtp.backend import SessionSettings
from relay.smtp.budget import Budget
from relay.stats import Stats
from relay.submission import Submission


@dataclass(frozen=True, slots=True)
class Upstream:
    """The ways to Entra ID and Graph."""

    entra: requests.Session
    graph: requests.Session
    tokens: TokenSource

    def close(self) -> None:
        """What is in use goes on, and is closed behind it."""
        self.entra.close()
        self.graph.close()


@dataclass(frozen=True, slots=True)
class Generation:
    """All that one message meets."""

    config: Config
    settings: SessionSettings
    accounts: Accounts
    upstream: Upstream
    mailer: Mailer
    large: LargeMail
    lanes: Lanes
    submission: Submission


def upstream_of(config: Config, clock: Clock, stats: Stats, siblings: Siblings) -> Upstream:
    """Asks nothing yet. Raises AppMisconfigured."""
    entra, graph = config.entra, config.graph
    # Every session may be in a call of its own at the same time.
    connections = config.limits.max_connections
    proxy = graph.https_proxy.reveal()
    entra_session = http_session(entra.authority, connections, proxy, graph.ca_bundle, partial(stats.upstream, "entra"))
    graph_session = http_session(graph.url, connections, proxy, graph.ca_bundle, partial(stats.upstream, "graph"))
    flow = flow_of(entra, EntraHttpClient(entra_session, entra.authority), guard)
    tokens = TokenSource(watched(flow.acquire, own_login(config), stats), clock, siblings)
    return Upstream(entra_session, graph_session, tokens)


def generation_of(
    config: Config, bounds: Bounds, clock: Clock, stats: Stats, in_thread: Doing, in_process: Doing
) -> Generation:
    """Raises AppMisconfigured, and OSError when certificate and key cannot be used."""
    graph = config.graph
    upstream = upstream_of(config, clock, stats, bounds.siblings)
    client = GraphClient(upstream.graph, graph.url, guard)
    repeat_unknown = graph.ambiguous_outcome == "retry"
    policy = RetryPolicy(graph.retry_attempts, graph.retry_initial_delay_ms / 1000, repeat_unknown)
    lanes = Lanes(clock, graph.mailbox_concurrency, graph.mailbox_rate, bounds.lanes)
    mailer = Mailer(client, upstream.tokens, policy, clock, lanes=lanes)
    large = LargeMail(client, upstream.tokens, policy, clock, graph.single_request_limit_bytes, lanes=lanes)
    accounts = Accounts(config, verify_in_thread)
    authenticator = Authenticator(accounts, bounds.logins, upstream.tokens, clock, stats)
    delivery = Delivery(mailer, large, graph, clock, in_thread, in_process)
    submission = Submission(authenticator, delivery, bounds.resends, graph.submit_timeout_s, clock, stats)
    settings = session_settings(config, bounds.inflight, stats)
    return Generation(config, settings, accounts, upstream, mailer, large, lanes, submission)


def check(config: Config) -> None:
    """What generation_of() finds fault with, it raises: AppMisconfigured, OSError. Asks nobody."""
    clock = Clock()
    upstream_of(config, clock, Stats(clock), NoSiblings()).close()
    _tls_context(config)


def _tls_context(config: Config) -> ssl.SSLContext | None:
    given = config.tls
    if not given.cert_file:
        return None
    try:
        return tls.server_context(given.cert_file, given.key_file, given.min_version)
    except OSError as fault:
        raise OSError(f"tls.cert_file or tls.key_file cannot be used: {fault.strerror or fault}") from None


def _machine_name() -> str:
    """The machine's full name, where a reply can hold it: it may be none that mail knows, such as one beyond ASCII."""
    try:
        return configvalue.hostname(socket.getfqdn())
    except BadValue:
        return "localhost"


def session_settings(config: Config, budget: Budget, stats: Stats) -> SessionSettings:
    """Raises OSError when certificate and key cannot be used."""
    return SessionSettings(
        config.listen.hostname or _machine_name(),
        config.limits.max_message_bytes,
        config.limits.max_recipients,
        budget=budget,
        tls=_tls_context(config),
        tls_for_auth=config.tls.require_for_auth,
        refused=stats.message,
    )
