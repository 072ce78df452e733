# SPDX-License-Identifier: MIT
"""The memory of re-sends over all workers: what is on its way where, and what was delivered unbeknownst to its client.

A table says by digest which worker has a message on its way; whether its client has hung up, only that worker can tell,
and is asked in the rare case that the same message comes to another one. What was delivered and not heard of lies in a
second table, for all, and outlives the worker that delivered it.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable

from relay.clock import Clock, Deadline
from relay.resends import Resends, StillOnItsWay
from relay.workers.memory import NOTHING, Digests, Lock, cells, moments, octets
from relay.workers.post import Inboxes, Post, Questions

_ID_OCTETS = 32
_LOOK_AGAIN_S = 1.0
_ANSWER_S = 5.0  # longer than the other worker waits: an outcome that nobody takes is forgotten
_LATE = "late"  # an answer: it is still on its way at the deadline


class ResendTable:
    """The memory; made before the fork."""

    def __init__(self, workers: int, most_each: int, most_lost: int, lock: Lock, key: bytes) -> None:
        self.workers = workers
        self.most_each = most_each
        self.most_lost = most_lost
        self.lock = lock  # of what was lost; what is on its way, only its worker writes
        self.key = key
        self.on_their_way = Digests(workers * most_each)
        self.highest = cells(workers)  # how many of a worker's places were ever used at a time
        self.lives = cells(workers)  # how many times a worker's place was taken by a new process
        self.lost = Digests(most_lost)
        self.lost_ids = octets(most_lost * _ID_OCTETS)
        self.lost_until = moments(most_lost)
        self.lost_count = cells(1)  # places that were ever used

    def forget(self, worker: int) -> None:
        """It is dead, and whoever waits for its answer waits in vain."""
        self.lives[worker] += 1
        for place in range(self.highest[worker]):
            self.on_their_way[worker * self.most_each + place] = NOTHING
        self.highest[worker] = 0


class Elsewhere:
    """What Resends wants to know of the other workers."""

    def __init__(self, table: ResendTable, worker: int, clock: Clock, post: Post, inboxes: Inboxes) -> None:
        self._table = table
        self._worker = worker
        self._clock = clock
        self._inboxes = inboxes
        self._questions = Questions(post, inboxes, worker)
        self._free: list[int] = []  # places below highest, a heap
        self._places: dict[str, int] = {}  # by message id
        self._claim: Callable[[bytes, Deadline], str | None] = lambda digest, deadline: None
        post.subscribe("claim", self._asked)

    @property
    def key(self) -> bytes:
        return self._table.key

    def answers_for(self, resends: Resends) -> None:
        """Who knows what is on its way here."""
        self._claim = resends.claim

    def begun(self, message_id: str, digest: bytes) -> None:
        table, mine = self._table, self._worker * self._table.most_each
        place = heapq.heappop(self._free) if self._free else table.highest[self._worker]
        if place >= table.most_each:
            return
        self._places[message_id] = place
        table.on_their_way[mine + place] = digest
        table.highest[self._worker] = max(table.highest[self._worker], place + 1)

    def ended(self, message_id: str) -> None:
        place = self._places.pop(message_id, None)
        if place is not None:
            self._table.on_their_way[self._worker * self._table.most_each + place] = NOTHING
            heapq.heappush(self._free, place)

    def has(self, digest: bytes) -> bool:
        """Whether it is on its way in another worker."""
        others = (worker for worker in range(self._table.workers) if worker != self._worker)
        return any(self._is_on_its_way(worker, digest) for worker in others)

    def claim(self, digest: bytes, deadline: Deadline) -> str:
        """What is on its way first: it is remembered before it is not on its way any more."""
        for worker in range(self._table.workers):
            if worker != self._worker and self._is_on_its_way(worker, digest):
                answer = self._ask(worker, digest, deadline)
                if answer == _LATE:
                    raise StillOnItsWay
                if answer is not None:
                    return str(answer)
        return self._claim_lost(digest) if self._table.lost_count[0] else ""

    def lost(self, digest: bytes, earlier: str, until: float) -> None:
        table = self._table
        with table.lock:
            place = table.lost.find(NOTHING, 0, table.lost_count[0])
            if place < 0 and table.lost_count[0] < table.most_lost:
                place = table.lost_count[0]
            if place < 0:  # the oldest has to go
                place = min(range(table.most_lost), key=table.lost_until.__getitem__)
                table.lost[place] = NOTHING
            table.lost_until[place] = until
            name = earlier.encode("ascii")[:_ID_OCTETS].ljust(_ID_OCTETS)
            table.lost_ids[place * _ID_OCTETS : (place + 1) * _ID_OCTETS] = name
            table.lost_count[0] = max(table.lost_count[0], place + 1)
            table.lost[place] = digest  # last: before that, nobody finds it

    def purge(self) -> None:
        """Forget what is older than ten minutes."""
        table, now = self._table, self._clock.monotonic()
        with table.lock:
            for place in range(table.lost_count[0]):
                if table.lost_until[place] <= now:
                    table.lost[place] = NOTHING
            while table.lost_count[0] and table.lost[table.lost_count[0] - 1] == NOTHING:
                table.lost_count[0] -= 1

    def _is_on_its_way(self, worker: int, digest: bytes) -> bool:
        start = worker * self._table.most_each
        return self._table.on_their_way.find(digest, start, start + self._table.highest[worker]) >= 0

    def _claim_lost(self, digest: bytes) -> str:
        table = self._table
        with table.lock:
            place = table.lost.find(digest, 0, table.lost_count[0])
            if place < 0:
                return ""
            table.lost[place] = NOTHING
            if table.lost_until[place] <= self._clock.monotonic():
                return ""
            return bytes(table.lost_ids[place * _ID_OCTETS : (place + 1) * _ID_OCTETS]).decode("ascii").rstrip()

    def _ask(self, worker: int, digest: bytes, deadline: Deadline) -> str | None:
        """The id under which it was delivered there, empty: it failed, _LATE; None where this is no re-send of it."""
        life = self._table.lives[worker]
        until = Deadline(self._clock, deadline.remaining() + _ANSWER_S)

        def patience() -> float:
            return min(until.remaining(), _LOOK_AGAIN_S) if self._table.lives[worker] == life else 0.0

        question = digest.hex(), deadline.remaining()
        answer = self._questions.ask(worker, "claim", *question, patience=patience)
        if answer is None and self._table.lives[worker] == life and not until.remaining():
            return _LATE
        return None if answer is None else answer[0]

    def _asked(self, worker: int, number: int, digest: str, wait_s: float) -> None:
        threading.Thread(target=self._answer, args=(worker, number, digest, wait_s), daemon=True).start()

    def _answer(self, worker: int, number: int, digest: str, wait_s: float) -> None:
        try:
            found = self._claim(bytes.fromhex(digest), Deadline(self._clock, wait_s))
        except StillOnItsWay:
            found = _LATE
        self._inboxes.send(worker, "answer", number, [found])
