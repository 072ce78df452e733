# SPDX-License-Identifier: MIT
"""Which message is a re-send of which, on a clock that does not wait (contract §4.5)."""

from __future__ import annotations

import itertools
import threading

import pytest

from relay.clock import Deadline
from relay.resends import REMEMBERED_S, Earlier, Resends, SentAgain, StillOnItsWay
from tests.support.clock import FakeClock

PARTS = (b"user", b"from@example.com", b"to@example.com", b"content")


class Scene:
    def __init__(self, most: int = 100) -> None:
        self.clock = FakeClock()
        self.resends = Resends(self.clock, most)
        self._numbers = itertools.count(1)

    def begin(self, *parts: bytes, gone: bool = False, patience_s: float = 0.01) -> tuple[str, str]:
        """Its id, and the id of what it repeats."""
        message_id = f"M{next(self._numbers)}"
        deadline = Deadline(self.clock, patience_s)
        self.earlier = self.resends.begin(message_id, parts or PARTS, lambda: gone, deadline)
        return message_id, self.earlier.message_id if self.earlier else ""

    def end(self, message_id: str, *, delivered: bool = True, heard: bool) -> None:
        self.resends.settled(message_id, delivered=delivered)
        self.resends.answered(message_id, heard=heard)

    def doubt(self, *parts: bytes, since: float | None = None, heard: bool = True) -> str:
        """A message that may have gone; its client was told to come again."""
        message_id, _ = self.begin(*parts)
        self.resends.settled(
            message_id, delivered=False, in_doubt_since=self.clock.monotonic() if since is None else since
        )
        assert not self.resends.answered(message_id, heard=heard)
        return message_id

    def lost(self, *parts: bytes) -> str:
        """A message whose client does not know that it was delivered."""
        message_id, _ = self.begin(*parts)
        self.end(message_id, heard=False)
        return message_id


def test_a_resend_of_a_lost_one() -> None:
    scene = Scene()
    first = scene.lost()
    assert scene.begin()[1] == first


def test_the_same_octets_on_purpose() -> None:
    """Behind a 250 that was heard, and beside a message whose client still waits."""
    scene = Scene()
    first, _ = scene.begin()
    second, repeats = scene.begin()
    assert repeats == ""
    scene.end(first, heard=True)
    scene.end(second, heard=True)
    assert scene.begin()[1] == ""


def test_nothing_is_kept_of_what_its_client_has_heard_of() -> None:
    scene = Scene()
    for number in range(100):
        message_id, _ = scene.begin(b"%d" % number)
        scene.end(message_id, heard=True)
        lost = scene.lost(b"%d" % number)
        resend, repeats = scene.begin(b"%d" % number)
        assert repeats == lost
        scene.end(resend, heard=True)
    assert not scene.resends._alike
    assert not scene.resends._at_hand
    assert not scene.resends._lost


def test_once_answered_the_matter_is_over() -> None:
    scene = Scene()
    scene.lost()
    second, _ = scene.begin()
    scene.end(second, heard=True)
    assert scene.begin()[1] == ""


def test_a_resend_that_is_lost_too_names_the_delivery() -> None:
    scene = Scene()
    first = scene.lost()
    second, _ = scene.begin()
    scene.end(second, heard=False)
    assert scene.begin()[1] == first


def test_each_lost_one_answers_one_resend() -> None:
    """Two identical messages were meant, both clients hung up, three come: the third is a new one."""
    scene = Scene()
    lost = [scene.begin()[0], scene.begin()[0]]
    for message_id in lost:
        scene.end(message_id, heard=False)
    assert [scene.begin()[1] for _ in range(3)] == [*lost, ""]


def test_what_was_not_delivered_is_no_excuse() -> None:
    scene = Scene()
    first, _ = scene.begin()
    scene.end(first, delivered=False, heard=False)
    assert scene.begin()[1] == ""


@pytest.mark.parametrize("index", range(4))
def test_every_part_counts(index: int) -> None:
    scene = Scene()
    scene.lost()
    other = list(PARTS)
    other[index] += b"x"
    assert scene.begin(*other)[1] == ""


def test_parts_are_not_run_together() -> None:
    scene = Scene()
    scene.lost(b"ab", b"c")
    assert scene.begin(b"a", b"bc")[1] == ""


def test_ten_minutes() -> None:
    scene = Scene()
    scene.lost()
    scene.clock.advance(REMEMBERED_S - 1)
    second, repeats = scene.begin()
    assert repeats
    scene.end(second, heard=False)
    scene.clock.advance(REMEMBERED_S)
    assert scene.begin()[1] == ""


def test_memory_is_bounded_and_purged() -> None:
    scene = Scene(most=3)
    for number in range(5):
        scene.lost(b"%d" % number)
    assert [bool(scene.begin(b"%d" % number)[1]) for number in (0, 1, 2)] == [False, False, True]
    scene.clock.advance(REMEMBERED_S)
    scene.resends.purge()
    assert scene.begin(b"3")[1] == ""
    assert not scene.resends._lost  # the bound is the point here


def test_a_resend_waits_for_the_first_on_its_way() -> None:
    for delivered in (True, False):
        scene = Scene()
        first, _ = scene.begin(gone=True)
        found: list[str] = []
        thread = threading.Thread(target=lambda s=scene, f=found: f.append(s.begin(patience_s=5)[1]))  # type: ignore[misc]
        thread.start()
        scene.end(first, delivered=delivered, heard=False)
        thread.join(40)
        assert found == [first if delivered else ""]


def test_an_outcome_in_the_very_last_moment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait is over, and before the waiter is woken, the first one is settled and its connection done with."""
    scene = Scene()
    first, _ = scene.begin(gone=True)

    def wait(event: threading.Event, timeout: float | None = None) -> bool:
        scene.end(first, heard=False)
        return False

    monkeypatch.setattr(threading.Event, "wait", wait)
    assert scene.begin()[1] == first


def test_a_resend_that_cannot_wait_leaves_it_to_the_next() -> None:
    scene = Scene()
    first, _ = scene.begin(gone=True)
    with pytest.raises(StillOnItsWay):
        scene.begin()
    scene.end("M2", delivered=False, heard=False)
    scene.end(first, heard=False)
    assert scene.begin()[1] == first


def test_a_resend_that_overtakes() -> None:
    """The first one is looked at only when its client has gone and come again: one of the two is enough."""
    scene = Scene()
    resend, _ = scene.begin()
    with pytest.raises(SentAgain):
        scene.begin(gone=True)
    scene.end("M2", delivered=False, heard=False)
    scene.end(resend, heard=True)
    assert scene.begin()[1] == ""


# Doubt


@pytest.mark.parametrize("heard", [True, False])
def test_a_resend_of_what_is_in_doubt(heard: bool) -> None:
    scene = Scene()
    since = scene.clock.monotonic()
    first = scene.doubt(heard=heard)
    scene.clock.advance(60)
    second, _ = scene.begin()
    assert scene.earlier == Earlier(first, since)
    scene.end(second, heard=True)
    assert scene.begin()[1] == "", "once it is delivered, the matter is over"


def test_doubt_that_goes_on_keeps_the_first_id_and_ends_in_time() -> None:
    """By the id it is looked for. Who cannot look must be able to send at last."""
    scene = Scene()
    since = scene.clock.monotonic()
    first = scene.doubt()
    for _ in range(3):
        scene.clock.advance(REMEMBERED_S / 4)
        scene.doubt(since=since)
        assert scene.earlier == Earlier(first, since)
    scene.clock.advance(REMEMBERED_S / 4)
    assert scene.begin()[1] == ""


def test_doubt_that_ends_in_a_delivery_whose_client_is_gone() -> None:
    scene = Scene()
    first = scene.doubt()
    second, _ = scene.begin()
    scene.end(second, heard=False)
    scene.begin()
    assert scene.earlier == Earlier(first)


def test_doubt_that_ends_in_a_refusal() -> None:
    scene = Scene()
    scene.doubt()
    second, _ = scene.begin()
    scene.end(second, delivered=False, heard=True)
    assert scene.begin()[1] == ""


@pytest.mark.parametrize("earlier", [Earlier("0123456789ABCDEF"), Earlier("0123456789ABCDEF", 98765432.12)])
def test_as_a_word(earlier: Earlier) -> None:
    assert len(str(earlier)) <= 32
    assert Earlier.read(str(earlier)) == earlier
    assert Earlier.read("") is None
