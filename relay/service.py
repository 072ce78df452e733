# SPDX-License-Identifier: MIT
"""systemd's protocols: sd_notify(3) and socket activation, sd_listen_fds(3). Harmless where there is no systemd."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, MutableMapping

_FIRST_FD = 3  # SD_LISTEN_FDS_START
_IMPLICIT_TLS = "smtps"  # FileDescriptorName= of sockets on which TLS comes first


def notify(*states: str) -> bool:
    """Tell the service manager: READY=1, STOPPING=1, STATUS=…, each a string. False where nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(1)
            sock.connect(address)
            sock.sendall("\n".join(states).encode("utf-8"))
    except OSError:  # the manager is gone or busy: no reason to stop the mail
        return False
    return True


def notify_reloading() -> bool:
    """RELOADING=1, which has to carry the monotonic time (systemd 253); READY=1 ends it."""
    return notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def watchdog_interval_s(environ: Mapping[str, str] = os.environ) -> float | None:
    """How often to say WATCHDOG=1, sd_watchdog_enabled(3): twice in the time allowed. None: nobody waits for it."""
    allowed_us, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not allowed_us.isdecimal() or int(allowed_us) == 0 or pid not in ("", str(os.getpid())):
        return None
    return int(allowed_us) / 2_000_000


def feed_watchdog(sleep: Callable[[float], None]) -> None:
    """WATCHDOG=1 for as long as the event loop goes round; where it hangs, systemd notices the silence."""
    every_s = watchdog_interval_s()
    while every_s is not None:
        notify("WATCHDOG=1")
        sleep(every_s)


def inherited_sockets(
    environ: MutableMapping[str, str] = os.environ,
) -> tuple[list[socket.socket], list[socket.socket]]:
    """The listening sockets that systemd has opened for us: plain ones, and those for implicit TLS (named smtps).

    They are handed out once: the variables are removed, so that no child takes them for its own.
    """
    count, pid = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_PID", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    plain: list[socket.socket] = []
    implicit: list[socket.socket] = []
    if pid != str(os.getpid()) or not count.isdecimal():
        return plain, implicit
    for index in range(int(count)):
        fd = _FIRST_FD + index
        os.set_inheritable(fd, False)
        is_implicit = names[index : index + 1] == [_IMPLICIT_TLS]
        (implicit if is_implicit else plain).append(socket.socket(fileno=fd))
    return plain, implicit
