# SPDX-License-Identifier: MIT
"""What the signals that stop and reload do before the service listens to them itself.

They wait until the command says what they mean: a handler that raises while modules are loaded may strike where nobody
hears of it, and SIGHUP would end a service that is being started.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

_STOP = (signal.SIGTERM, signal.SIGINT)
_ALL = (*_STOP, signal.SIGHUP)


def hold_back() -> None:
    """Keep them until one of the others here is called."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ALL)


def let_come() -> None:
    """Those that waited, too: to their handlers, or they end the program."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ALL)


def leave_by(leave: Callable[[int], object]) -> None:
    """While the service starts, a stop is no fault: leave(0). A reload goes on waiting."""
    for number in _STOP:
        signal.signal(number, lambda *_: leave(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP)
