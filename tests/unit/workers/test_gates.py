# SPDX-License-Identifier: MIT
"""Places that several processes share: never too many, in one order, and none lost with a process that is killed."""

from __future__ import annotations

import itertools
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace

import pytest

from relay.clock import Clock, Deadline
from relay.workers.gates import Gates, GateTable, one_at_a_time
from relay.workers.memory import DIGEST_OCTETS, NOTHING, Lock, Locks, cells
from relay.workers.post import Inboxes, Post
from tests.support.forked import children, wait_until

WORKERS = 3
PLACES = 2
A, B = b"a" * DIGEST_OCTETS, b"b" * DIGEST_OCTETS
LONG_S = 100.0


def one() -> int:
    """A lane's only place."""
    return 1


class Scene:
    def __init__(self, rows: int) -> None:
        self.table = GateTable(WORKERS, rows, Locks().make())
        self.inboxes = Inboxes(WORKERS)
        self.counting = Locks().make()
        self.inside, self.most, self.rounds = cells(WORKERS), cells(WORKERS), cells(WORKERS)
        self.order, self.entered, self.told = cells(64), cells(1), cells(1)
        self._readers: dict[int, threading.Thread] = {}

    def gates(self, worker: int) -> Gates:
        """Of the calling process, with its letters being read."""
        post = Post(self.inboxes, worker)
        gates = Gates(self.table, worker, Clock(), self.inboxes)
        post.subscribe("wake", gates.look)
        self._readers[worker] = threading.Thread(target=post.run, daemon=True)
        self._readers[worker].start()
        return gates

    def close(self) -> None:
        for worker, reader in self._readers.items():
            self.inboxes.close(worker)
            reader.join()
        self.inboxes.close_all()

    def hammer(self, worker: int, rounds: int | None) -> None:
        gates = self.gates(worker)
        for _ in range(rounds) if rounds else itertools.count():
            assert gates.enter(A, lambda: PLACES, Deadline(Clock(), LONG_S))
            with self.counting:
                self.inside[worker] = 1
                self.most[worker] = max(self.most[worker], sum(self.inside))
            threading.Event().wait(random.random() / 2000)
            with self.counting:
                self.inside[worker] = 0
            gates.leave(A, PLACES)
            self.rounds[worker] += 1

    def waiting(self, name: bytes = A) -> int:
        row = self.table.names.find(name)
        return sum(ticket > 0 for ticket in self.table.oldest[row * WORKERS : (row + 1) * WORKERS])

    def taken(self, name: bytes = A) -> int:
        row = self.table.names.find(name)
        return sum(self.table.taken[row * WORKERS : (row + 1) * WORKERS]) if row >= 0 else 0


@pytest.fixture
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """Its parameter: rows of the table."""
    made = Scene(getattr(request, "param", 8))
    yield made
    made.close()


def act(function: Callable[..., None], *arguments: object) -> Callable[[], None]:
    return lambda: function(*arguments)


def test_never_more_than_there_are_places(scene: Scene) -> None:
    with children(*(act(scene.hammer, worker, 200) for worker in range(WORKERS))) as processes:
        assert [process.wait() for process in processes] == [0] * WORKERS
    assert max(scene.most) == PLACES, "as many as there are places, and no more"
    assert scene.taken() == scene.waiting() == 0


def test_a_killed_worker_takes_no_place_with_it(scene: Scene) -> None:
    for _ in range(10):
        with children(*(act(scene.hammer, worker, None) for worker in range(WORKERS))) as processes:
            wait_until(lambda: all(rounds > 3 for rounds in scene.rounds))
            processes[0].kill()
            scene.inside[0] = 0
            scene.table.forget(0)
            for other in (1, 2):
                scene.inboxes.wake(other)
            before = list(scene.rounds)
            wait_until(lambda b=before: all(scene.rounds[w] > b[w] + 3 for w in (1, 2)))  # type: ignore[misc]
        for worker in range(WORKERS):
            scene.inside[worker] = scene.rounds[worker] = 0
            scene.table.forget(worker)
    assert max(scene.most) <= PLACES
    assert scene.taken() == scene.waiting() == 0


@pytest.mark.parametrize("admitted", [True, False])
def test_who_is_ended_while_it_waits_leaves_no_place_behind(
    scene: Scene, admitted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As gevent ends a greenlet: before its turn has come, or just when it has."""

    class Killed(BaseException):
        pass

    class Event(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if admitted:
                there.leave(A, 1)
            raise Killed

    there = scene.gates(0)
    assert there.enter(A, one, Deadline(Clock(), LONG_S))
    monkeypatch.setattr("relay.workers.gates.threading", SimpleNamespace(Event=Event))
    with pytest.raises(Killed):
        there.enter(A, one, Deadline(Clock(), LONG_S))
    assert (scene.taken(), scene.waiting()) == (0 if admitted else 1, 0)


def test_first_come_first_served_over_all_workers(scene: Scene) -> None:
    mine = scene.gates(0)
    assert mine.enter(A, one, Deadline(Clock(), LONG_S))

    def come(worker: int, mark: int) -> None:
        gates = scene.gates(worker)
        assert gates.enter(A, one, Deadline(Clock(), LONG_S))
        scene.order[scene.entered[0]] = mark
        scene.entered[0] += 1
        wait_until(lambda: scene.told[0] == 1)
        gates.leave(A, 1)

    with children(act(come, 2, 1)) as (first,):
        wait_until(lambda: scene.waiting() == 1)
        with children(act(come, 1, 2)) as (second,):
            wait_until(lambda: scene.waiting() == 2)
            mine.leave(A, 1)
            assert not mine.enter(A, one, Deadline(Clock(), 0)), "nobody overtakes who waits"
            scene.told[0] = 1
            assert (first.wait(), second.wait()) == (0, 0)
    assert list(scene.order[:2]) == [1, 2]


def test_what_has_begun_does_not_queue_behind_what_came_later(scene: Scene) -> None:
    mine, begun = scene.gates(0), Deadline(Clock(), LONG_S)
    assert mine.enter(A, one, begun)

    def come(worker: int, deadline: Deadline, mark: int) -> None:
        gates = scene.gates(worker)
        assert gates.enter(A, one, deadline)
        scene.order[scene.entered[0]] = mark
        scene.entered[0] += 1
        gates.leave(A, 1)

    with children(act(come, 2, Deadline(Clock(), LONG_S), 1)) as (later,):
        wait_until(lambda: scene.waiting() == 1)
        with children(act(come, 1, begun, 2)) as (again,):
            wait_until(lambda: scene.waiting() == 2)
            mine.leave(A, 1)
            assert (later.wait(), again.wait()) == (0, 0)
    assert list(scene.order[:2]) == [2, 1]


def test_a_dead_waiter_holds_up_nobody(scene: Scene) -> None:
    mine = scene.gates(0)
    assert mine.enter(A, one, Deadline(Clock(), LONG_S))

    def wait(worker: int) -> None:
        assert scene.gates(worker).enter(A, one, Deadline(Clock(), LONG_S))
        signal.pause()

    with children(act(wait, 1)) as (dead,):
        wait_until(lambda: scene.waiting() == 1)
        dead.kill()
    with children(act(wait, 2)) as (_,):
        wait_until(lambda: scene.waiting() == 2)
        scene.table.forget(1)
        mine.leave(A, 1)
        wait_until(lambda: scene.taken() == 1 and scene.waiting() == 0)


def test_a_hung_waiter_holds_up_nobody_behind_its_deadline(scene: Scene) -> None:
    mine = scene.gates(0)
    assert mine.enter(A, one, Deadline(Clock(), LONG_S))
    mine.leave(A, 1)
    at = scene.table.names.find(A) * WORKERS + 1
    now = Clock().monotonic()
    scene.table.oldest[at] = int((now - 1) * 1_000_000)
    assert not mine.enter(A, one, Deadline(Clock(), 0)), "it may yet see to that itself"
    scene.table.oldest[at] = 1
    assert mine.enter(A, one, Deadline(Clock(), 0)), "without waiting"
    mine.leave(A, 1)


def test_who_gives_up_leaves_no_place_behind(scene: Scene) -> None:
    mine, other = scene.gates(0), scene.gates(1)
    assert mine.enter(A, one, Deadline(Clock(), LONG_S))
    assert not other.enter(A, one, Deadline(Clock(), 0.01))
    assert scene.waiting() == 0
    mine.leave(A, 1)
    assert other.enter(A, one, Deadline(Clock(), LONG_S))


def test_the_gate_of_all_is_open_until_it_is_narrowed(scene: Scene) -> None:
    mine, other = scene.gates(0), scene.gates(1)
    for _ in range(20):
        assert mine.enter_all(Deadline(Clock(), LONG_S))
    assert other.narrow_all(began=Clock().monotonic())
    assert other.places_in_all() == 10
    assert not other.enter_all(Deadline(Clock(), 0.01))
    for _ in range(11):
        mine.leave_all()
    assert other.enter_all(Deadline(Clock(), LONG_S))
    assert not mine.enter_all(Deadline(Clock(), 0.01))


class CountingLock(Lock):
    """Also between threads."""

    def __init__(self) -> None:
        self.times = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()
        self.times += 1

    def __exit__(self, *fault: object) -> None:
        self._lock.release()


@pytest.mark.parametrize("scene", [16], indirect=True)
def test_who_waits_looks_at_its_own_row_alone(scene: Scene) -> None:
    """Else many who wait for many mailboxes would do nothing but look."""
    lanes = [bytes([number]) * DIGEST_OCTETS for number in range(1, 9)]
    mine, other = scene.gates(0), scene.gates(1)
    for lane in lanes:
        assert other.enter(lane, one, Deadline(Clock(), LONG_S))
    scene.table.lock = lock = CountingLock()
    waiters = [threading.Thread(target=mine.enter, args=(lane, one, Deadline(Clock(), 2.5))) for lane in lanes]
    for waiter in waiters:
        waiter.start()
    for waiter in waiters:
        waiter.join()
    assert scene.waiting(lanes[0]) == 0
    assert lock.times <= len(lanes) * 5  # to come, three looks, and to go


@pytest.mark.parametrize("scene", [4], indirect=True)
def test_rows_are_used_again(scene: Scene) -> None:
    """One of the four is that of all."""
    gates = scene.gates(0)
    for number in range(20):
        name = bytes([number + 1]) * DIGEST_OCTETS
        assert gates.enter(name, one, Deadline(Clock(), LONG_S))
        gates.leave(name, 1)
    gates.purge()
    assert [scene.table.names[row] == NOTHING for row in range(4)] == [False, True, True, True]


@pytest.mark.parametrize("scene", [3], indirect=True)
def test_a_full_table_refuses_and_forgets_nothing(scene: Scene) -> None:
    gates, other = scene.gates(0), scene.gates(1)
    gates.rest(A, Clock().monotonic() + LONG_S)
    assert gates.enter(B, one, Deadline(Clock(), LONG_S))
    assert not gates.enter(b"c" * DIGEST_OCTETS, one, Deadline(Clock(), LONG_S))
    assert gates.next_start(b"c" * DIGEST_OCTETS, 1.0, Clock().monotonic() + 1) is None
    assert other.rests_until(A) == gates.rests_until(A) > Clock().monotonic()
    assert not other.enter(B, one, Deadline(Clock(), 0.01))


def test_one_at_a_time(scene: Scene) -> None:
    mine, other = scene.gates(0), scene.gates(1)
    with one_at_a_time(mine, "me@example.com", Deadline(Clock(), LONG_S)) as ours:
        assert ours
        with one_at_a_time(other, "me@example.com", Deadline(Clock(), 0.01)) as theirs:
            assert not theirs
        with one_at_a_time(other, "you@example.com", Deadline(Clock(), LONG_S)) as theirs:
            assert theirs
    with suppress(ZeroDivisionError), one_at_a_time(other, "me@example.com", Deadline(Clock(), LONG_S)) as theirs:
        assert theirs
        raise ZeroDivisionError
    with one_at_a_time(mine, "me@example.com", Deadline(Clock(), 0.01)) as ours:
        assert ours
