# SPDX-License-Identifier: MIT
"""Periodic housekeeping. Knows nothing of what it runs; a task that fails is logged and tried again next time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from relay.clock import Clock

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Task:
    name: str
    every_s: float
    run: Callable[[], None]


class Janitor:
    """Runs its tasks for ever in the greenlet that calls run()."""

    def __init__(self, tasks: tuple[Task, ...], clock: Clock) -> None:
        self._tasks = tasks
        self._clock = clock
        self._due = {task.name: clock.monotonic() + task.every_s for task in tasks}

    def run(self) -> None:
        """Never returns; the greenlet is killed at the stop."""
        while True:
            self._clock.sleep(min(task.every_s for task in self._tasks))
            self.sweep()

    def sweep(self) -> None:
        """Run whatever is due now."""
        now = self._clock.monotonic()
        for task in self._tasks:
            if self._due[task.name] <= now:
                self._due[task.name] = now + task.every_s
                self._run_one(task)

    def _run_one(self, task: Task) -> None:
        try:
            task.run()
        except Exception:  # one task's fault must not end the others
            log.exception("janitor_task_failed", extra={"task": task.name})
