# SPDX-License-Identifier: MIT
"""Turns, rests and pacing of mailboxes (contract §2 mailbox_concurrency, mailbox_rate; §6 Retry-After)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from relay.clock import Clock, Deadline
from relay.config import Rate
from relay.graph.errors import Congested, GraphError, ServerBusy, Throttled
from relay.graph.lanes import RECOVER_S, Lanes, LaneStore, LocalLanes
from relay.workers.gates import Gates, GateTable
from relay.workers.lanes import SharedLanes
from relay.workers.memory import NOTHING, Locks
from relay.workers.post import Inboxes
from tests.support.clock import FakeClock
from tests.support.dialog import all_records, check_records

A, B = "a@example.com", "b@example.com"
PATIENCE_S = 40.0


def local(clock: Clock, concurrency: int) -> LaneStore:
    return LocalLanes(clock, concurrency)


def shared(clock: Clock, concurrency: int) -> LaneStore:
    """As one of several workers has them."""
    inboxes = Inboxes(3)
    inboxes.close_all()  # nobody is to be woken here
    return SharedLanes(Gates(GateTable(3, 300, Locks().make()), 1, clock, inboxes), concurrency)


class Scene:
    make_store = staticmethod(local)

    def __init__(self, concurrency: int = 4, rate: Rate | None = None) -> None:
        self.clock = FakeClock()
        self.store = self.make_store(self.clock, concurrency)
        self.lanes = Lanes(self.clock, concurrency, rate, self.store)

    def deadline(self, seconds: float = 110) -> Deadline:
        return Deadline(self.clock, seconds)

    def fail(self, failure: GraphError, mailbox: str = A) -> None:
        with pytest.raises(type(failure)), self.lanes.turn(mailbox, self.deadline()):
            raise failure

    def places(self, mailbox: str = A) -> int:
        """How many requests for it may run at a time now."""
        count = 0
        with ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(self.lanes.turn(mailbox, self.deadline(0.001)))
                except Congested:
                    return count
                count += 1


@pytest.fixture(autouse=True, params=[local, shared])
def make_store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LaneStore]:
    """Each test of a Scene, with lanes of either kind."""
    monkeypatch.setattr(Scene, "make_store", staticmethod(request.param))
    chosen: Callable[..., LaneStore] = request.param
    return chosen


def test_as_many_at_a_time_and_no_more() -> None:
    scene = Scene(3)
    with scene.lanes.turn(A, scene.deadline()), scene.lanes.turn(A.upper(), scene.deadline()):
        assert scene.places() == 1
        assert scene.places(B) == 3
    assert scene.places() == 3


def test_first_come_first_served() -> None:
    lanes = Lanes(Clock(), 1)
    order: list[int] = []
    arrived = threading.Semaphore(0)

    def request(number: int) -> None:
        arrived.release()
        with lanes.turn(A, Deadline(Clock(), PATIENCE_S)):
            order.append(number)

    with ThreadPoolExecutor(10) as threads, lanes.turn(A, Deadline(Clock(), PATIENCE_S)):
        lane = lanes._store._lanes[A]
        for number in range(10):
            threads.submit(request, number)
            arrived.acquire()
            wait_for(lambda n=number: len(lane._waiting) == n + 1)  # type: ignore[misc]
    assert order == list(range(10))


def test_what_has_begun_does_not_queue_behind_what_came_later() -> None:
    """Else a message of many requests would not come through, nor a draft be deleted in the few seconds for that."""
    lanes = Lanes(Clock(), 1)
    order: list[str] = []

    def request(name: str, deadline: Deadline) -> None:
        with lanes.turn(A, deadline):
            order.append(name)

    begun = Deadline(Clock(), PATIENCE_S)
    with ThreadPoolExecutor(2) as threads, lanes.turn(A, begun):
        lane = lanes._store._lanes[A]
        threads.submit(request, "later", Deadline(Clock(), PATIENCE_S))
        wait_for(lambda: len(lane._waiting) == 1)
        threads.submit(request, "begun", begun)
        wait_for(lambda: len(lane._waiting) == 2)
    assert order == ["begun", "later"]


def wait_for(look: Callable[[], bool]) -> None:
    end = threading.Event()
    for _ in range(5000):
        if look():
            return
        end.wait(0.001)
    raise AssertionError("waited in vain")


def test_who_gives_up_leaves_no_place_behind() -> None:
    scene = Scene(1)
    with scene.lanes.turn(A, scene.deadline()), pytest.raises(Congested), scene.lanes.turn(A, scene.deadline(0.001)):
        pass
    assert scene.places() == 1


def test_a_turn_that_comes_with_no_time_left_for_a_request_is_none() -> None:
    scene = Scene(1)
    scene.fail(Throttled(retry_after_s=10))
    with pytest.raises(Congested, match="too late"), scene.lanes.turn(A, scene.deadline(10.2)):
        pass
    assert scene.places() == 1
    with scene.lanes.turn(A, scene.deadline(0.2)):
        pass  # it did not have to wait


def test_retry_after_is_kept_for_its_mailbox_alone() -> None:
    scene = Scene()
    scene.fail(Throttled(retry_after_s=20))
    with scene.lanes.turn(B, scene.deadline()):
        assert scene.clock.sleeps == []
    deadline = scene.deadline()
    with scene.lanes.turn(A, deadline):
        assert scene.clock.sleeps == [20]
    assert deadline.spent["waited"] == 20


@pytest.mark.parametrize(("retry_after_s", "timeout_s"), [(20, 20), (61, 110), (1e9, 1e9)])
def test_a_rest_that_does_not_fit_is_said_at_once(retry_after_s: float, timeout_s: float) -> None:
    scene = Scene()
    scene.fail(ServerBusy(retry_after_s=retry_after_s))
    with pytest.raises(Congested), scene.lanes.turn(A, scene.deadline(timeout_s)):
        pass
    assert scene.clock.sleeps == []


def test_no_rest_is_for_ever() -> None:
    scene = Scene()
    scene.fail(Throttled(retry_after_s=1e9))
    scene.clock.advance(3600)
    assert scene.places() == 4


def lowered(records: list[logging.LogRecord]) -> list[tuple[str | None, int]]:
    """What the log says of it: the mailbox, None for all of them, and its places."""
    check_records(records)
    told = [record.__dict__ for record in records if record.getMessage() == "concurrency_lowered"]
    return [(line.get("mailbox"), line["concurrency"]) for line in told]


def test_concurrency_is_lowered_and_climbs_back() -> None:
    scene = Scene(8)
    with ExitStack() as stack, all_records() as records:
        for _ in range(5):
            stack.enter_context(scene.lanes.turn(A, scene.deadline()))
        scene.clock.advance(1)
        scene.fail(Throttled(status=429, code="ApplicationThrottled"))
    assert lowered(records) == [(A, 3)]
    assert scene.places() == 3
    assert scene.places(B) == 8
    scene.clock.advance(RECOVER_S)
    assert scene.places() == 6
    scene.clock.advance(RECOVER_S)
    assert scene.places() == 8


def test_answers_to_what_ran_at_the_same_time_count_once() -> None:
    scene = Scene(8)
    turns = [scene.lanes.turn(A, scene.deadline()) for _ in range(8)]
    for turn in turns:
        turn.__enter__()
    scene.clock.advance(1)
    for turn in turns:
        turn.__exit__(Throttled, Throttled(code="MailboxConcurrency"), None)
    assert scene.places() == 4


def test_other_failures_say_nothing_of_concurrency() -> None:
    scene = Scene()
    scene.fail(Throttled(status=429, code="TooManyRequests"))
    scene.fail(ServerBusy(status=503))
    assert scene.places() == 4


def test_several_mailboxes_lower_the_whole() -> None:
    scene = Scene(100)
    with ExitStack() as stack, all_records() as records:
        for _ in range(10):
            stack.enter_context(scene.lanes.turn("c@example.com", scene.deadline()))
        scene.clock.advance(1)
        scene.fail(Throttled(code="ApplicationThrottled"), A)
        assert scene.places("d@example.com") == 100
        scene.clock.advance(1)
        scene.fail(Throttled(code="ApplicationThrottled"), B)
        assert scene.places("d@example.com") == 0
    assert lowered(records) == [(A, 1), (B, 1), (None, 5)]
    assert scene.places("d@example.com") == 5


def test_pacing() -> None:
    scene = Scene(rate=Rate(30, 60))
    for _ in range(3):
        scene.lanes.pace(A, scene.deadline())
    scene.lanes.pace(B, scene.deadline())
    assert scene.clock.sleeps == [2, 2]
    scene.clock.advance(100)
    scene.lanes.pace(A, scene.deadline())
    assert scene.clock.sleeps == [2, 2]


def test_pacing_beyond_the_deadline_is_said_at_once_and_takes_no_turn() -> None:
    scene = Scene(rate=Rate(1, 60))
    scene.lanes.pace(A, scene.deadline())
    for _ in range(5):
        with pytest.raises(Congested):
            scene.lanes.pace(A, scene.deadline(60))
    scene.lanes.pace(A, scene.deadline(61))
    assert scene.clock.sleeps == [60]


def test_idle_mailboxes_are_forgotten() -> None:
    scene = Scene(rate=Rate(1, 1))
    for number in range(100):
        scene.lanes.pace(f"{number}@example.com", scene.deadline())
    scene.fail(Throttled(retry_after_s=50, code="ApplicationThrottled"))
    with scene.lanes.turn(B, scene.deadline()):
        scene.clock.advance(10)
        scene.lanes.purge()
        assert remembered(scene.store) == 2
    scene.clock.advance(1000)
    scene.lanes.purge()
    assert remembered(scene.store) == 0


def remembered(store: LaneStore) -> int:
    if isinstance(store, LocalLanes):
        return len(store._lanes)
    assert isinstance(store, SharedLanes)
    names = store._gates._table.names
    return sum(names[row] != NOTHING for row in range(1, names.size))


def test_another_concurrency_holds_for_what_is_there(make_store: Callable[..., LaneStore]) -> None:
    """A reload changes it, and the lanes stay."""
    scene = Scene(2)
    with scene.lanes.turn(A, scene.deadline()):
        assert scene.places() == 1
        scene.store.limit(5)
        assert scene.places() == 4
        scene.store.limit(1)
        assert scene.places() == 0
