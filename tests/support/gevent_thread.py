# SPDX-License-Identifier: MIT
"""A gevent hub in a thread of its own, so that a test talks to greenlets with plain blocking sockets."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import gevent
from gevent.event import Event

_T = TypeVar("_T")
_PATIENCE_S = 40.0


class GeventThread:
    """with GeventThread() as there: there.call(function) runs it in a greenlet of that thread."""

    def __enter__(self) -> GeventThread:
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(_PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.start(self._stop.set)
        self._thread.join(_PATIENCE_S)
        assert not self._thread.is_alive()

    def start(self, function: Callable[[], _T]) -> Future[_T]:
        """The outcome of function, some time."""
        outcome: Future[_T] = Future()
        self._calls.append((function, outcome))
        self._wake.send()  # the one call into a loop that another thread may make
        return outcome

    def call(self, function: Callable[[], _T]) -> _T:
        """The outcome of function, now."""
        return self.start(function).result(_PATIENCE_S)

    def _run(self, ready: threading.Event) -> None:
        self._stop = Event()
        hub = gevent.get_hub()
        self._wake = hub.loop.async_()
        self._wake.start(self._spawn_calls)
        ready.set()
        self._stop.wait()
        self._wake.close()
        hub.destroy(destroy_loop=True)

    def _spawn_calls(self) -> None:
        while self._calls:
            gevent.spawn(_settle, *self._calls.popleft())


def _settle(function: Callable[[], Any], outcome: Future[Any]) -> None:
    try:
        outcome.set_result(function())
    except BaseException as fault:
        outcome.set_exception(fault)
