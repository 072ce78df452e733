# SPDX-License-Identifier: MIT
"""How many octets of messages may be held at a time, over all sessions (max_inflight_bytes)."""

from __future__ import annotations


class Budget:
    """A number of octets that reservations share."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.used = 0

    def has_room(self, octets: int) -> bool:
        """Whether that many more would fit now."""
        return self.used + octets <= self._limit

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
        if not self._budget.has_room(octets):
            return False
        self._budget.used += octets
        self._octets += octets
        return True

    def release(self) -> None:
        """Give all of it back."""
        self._budget.used -= self._octets
        self._octets = 0
