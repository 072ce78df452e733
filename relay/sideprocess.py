# SPDX-License-Identifier: MIT
"""A process beside this one, for what computes long: reading large mail.

A thread that computes has the interpreter's lock, and the event loop would wait for it behind each of its own system
calls. The process is started with the first large message, does one piece of work at a time, and ends when it has had
nothing to do for a while. It gets files by their descriptors (unix(7), SCM_RIGHTS). Where it cannot be had, a thread
does the work.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from relay import __version__, malloc
from relay.spool import pack, unpack

log = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[], T]

_CHANNEL = 3  # its end of the socket, in the process
_NAME = "graph-smtp-relay: large mail"  # for whoever lists processes
_NICE = 7  # small mail goes first where there is not processor enough for both
_PATIENCE_S = 60.0  # for one piece of work; 150 MB take some seconds, and submit_timeout goes on meanwhile
_MOST_FILES = 253  # SCM_MAX_FD
_LENGTH_OCTETS = 8
_PROGRAM = "import sys; sys.path[:] = {path!r}; from relay.sideprocess import serve; serve({version!r})"


class SideProcess:
    """run() does work there. One for each process that takes mail."""

    def __init__(self, otherwise: Callable[[Work[Any]], Any]) -> None:
        """otherwise: does the work where there is no such process."""
        self._otherwise = otherwise
        self._turn = threading.Lock()
        self._channel: socket.socket | None = None
        self._used = False

    def run(self, work: Work[T]) -> T:
        """What work gives or raises. work: a function of a module, or functools.partial of one, that can be pickled."""
        with self._turn:
            try:
                self._used = True
                channel = self._channel or self._start()
                _tell(channel, work)
                done, value, said = _hear(channel)
            except Exception as fault:  # whatever went wrong on the way there and back, the message is still here
                self._end()
                reason = f"the process for large mail ended or cannot be started ({fault}); a thread does its work"
                log.warning("side_process_lost", extra={"reason": reason})
            except BaseException:  # the greenlet is being killed, and the answer would come to the next one
                self._end()
                raise
            else:
                for name, level, event, reason in said:
                    logging.getLogger(name).log(level, event, extra={"reason": reason})
                if done:
                    return cast(T, value)
                try:
                    raise value
                finally:
                    del value  # or it would hold itself by its traceback, and the message's file with it
        return cast(T, self._otherwise(work))

    def rest(self) -> None:
        """To be called now and then: ends the process if it had nothing to do since the last time."""
        if not self._used and not self._turn.locked():
            self._end()
        self._used = False

    def close(self) -> None:
        """End the process; the next work starts another."""
        with self._turn:
            self._end()

    def _start(self) -> socket.socket:
        """With our path, but without what site makes of it at each start: it needs a few modules alone."""
        ours, theirs = socket.socketpair()
        program = _PROGRAM.format(path=[str(Path(__file__).parents[1]), *sys.path], version=__version__)
        with theirs:
            try:
                self._pid = os.posix_spawn(
                    sys.executable,
                    [sys.executable, "-I", "-S", "-c", program, _NAME],
                    os.environ,
                    file_actions=(  # first what may be number 0 or 1: whoever started us may have closed those
                        (os.POSIX_SPAWN_DUP2, theirs.fileno(), _CHANNEL),
                        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                    ),
                    setsigmask=(),
                )
            except BaseException:  # raised on; whatever it was, nobody is at the other end
                ours.close()
                raise
        ours.settimeout(_PATIENCE_S)
        self._channel = ours
        return ours

    def _end(self) -> None:
        """At once: it holds nothing that must not be lost."""
        if self._channel is None:
            return
        self._channel.close()
        self._channel = None
        with suppress(ChildProcessError):  # somebody has waited for it, and its number may be another's by now
            if os.waitpid(self._pid, os.WNOHANG) == (0, 0):
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)


def serve(version: str) -> None:
    """What the process does, until the other end of the channel is closed.

    version: of the program that started it. After an upgrade that is not the one that was read for this process until
    the service is started anew, and a message may look different in the two.
    """
    if version != __version__:
        return
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # they reach the whole group, and we may be needed
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):  # not everybody may
        os.nice(_NICE)
    malloc.keep_some()
    said = _Said()
    logging.getLogger().addHandler(said)
    channel = socket.socket(fileno=_CHANNEL)
    channel.setblocking(True)  # gevent makes them without
    while True:
        try:
            work = _hear(channel)
        except (EOFError, OSError):  # a reset, where it was closed over an answer
            return
        try:
            answer = (True, work(), said.taken())
        except Exception as fault:  # raised where it was asked for
            answer = (False, fault, said.taken())
        try:
            _tell(channel, answer)
        except OSError:  # nobody hears it any more, or a thread has to do it
            return
        del work, answer  # and with them their files


class _Said(logging.Handler):
    """What is to be logged: it goes along with the answer to where the log is."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[tuple[str, int, str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep its logger, level, event and reason."""
        self._records.append((record.name, record.levelno, record.getMessage(), getattr(record, "reason", "")))

    def taken(self) -> list[tuple[str, int, str, str]]:
        """All since the last time."""
        records, self._records = self._records, []
        return records


def _tell(channel: socket.socket, thing: object) -> None:
    octets, descriptors = pack(thing)
    if len(descriptors) > _MOST_FILES:
        raise OSError("more files than can be passed on")
    head = len(octets).to_bytes(_LENGTH_OCTETS, "big")
    if descriptors:
        socket.send_fds(channel, [head], descriptors)
    else:
        channel.sendall(head)
    channel.sendall(octets)


def _hear(channel: socket.socket) -> Any:
    """Raises EOFError when the other end is closed, OSError."""
    head, descriptors, flags, _ = socket.recv_fds(channel, _LENGTH_OCTETS, _MOST_FILES, socket.MSG_CMSG_CLOEXEC)
    octets = bytearray(int.from_bytes(head, "big"))
    left = memoryview(octets)
    while left and (got := channel.recv_into(left)):
        left = left[got:]
    fault = ""
    if len(head) < _LENGTH_OCTETS or left:
        fault = "the other end is closed"
    elif flags & socket.MSG_CTRUNC:
        fault = "files got lost on the way: too many are open, raise LimitNOFILE"
    if fault:
        for descriptor in descriptors:
            os.close(descriptor)
        raise EOFError(fault)
    return unpack(octets, descriptors)
