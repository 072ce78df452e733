# SPDX-License-Identifier: MIT
"""A bound for all sessions of all workers together. Each has a cell of its own, and what counts is their sum."""

from __future__ import annotations

from relay.smtp.budget import Budget
from relay.workers.memory import Lock


class SharedBudget(Budget):
    """One worker's view of it."""

    def __init__(self, limit: int, cells: memoryview, worker: int, lock: Lock, step: int = 1) -> None:
        """step: what is mostly taken at a time, at the most."""
        super().__init__(limit)
        self._cells = cells
        self._worker = worker
        self._lock = lock
        self._step = step
        self._margin = len(cells) * step

    @property
    def used(self) -> int:
        return sum(self._cells)

    def take(self, wanted: int) -> bool:
        """First our cell and then the sum, so that of two at the same time at least one sees the other.

        Far from the limit no lock is needed: what the others take at this very moment fits too.
        """
        if wanted <= self._step:
            self._cells[self._worker] += wanted
            if self.used + self._margin <= self.limit:
                return True
            self._cells[self._worker] -= wanted
        with self._lock:
            self._cells[self._worker] += wanted
            if self.used <= self.limit:
                return True
            self._cells[self._worker] -= wanted
            return False

    def give_back(self, taken: int) -> None:
        self._cells[self._worker] -= taken  # nobody else writes there
