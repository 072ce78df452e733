# SPDX-License-Identifier: MIT
"""What the workers have counted, on its way to the desk: now and then, and never message by message."""

from __future__ import annotations

import errno
import logging
import pickle
import socket
from collections import deque
from collections.abc import Callable

from relay.stats import Stats, Tally

log = logging.getLogger(__name__)

EVERY_S = 0.5
_MESSAGES_AT_A_TIME = 20  # with five recipients each, they fit into a datagram
_SEND_PATIENCE_S = 1.0
_MOST_UNSENT = 100
_LONGEST_REPORT = 1 << 20


class Reports:
    """Datagrams from all workers to one reader; made before the fork."""

    def __init__(self) -> None:
        self._read_from, self._written_to = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._written_to.settimeout(_SEND_PATIENCE_S)

    def send(self, worker: int, tally: Tally) -> bool:
        """False where nobody reads at the moment.

        What no datagram holds is dropped with an error: else the next reports would wait behind it for ever.
        """
        try:
            self._written_to.send(pickle.dumps((worker, tally)))
        except OSError as fault:
            if fault.errno != errno.EMSGSIZE:
                return False
            log.exception("worker_fault", extra={"task": "report", "reason": "too long; its figures are lost"})
        return True

    def read(self, absorb: Callable[[int, Tally], None]) -> None:
        """Never returns."""
        while True:
            report = self._read_from.recv(_LONGEST_REPORT)
            try:
                absorb(*pickle.loads(report))  # noqa: S301 - from our own workers
            except Exception:  # a fault of one report must not keep the next ones away
                log.exception("worker_fault", extra={"task": "report"})


class Reporter:
    """One worker's side."""

    def __init__(self, reports: Reports, worker: int, stats: Stats) -> None:
        self._reports = reports
        self._worker = worker
        self._stats = stats
        self._unsent: deque[Tally] = deque(maxlen=_MOST_UNSENT)

    def report(self) -> None:
        """Send what was counted since the last time; what cannot be sent waits for the next."""
        tally = self._stats.take()
        if tally:
            messages, tally.messages = tally.messages, []
            self._unsent.append(tally)
            for start in range(0, len(messages), _MESSAGES_AT_A_TIME):
                self._unsent.append(Tally(messages=messages[start : start + _MESSAGES_AT_A_TIME]))
        while self._unsent:
            unsent = self._unsent.popleft()  # before we wait: the last report may come while an earlier one waits
            if not self._reports.send(self._worker, unsent):
                self._unsent.appendleft(unsent)
                return
