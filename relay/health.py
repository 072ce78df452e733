# SPDX-License-Identifier: MIT
"""Asks Entra ID and Graph now and then, so that /readyz and the admin page know before the first message does.

Runs only where the admin side is on. Sends no mail, and never tries a password that was refused again: that would lock
the account.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import requests

from relay.clock import Clock, Deadline
from relay.config import Config
from relay.credentials import Secret
from relay.graph.entra import Granted
from relay.graph.errors import FEDERATED, CredentialsRefused, TokenError
from relay.graph.http import CONNECT_TIMEOUT_S
from relay.graph.tokens import TokenSource
from relay.identity import APP_LOGIN, Credentials
from relay.stats import Stats

log = logging.getLogger(__name__)

EVERY_S = 60.0
# A locked account, or one in a loop; consent, which can be one user's; a tenant that is looked for by the user's name;
# a domain's own identity provider.
_ONE_USERS = (
    "AADSTS50053",
    "AADSTS50196",
    "AADSTS65001",
    "AADSTS65004",
    "AADSTS90094",
    "AADSTS50059",
    "AADSTS50128",
    FEDERATED,
)
_READ_TIMEOUT_S = 20.0


def own_login(config: Config) -> Credentials | None:
    """What the relay itself can log in with: the app, or the fallback credentials; None where only clients can."""
    if config.entra.flow in ("client_credentials", "managed_identity"):
        return APP_LOGIN
    access = config.access
    if config.entra.flow == "password" and access.fallback_user and access.fallback_password:
        return Credentials(access.fallback_user, access.fallback_password)
    return None


def watched(
    acquire: Callable[[Credentials, float], Granted], own: Credentials | None, stats: Stats
) -> Callable[[Credentials, float], Granted]:
    """The same, with the outcome told to stats. own: the login for which a refusal is not a device's fault.

    What is one user's does not count for the others: /readyz would turn for one device.
    """

    def acquire_and_tell(login: Credentials, timeout_s: float) -> Granted:
        try:
            granted = acquire(login, timeout_s)
        except TokenError as fault:
            if login == own or not (isinstance(fault, CredentialsRefused) or fault.entra_code in _ONE_USERS):
                stats.token_failed(fault.advice)
            raise
        stats.token_fetched()
        return granted

    return acquire_and_tell


class Probe:
    """look() asks what has been silent for a minute."""

    def __init__(
        self, config: Config, tokens: TokenSource, graph_session: requests.Session, stats: Stats, clock: Clock
    ) -> None:
        self._login = own_login(config)
        self._tokens = tokens
        self._session = graph_session
        self._url = f"{config.graph.url}/v1.0/"
        self._stats = stats
        self._clock = clock
        self._refused = False

    def look(self) -> None:
        """A token, from the cache where there is one; and any answer of Graph."""
        if self._login is not None and not self._refused:
            self._ask_for_token(self._login)
        if self._stats.services["graph"].answered is not True or self._stats.silent_s("graph") >= EVERY_S:
            self._ask_graph()

    def _ask_for_token(self, login: Credentials) -> Secret | None:
        try:
            return self._tokens.get(login, Deadline(self._clock, _READ_TIMEOUT_S))
        except TokenError as fault:
            self._refused = isinstance(fault, CredentialsRefused)
            log.debug("probe_failed", extra={"reason": fault.advice, "entra_code": fault.entra_code or None})
            return None

    def _ask_graph(self) -> None:
        """Without a token: 401 is an answer too. The session tells stats how it went."""
        try:
            self._session.get(
                self._url, timeout=(CONNECT_TIMEOUT_S, _READ_TIMEOUT_S), allow_redirects=False, stream=True
            ).close()
        except (requests.RequestException, OSError, ValueError) as fault:
            log.debug("probe_failed", extra={"reason": type(fault).__name__})
