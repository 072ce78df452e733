# SPDX-License-Identifier: MIT
"""The lanes of mailboxes over all workers: gates, by the names that graph/lanes.py has for what it does with them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from relay.clock import Deadline
from relay.graph.lanes import Gate, Lane
from relay.workers.gates import Gates, digest_of


class _SharedLane:
    """The lane of one mailbox."""

    __slots__ = ("_gates", "_highest", "_name")

    def __init__(self, gates: Gates, name: bytes, highest: Callable[[], int]) -> None:
        self._gates = gates
        self._name = name
        self._highest = highest

    @property
    def rests_until(self) -> float:
        return self._gates.rests_until(self._name)

    def enter(self, deadline: Deadline) -> bool:
        return self._gates.enter(self._name, self._highest, deadline)

    def leave(self) -> None:
        self._gates.leave(self._name, self._highest())

    def narrow(self, began: float) -> bool:
        return self._gates.narrow(self._name, self._highest(), 1, began)

    def places(self) -> int:
        return self._gates.places(self._name, self._highest())

    def rest(self, until: float) -> None:
        self._gates.rest(self._name, until)

    def next_start(self, interval_s: float, latest: float) -> float | None:
        return self._gates.next_start(self._name, interval_s, latest)


class _AllLanes:
    """All of them together."""

    def __init__(self, gates: Gates) -> None:
        self._gates = gates

    def enter(self, deadline: Deadline) -> bool:
        return self._gates.enter_all(deadline)

    def leave(self) -> None:
        self._gates.leave_all()

    def narrow(self, began: float) -> bool:
        return self._gates.narrow_all(began)

    def places(self) -> int:
        return self._gates.places_in_all()


class SharedLanes:
    """The lanes of one service, for one of its workers: a LaneStore."""

    def __init__(self, gates: Gates, concurrency: int) -> None:
        self._gates = gates
        self._concurrency = concurrency
        self._all = _AllLanes(gates)
        self._digests: dict[str, bytes] = {}

    @property
    def all(self) -> Gate:
        return self._all

    def limit(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._gates.look()

    def _highest(self) -> int:
        return self._concurrency

    def lane(self, name: str) -> AbstractContextManager[Lane]:
        return nullcontext(_SharedLane(self._gates, self._digest(name), self._highest))

    def complained(self, name: str) -> bool:
        return self._gates.complained(self._digest(name))

    def purge(self) -> None:
        self._digests.clear()
        self._gates.purge()

    def _digest(self, name: str) -> bytes:
        found = self._digests.get(name)
        if found is None:
            found = self._digests[name] = digest_of("lane", name)
        return found
