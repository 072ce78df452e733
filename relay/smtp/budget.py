# SPDX-License-Identifier: MIT
"""A bound for all sessions together: octets of messages held at a time (max_inflight_bytes), or connections."""

from __future__ import annotations


class Budget:
    """A number of octets, or of connections, that many share."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used = 0

    @property
    def used(self) -> int:
        """How much of it is taken now."""
        return self._used

    def has_room(self, wanted: int) -> bool:
        """Whether that many more would fit now."""
        return self.used + wanted <= self.limit

    def take(self, wanted: int) -> bool:
        """Take that many more; False, and nothing taken, when there is no room."""
        if not self.has_room(wanted):
            return False
        self._used += wanted
        return True

    def give_back(self, taken: int) -> None:
        """What was taken is free again."""
        self._used -= taken

    def reservation(self) -> Reservation:
        """An empty one, to grow with a message."""
        return Reservation(self)


class Reservation:
    """What one message takes of the budget, until release()."""

    __slots__ = ("_budget", "_octets")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._octets = 0

    def grow(self, octets: int) -> bool:
        """Take more; False, and nothing taken, when there is no room."""
        if not self._budget.take(octets):
            return False
        self._octets += octets
        return True

    def release(self) -> None:
        """Give all of it back."""
        self._budget.give_back(self._octets)
        self._octets = 0
