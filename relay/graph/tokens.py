# SPDX-License-Identifier: MIT
"""Access tokens: msal behind get(login), with a cache that belongs to user *and* password. Knows no SMTP.

msal's own cache knows no passwords and no single flight, so it is given one that keeps nothing.
"""

from __future__ import annotations

import hmac
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import msal
import requests

from relay.clock import Clock, Deadline
from relay.config import EntraConfig
from relay.credentials import Secret
from relay.graph.aadsts import token_error
from relay.graph.errors import AppMisconfigured, CredentialsRefused, TokenError, TokenUnavailable
from relay.identity import Credentials

log = logging.getLogger(__name__)

LAST_SECONDS_UNUSED = 60.0
SHORT_LIFE_S = 90.0
SHORT_USE_S = 30.0
REFUSAL_MEMORY_S = 60.0
APP_FAULT_MEMORY_S = 10.0
MOST_REFUSALS = 10_000


@dataclass(frozen=True, slots=True)
class _Cached:
    digest: bytes
    token: Secret
    usable_until: float


@dataclass(slots=True)
class _Flight:
    """A user's lock, and how many hold or want it."""

    lock: threading.Lock
    users: int = 0


def usable_s(expires_in_s: float) -> float:
    """How long a token may be used: never in its last 60 s; one that lives under 90 s for 30 s, never past its end."""
    if expires_in_s < SHORT_LIFE_S:
        return min(SHORT_USE_S, max(expires_in_s, 0.0))
    return expires_in_s - LAST_SECONDS_UNUSED


class TokenSource:
    """One app registration's tokens for many users (flow password, RFC 6749 §4.3)."""

    def __init__(
        self,
        config: EntraConfig,
        http_client: Any,
        clock: Clock,
        guard: Callable[[float], AbstractContextManager[Any]],
    ) -> None:
        """http_client: for msal; see http.py. guard: bounds a call as a whole, raising TimeoutError."""
        self._config = config
        self._http_client = http_client
        self._clock = clock
        self._guard = guard
        self._digest_key = os.urandom(32)
        self._application: Any = None
        self._application_lock = threading.Lock()
        self._cached: dict[str, _Cached] = {}
        self._refused: dict[tuple[str, bytes], tuple[float, TokenError]] = {}
        self._app_fault: tuple[float, TokenError] | None = None
        self._flights: dict[str, _Flight] = {}

    def get(self, login: Credentials, deadline: Deadline) -> Secret:
        """A token for this user and this password. Raises TokenError."""
        user = login.user.strip().casefold()
        digest = hmac.digest(self._digest_key, login.password.reveal().encode("utf-8", "surrogatepass"), "sha256")
        token = self._fresh(user, digest)
        if token is not None:
            return token
        with self._one_flight(user, deadline):
            token = self._fresh(user, digest)
            if token is not None:
                return token
            self._raise_if_refused(user, digest)
            return self._fetch(login, user, digest, deadline)

    def revoke(self, login: Credentials, token: Secret) -> None:
        """Forget a token that Graph refused, unless a newer one has taken its place."""
        user = login.user.strip().casefold()
        cached = self._cached.get(user)
        if cached is not None and cached.token == token:
            del self._cached[user]

    def purge(self) -> None:
        """Drop expired tokens and refusals; the janitor's task."""
        now = self._clock.monotonic()
        self._cached = {user: c for user, c in self._cached.items() if c.usable_until > now}
        self._refused = {key: entry for key, entry in self._refused.items() if entry[0] > now}

    def _fresh(self, user: str, digest: bytes) -> Secret | None:
        cached = self._cached.get(user)
        if cached is None or cached.usable_until <= self._clock.monotonic():
            return None
        return cached.token if hmac.compare_digest(cached.digest, digest) else None

    @contextmanager
    def _one_flight(self, user: str, deadline: Deadline) -> Iterator[None]:
        """One fetch at a time for one user; the others wait for its outcome."""
        flight = self._flights.setdefault(user, _Flight(threading.Lock()))
        flight.users += 1
        try:
            if not flight.lock.acquire(timeout=max(deadline.remaining(), 0.001)):
                raise TokenUnavailable("waited too long for another login of the same user")
            try:
                yield
            finally:
                flight.lock.release()
        finally:
            flight.users -= 1
            if flight.users == 0:
                del self._flights[user]

    def _raise_if_refused(self, user: str, digest: bytes) -> None:
        now = self._clock.monotonic()
        for entry in (self._app_fault, self._refused.get((user, digest)), self._refused.get((user, b""))):
            if entry is not None and entry[0] > now:
                raise _again(entry[1])

    def _fetch(self, login: Credentials, user: str, digest: bytes, deadline: Deadline) -> Secret:
        try:
            answer = self._ask_entra(login, deadline)
        except TokenError as refusal:
            self._remember(refusal, user, digest)
            raise
        now = self._clock.monotonic()
        self._app_fault = None
        token = Secret(str(answer["access_token"]))
        self._cached[user] = _Cached(digest, token, now + usable_s(float(answer.get("expires_in", 0))))
        log.debug("token_fetched", extra={"user": login.user})
        return token

    def _remember(self, raised: TokenError, user: str, digest: bytes) -> None:
        now = self._clock.monotonic()
        refusal = _again(raised)
        if isinstance(refusal, AppMisconfigured):
            self._app_fault = (now + APP_FAULT_MEMORY_S, refusal)
            self._application = None  # built anew once the fault is mended
        elif isinstance(refusal, CredentialsRefused):
            self._refused[user, digest] = (now + REFUSAL_MEMORY_S, refusal)
        elif refusal.entra_code in ("AADSTS50053", "AADSTS50196"):
            self._refused[user, b""] = (now + REFUSAL_MEMORY_S, refusal)  # whatever the password: leave it alone
        while len(self._refused) > MOST_REFUSALS:
            del self._refused[next(iter(self._refused))]

    def _ask_entra(self, login: Credentials, deadline: Deadline) -> dict[str, Any]:
        try:
            with self._guard(deadline.remaining()):
                answer = self._app().acquire_token_by_username_password(
                    login.user, login.password.reveal(), scopes=list(self._config.scopes)
                )
        except (requests.RequestException, OSError) as fault:
            raise _unreachable(fault) from None
        except TokenError:
            raise
        except Exception as fault:  # msal raises many kinds: federated users, odd answers
            raise _msal_fault(fault) from None
        if not isinstance(answer, dict):
            raise TokenUnavailable("Entra ID gave no usable answer")
        if answer.get("access_token"):
            return answer
        raise token_error(answer)

    def _app(self) -> Any:
        """msal's application, built at the first use: its constructor asks the network, which may be down before."""
        with self._application_lock:
            if self._application is None:
                self._application = self._build()
            return self._application

    def _build(self) -> Any:
        try:
            return msal.ConfidentialClientApplication(
                self._config.client_id,
                client_credential=self._config.client_secret.reveal(),
                authority=f"{self._config.authority}/{self._config.tenant_id}",
                instance_discovery=None if _is_microsofts(self._config.authority) else False,
                http_client=self._http_client,
                token_cache=_NoCache(),
            )
        except ValueError:
            raise AppMisconfigured(
                "Entra ID knows no such tenant; check oauth2_config.tenant_id and authority"
            ) from None


class _NoCache(msal.TokenCache):  # type: ignore[misc]
    """Keeps nothing: msal would hand out tokens without looking at the password, and grow with every user."""

    def add(self, event: dict[str, Any], now: float | None = None) -> None:
        """Forget it."""


def _again(fault: TokenError) -> TokenError:
    """The same fault without its traceback, whose frames would keep the message of whoever met it in memory."""
    return type(fault)(fault.advice, fault.entra_code)


def _msal_fault(fault: Exception) -> TokenError:
    """The text of what msal raises can quote answers, so only its kind is passed on."""
    kind = type(fault).__name__
    federated = isinstance(fault, ValueError | RuntimeError) and not isinstance(fault, json.JSONDecodeError)
    if federated:
        return CredentialsRefused(
            "the sign-in failed at a federated identity provider; flow password works with cloud accounts only", kind
        )
    return TokenUnavailable("Entra ID gave no usable answer; a proxy or firewall may stand in between", kind)


def _is_microsofts(authority: str) -> bool:
    host = authority.removeprefix("https://")
    return host in msal.authority.WELL_KNOWN_AUTHORITY_HOSTS


def _unreachable(fault: Exception) -> TokenUnavailable:
    if isinstance(fault, requests.exceptions.SSLError):
        advice = "Entra ID's certificate is not trusted; if a proxy inspects TLS, put its CA into ca_bundle"
    elif isinstance(fault, requests.exceptions.ProxyError):
        advice = "the proxy refused or failed; check https_proxy"
    elif isinstance(fault, requests.Timeout | TimeoutError):
        advice = "Entra ID did not answer in time; check the network and https_proxy"
    else:
        advice = "Entra ID cannot be reached; check DNS, firewall and https_proxy"
    return TokenUnavailable(advice, type(fault).__name__)
