# SPDX-License-Identifier: MIT
"""Processes forked from a test, as the workers are from their parent: what was made before is shared between them."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest


class Child:
    """One of them. Its exit code is 0 where the function came to its end."""

    def __init__(self, act: Callable[[], None]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, from Python 3.12 on
            self.pid = os.fork()
        if self.pid:
            return
        code = 1
        try:
            act()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def wait(self) -> int:
        """The exit code; -9 where it was killed."""
        pid, self.pid = self.pid, 0
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else 0

    def kill(self) -> None:
        """With SIGKILL, wherever it is."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait()


@contextmanager
def children(*acts: Callable[[], None]) -> Iterator[list[Child]]:
    """Processes that do this; those that are left are killed at the end."""
    found: list[Child] = []
    try:
        for act in acts:
            found.append(Child(act))
        yield found
    finally:
        for child in found:
            if child.pid:
                child.kill()


def wait_until(look: Callable[[], object], patience_s: float = 60.0) -> None:
    pause = threading.Event()
    for _ in range(int(patience_s * 1000)):
        if look():
            return
        pause.wait(0.001)
    pytest.fail("waited in vain")
