# SPDX-License-Identifier: MIT
"""What the admin side asks of the running relay at the moment of a request: numbers that nobody has to count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Mail = dict[str, object]  # a mail that the sandbox caught; its keys are in page.py


@dataclass(frozen=True, slots=True)
class WorkerState:
    """One worker at the moment. number: as in the log; pid: 0 where it is dead; messages: since the page's start."""

    number: int
    pid: int
    connections: int
    inflight_bytes: int
    messages: int
    restarts: int


@dataclass(frozen=True, slots=True)
class Live:
    """workers: None where there is one process.

    mails: what the sandbox has caught, newest first; None where there is no sandbox."""

    connections: Callable[[], int]
    max_connections: Callable[[], int]
    inflight_bytes: Callable[[], int]
    tokens: Callable[[], int]
    mails: Callable[[], Sequence[Mail]] | None = None
    workers: Callable[[], Sequence[WorkerState]] | None = None
