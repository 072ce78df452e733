# SPDX-License-Identifier: MIT
"""Framing on the socket: command lines, mail data, grouped replies. Knows limits and time, no command's meaning.

Command lines may end in CR LF or, for old devices, in a bare LF. Mail data ends at CR LF . CR LF and nowhere else
(RFC 5321 §4.1.1.4, §2.3.8), so that no sequence of octets smuggles a second message in.
"""

from __future__ import annotations

import socket
from typing import Protocol

from relay.clock import Clock, Deadline
from relay.smtp.command import LONGEST_LINE, line_limit

_PIECE = 65536
_END = b"\r\n.\r\n"
_NEARLY_ENDS = (b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r.\r\n")  # what some clients send instead
_TLS_HANDSHAKE = b"\x16\x03"  # RFC 8446 §5.1: content type, major version


class Disconnected(Exception):
    """The client is gone, or does not read what we write."""


class TimedOut(Exception):
    """The client took too long. waiting_for_dot: it seems to wait behind LF . LF for the end of its message."""

    def __init__(self, waiting_for_dot: bool = False) -> None:
        super().__init__()
        self.waiting_for_dot = waiting_for_dot


class TlsHello(Exception):
    """The client speaks TLS where a command line is due."""


class LineTooLong(Exception):
    """A command line over its limit; all of it has been discarded."""


class DataTooLarge(Exception):
    """Mail data over the limit; all of it up to CR LF . CR LF has been read and dropped. size: its octets."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size


class Socket(Protocol):
    """The part of a socket that is used here."""

    def recv(self, size: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> None: ...
    def settimeout(self, value: float | None, /) -> None: ...


class LineIO:
    """Reads lines and data, writes replies. Replies to pipelined commands leave in one piece (RFC 2920 §3.2)."""

    def __init__(self, sock: Socket, clock: Clock, command_timeout_s: float, lifetime: Deadline) -> None:
        """lifetime: the end of the connection; reads stop there, a reply that is due is still written."""
        self._socket = sock
        self._clock = clock
        self._timeout_s = command_timeout_s
        self._lifetime = lifetime
        self._buffer = b""
        self._unsent: list[bytes] = []

    def write(self, octets: bytes) -> None:
        """Queue a reply; it leaves before the next read that has to wait, or with flush()."""
        self._unsent.append(octets)

    def flush(self) -> None:
        """Send what is queued. Raises Disconnected."""
        if not self._unsent:
            return
        octets = b"".join(self._unsent)
        self._unsent.clear()
        try:
            self._socket.settimeout(self._timeout_s)
            self._socket.sendall(octets)
        except (OSError, ValueError) as fault:
            raise Disconnected from fault

    def read_line(self, limit: int | None = None) -> bytes:
        """The next line without its line end. limit: octets with CR LF; None: by the verb it opens with.

        Raises LineTooLong, TlsHello, TimedOut, Disconnected.
        """
        patience = Deadline(self._clock, self._timeout_s)
        searched = 0
        while True:
            if self._buffer.startswith(_TLS_HANDSHAKE):  # it may hold no LF, and waits for our part of the handshake
                raise TlsHello
            end = self._buffer.find(b"\n", searched)
            if end >= 0:
                line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
                if end + 1 > (limit or line_limit(line)):
                    raise LineTooLong
                return line[:-1] if line.endswith(b"\r") else line
            searched = len(self._buffer)
            if searched > LONGEST_LINE:
                self._discard_line(patience)
                raise LineTooLong
            self._buffer += self._receive(min(patience.remaining(), self._lifetime.remaining()))

    def read_data(self, limit: int) -> bytes:
        """The mail data up to CR LF . CR LF, dots unstuffed (RFC 5321 §4.5.2), its last CR LF included.

        limit: octets; above it everything is drained and DataTooLarge raised. Raises TimedOut, Disconnected.
        """
        # The 354 leaves first. An imagined CR LF in front lets a dot in the very first line be found like any other.
        held = b"\r\n" + self._buffer
        self._buffer = b""
        pieces: list[bytes] = []
        size = -2
        passed = b""  # the last octets before held, as they came
        while True:
            end = held.find(_END)
            piece = held[: end + 2] if end >= 0 else held[: len(held) - _end_begun(held)]
            # No CR LF . straddles two pieces, since what may be the beginning of one is held back.
            piece, taken = piece.replace(b"\r\n.", b"\r\n"), len(piece)
            size += len(piece)
            if size <= limit:
                pieces.append(piece)
            else:
                pieces.clear()
            if end >= 0:
                self._buffer = held[end + len(_END) :]
                break
            passed, held = (passed + held[:taken])[-len(_END) :], held[taken:]
            held += self._receive_data(passed + held)
        if size > limit:
            raise DataTooLarge(size)
        return b"".join(pieces)[2:]

    def _receive_data(self, recent: bytes) -> bytes:
        try:
            return self._receive(min(self._timeout_s, self._lifetime.remaining()))
        except TimedOut:
            raise TimedOut(waiting_for_dot=recent.endswith(_NEARLY_ENDS)) from None

    def _discard_line(self, patience: Deadline) -> None:
        while True:
            _, found, rest = self._buffer.partition(b"\n")
            if found:
                self._buffer = rest
                return
            self._buffer = self._receive(min(patience.remaining(), self._lifetime.remaining()))

    def _receive(self, wait_s: float) -> bytes:
        self.flush()
        if wait_s <= 0:
            raise TimedOut
        try:
            self._socket.settimeout(wait_s)
            octets = self._socket.recv(_PIECE)
        except TimeoutError:
            raise TimedOut from None
        except (OSError, ValueError) as fault:
            raise Disconnected from fault
        if not octets:
            raise Disconnected
        return octets


def _end_begun(held: bytes) -> int:
    """How many of the last octets may be the beginning of CR LF . CR LF."""
    for length in (4, 3, 2, 1):
        if held.endswith(_END[:length]):
            return length
    return 0


def unmapped(address: str) -> str:
    """The IPv4 address inside an IPv4-mapped IPv6 one, without a zone; anything else as it is."""
    address = address.partition("%")[0]
    return address[7:] if address.startswith("::ffff:") and "." in address else address


def set_no_delay(sock: socket.socket) -> None:
    """Without it, a pipelining client waits 40 ms for a reply (Nagle against delayed acknowledgement)."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
