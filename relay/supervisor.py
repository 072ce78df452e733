# SPDX-License-Identifier: MIT
"""The service in several processes: a parent that opens the sockets, forks workers and desk, and looks after them.

The parent takes no mail and runs no event loop: it waits for signals, in one thread, so that it can fork at any time.
What the children share lies in workers/shared.py. They accept on the same sockets. A dead one is replaced, after a
while where it dies again at once. A new configuration is checked here, once, and then handed to all of them.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass

from relay import lifelog, logs, service
from relay.clock import Clock
from relay.config import Config
from relay.configfile import ConfigError
from relay.generation import check
from relay.graph.errors import AppMisconfigured
from relay.greenlets import fork
from relay.listeners import allow_files, open_listeners
from relay.members import Place, run_desk, run_worker
from relay.workers.shared import Shared

log = logging.getLogger(__name__)

STEADY_S = 60.0  # a process that lived that long is started again at once
LONGEST_DELAY_S = 60.0
_KILL_AFTER_S = 20.0  # beyond shutdown_timeout: sessions are told, and drafts deleted, meanwhile
_SIGNALS = frozenset((signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1))
_FORK_AGAIN_S = 10.0
_LONG_S = 3600.0


@dataclass(slots=True)
class _Member:
    """One place for a process; the last is that of the desk."""

    index: int
    pid: int = 0  # 0: none at the moment
    began: float = 0.0
    early_deaths: int = 0  # one after the other
    due: float | None = None  # when the next one is to be started


class Supervisor:
    """The parent."""

    def __init__(self, config: Config, reload: Callable[[], Config], workers: int) -> None:
        """Raises AppMisconfigured, OSError: the configuration cannot be used."""
        # From now on signals wait until we ask for them; a child hears them once it can act on them.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        for number in (signal.SIGHUP, signal.SIGCHLD):  # may have been ignored by whoever has started us
            signal.signal(number, signal.SIG_DFL)
        self._pid = os.getpid()
        self._clock = Clock()
        self._config = config
        self._reload = reload
        check(config)
        self._shared = Shared(config, workers)
        self._members = [_Member(index) for index in range(workers + 1)]
        self._is_up = False
        self._reloading = False
        self._stopping = False
        self._kill_at: float | None = None
        self._code = 0
        self._status = ""
        self._watch_every_s = service.watchdog_interval_s()
        self._watch_at = self._clock.monotonic() if self._watch_every_s is not None else None

    def start(self) -> list[str]:
        """Listen and fork. Raises CannotListen, OSError."""
        allow_files(self._config.limits.max_connections)
        self._listeners = open_listeners(self._config)
        self._lifeline, self._lifeline_of_children = socket.socketpair()
        self._shared.handover.give(self._config)
        gc.freeze()  # what is here now stays shared: a collection in a child would copy it
        for member in self._members:
            self._fork(member)
        return self._listeners.addresses()

    def run(self) -> int:
        """Until SIGTERM or SIGINT, and until all have drained; the exit code."""
        while not self._stopping or any(member.pid for member in self._members):
            found = signal.sigtimedwait(_SIGNALS, self._patience_s())
            try:
                self._act(found.si_signo if found is not None else 0)
            except Exception:  # a bug must not leave the workers alone
                log.exception("supervisor_fault")
        log.info("stopped")
        return self._code

    def _act(self, number: int) -> None:
        """Whatever there is to do behind a signal, or at a moment that has come; signals of one kind come as one."""
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stop(signal.Signals(number).name)
        elif number == signal.SIGHUP and not self._stopping:
            self._on_reload()
        self._bury()
        self._note_progress()
        self._start_due()
        self._watch()

    def _fork(self, member: _Member) -> None:
        member.began, member.due = self._clock.monotonic(), None
        pid = fork()
        if pid:
            member.pid = self._shared.pids[member.index] = pid
            self._shared.starts[member.index] += 1
            return
        # The child. Nothing of what the parent does may happen here too.
        code = 1
        try:
            self._lifeline.close()
            place = Place(member.index, self._pid, self._shared, self._listeners, self._lifeline_of_children, _SIGNALS)
            (run_desk if member is self._members[-1] else run_worker)(place)
            code = 0
        except BaseException:  # the last line of a forked process: nothing may run on into its parent's code
            log.exception("worker_fault")
        finally:
            logging.shutdown()
            os._exit(code)

    def _stop(self, name: str) -> None:
        """The workers first: what they still have to tell, the desk has to hear."""
        if self._stopping:
            return
        log.info("stopping", extra={"signal": name})
        service.notify("STOPPING=1")
        self._stopping = True
        for member in self._members:
            member.due = None  # nobody is started any more, and a moment that has passed would keep us awake
        self._kill_at = self._clock.monotonic() + self._config.limits.shutdown_timeout_s + _KILL_AFTER_S
        self._listeners.close()
        self._signal_workers(signal.SIGTERM)

    def _signal_workers(self, number: signal.Signals) -> None:
        for member in self._members[:-1]:
            _signal(member.pid, number)

    def _patience_s(self) -> float:
        moments = [member.due for member in self._members if member.due is not None]
        moments += [moment for moment in (self._kill_at, self._watch_at) if moment is not None]
        return max(0.0, min((moment - self._clock.monotonic() for moment in moments), default=_LONG_S))

    def _bury(self) -> None:
        """Take note of the dead, and when they are to be replaced."""
        for member in self._members:
            if not member.pid:
                continue
            pid, status = os.waitpid(member.pid, os.WNOHANG)
            if pid:
                was_up = bool(self._shared.taken[member.index])
                member.pid = 0
                self._shared.forget(member.index)
                self._note_death(member, os.waitstatus_to_exitcode(status), was_up)
        if self._stopping:
            self._end_stop()

    def _note_death(self, member: _Member, code: int, was_up: bool) -> None:
        if self._stopping and code == 0:
            return
        facts = self._facts(member, _how_it_ended(code))
        if self._stopping:
            log.error("worker_ended", extra=facts)
            return
        if not self._is_up and not was_up:  # it would go on like that
            log.error(
                "worker_ended", extra={**facts, "reason": f"{facts['reason']}, before it was up; the service stops"}
            )
            self._code = 1
            self._stop("SIGTERM")
            return
        now = self._clock.monotonic()
        member.early_deaths = 0 if now - member.began >= STEADY_S else member.early_deaths + 1
        delay_s = delay_after(member.early_deaths)
        member.due = now + delay_s
        log.error("worker_ended", extra={**facts, "delay_s": delay_s})

    def _facts(self, member: _Member, what: str) -> dict[str, object]:
        """worker: as the log and the metrics name it."""
        if member is self._members[-1]:
            return {"reason": f"the process of admin page and status {what}"}
        return {"worker": member.index + 1, "reason": f"it {what}"}

    def _end_stop(self) -> None:
        """Once the workers have gone, the desk goes; who does not go in time is killed."""
        alive = [member for member in self._members if member.pid]
        if [member.index for member in alive] == [self._shared.workers]:
            _signal(alive[0].pid, signal.SIGTERM)
        if self._kill_at is not None and self._clock.monotonic() >= self._kill_at:
            self._kill_at = None
            for member in alive:
                log.error("worker_killed", extra=self._facts(member, "did not end within shutdown_timeout"))
                _signal(member.pid, signal.SIGKILL)

    def _start_due(self) -> None:
        for member in self._members:
            if member.due is not None and member.due <= self._clock.monotonic() and not self._stopping:
                try:
                    self._fork(member)
                except OSError as fault:  # no memory, or too many processes: later, perhaps
                    member.due = self._clock.monotonic() + _FORK_AGAIN_S
                    log.error("worker_ended", extra=self._facts(member, f"cannot be started: {fault.strerror}"))

    def _watch(self) -> None:
        """Where systemd's watchdog is on: a child whose event loop hangs is replaced, and systemd hears of us."""
        now = self._clock.monotonic()
        if self._watch_every_s is None or self._watch_at is None or now < self._watch_at:
            return
        self._watch_at = now + self._watch_every_s
        service.notify("WATCHDOG=1")
        for member in self._members:
            silent_s = now - self._shared.beats[member.index]
            if member.pid and self._shared.taken[member.index] and silent_s > 2 * self._watch_every_s:
                log.error("worker_killed", extra=self._facts(member, f"has hung for {silent_s:.0f} s"))
                _signal(member.pid, signal.SIGKILL)

    def _note_progress(self) -> None:
        """A child has said that it is up, or has taken a configuration, or that there is a new status."""
        taken = [self._shared.taken[member.index] for member in self._members if member.pid]
        all_are_up = len(taken) == len(self._members) and all(taken)
        if not self._is_up and all_are_up and not self._stopping:
            self._is_up = True
            lifelog.started(self._config, self._listeners)
            addresses = ", ".join(self._listeners.addresses())
            service.notify("READY=1", f"STATUS=listening on {addresses}; {self._shared.workers} workers")
        if self._reloading and all(number == self._shared.handover.number for number in taken):
            self._reloading = False
            log.info("reloaded")
            service.notify("READY=1")
        if self._status != (status := self._shared.status()):
            self._status = status
            service.notify(f"STATUS={status}")

    def _on_reload(self) -> None:
        """A faulty configuration is reported here, and the children hear nothing of it but that the log was rotated."""
        service.notify_reloading()
        old = self._config
        try:
            config = self._reload()
            check(config)
            logs.set_up(config.log)
        except (ConfigError, AppMisconfigured, OSError) as fault:
            lifelog.reopen(old)
            lifelog.reload_failed(fault)
            service.notify("READY=1")
        else:
            self._config = config
            lifelog.reloading(old, config)
            self._shared.handover.give(config)
            self._reloading = True
        for member in self._members:
            _signal(member.pid, signal.SIGHUP)


def delay_after(early_deaths: int) -> float:
    """Seconds until a process is replaced that died early, so many times one after the other."""
    return min(2.0 ** (early_deaths - 2), LONGEST_DELAY_S) if early_deaths > 1 else 0.0


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    names = {number.value: number.name for number in signal.Signals}  # most real-time signals have none
    return f"was killed by {names.get(-code, f'signal {-code}')}"


def _signal(pid: int, number: signal.Signals) -> None:
    if pid:
        os.kill(pid, number)  # it is there, or at least not buried yet
