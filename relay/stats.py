# SPDX-License-Identifier: MIT
"""What happened lately, in bounded memory: counters, the last messages, problems with advice, minutes, latencies.

Fed by whoever knows (submission, authentication, sessions, the HTTP side); read by the admin page and the metrics.
Holds addresses, sizes and outcomes; never a subject, a content, a password or a token. Knows neither SMTP nor HTTP.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal, NamedTuple

from relay.clock import Clock

Result = Literal["delivered", "deferred", "rejected"]
RESULTS: tuple[Result, ...] = ("delivered", "deferred", "rejected")

KEPT_MESSAGES = 200
KEPT_PROBLEMS = 50
KEPT_MINUTES = 360
KEPT_LATENCIES = 500
SHOWN_RECIPIENTS = 5
LATENCY_BOUNDS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
SIZE_BOUNDS_BYTES = (1e4, 1e5, 5e5, 1e6, 2.5e6, 5e6, 1e7, 2.5e7, 5e7, 1.5e8)
WARN_DAYS = 30  # before the client secret ends
_FRESH_S = 900.0  # for how long a problem that needs an administrator counts for the state
_MOST_COUNTED = 200  # kinds of one counter; replies and codes come from tables, HTTP statuses need not


class MessageRecord(NamedTuple):
    """One message that was answered. recipients: how many; the first of them by address too."""

    at: datetime
    result: Result
    message_id: str
    session: str
    client: str
    user: str
    mailbox: str
    sender: str
    recipients: int
    first_recipients: tuple[str, ...]
    size_bytes: int
    form: str
    attempts: int
    duration_ms: float
    reply: str
    reason: str


@dataclass(slots=True)
class Problem:
    """Something that went wrong, once or more often, and what to do about it."""

    event: str
    code: str  # Graph's or Entra ID's
    advice: str
    urgent: bool  # somebody has to act
    who: str  # user, mailbox or client of the last time
    times: int
    first: datetime
    last: datetime
    last_monotonic: float


@dataclass(slots=True)
class Minute:
    """index: minutes since the start."""

    index: int
    results: Counter[str] = field(default_factory=Counter)


class Histogram:
    """How many values fell below which bound, and their sum."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def absorb(self, other: Histogram) -> None:
        """Count what another one has counted."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum


@dataclass(slots=True)
class Service:
    """Entra ID or Graph, as seen from here."""

    statuses: Counter[str] = field(default_factory=Counter)  # of HTTP; "none" where no answer came
    latency: Histogram = field(default_factory=lambda: Histogram(LATENCY_BOUNDS_S))
    recent_s: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_LATENCIES))
    answered: bool | None = None  # at the last request; None before the first
    asked_monotonic: float = 0.0
    waited_s: float = 0.0  # of messages: for a turn, for mailbox_rate, between tries

    def absorb(self, other: Service) -> None:
        """What another process has seen of it."""
        self.statuses.update(other.statuses)
        self.latency.absorb(other.latency)
        self.recent_s.extend(other.recent_s)
        self.waited_s += other.waited_s
        if other.answered is not None and other.asked_monotonic >= self.asked_monotonic:
            self.answered, self.asked_monotonic = other.answered, other.asked_monotonic


def _services() -> dict[str, Service]:
    return {"entra": Service(), "graph": Service()}


@dataclass(slots=True)
class Tally:
    """What a worker has counted since it was last asked."""

    messages: list[MessageRecord] = field(default_factory=list)
    by_reply: Counter[tuple[str, str]] = field(default_factory=Counter)
    sizes: Histogram = field(default_factory=lambda: Histogram(SIZE_BOUNDS_BYTES))
    services: dict[str, Service] = field(default_factory=_services)
    events: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    token_fault: str = ""
    token_told_monotonic: float | None = None
    token_fetched_monotonic: float | None = None

    def __bool__(self) -> bool:
        """Whether there is anything in it."""
        asked = any(service.statuses for service in self.services.values())
        return asked or bool(self.messages or self.events or self.token_told_monotonic)


class Stats:
    """All of it. secret_expires: the day on which the client secret ends, if it was said."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started_monotonic = clock.monotonic()
        self.started = clock.now()
        self.secret_expires: date | None = None
        self.messages: deque[MessageRecord] = deque(maxlen=KEPT_MESSAGES)
        self.by_reply: Counter[tuple[str, str]] = Counter()  # (result, reply)
        self.sizes = Histogram(SIZE_BOUNDS_BYTES)
        self.services = _services()
        self.events: Counter[str] = Counter()  # logins refused, connections turned away, and the like
        self.token_fault = ""  # advice, while the relay's own login or the app does not get a token
        self.token_fetched_monotonic: float | None = None
        self._token_told_monotonic: float | None = None
        self._problems: OrderedDict[tuple[str, str, str], Problem] = OrderedDict()
        self._minutes: deque[Minute] = deque(maxlen=KEPT_MINUTES)

    # What happened

    def message(self, result: Result, facts: Mapping[str, Any], forward_paths: tuple[str, ...] = ()) -> None:
        """One message was answered. facts: those of its log line."""
        told = facts.get
        size_bytes, reply = told("size_bytes", 0), told("reply", "")
        self.messages.append(
            MessageRecord(
                at=self._clock.now(),
                result=result,
                message_id=told("message_id", ""),
                session=told("session", ""),
                client=told("client", ""),
                user=told("user", ""),
                mailbox=told("mailbox", ""),
                sender=told("sender", ""),
                recipients=told("recipients", 0),
                first_recipients=forward_paths[:SHOWN_RECIPIENTS],
                size_bytes=size_bytes,
                form=told("form") or "",
                attempts=told("attempts", 0),
                duration_ms=told("duration_ms", 0.0),
                reply=reply,
                reason=told("reason", ""),
            )
        )
        self.services["graph"].waited_s += (told("waited_ms") or 0.0) / 1000
        self.by_reply[result, reply] += 1
        self.sizes.add(size_bytes)
        self._this_minute().results[result] += 1
        if result != "delivered":
            self.problem(result, facts)

    def problem(self, event: str, facts: Mapping[str, object], *, urgent: bool = False) -> None:
        """Something went wrong. facts: those of its log line; the same event, code and reason are one problem."""
        self.event(event)
        code = _text(facts, "graph_code") or _text(facts, "entra_code")
        key = event, code, _text(facts, "reason")
        known = self._problems.pop(key, None)
        now = self._clock.now()
        self._problems[key] = Problem(
            *key,
            urgent=urgent,
            who=_text(facts, "user") or _text(facts, "mailbox") or _text(facts, "client"),
            times=known.times + 1 if known else 1,
            first=known.first if known else now,
            last=now,
            last_monotonic=self._clock.monotonic(),
        )
        if len(self._problems) > KEPT_PROBLEMS:
            self._problems.popitem(last=False)

    def event(self, name: str) -> None:
        """Count something that has no more to say."""
        self.events[name] += 1

    def upstream(self, service: str, status: int, seconds: float) -> None:
        """One HTTP request to entra or graph was answered; status 0: it was not."""
        here = self.services[service]
        name = str(status) if status else "none"
        here.statuses[name if name in here.statuses or len(here.statuses) < _MOST_COUNTED else "other"] += 1
        here.latency.add(seconds)
        here.recent_s.append(seconds)
        here.answered = 0 < status < 500
        here.asked_monotonic = self._clock.monotonic()

    def token_fetched(self) -> None:
        """Entra ID gave a token: the app and its secret are right."""
        self.token_fault = ""
        self.token_fetched_monotonic = self._token_told_monotonic = self._clock.monotonic()

    def token_failed(self, advice: str) -> None:
        """Entra ID gave none, and that is not a device's fault."""
        self.token_fault = advice
        self._token_told_monotonic = self._clock.monotonic()

    # Over several processes: each hands on what it has counted, and one adds it up

    def take(self) -> Tally:
        """What was counted since the last call, which is forgotten here."""
        tally = Tally(
            list(self.messages),
            self.by_reply,
            self.sizes,
            self.services,
            self.events,
            list(self._problems.values()),
            self.token_fault,
            self._token_told_monotonic,
            self.token_fetched_monotonic,
        )
        self.messages.clear()
        self.by_reply, self.events = Counter(), Counter()
        self.sizes, self.services = Histogram(SIZE_BOUNDS_BYTES), _services()
        self._problems.clear()
        self._minutes.clear()
        self._token_told_monotonic = None
        return tally

    def absorb(self, tally: Tally) -> None:
        """Add what another process has counted just now."""
        self.messages.extend(tally.messages)
        self.by_reply.update(tally.by_reply)
        for (result, _), count in tally.by_reply.items():
            self._this_minute().results[result] += count
        self.sizes.absorb(tally.sizes)
        for name, service in tally.services.items():
            self.services[name].absorb(service)
        self.events.update(tally.events)
        for problem in tally.problems:
            self._absorb_problem(problem)
        if tally.token_told_monotonic is not None and tally.token_told_monotonic > (self._token_told_monotonic or 0.0):
            self.token_fault, self._token_told_monotonic = tally.token_fault, tally.token_told_monotonic
        fetched = (self.token_fetched_monotonic, tally.token_fetched_monotonic)
        self.token_fetched_monotonic = max((moment for moment in fetched if moment is not None), default=None)

    def _absorb_problem(self, problem: Problem) -> None:
        key = problem.event, problem.code, problem.advice
        known = self._problems.pop(key, None)
        if known is not None:
            problem.times += known.times
            problem.first = min(problem.first, known.first)
        self._problems[key] = problem
        if len(self._problems) > KEPT_PROBLEMS:
            self._problems.popitem(last=False)

    # What can be told of it

    def problems(self) -> list[Problem]:
        """The last ones, newest first."""
        return list(reversed(self._problems.values()))

    def minutes(self, count: int) -> list[tuple[datetime, Counter[str]]]:
        """Each of the last so many minutes, oldest first, with its messages by result."""
        now = self._minute_index()
        known = {minute.index: minute.results for minute in self._minutes}
        return [
            (self.started + timedelta(minutes=index), known.get(index, Counter()))
            for index in range(now - count + 1, now + 1)
        ]

    def token_age_s(self) -> float | None:
        """Since the newest token was fetched; None before the first."""
        fetched = self.token_fetched_monotonic
        return None if fetched is None else self._clock.monotonic() - fetched

    def uptime_s(self) -> float:
        return self._clock.monotonic() - self._started_monotonic

    def silent_s(self, service: str) -> float:
        """Since entra or graph was asked anything."""
        here = self.services[service]
        return self.uptime_s() if here.answered is None else self._clock.monotonic() - here.asked_monotonic

    def secret_days_left(self) -> int | None:
        """Until the client secret ends; below zero: it has. None where secret_expires is not set."""
        return None if self.secret_expires is None else (self.secret_expires - self._clock.now().date()).days

    def secret_seconds_left(self) -> float | None:
        """The same in seconds, to the beginning of that day (UTC)."""
        if self.secret_expires is None:
            return None
        return (datetime.combine(self.secret_expires, time.min, UTC) - self._clock.now()).total_seconds()

    def ready(self) -> bool:
        """A token could be had lately, or nobody has tried; and Graph answers."""
        return not self.token_fault and self.services["graph"].answered is True

    def troubles(self) -> list[str]:
        """Why the state is not healthy; empty when it is."""
        found = []
        if self.token_fault:
            found.append(f"no token from Entra ID: {self.token_fault}")
        if self.services["graph"].answered is False:
            found.append("Graph does not answer, or answers with a fault of its own; mail is deferred meanwhile")
        days = self.secret_days_left()
        if days is not None and days <= WARN_DAYS:
            found.append(secret_warning(days))
        horizon = self._clock.monotonic() - _FRESH_S
        urgent = [one for one in self.problems() if one.urgent and one.last_monotonic > horizon]
        found += [one.advice for one in urgent if one.advice and one.advice != self.token_fault]
        return list(dict.fromkeys(found))

    def _minute_index(self) -> int:
        return int(self.uptime_s() // 60)

    def _this_minute(self) -> Minute:
        index = self._minute_index()
        if not self._minutes or self._minutes[-1].index != index:
            self._minutes.append(Minute(index))
        return self._minutes[-1]


def secret_warning(days: int) -> str:
    """What to say of a client secret that ends in so many days."""
    soon = {0: "ends today", 1: "ends tomorrow"}
    when = soon.get(days, f"ends in {days} days") if days >= 0 else "has ended"
    return f"the client secret {when}; make a new one in Entra ID, put it into client_secret, and renew secret_expires"


def _text(facts: Mapping[str, object], name: str) -> str:
    value = facts.get(name)
    return "" if value is None else str(value)
