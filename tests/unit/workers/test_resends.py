# SPDX-License-Identifier: MIT
"""Re-sends that come to another worker than the message that they repeat (contract §4.5)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from relay.clock import Clock, Deadline
from relay.resends import REMEMBERED_S, Earlier, Resends, SentAgain, StillOnItsWay
from relay.workers.memory import Locks, cells
from relay.workers.post import Inboxes, Post
from relay.workers.resends import Elsewhere, ResendTable
from tests.support.clock import FakeClock
from tests.support.forked import Child, children, wait_until

PARTS = (b"user", b"from@example.com", b"to@example.com", b"content")
LONG_S = 100.0
HERE, THERE = 0, 1


class Scene:
    def __init__(self) -> None:
        self.table = ResendTable(2, 4, 3, Locks().make(), b"key")
        self.inboxes = Inboxes(2)
        self.state = cells(4)
        self.since = Clock().monotonic()  # of this test, since doubt lasts ten minutes and a run of all may take longer
        self._readers: dict[int, threading.Thread] = {}

    def resends(self, worker: int, clock: Clock | None = None) -> Resends:
        """Of the calling process, with its letters being read."""
        clock = clock or Clock()
        post = Post(self.inboxes, worker)
        elsewhere = Elsewhere(self.table, worker, clock, post, self.inboxes)
        resends = Resends(clock, elsewhere=elsewhere)
        elsewhere.answers_for(resends)
        self._readers[worker] = threading.Thread(target=post.run, daemon=True)
        self._readers[worker].start()
        return resends

    def close(self) -> None:
        for worker, reader in self._readers.items():
            self.inboxes.close(worker)
            reader.join()
        self.inboxes.close_all()

    def on_its_way(self, *, gone: bool) -> Callable[[], None]:
        """A worker THERE with a message. state: 0 says begun, 1 tells it to go on, 2 how it went, 3 that it may end."""

        def act() -> None:
            resends = self.resends(THERE)
            assert resends.begin("FIRST", PARTS, lambda: gone, Deadline(Clock(), LONG_S)) is None
            self.state[0] = 1
            wait_until(lambda: self.state[1])
            resends.settled(
                "FIRST", delivered=self.state[2] == 1, in_doubt_since=self.since if self.state[2] == 2 else None
            )
            resends.answered("FIRST", heard=not gone)
            wait_until(lambda: self.state[3])

        return act


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    made.close()


def begin(resends: Resends, message_id: str = "SECOND", patience_s: float = LONG_S) -> str:
    earlier = resends.begin(message_id, PARTS, lambda: False, Deadline(Clock(), patience_s))
    return str(earlier or "")


def lose(scene: Scene, message_id: str = "FIRST", *more: bytes) -> None:
    def act() -> None:
        resends = scene.resends(THERE)
        assert resends.begin(message_id, (*PARTS, *more), lambda: False, Deadline(Clock(), LONG_S)) is None
        resends.settled(message_id, delivered=True)
        assert resends.answered(message_id, heard=False)

    assert Child(act).wait() == 0
    scene.table.forget(THERE)


def test_a_lost_one_is_known_to_all_and_outlives_its_worker(scene: Scene) -> None:
    here = scene.resends(HERE)
    lose(scene)
    assert begin(here) == "FIRST"
    assert begin(here, "THIRD") == "", "once"


def test_a_message_that_was_heard_of_is_no_matter(scene: Scene) -> None:
    here = scene.resends(HERE)
    scene.state[1] = scene.state[2] = scene.state[3] = 1
    assert Child(scene.on_its_way(gone=False)).wait() == 0
    assert begin(here) == ""


def test_doubt_is_known_to_all(scene: Scene) -> None:
    here, now = scene.resends(HERE), Clock().monotonic()

    def act() -> None:
        resends = scene.resends(THERE)
        assert resends.begin("FIRST", PARTS, lambda: False, Deadline(Clock(), LONG_S)) is None
        resends.settled("FIRST", delivered=False, in_doubt_since=now)
        assert not resends.answered("FIRST", heard=True)

    assert Child(act).wait() == 0
    assert begin(here) == f"FIRST?{now:.2f}"
    assert begin(here, "THIRD") == "", "once"


@pytest.mark.parametrize(
    ("delivered", "word"), [(1, "FIRST"), (0, ""), (2, "FIRST?{:.2f}")], ids=["sent", "not sent", "doubt"]
)
def test_a_resend_waits_for_what_is_on_its_way_elsewhere(scene: Scene, delivered: int, word: str) -> None:
    here = scene.resends(HERE)
    with children(scene.on_its_way(gone=True)):
        wait_until(lambda: scene.state[0])
        found: list[str] = []
        resend = threading.Thread(target=lambda: found.append(begin(here)))
        resend.start()
        assert not found
        scene.state[2] = delivered
        scene.state[1] = 1
        resend.join()
        assert found == [word.format(scene.since)]


def test_the_client_of_the_other_one_still_waits(scene: Scene) -> None:
    """The same message on purpose: both are delivered."""
    here = scene.resends(HERE)
    with children(scene.on_its_way(gone=False)):
        wait_until(lambda: scene.state[0])
        assert begin(here) == ""


def test_a_resend_that_overtakes_in_another_worker(scene: Scene) -> None:
    here = scene.resends(HERE)
    with children(scene.on_its_way(gone=False)):
        wait_until(lambda: scene.state[0])
        with pytest.raises(SentAgain):
            here.begin("SECOND", PARTS, lambda: True, Deadline(Clock(), LONG_S))


def test_too_long_on_its_way(scene: Scene) -> None:
    here = scene.resends(HERE)
    with children(scene.on_its_way(gone=True)) as (there,):
        wait_until(lambda: scene.state[0])
        with pytest.raises(StillOnItsWay):
            begin(here, patience_s=0.2)
        here.settled("SECOND", delivered=False)
        here.answered("SECOND", heard=True)
        scene.state[1] = scene.state[2] = scene.state[3] = 1
        assert there.wait() == 0
    assert begin(here, "THIRD") in ("FIRST", ""), "given back, unless it was settled before"


def test_the_other_worker_is_there_and_says_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """It hangs: whether its message goes nobody knows, and a second delivery would be one too many."""
    monkeypatch.setattr("relay.workers.resends._ANSWER_S", 0.1)
    here = scene.resends(HERE)
    unread = Elsewhere(scene.table, THERE, Clock(), Post(scene.inboxes, THERE), scene.inboxes)
    assert Resends(Clock(), elsewhere=unread).begin("FIRST", PARTS, lambda: True, Deadline(Clock(), LONG_S)) is None
    with pytest.raises(StillOnItsWay):
        begin(here, patience_s=0.1)


def test_the_other_worker_dies(scene: Scene) -> None:
    """What became of its message nobody knows: this one is delivered."""
    here = scene.resends(HERE)
    with children(scene.on_its_way(gone=True)) as (there,):
        wait_until(lambda: scene.state[0])
        found: list[str] = []
        resend = threading.Thread(target=lambda: found.append(begin(here)))
        resend.start()
        there.kill()
        scene.table.forget(THERE)
        resend.join()
        assert found == [""]


def test_ten_minutes(scene: Scene) -> None:
    clock = FakeClock()
    here = scene.resends(HERE, clock)
    for age_s, known in ((REMEMBERED_S - 1, "FIRST"), (REMEMBERED_S, "")):
        begin(here, "FIRST")
        here.settled("FIRST", delivered=True)
        here.answered("FIRST", heard=False)
        clock.advance(age_s)
        assert begin(here) == known
        here.settled("SECOND", delivered=True)
        here.answered("SECOND", heard=True)


def test_memory_is_bounded_and_purged(scene: Scene) -> None:
    clock = FakeClock()
    here = scene.resends(HERE, clock)

    def lose_here(name: str) -> None:
        here.begin(name, (*PARTS, name.encode()), lambda: False, Deadline(clock, LONG_S))
        here.settled(name, delivered=True)
        assert here.answered(name, heard=False)
        clock.advance(1)

    def known(name: str) -> bool:
        found = here.begin("AGAIN", (*PARTS, name.encode()), lambda: False, Deadline(clock, LONG_S))
        here.settled("AGAIN", delivered=True)
        here.answered("AGAIN", heard=True)
        return found == Earlier(name)

    for name in "ABCD":  # the table holds three
        lose_here(name)
    assert [known(name) for name in "ABCD"] == [False, True, True, True]
    lose_here("E")
    clock.advance(REMEMBERED_S)
    here.purge()
    assert scene.table.lost_count[0] == 0


def test_more_on_their_way_than_the_table_holds(scene: Scene) -> None:
    here = scene.resends(HERE)
    for number in range(6):  # it holds four
        assert here.begin(str(number), (*PARTS, b"%d" % number), lambda: False, Deadline(Clock(), LONG_S)) is None
    for number in range(6):
        here.settled(str(number), delivered=True)
        assert not here.answered(str(number), heard=True)
    assert scene.table.on_their_way.find(scene.table.on_their_way[0]) == 0
    assert scene.table.highest[HERE] == 4
