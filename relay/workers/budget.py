# SPDX-License-Identifier: MIT
"""A bound for all sessions of all workers together. Each has a cell of its own, and what counts is their sum."""

from __future__ import annotations

from relay.smtp.budget import Budget
from relay.workers.memory import Lock


class SharedBudget(Budget):
    """One worker's view of it."""

    def __init__(self, limit: int, cells: memoryview, worker: int, lock: Lock) -> None:
        super().__init__(limit)
        self._cells = cells
        self._worker = worker
        self._lock = lock

    @property
    def used(self) -> int:
        return sum(self._cells)

    def take(self, wanted: int) -> bool:
        with self._lock:
            if not self.has_room(wanted):
                return False
            self._cells[self._worker] += wanted
        return True

    def give_back(self, taken: int) -> None:
        self._cells[self._worker] -= taken  # nobody else writes there
