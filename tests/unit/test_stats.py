# SPDX-License-Identifier: MIT
"""What is counted, kept and forgotten, and what the state says of it."""

from __future__ import annotations

import pickle
from datetime import timedelta
from typing import Any

import pytest

from relay.stats import KEPT_MESSAGES, KEPT_MINUTES, KEPT_PROBLEMS, SHOWN_RECIPIENTS, Stats, secret_warning
from tests.support.clock import FakeClock


@pytest.fixture
def stats(clock: FakeClock) -> Stats:
    return Stats(clock)


def facts(**more: Any) -> dict[str, Any]:
    return {
        "message_id": "M1",
        "session": "S1",
        "client": "192.0.2.7",
        "user": "scanner@example.com",
        "mailbox": "scanner@example.com",
        "sender": "scanner@example.com",
        "recipients": 2,
        "size_bytes": 12_000,
        "form": "json",
        "attempts": 1,
        "duration_ms": 210.5,
        "reply": "250 2.0.0",
        "not_carried": None,
        **more,
    }


def test_a_message_is_kept_and_counted(stats: Stats) -> None:
    paths = tuple(f"{number}@example.org" for number in range(20))
    stats.message("delivered", facts(recipients=20, subject="secret"), paths)
    (kept,) = stats.messages
    assert (kept.result, kept.size_bytes, kept.duration_ms, kept.recipients) == ("delivered", 12_000, 210.5, 20)
    assert kept.first_recipients == paths[:SHOWN_RECIPIENTS]
    assert "secret" not in repr(kept)
    assert stats.by_reply == {("delivered", "250 2.0.0"): 1}
    assert (stats.sizes.sum, sum(stats.sizes.counts)) == (12_000, 1)
    assert stats.problems() == []


def test_memory_is_bounded(stats: Stats, clock: FakeClock) -> None:
    for number in range(KEPT_MESSAGES + KEPT_MINUTES):
        stats.message("deferred", facts(message_id=f"M{number}", reason=f"reason {number}", reply="451 4.4.1"))
        stats.upstream("graph", 100 + number, 0.1)
        clock.advance(60)
    assert len(stats.messages) == KEPT_MESSAGES
    assert stats.messages[-1].message_id == f"M{KEPT_MESSAGES + KEPT_MINUTES - 1}"
    assert len(stats.problems()) == KEPT_PROBLEMS
    assert stats.problems()[0].advice == f"reason {KEPT_MESSAGES + KEPT_MINUTES - 1}"
    assert len(stats.services["graph"].statuses) <= 201
    assert sum(stats.services["graph"].statuses.values()) == KEPT_MESSAGES + KEPT_MINUTES


def test_the_same_problem_is_counted_once_more(stats: Stats, clock: FakeClock) -> None:
    stats.problem("auth_failed", facts(reason="wrong", entra_code="AADSTS50126"))
    clock.advance(5)
    stats.problem("too_many_connections", {"client": "192.0.2.9", "reason": "raise it"})
    clock.advance(5)
    stats.problem("auth_failed", facts(user="other@example.com", reason="wrong", entra_code="AADSTS50126"))
    newest, other = stats.problems()
    assert (newest.event, newest.code, newest.times, newest.who) == (
        "auth_failed",
        "AADSTS50126",
        2,
        "other@example.com",
    )
    assert newest.last - newest.first == timedelta(seconds=10)
    assert (other.who, other.times) == ("192.0.2.9", 1)


def test_minutes(stats: Stats, clock: FakeClock) -> None:
    stats.message("delivered", facts())
    clock.advance(60)
    stats.message("rejected", facts())
    stats.message("delivered", facts())
    clock.advance(120)
    minutes = stats.minutes(5)
    assert [dict(counts) for _, counts in minutes] == [{}, {"delivered": 1}, {"rejected": 1, "delivered": 1}, {}, {}]
    assert minutes[1][0] == stats.started


def test_latency_falls_into_buckets(stats: Stats) -> None:
    for seconds in (0.05, 0.06, 1000):
        stats.upstream("graph", 202, seconds)
    counts = stats.services["graph"].latency.counts
    assert (counts[0], counts[1], counts[-1], sum(counts)) == (1, 1, 1, 3)


def test_ready(stats: Stats) -> None:
    assert not stats.ready(), "Graph was not asked yet"
    stats.upstream("graph", 401, 0.1)
    assert stats.ready()
    stats.token_failed("the client secret has expired")
    assert not stats.ready()
    assert stats.troubles() == ["no token from Entra ID: the client secret has expired"]
    stats.token_fetched()
    assert stats.ready()
    for status in (0, 503):
        stats.upstream("graph", status, 0.1)
        assert not stats.ready()
        assert len(stats.troubles()) == 1


def test_what_needs_an_administrator_degrades_for_a_while(stats: Stats, clock: FakeClock) -> None:
    stats.problem("action_needed", {"reason": "grant Mail.Send"}, urgent=True)
    stats.problem("auth_failed", {"reason": "wrong password"})
    assert stats.troubles() == ["grant Mail.Send"]
    clock.advance(901)
    assert stats.troubles() == []


@pytest.mark.parametrize(
    ("days", "words"),
    [(31, None), (30, "ends in 30 days"), (1, "ends tomorrow"), (0, "ends today"), (-1, "has ended")],
)
def test_the_secrets_end(stats: Stats, clock: FakeClock, days: int, words: str | None) -> None:
    stats.secret_expires = clock.now().date() + timedelta(days=days)
    assert stats.secret_days_left() == days
    seconds = stats.secret_seconds_left()
    assert seconds is not None
    assert abs(seconds - days * 86400) <= 86400
    if words is None:
        assert stats.troubles() == []
    else:
        assert words in stats.troubles()[0] == secret_warning(days)


def test_nothing_is_known_at_first(stats: Stats) -> None:
    assert stats.token_age_s() is None
    assert stats.secret_days_left() is None
    assert stats.secret_seconds_left() is None
    assert stats.troubles() == []


def test_a_token_grows_old(stats: Stats, clock: FakeClock) -> None:
    stats.token_fetched()
    clock.advance(90)
    assert stats.token_age_s() == 90


# Over several processes


def test_what_workers_counted_adds_up(clock: FakeClock) -> None:
    workers, whole = [Stats(clock), Stats(clock)], Stats(clock)
    for round_ in range(2):
        for number, worker in enumerate(workers):
            told = {"reply": "250 2.0.0", "size_bytes": 1000, "waited_ms": 500.0, "message_id": f"{round_}{number}"}
            worker.message("delivered", told)
            worker.problem("auth_failed", {"reason": "the password is wrong", "user": f"user{number}"})
            worker.upstream("graph", 202, 0.2)
            clock.advance(1)
            whole.absorb(pickle.loads(pickle.dumps(worker.take())))  # noqa: S301 - our own
            assert not worker.take(), "handed on once"
    assert whole.by_reply == {("delivered", "250 2.0.0"): 4}
    assert [one.message_id for one in whole.messages] == ["00", "01", "10", "11"]
    assert whole.sizes.sum == 4000
    assert sum(whole.sizes.counts) == 4
    assert whole.events == {"auth_failed": 4}
    (problem,) = whole.problems()
    assert (problem.times, problem.who) == (4, "user1")
    assert problem.first < problem.last
    assert whole.services["graph"].statuses == {"202": 4}
    assert whole.services["graph"].waited_s == 2.0
    assert sum(whole.services["graph"].latency.counts) == 4
    assert sum(counts["delivered"] for _, counts in whole.minutes(5)) == 4


def test_the_newest_word_counts_whoever_it_is_from(clock: FakeClock) -> None:
    first, second, whole = Stats(clock), Stats(clock), Stats(clock)
    first.upstream("graph", 503, 0.1)
    first.token_failed("the secret has ended")
    clock.advance(1)
    second.upstream("graph", 202, 0.1)
    second.token_fetched()
    for worker in (second, first):  # in whatever order their reports arrive
        whole.absorb(worker.take())
    assert whole.ready()
    assert whole.token_age_s() == 0
    clock.advance(1)
    first.upstream("graph", 503, 0.1)
    first.token_failed("the secret has ended")
    whole.absorb(first.take())
    assert whole.services["graph"].answered is False
    assert whole.token_fault == "the secret has ended"


def test_what_is_added_up_stays_bounded(clock: FakeClock) -> None:
    worker, whole = Stats(clock), Stats(clock)
    for number in range(5):
        for n in range(KEPT_MESSAGES):
            worker.message("rejected", {"reply": "554 5.6.0", "message_id": str(n), "reason": f"{number} {n}"})
        whole.absorb(worker.take())
    assert len(whole.messages) == KEPT_MESSAGES
    assert len(whole.problems()) == KEPT_PROBLEMS
    assert whole.problems()[0].advice == f"4 {KEPT_MESSAGES - 1}", "the newest stay"
    assert whole.by_reply["rejected", "554 5.6.0"] == 5 * KEPT_MESSAGES
