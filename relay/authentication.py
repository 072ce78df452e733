# SPDX-License-Identifier: MIT
"""authenticate(): from what a client says of itself to an Identity, with the log lines that say why not."""

from __future__ import annotations

import logging
from typing import Any, NoReturn

from relay import outcome
from relay.accounts import Accounts, LoginRefused, LoginRequired
from relay.clock import Clock, Deadline
from relay.graph.errors import TokenError
from relay.graph.tokens import TokenSource
from relay.identity import APP_LOGIN, Client, Credentials, Identity
from relay.loginlimit import LoginLimit
from relay.smtp import reply as replies
from relay.smtp.reply import Reject, Reply
from relay.stats import Stats

log = logging.getLogger(__name__)

TIMEOUT_S = 30.0


class Authenticator:
    """Asks the configuration first, then Entra ID."""

    def __init__(
        self, accounts: Accounts, limit: LoginLimit, tokens: TokenSource, clock: Clock, stats: Stats | None = None
    ) -> None:
        self._accounts = accounts
        self._limit = limit
        self._tokens = tokens
        self._clock = clock
        self._stats = stats or Stats(clock)

    def anonymous(self, client: Client) -> Identity:
        """Who a client is that did not log in. Raises Reject (530)."""
        try:
            return self._accounts.anonymous(client)
        except LoginRequired as refusal:
            facts = {**_facts(client), "reason": str(refusal)}
            log.info("login_required", extra=facts)
            self._stats.problem("login_required", facts)
            raise Reject(replies.AUTH_REQUIRED) from None

    def log_in(self, credentials: Credentials, client: Client) -> Identity:
        """Who these credentials belong to. Raises Reject (535, 454, 421)."""
        facts = {**_facts(client), "user": credentials.user}
        self._mind_limit(client, facts)
        identity = self._checked(credentials, client, facts)
        self._mind_limit(client, facts)  # or a burst would have more passwords looked at than the limit allows
        if identity.fallback:
            log.warning("fallback_login", extra={**facts, "user": identity.user, "reason": "empty login"})
        log.debug("authenticated", extra=facts)
        return identity

    def _checked(self, credentials: Credentials, client: Client, facts: dict[str, Any]) -> Identity:
        try:
            identity = self._accounts.logged_in(credentials, client)
        except LoginRefused as refusal:
            self._refuse(client, replies.AUTH_REFUSED, {**facts, "reason": str(refusal)})
        if identity.login is APP_LOGIN:
            # The password was checked here. Whether the app gets a token is the message's matter: a device can do
            # nothing about it, and many lock themselves up when AUTH fails.
            return identity
        try:
            self._tokens.get(identity.login, Deadline(self._clock, TIMEOUT_S))
        except TokenError as fault:
            reply = outcome.auth_reply(fault, fallback=identity.fallback)
            self._refuse(client, reply, {**facts, "entra_code": fault.entra_code or None, "reason": fault.advice})
        return identity

    def _mind_limit(self, client: Client, facts: dict[str, Any]) -> None:
        if self._limit.reached(client.address):
            facts = {**facts, "reason": "too many failed logins from there; see auth_limit"}
            log.warning("auth_limit", extra=facts)
            self._stats.problem("auth_limit", facts)
            raise Reject(replies.TOO_MANY_FAILED_LOGINS)

    def _refuse(self, client: Client, reply: Reply, facts: dict[str, Any]) -> NoReturn:
        """Only what is the client's own fault counts against it."""
        told = {**facts, "reply": str(reply)}
        if reply is replies.AUTH_REFUSED:
            self._mind_limit(client, facts)
            self._limit.failed(client.address)
            log.warning("auth_failed", extra=told)
            self._stats.problem("auth_failed", told)
        else:
            log.error("auth_unavailable", extra=told)
            self._stats.problem("auth_unavailable", told, urgent=True)
        raise Reject(reply) from None


def _facts(client: Client) -> dict[str, Any]:
    return {"session": client.session, "client": client.address}
