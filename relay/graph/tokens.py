# SPDX-License-Identifier: MIT
"""Access tokens: get(login), from a cache that belongs to user *and* password. Knows no SMTP, and no msal."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from relay.clock import Clock, Deadline
from relay.credentials import Secret
from relay.graph.entra import Granted
from relay.graph.errors import PAUSED, AppMisconfigured, CredentialsRefused, TokenError, TokenUnavailable
from relay.identity import APP_LOGIN, Credentials

log = logging.getLogger(__name__)

LAST_SECONDS_UNUSED = 60.0
SHORT_LIFE_S = 90.0
SHORT_USE_S = 30.0
REFUSAL_MEMORY_S = 60.0
COOL_DOWN_S = 60.0  # of an account that Entra ID has locked; doubles with each further time
LONGEST_COOL_DOWN_S = 960.0
LONGEST_APP_FAULT_S = 60.0
RENEW_AHEAD_S = 300.0
MOST_REFUSALS = 10_000


@dataclass(frozen=True, slots=True)
class _Cached:
    digest: bytes
    token: Secret
    usable_until: float


class Refusal(NamedTuple):
    """What Entra ID said, until a moment of the monotonic clock; lasted_s: for how long that is."""

    until: float
    lasted_s: float
    fault: TokenError


class Siblings(Protocol):
    """The token sources of other processes of the same service. Each has a cache of its own."""

    @property
    def digest_key(self) -> bytes:
        """By which all of them digest passwords."""
        ...

    def turn(self, user: str, deadline: Deadline) -> AbstractContextManager[bool]:
        """Inside of it no other process fetches a token for this user; False where that did not come in time."""
        ...

    def tell(self, user: str, digest: bytes, refusal: Refusal) -> None:
        """A user's login was refused here."""
        ...

    def heard(self) -> Iterable[tuple[str, bytes, Refusal]]:
        """What the others were told, and we not yet."""
        ...


class NoSiblings:
    """There is one process."""

    def __init__(self) -> None:
        self.digest_key = os.urandom(32)

    def turn(self, user: str, deadline: Deadline) -> AbstractContextManager[bool]:
        return nullcontext(True)

    def tell(self, user: str, digest: bytes, refusal: Refusal) -> None:
        """There is nobody to be told."""

    def heard(self) -> Iterable[tuple[str, bytes, Refusal]]:
        return ()


@dataclass(slots=True)
class _Flight:
    """A user's lock, how many hold or want it, and how often Entra ID could not say anything meanwhile."""

    lock: threading.Lock
    users: int = 0
    failures: int = 0
    failure: TokenError | None = None


def usable_s(expires_in_s: float) -> float:
    """How long a token may be used: never in its last 60 s; one that lives under 90 s for 30 s, never past its end."""
    if expires_in_s < SHORT_LIFE_S:
        return min(SHORT_USE_S, max(expires_in_s, 0.0))
    return expires_in_s - LAST_SECONDS_UNUSED


class TokenSource:
    """The tokens of one flow, for as many users as there are."""

    def __init__(
        self,
        acquire: Callable[[Credentials, float], Granted],
        clock: Clock,
        siblings: Siblings | None = None,
    ) -> None:
        """acquire: asks Entra ID with a login, within some seconds; see entra.py."""
        self._acquire = acquire
        self._clock = clock
        self._siblings = siblings or NoSiblings()
        self._digest_key = self._siblings.digest_key
        self._cached: dict[str, _Cached] = {}
        self._refused: dict[tuple[str, bytes], Refusal] = {}
        self._flights: dict[str, _Flight] = {}

    def get(self, login: Credentials, deadline: Deadline) -> Secret:
        """A token for this user and this password. Raises TokenError."""
        user, digest = self._key(login)
        token = self._fresh(user, digest)
        if token is not None:
            return token
        with self._one_flight(user, deadline) as flight:
            token = self._fresh(user, digest)
            if token is not None:
                return token
            self._raise_if_refused(user, digest)
            return self._fetch(login, user, digest, deadline, flight)

    def revoke(self, login: Credentials, token: Secret) -> None:
        """Forget a token that Graph refused, unless a newer one has taken its place."""
        user, _ = self._key(login)
        cached = self._cached.get(user)
        if cached is not None and cached.token == token:
            del self._cached[user]

    @property
    def held(self) -> int:
        """How many tokens are in memory."""
        return len(self._cached)

    def take_over(self, earlier: TokenSource) -> None:
        """Take the place of a source that asks for the same app: a reload is no reason to ask again what was refused.

        From now on both know of the same refusals, since open sessions go on with the one before. What was at fault
        with the app may have been mended, and a new token may have permissions that the old one lacks.
        """
        self._digest_key, self._refused, self._flights = earlier._digest_key, earlier._refused, earlier._flights
        self._forget_refusals(lambda _, refusal: isinstance(refusal.fault, AppMisconfigured))

    def purge(self) -> None:
        """Drop expired tokens and refusals; the janitor's task."""
        now = self._clock.monotonic()
        self._cached = {user: c for user, c in self._cached.items() if c.usable_until > now}
        # A cool-down is kept for as long again, so that the next one can be longer.
        self._forget_refusals(lambda digest, refusal: refusal.until + (0 if digest else refusal.lasted_s) <= now)

    def _forget_refusals(self, which: Callable[[bytes, Refusal], bool]) -> None:
        for key in [key for key, refusal in self._refused.items() if which(key[1], refusal)]:
            del self._refused[key]

    def renew_app_token(self, deadline: Deadline) -> None:
        """Renew the app's token ahead of its end, so that no message waits for it; the janitor's task."""
        user, digest = self._key(APP_LOGIN)
        cached = self._cached.get(user)
        if cached is None or cached.usable_until - self._clock.monotonic() > RENEW_AHEAD_S:
            return
        try:
            with self._one_flight(user, deadline) as flight:
                self._raise_if_refused(user, digest)
                if self._cached.get(user) is cached:  # nobody else has renewed it while we waited
                    self._fetch(APP_LOGIN, user, digest, deadline, flight)
        except TokenError as fault:  # the old one still works for some minutes
            log.warning("token_renewal_failed", extra={"reason": fault.advice, "entra_code": fault.entra_code or None})

    def _key(self, login: Credentials) -> tuple[str, bytes]:
        password = login.password.reveal().encode("utf-8", "surrogatepass")
        return login.user.lower(), hashlib.blake2b(password, key=self._digest_key, digest_size=32).digest()

    def _fresh(self, user: str, digest: bytes) -> Secret | None:
        cached = self._cached.get(user)
        if cached is None or cached.usable_until <= self._clock.monotonic():
            return None
        return cached.token if hmac.compare_digest(cached.digest, digest) else None

    @contextmanager
    def _one_flight(self, user: str, deadline: Deadline) -> Iterator[_Flight]:
        """One fetch at a time for one user; the others wait for its outcome, and take a failure for theirs.

        Else each of a hundred would wait for all time-outs before its own.
        """
        flight = self._flights.setdefault(user, _Flight(threading.Lock()))
        flight.users += 1
        failures = flight.failures
        try:
            if not flight.lock.acquire(timeout=max(deadline.remaining(), 0.001)):
                raise TokenUnavailable("waited too long for another login of the same user")
            try:
                if flight.failure is not None and flight.failures > failures:
                    raise _again(flight.failure)
                with self._siblings.turn(user, deadline) as ours:
                    if not ours:
                        raise TokenUnavailable("waited too long for another login of the same user")
                    yield flight
            finally:
                flight.lock.release()
        finally:
            flight.users -= 1
            if flight.users == 0:
                del self._flights[user]

    def _raise_if_refused(self, user: str, digest: bytes) -> None:
        self._refused.update(((whose, of), refusal) for whose, of, refusal in self._siblings.heard())
        now = self._clock.monotonic()
        for refusal in (self._refused.get((user, digest)), self._refused.get((user, b""))):
            if refusal is not None and refusal.until > now:
                raise _again(refusal.fault)

    def _fetch(self, login: Credentials, user: str, digest: bytes, deadline: Deadline, flight: _Flight) -> Secret:
        asked_at = self._clock.monotonic()  # its life began when Entra ID made it, not when the answer was here
        try:
            granted = self._acquire(login, deadline.remaining())
        except TokenError as refusal:
            self._remember(refusal, user, digest)
            if not isinstance(refusal, CredentialsRefused):
                flight.failures += 1
                flight.failure = _again(refusal)
            raise
        flight.failure = None
        self._refused.pop((user, b""), None)
        usable_until = asked_at + usable_s(granted.expires_in_s)
        self._cached[user] = _Cached(digest, granted.token, usable_until)
        log.debug("token_fetched", extra={"user": login.user or None})
        return granted.token

    def _remember(self, fault: TokenError, user: str, digest: bytes) -> None:
        if isinstance(fault, CredentialsRefused):
            self._leave_alone((user, digest), REFUSAL_MEMORY_S, fault)
        elif isinstance(fault, AppMisconfigured):
            # What is mended works at once; what is not, Entra ID is asked about more and more seldom (AADSTS50196).
            before = self._refused.get((user, b""))
            lasts_s = before.lasted_s * 2 + 1 if before else 0.0
            self._leave_alone((user, b""), min(lasts_s, LONGEST_APP_FAULT_S), fault)
        elif fault.entra_code in PAUSED:  # whatever the password: leave the account alone, longer each time
            before = self._refused.get((user, b""))
            lasts_s = before.lasted_s * 2 if before else COOL_DOWN_S
            self._leave_alone((user, b""), min(max(lasts_s, COOL_DOWN_S), LONGEST_COOL_DOWN_S), fault)

    def _leave_alone(self, key: tuple[str, bytes], seconds: float, fault: TokenError) -> None:
        self._refused.pop(key, None)  # so that the one that was longest ago stands first
        self._refused[key] = Refusal(self._clock.monotonic() + seconds, seconds, _again(fault))
        self._siblings.tell(*key, self._refused[key])
        while len(self._refused) > MOST_REFUSALS:
            del self._refused[next(iter(self._refused))]


def _again(fault: TokenError) -> TokenError:
    """The same fault without its traceback, whose frames would keep the message of whoever met it in memory."""
    return type(fault)(fault.advice, fault.entra_code, fault.retry_after_s)
