# SPDX-License-Identifier: MIT
"""Limits and time on the socket; framing itself is in tests/protocol/test_framing.py."""

from __future__ import annotations

import socket
import ssl
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from relay.clock import Clock, Deadline
from relay.selfsigned import write_pair
from relay.smtp import tls
from relay.smtp.budget import Budget
from relay.smtp.lineio import (
    DataTooLarge,
    Disconnected,
    LineIO,
    LineTooLong,
    OverBudget,
    TimedOut,
    TlsFailed,
    TlsHello,
)
from relay.spool import Spool
from relay.tlslayer import TlsLayer
from tests.support.clock import FakeClock
from tests.support.wire import SegmentSocket, line_io, room


class SlowSocket(SegmentSocket):
    """Each segment takes its time; one that takes longer than the timeout does not come."""

    def __init__(self, segments: list[bytes], clock: FakeClock, each_s: float) -> None:
        super().__init__(segments, clock, TimeoutError)
        self._each_s = each_s

    def recv(self, size: int, /) -> bytes:
        if self._timeout_s < self._each_s:
            self._clock.advance(self._timeout_s)
            raise TimeoutError
        self._clock.advance(self._each_s)
        return super().recv(size)


class DeafSocket(SegmentSocket):
    def sendall(self, data: bytes, /) -> None:
        raise TimeoutError


def slow(segments: list[bytes], clock: FakeClock, each_s: float, lifetime_s: float = 300) -> LineIO:
    return LineIO(SlowSocket(segments, clock, each_s), clock, 60, Deadline(clock, lifetime_s))


@pytest.mark.parametrize(
    ("octets", "line"),
    [
        (b"QUIT\r\n", b"QUIT"),
        (b"QUIT\n", b"QUIT"),
        (b"\r\n", b""),
        (b"\n", b""),
        (b"a\rb\r\n", b"a\rb"),
        (b"a\r\r\n", b"a\r"),
    ],
)
def test_line_ends(octets: bytes, line: bytes) -> None:
    assert line_io([octets])[0].read_line() == line


@pytest.mark.parametrize(("verb", "limit"), [(b"NOOP ", 512), (b"mail ", 2048), (b"RCPT ", 2048), (b"AUTH ", 12288)])
@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_limits_by_verb(verb: bytes, limit: int, end: bytes) -> None:
    longest = verb + b"x" * (limit - len(verb) - len(end))
    io, _ = line_io([longest + end + longest + b"x" + end + b"QUIT\r\n"])
    assert io.read_line() == longest
    with pytest.raises(LineTooLong):
        io.read_line()
    assert io.read_line() == b"QUIT"


def test_limit_given_by_the_caller() -> None:
    """The answer to a challenge of AUTH opens with no verb (RFC 4954 §4)."""
    io, _ = line_io([b"x" * 12286 + b"\r\n" + b"x" * 12287 + b"\r\n"])
    assert len(io.read_line(12288)) == 12286
    with pytest.raises(LineTooLong):
        io.read_line(12288)


def test_a_line_without_end_is_not_kept() -> None:
    """Whatever the client sends before its LF, memory holds a few pieces at the most."""
    io, _ = line_io([b"x" * 65536] * 50 + [b"\r\nQUIT\r\n"])
    with pytest.raises(LineTooLong):
        io.read_line()
    assert io.read_line() == b"QUIT"


@pytest.mark.parametrize(
    "segments",
    [
        [b"\x16\x03\x01\x02\x00\x01"],
        [b"\x16", b"\x03", b"\x03"],
        [b"\x16\x03\n\r\n"],
        [b"\x80\x2e\x01\x03\x01\x00\x15"],  # in the form of SSL 2.0 (RFC 5246 appendix E.2)
        [b"\x80", b"\x2e", b"\x01\x00"],
    ],
)
def test_a_tls_hello_is_known_before_its_end(segments: list[bytes]) -> None:
    io, _ = line_io(segments, ending=TimeoutError)
    with pytest.raises(TlsHello):
        io.read_line()


def test_a_lone_synchronous_idle_is_no_tls() -> None:
    assert line_io([b"\x16\x02\r\n"])[0].read_line() == b"\x16\x02"


@pytest.mark.parametrize("ending", [None, ConnectionResetError, BrokenPipeError, OSError])
def test_a_client_that_is_gone(ending: type[Exception] | None) -> None:
    for read in (LineIO.read_line, lambda io: io.read_data(100, room())):
        io, _ = line_io([b"half"], ending=ending)
        with pytest.raises(Disconnected):
            read(io)


def test_a_client_that_does_not_read() -> None:
    clock = FakeClock()
    io = LineIO(DeafSocket([], clock), clock, 60, Deadline(clock, 300))
    io.write(b"250 x\r\n")
    with pytest.raises(Disconnected):
        io.flush()


def test_replies_leave_before_a_wait_and_not_before() -> None:
    io, sock = line_io([b"A\r\nB\r\n"])
    io.write(b"220 x\r\n")
    io.read_line()
    io.write(b"250 a\r\n")
    io.read_line()
    assert sock.sent == [b"220 x\r\n"], "B was there already: no reason to write"
    io.write(b"250 b\r\n")
    with pytest.raises(Disconnected):
        io.read_line()
    assert sock.sent == [b"220 x\r\n", b"250 a\r\n250 b\r\n"]
    io.flush()
    assert len(sock.sent) == 2, "nothing to send, nothing sent"


def test_354_leaves_before_the_data_is_waited_for() -> None:
    io, sock = line_io([b"x\r\n.\r\n"])
    io.write(b"354 go\r\n")
    io.read_data(10, room())
    assert sock.sent == [b"354 go\r\n"]


def test_a_command_has_one_timeout_as_a_whole() -> None:
    """A client that sends an octet now and then does not hold the connection."""
    clock = FakeClock()
    with pytest.raises(TimedOut) as caught:
        slow([b"x"] * 100, clock, each_s=7).read_line()
    assert clock.elapsed == 60
    assert not caught.value.waiting_for_dot


def test_discarding_a_long_line_has_the_same_timeout() -> None:
    clock = FakeClock()
    with pytest.raises(TimedOut):
        slow([b"x" * 20000] * 100, clock, each_s=7).read_line()
    assert clock.elapsed == 60


def test_data_has_a_timeout_for_each_block() -> None:
    clock = FakeClock()
    content = slow([b"a line\r\n"] * 20 + [b".\r\n"], clock, each_s=10).read_data(1000, room())
    assert content == b"a line\r\n" * 20
    assert clock.elapsed == 210


def test_the_lifetime_ends_commands_and_data() -> None:
    for read in (lambda io: io.read_data(1000, room()), LineIO.read_line):
        clock = FakeClock()
        with pytest.raises(TimedOut):
            read(slow([b"x"] * 100, clock, each_s=10, lifetime_s=25))
        assert clock.elapsed == 25


def test_past_the_lifetime_a_reply_is_written_and_nothing_read() -> None:
    """Contract §3: a connection that runs out its time while Graph is being called gets its answer first."""
    clock = FakeClock()
    io, sock = line_io([b"NOOP\r\n"], clock, lifetime_s=10)
    clock.advance(11)
    io.write(b"250 2.0.0 Ok\r\n")
    with pytest.raises(TimedOut):
        io.read_line()
    assert sock.sent == [b"250 2.0.0 Ok\r\n"]


@pytest.mark.parametrize(
    "end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\n.\nQUIT\n", b"\n.\r\nquit\r\n"]
)
@pytest.mark.parametrize("text", [b"", b"text", b"\r\n"])
@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("ending", [TimeoutError, ConnectionResetError, None], ids=["waits", "resets", "hangs up"])
def test_waiting_behind_a_bare_line_end_is_noticed(
    end: bytes, text: bytes, single: bool, ending: type[OSError] | None
) -> None:
    octets = text + end
    if octets == b"\r\n\r\n.\n":
        octets = b"x" + octets
    io, _ = line_io([octets[i : i + 1] for i in range(len(octets))] if single else [octets], ending=ending)
    with pytest.raises(TimedOut if ending is TimeoutError else Disconnected) as caught:
        io.read_data(1000, room())
    assert caught.value.waiting_for_dot


@pytest.mark.parametrize(
    "octets", [b"", b"text", b"text\r\n", b"text\r\n.", b"text\r\n.\r", b"text.\n", b"a\n..\n", b"\nQUIT\n"]
)
def test_waiting_for_another_reason_is_not_taken_for_it(octets: bytes) -> None:
    io, _ = line_io([octets], ending=TimeoutError)
    with pytest.raises(TimedOut) as caught:
        io.read_data(1000, room())
    assert not caught.value.waiting_for_dot


def test_what_is_drained_is_not_kept() -> None:
    """Contract §3: read and dropped. 26 MB go by, and memory holds less than the limit and a few pieces."""
    io, _ = line_io([b"x" * 65536] * 400 + [b"\r\n.\r\n"])
    tracemalloc.start()
    try:
        with pytest.raises(DataTooLarge) as caught:
            io.read_data(1 << 20, room())
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
    assert caught.value.size == 65536 * 400 + 2


def test_a_chunk_that_is_announced_takes_no_room_before_it_comes() -> None:
    budget = Budget(1000)
    reservation, spool = budget.reservation(), Spool()
    io, _ = line_io([b"x" * 10])
    with pytest.raises(Disconnected):
        io.read_chunk(900, spool, reservation)
    assert budget.used == 10
    io, _ = line_io([b"x" * 600, b"x" * 600, b"xQUIT\r\n"])
    with pytest.raises(OverBudget):
        io.read_chunk(1201, spool, reservation)
    assert (budget.used, len(spool), io.read_line()) == (0, 0, b"QUIT")


def test_a_client_that_is_gone_before_the_handshake_is_not_in_tls() -> None:
    """OpenSSL then shakes no hands, and what lies in the buffer would be read as if it had come inside of TLS."""
    clock = FakeClock()
    with socket.socket() as unconnected:
        io = LineIO(unconnected, clock, 60, Deadline(clock, 300))
        with pytest.raises(TlsFailed):
            io.start_tls(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        io.close()


# Has the client gone?


@pytest.fixture
def pair() -> Iterator[tuple[LineIO, socket.socket]]:
    ours, theirs = socket.socketpair()
    clock = Clock()
    with ours, theirs:
        yield LineIO(ours, clock, 5, Deadline(clock, 60)), theirs


def test_a_client_that_waits_is_there(pair: tuple[LineIO, socket.socket]) -> None:
    line_io, _ = pair
    assert not line_io.is_gone()


def test_a_client_that_has_closed_is_gone(pair: tuple[LineIO, socket.socket]) -> None:
    line_io, client = pair
    client.close()
    assert line_io.is_gone()
    assert line_io.is_gone()
    with pytest.raises(Disconnected):
        line_io.read_line()


def test_what_is_read_on_the_way_is_not_lost(pair: tuple[LineIO, socket.socket]) -> None:
    """A pipelined command, and a close behind it, are no hang-up."""
    line_io, client = pair
    client.sendall(b"NOOP\r\nQUIT\r\n")
    assert not line_io.is_gone()
    client.close()
    assert not line_io.is_gone()
    assert [line_io.read_line(), line_io.read_line()] == [b"NOOP", b"QUIT"]
    assert line_io.is_gone()


def test_to_ask_whether_it_is_gone_lets_nobody_run_in_between() -> None:
    """Its own session would go on meanwhile, and wait on the socket for what is then read here."""
    ours, theirs = socket.socketpair()
    clock = Clock()
    with ours, theirs:
        asked = LineIO(ours, clock, 5, Deadline(clock, 60), let_others_run=lambda: pytest.fail("gave way"))
        assert not any(asked.is_gone() for _ in range(200))
        theirs.sendall(b"NOOP\r\n")
        assert not any(asked.is_gone() for _ in range(200))


def test_a_reset_is_known(pair: tuple[LineIO, socket.socket]) -> None:
    assert line_io([], ending=ConnectionResetError)[0].is_gone()


@pytest.mark.parametrize("polite", [True, False], ids=["close_notify", "cut"])
def test_over_tls(tmp_path: Path, polite: bool) -> None:
    """A record that ends the connection must not be taken for a command."""
    certificate, key = write_pair(tmp_path, ["localhost"], Clock().now())
    ours, theirs = socket.socketpair()
    clock = Clock()
    with ours, theirs, ThreadPoolExecutor(1) as threads:
        line_io = LineIO(ours, clock, 5, Deadline(clock, 60))
        handshake = threads.submit(line_io.start_tls, tls.server_context(str(certificate), str(key), "TLSv1.2"))
        context = ssl.create_default_context(cafile=certificate)
        client = context.wrap_socket(theirs, server_hostname="localhost")
        handshake.result(40)
        assert not line_io.is_gone()
        client.sendall(b"NOOP\r\n")
        assert not line_io.is_gone()
        assert line_io.read_line() == b"NOOP"
        assert not line_io.is_gone()
        if polite:
            threads.submit(client.unwrap)
            wait_until_gone(line_io)
            line_io.close()
        else:
            client.close()
        assert line_io.is_gone()
        line_io.close()
    client.close()


def test_a_piece_of_a_record_before_the_end_is_nothing_said(tmp_path: Path) -> None:
    """Who hung up with it has not heard our 250, and its message sent again is a re-send."""
    certificate, key = write_pair(tmp_path, ["localhost"], Clock().now())
    ours, theirs = socket.socketpair()
    clock = Clock()
    with ours, theirs, ThreadPoolExecutor(1) as threads:
        theirs.settimeout(60)
        line_io = LineIO(ours, clock, 60, Deadline(clock, 60))
        handshake = threads.submit(line_io.start_tls, tls.server_context(str(certificate), str(key), "TLSv1.2"))
        client = TlsLayer(ssl.create_default_context(cafile=certificate), "localhost")
        client.shake_hands(theirs.recv, theirs.sendall)
        theirs.sendall(client.due())
        handshake.result(60)
        record = client.sealed(b"QUIT\r\n")
        theirs.sendall(record[:9])
        assert not line_io.is_gone()
        theirs.sendall(record[9:])
        assert not line_io.is_gone()
        assert line_io.read_line() == b"QUIT"
        theirs.sendall(client.sealed(b"QUIT\r\n")[:9])
        theirs.shutdown(socket.SHUT_WR)
        assert line_io.is_gone()
        line_io.close()


def wait_until_gone(line_io: LineIO) -> None:
    end = time.monotonic() + 20
    while not line_io.is_gone():
        assert time.monotonic() < end


def test_what_a_client_still_sends_does_not_cost_it_our_last_reply() -> None:
    """Closed over unread input, a connection is reset, and what was on its way to the client is gone."""
    clock = FakeClock()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        io = LineIO(ours, clock, 60, Deadline(clock, 300))
        theirs.sendall(b"x" * 100_000)
        theirs.shutdown(socket.SHUT_WR)
        io.write(b"421 4.4.2 Timeout, closing\r\n")
        io.flush()
        io.linger(0.9)  # by a clock that stands still: until the client's end
        io.close()
        assert theirs.recv(100) == b"421 4.4.2 Timeout, closing\r\n"
        assert theirs.recv(100) == b""


def test_nobody_is_waited_for_longer_than_that() -> None:
    clock = FakeClock()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        io = LineIO(ours, clock, 60, Deadline(clock, 300))
        io.linger(0)
        assert theirs.recv(100) == b"", "our side has ended, theirs has not"
        io.close()


def test_others_get_their_turn_after_fifty_lines() -> None:
    """Of a client that sends faster than we read; a turn for each line would cost more than the line."""
    clock, turns = FakeClock(), list[int]()
    sock = SegmentSocket([b"NOOP\r\n" * 500], clock, TimeoutError)
    io = LineIO(sock, clock, 60, Deadline(clock, 300), let_others_run=lambda: turns.append(1))
    for _ in range(500):
        io.give_way()
        assert io.read_line() == b"NOOP"
    assert len(turns) == 10
