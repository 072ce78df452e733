# SPDX-License-Identifier: MIT
"""Locks, budgets and journals between real processes, one of which is killed in the middle."""

from __future__ import annotations

import itertools
import random
import signal
from collections.abc import Callable

import pytest

from relay.clock import Clock
from relay.config import AuthLimit
from relay.workers.budget import SharedBudget
from relay.workers.journal import Journal
from relay.workers.logins import MOST_FAILURES, RECORD_OCTETS, SharedLoginLimit
from relay.workers.memory import NOTHING, Digests, Lock, Locks, cells
from tests.support.forked import Child, children, wait_until

WORKERS = 3


def test_a_lock_lets_one_in_at_a_time() -> None:
    lock, count = Locks().make(), cells(1)

    def add() -> None:
        for _ in range(2000):
            with lock:
                seen = count[0]
                random.random()
                count[0] = seen + 1

    with children(*[add] * WORKERS) as processes:
        assert [process.wait() for process in processes] == [0] * WORKERS
    assert count[0] == WORKERS * 2000


def test_a_lock_is_free_behind_a_kill() -> None:
    lock, held = Locks().make(), cells(1)

    def hold() -> None:
        with lock:
            held[0] = 1
            signal.pause()

    with children(hold) as (process,):
        wait_until(lambda: held[0])
        process.kill()
        with lock:
            pass


class Hammer:
    """Workers that take and give back, each for itself, and note the most that they saw taken."""

    def __init__(self, limit: int, lock: Lock) -> None:
        self.limit = limit
        self.lock = lock
        self.cells = cells(WORKERS)
        self.held = cells(WORKERS)  # what was really taken; the budget's own cells may be ahead of it for a moment
        self.seen, self.refused, self.rounds = cells(WORKERS), cells(WORKERS), cells(WORKERS)

    def budget(self, worker: int) -> SharedBudget:
        return SharedBudget(self.limit, self.cells, worker, self.lock)

    def run(self, worker: int, rounds: int | None) -> None:
        budget = self.budget(worker)
        for _ in range(rounds) if rounds else itertools.count():
            held = [wanted for wanted in random.choices((1, 2), k=2) if budget.take(wanted)]
            self.held[worker] = sum(held)
            self.seen[worker] = max(self.seen[worker], sum(self.held))
            self.refused[worker] += 2 - len(held)
            self.held[worker] = 0
            for taken in held:
                budget.give_back(taken)
            self.rounds[worker] += 1


@pytest.mark.parametrize("limit", [2, 5])
def test_a_budget_is_never_overdrawn(limit: int) -> None:
    """The larger one is met by the lock-free way too."""
    hammer = Hammer(limit, Locks().make())
    acts: list[Callable[[], None]] = [lambda w=w: hammer.run(w, 3000) for w in range(WORKERS)]  # type: ignore[misc]
    with children(*acts) as processes:
        assert [process.wait() for process in processes] == [0] * WORKERS
    assert max(hammer.seen) <= hammer.limit
    assert hammer.budget(0).used == 0
    assert sum(hammer.refused) > 0, "the limit was never met: the test shows nothing"


def test_a_killed_worker_leaves_its_own_cell_alone() -> None:
    """Whatever it was doing: the others lose nothing, and zeroing its cell frees all that it held."""
    hammer = Hammer(2, Locks().make())
    for _ in range(20):
        with children(*(lambda w=w: hammer.run(w, None) for w in range(WORKERS))) as processes:  # type: ignore[misc]
            wait_until(lambda: all(rounds > 20 for rounds in hammer.rounds))
            processes[0].kill()
            before = list(hammer.rounds)
            hammer.cells[0] = hammer.held[0] = 0
            wait_until(lambda b=before: all(now > then for now, then in zip(hammer.rounds[1:], b[1:], strict=True)))  # type: ignore[misc]
            for process in processes[1:]:
                process.kill()
        for worker in range(WORKERS):
            hammer.cells[worker] = hammer.held[worker] = hammer.rounds[worker] = 0
        assert hammer.budget(1).take(2)
        hammer.budget(1).give_back(2)
    assert max(hammer.seen) <= hammer.limit


def test_a_journal_is_read_by_all_in_one_order() -> None:
    journal = Journal(1000, 16, Locks().make())

    def write(worker: int) -> None:
        for number in range(200):
            journal.append(f"{worker} {number}".encode())

    with children(*(lambda w=w: write(w) for w in range(WORKERS))) as processes:  # type: ignore[misc]
        assert [process.wait() for process in processes] == [0] * WORKERS

    found = journal.news()
    assert len(found) == WORKERS * 200
    for worker in range(WORKERS):
        assert [int(r.split()[1]) for r in found if r.startswith(b"%d " % worker)] == list(range(200))
    assert journal.news() == []


def test_a_journal_forgets_its_beginning_and_takes_no_giants() -> None:
    journal = Journal(3, 4, Locks().make())
    for number in range(5):
        journal.append(b"%d" % number)
    journal.append(b"12345")
    assert journal.news() == [b"2", b"3", b"4"]
    journal.append(b"5")
    assert journal.news() == [b"5"]


def test_failed_logins_count_over_all_workers() -> None:
    """As soon as it was written: a client that has its 535 cannot be quicker at the next worker."""
    journal = Journal(MOST_FAILURES, RECORD_OCTETS, Locks().make())
    limit = AuthLimit(failures=4, window_s=600)

    def fail(times: int, address: str) -> None:
        logins = SharedLoginLimit(limit, Clock(), journal)
        for _ in range(times):
            logins.failed(address)

    mine = SharedLoginLimit(limit, Clock(), journal)
    for times, address in ((2, "192.0.2.1"), (1, "2001:db8:ffff:ffff::1")):
        assert Child(lambda t=times, a=address: fail(t, a)).wait() == 0  # type: ignore[misc]
    mine.failed("192.0.2.1")
    assert not mine.reached("192.0.2.1")
    assert Child(lambda: fail(1, "192.0.2.1")).wait() == 0
    assert mine.reached("192.0.2.1")
    assert not mine.reached("192.0.2.2")
    for number in range(3):
        assert not mine.reached(f"2001:db8:ffff:ffff::{number}")
        mine.failed(f"2001:db8:ffff:ffff::{number}")
    assert mine.reached("2001:db8:ffff:ffff::9")


def test_a_worker_that_starts_knows_what_was_before_it() -> None:
    journal = Journal(MOST_FAILURES, RECORD_OCTETS, Locks().make())
    limit = AuthLimit(failures=2, window_s=600)

    def fail() -> None:
        SharedLoginLimit(limit, Clock(), journal).failed("192.0.2.1")

    def start() -> None:
        assert SharedLoginLimit(limit, Clock(), journal).reached("192.0.2.1")

    assert [Child(act).wait() for act in (fail, fail, start, start)] == [0, 0, 0, 0]


@pytest.mark.parametrize("place", [0, 1, 4])
def test_digests(place: int) -> None:
    table = Digests(5)
    digest = bytes(range(32))
    assert table.find(digest) == -1
    assert table.find(NOTHING) == 0
    table[place] = digest
    assert table.find(digest) == table.find(digest, 0, place + 1) == place
    assert table.find(digest, 0, place) == table.find(digest, place + 1) == -1


def test_a_digest_is_found_at_its_place_alone() -> None:
    table = Digests(3)
    digest = bytes(range(32))
    table[0], table[1] = digest[16:] + digest[:16], digest[16:] + digest[:16]
    assert table.find(digest) == -1
    table[2] = digest
    assert table.find(digest) == 2
