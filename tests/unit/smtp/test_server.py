# SPDX-License-Identifier: MIT
"""Admission and drain over real connections; the sessions are real too, what stands behind them is not."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from typing import BinaryIO

import gevent
import pytest
from gevent.event import Event

from relay.clock import Clock, Deadline
from relay.config import ListenAddress
from relay.identity import Client, Identity
from relay.smtp.budget import Budget
from relay.smtp.envelope import Envelope
from relay.smtp.lineio import LineIO
from relay.smtp.reply import Reply
from relay.smtp.server import Door, SmtpServer, listen, set_no_delay
from relay.smtp.session import Session
from tests.support.backend import MemoryBackend
from tests.support.dialog import SETTINGS, all_records
from tests.support.forked import wait_until
from tests.support.gevent_thread import GeventThread
from tests.support.needed import needs_ipv6
from tests.support.wire import ENVELOPE

LOOPBACK = ListenAddress("127.0.0.1", 0)


class BusyBackend(MemoryBackend):
    """Does not answer before it is released."""

    def __init__(self) -> None:
        super().__init__(anonymous=True)
        self.release = Event()
        self.busy = Event()
        self.waiting = 0
        self.cleaned_up = 0

    def submit(
        self, envelope: Envelope, content: bytes, identity: Identity, client: Client, gone: Callable[[], bool]
    ) -> Reply:
        self.busy.set()
        self.waiting += 1
        try:
            self.release.wait()
        except BaseException:
            gevent.sleep(0.2)
            self.cleaned_up += 1
            raise
        return super().submit(envelope, content, identity, client, gone)


class Running:
    """A server in a thread, and connections to it."""

    def __init__(self, there: GeventThread, stack: ExitStack, *, most: int = 100, admits: bool = True) -> None:
        self.there = there
        self._stack = stack
        there.call(lambda: self._start(most, admits))

    def _start(self, most: int, admits: bool) -> None:
        self.backend = BusyBackend()
        self.asked = Event()  # whether a client is admitted
        self.answer = Event()
        self.answer.set()
        self.server = SmtpServer(Budget(most), Door(lambda _: self._admits(admits), lambda _: False, self._session))
        listener = listen(LOOPBACK, "listen_addr")
        listener.setblocking(False)  # as a socket of gevent's is, which it would be in the patched program
        self.server.start([listener])
        self.address = "{}:{}".format(*listener.getsockname())

    def _admits(self, admits: bool) -> bool:
        self.asked.set()
        return self.answer.wait() and admits

    def _session(self, sock: socket.socket, client: Client, implicit_tls: bool) -> Session:
        clock = Clock()
        return Session(LineIO(sock, clock, 5, Deadline(clock, 5)), client, self.backend, SETTINGS)

    def connect(self, greeting: bytes = b"220") -> tuple[socket.socket, BinaryIO]:
        host, _, port = self.address.rpartition(":")
        sock = self._stack.enter_context(socket.create_connection((host, int(port)), timeout=40))
        lines = self._stack.enter_context(sock.makefile("rb"))
        assert lines.readline().startswith(greeting)
        return sock, lines

    def drain(self, timeout_s: float) -> None:
        self.there.call(lambda: self.server.drain(timeout_s))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def there(stack: ExitStack) -> GeventThread:
    return stack.enter_context(GeventThread())


def say(connection: tuple[socket.socket, BinaryIO], octets: bytes, status: bytes) -> None:
    connection[0].sendall(octets)
    line = connection[1].readline()
    while line[3:4] == b"-":
        line = connection[1].readline()
    assert line.startswith(status), line


def hang_up(connection: tuple[socket.socket, BinaryIO]) -> None:
    for end in reversed(connection):
        end.close()


def test_over_max_connections(there: GeventThread, stack: ExitStack) -> None:
    """One more gets 421 4.7.0 at once and is closed, the others go on, and the next may take a free place."""
    running = Running(there, stack, most=2)
    first, second = running.connect(), running.connect()
    with all_records() as records:
        refused = running.connect(b"421 4.7.0")
        assert refused[1].read() == b""
        hang_up(refused)
    assert [r.getMessage() for r in records] == ["too_many_connections"]
    say(first, b"NOOP\r\n", b"250")
    say(second, b"QUIT\r\n", b"221")
    assert second[1].read() == b""
    say(running.connect(), b"NOOP\r\n", b"250")
    running.drain(1)


def test_who_is_turned_away_reads_why(there: GeventThread, stack: ExitStack) -> None:
    """A client that speaks first does not lose the answer to a reset."""
    running = Running(there, stack, most=1)
    running.connect()
    host, _, port = running.address.rpartition(":")
    eager = stack.enter_context(socket.create_connection((host, int(port)), timeout=40))
    eager.sendall(b"EHLO eager\r\n" * 1000)
    lines = eager.makefile("rb")
    assert lines.readline().startswith(b"421 4.7.0")
    hang_up((eager, lines))
    running.drain(1)


def test_a_network_that_may_not(there: GeventThread, stack: ExitStack) -> None:
    running = Running(there, stack, admits=False)
    refused = running.connect(b"554 5.7.1")
    assert refused[1].read() == b""
    hang_up(refused)
    running.drain(1)


def test_drain(there: GeventThread, stack: ExitStack) -> None:
    """Idle sessions get 421 4.3.2, the busy one its answer first, and nobody new is let in (contract §8)."""
    running = Running(there, stack)
    idle, busy = running.connect(), running.connect()
    say(idle, b"EHLO c\r\n", b"250")
    say(busy, b"EHLO c\r\n", b"250")
    busy[0].sendall(ENVELOPE + b"text\r\n.\r\n")
    there.call(running.backend.busy.wait)
    drained = there.start(lambda: running.server.drain(5))
    assert idle[1].readline().startswith(b"421 4.3.2")
    assert idle[1].read() == b""
    host, _, port = running.address.rpartition(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=40)
    there.call(running.backend.release.set)
    said = busy[1].readlines()
    assert [line[:9] for line in said[-2:]] == [b"250 2.0.0", b"421 4.3.2"]
    hang_up(busy)
    drained.result(40)
    assert len(running.backend.deliveries) == 1


def test_drain_tells_a_client_whose_session_has_not_begun(there: GeventThread, stack: ExitStack) -> None:
    running = Running(there, stack)
    there.call(running.answer.clear)
    host, _, port = running.address.rpartition(":")
    early = stack.enter_context(socket.create_connection((host, int(port)), timeout=40))
    there.call(running.asked.wait)
    drained = there.start(lambda: running.server.drain(40))
    there.call(running.answer.set)
    with early.makefile("rb") as lines:
        assert lines.readline().startswith(b"220")
        assert lines.readline().startswith(b"421 4.3.2")
        assert lines.read() == b""
    early.close()
    drained.result(40)


def test_drain_does_not_wait_for_ever(there: GeventThread, stack: ExitStack) -> None:
    """What is left after shutdown_timeout is closed and named."""
    running = Running(there, stack)
    stuck = running.connect()
    say(stuck, b"EHLO c\r\n", b"250")
    stuck[0].sendall(ENVELOPE + b"text\r\n.\r\n")
    there.call(running.backend.busy.wait)
    with all_records() as records:
        running.drain(0.05)
    (named,) = [record.__dict__ for record in records if record.getMessage() == "shutdown_timeout"]
    assert len(named["sessions"]) == 1
    assert b"queued" not in stuck[1].read()
    assert running.backend.cleaned_up == 1, "it is not ended a second time"


def test_nothing_is_delivered_once_its_client_is_told_to_come_back(
    there: GeventThread, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even while another client does not read what it is told."""
    running = Running(there, stack)
    told: list[Session] = []
    cut = Session.cut

    def stuck_at_first(session: Session) -> None:
        told.append(session)
        if len(told) == 1:
            Event().wait()
        cut(session)
        gevent.spawn_later(0.1, running.backend.release.set)

    monkeypatch.setattr(Session, "cut", stuck_at_first)
    for client in (running.connect(), running.connect()):
        say(client, b"EHLO c\r\n", b"250")
        client[0].sendall(ENVELOPE + b"text\r\n.\r\n")
    wait_until(lambda: running.backend.waiting == 2)
    running.drain(0.05)
    assert len(told) == running.backend.cleaned_up + len(running.backend.deliveries) == 2
    assert len(running.backend.deliveries) <= 1, "of the one that is not told"


def test_a_fault_of_one_session_is_its_own(there: GeventThread, stack: ExitStack) -> None:
    running = Running(there, stack)
    running.backend.outcomes.append(RuntimeError("bug"))
    there.call(running.backend.release.set)
    one, other = running.connect(), running.connect()
    say(one, b"EHLO c\r\n", b"250")
    one[0].sendall(ENVELOPE + b".\r\n")
    assert one[1].readlines()[-1].startswith(b"421 4.3.0")
    hang_up(one)
    say(other, b"NOOP\r\n", b"250")
    running.drain(1)


def test_the_address_is_in_use() -> None:
    with listen(LOOPBACK, "listen_addr") as sock:
        port = sock.getsockname()[1]
        with pytest.raises(OSError, match=rf"127\.0\.0\.1:{port}: the address is in use"):
            listen(ListenAddress("127.0.0.1", port), "listen_addr")


def test_no_address_of_this_machine() -> None:
    with pytest.raises(OSError, match=r"192\.0\.2\.1:2526: not an address of this machine"):
        listen(ListenAddress("192.0.2.1", 2526), "listen_addr")


def test_every_address() -> None:
    with listen(ListenAddress("", 0), "listen_addr") as sock:
        for host in ("127.0.0.1", "::1") if has_ipv6() else ("127.0.0.1",):
            socket.create_connection((host, sock.getsockname()[1]), timeout=40).close()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@needs_ipv6
@pytest.mark.parametrize("with_ipv4", [True, False])
def test_every_address_written_as_that_of_ipv6(with_ipv4: bool) -> None:
    with listen(ListenAddress("::", 0), "listen_addr", with_ipv4=with_ipv4) as sock:
        port = sock.getsockname()[1]
        socket.create_connection(("::1", port), timeout=40).close()
        with nullcontext() if with_ipv4 else pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=40).close()


def test_of_a_name_the_address_for_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    """On most machines, localhost is ::1 first; a device that was given 127.0.0.1 would find nobody."""
    both = [(socket.AF_INET6, ("::1", 0, 0, 0)), (socket.AF_INET, ("127.0.0.1", 0))]
    found = [(family, socket.SOCK_STREAM, 6, "", target) for family, target in both]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
    with listen(ListenAddress("localhost", 0), "listen_addr") as sock:
        assert sock.getsockname()[0] == "127.0.0.1"


def test_no_delay_is_for_tcp() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp, socket.socket(socket.AF_UNIX) as local:
        set_no_delay(tcp)
        set_no_delay(local)
        assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
