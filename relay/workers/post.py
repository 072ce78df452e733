# SPDX-License-Identifier: MIT
"""Letters from worker to worker, for what is rare: a place is free, has your client hung up? Knows no meaning of them.

Each worker has an inbox, a pair of connected datagram sockets of which all have the end to write to. Waits use
threading, which the program has patched for greenlets.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

log = logging.getLogger(__name__)

_LONGEST_LETTER = 4096
_SEND_PATIENCE_S = 1.0

Letter = list[Any]  # a word that says what it is about, and what belongs to it


class Inboxes:
    """Those of all workers; made before the fork."""

    def __init__(self, workers: int) -> None:
        self._pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(workers)]
        for _, written_to in self._pairs:
            written_to.settimeout(_SEND_PATIENCE_S)

    def send(self, worker: int, *letter: Any) -> bool:
        """False where its inbox stays full: it does not run, or not well."""
        try:
            self._pairs[worker][1].send(json.dumps(letter).encode("ascii"))
        except OSError:
            return False
        return True

    def wake(self, worker: int) -> None:
        """As send(), without waiting: where the inbox is full, it will wake up anyway."""
        with suppress(OSError):
            os.write(self._pairs[worker][1].fileno(), b'["wake"]')

    def receive(self, worker: int) -> Letter | None:
        """The next letter; waits for it. None once this inbox is closed."""
        octets = self._pairs[worker][0].recv(_LONGEST_LETTER)
        letter: Letter | None = json.loads(octets) if octets else None
        return letter

    def close(self, worker: int) -> None:
        """There will be no more letters for it: its reader ends."""
        self._pairs[worker][0].shutdown(socket.SHUT_RDWR)

    def close_all(self) -> None:
        for pair in self._pairs:
            for sock in pair:
                sock.close()


class Post:
    """One worker's letters: run() reads them, for whoever has said that they are his."""

    def __init__(self, inboxes: Inboxes, worker: int) -> None:
        self._inboxes = inboxes
        self._worker = worker
        self._readers: dict[str, Callable[..., None]] = {}

    def subscribe(self, word: str, reader: Callable[..., None]) -> None:
        """reader is called with what follows the word; it must not wait."""
        self._readers[word] = reader

    def run(self) -> None:
        """Until the inbox is closed."""
        while (letter := self._inboxes.receive(self._worker)) is not None:
            word, *rest = letter
            try:
                self._readers[word](*rest)
            except Exception:  # a fault of one letter must not keep the next ones away
                log.exception("worker_fault", extra={"task": word})


class Questions:
    """Asks another worker and waits for the answer."""

    def __init__(self, post: Post, inboxes: Inboxes, worker: int) -> None:
        self._inboxes = inboxes
        self._worker = worker
        self._asked: dict[int, tuple[threading.Event, list[Any]]] = {}
        self._number = os.getpid() << 32  # an answer to the one who was here before must not be taken for ours
        post.subscribe("answer", self._answered)

    def ask(self, worker: int, word: str, *question: Any, patience: Callable[[], float]) -> Any:
        """What it answers; None where it does not. patience: seconds to wait on, asked for now and then."""
        self._number += 1
        number = self._number
        event, answer = self._asked[number] = threading.Event(), []
        try:
            if not self._inboxes.send(worker, word, self._worker, number, *question):
                return None
            while not event.is_set() and (wait_s := patience()) > 0:
                event.wait(wait_s)
        finally:
            del self._asked[number]
        return answer[0] if answer else None

    def _answered(self, number: int, answer: Any) -> None:
        event, answers = self._asked.get(number, (None, []))
        if event is not None:
            answers.append(answer)
            event.set()
