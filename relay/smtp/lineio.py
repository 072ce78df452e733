# SPDX-License-Identifier: MIT
"""Framing on the socket: command lines, mail data, BDAT chunks, grouped replies, TLS. Knows no command's meaning.

Command lines may end in CR LF or, for old devices, in a bare LF. Mail data ends at CR LF . CR LF and nowhere else
(RFC 5321 §4.1.1.4, §2.3.8), so that no sequence of octets smuggles a second message in.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Protocol

from relay.clock import Clock, Deadline
from relay.smtp import tls
from relay.smtp.budget import Reservation
from relay.smtp.command import DEFAULT_LIMIT, LONGEST_LINE, line_limit
from relay.smtp.framing import BARE_LF, CR_LF, NEARLY_AN_END, NEARLY_ENDED
from relay.spool import Octets, Spool
from relay.tlslayer import TlsLayer

_PIECE = 65536
_TURN = 50  # lines for one client before the others get their turn
_READ_WORK = 5  # what each read counts for, in lines
_MOST_PIECES = 16  # of a TLS record that are looked at for the end behind them
_LINE_OCTETS = 1310  # of mail data, that count as a line more: each full piece of them is a turn
# A ClientHello: content type and major version (RFC 8446 §5.1), or the form of SSL 2.0 that old clients use for newer
# versions too (RFC 5246 appendix E.2).
_NO_COMMANDS = (b"\x16", b"\x80")
_TLS_HELLO = re.compile(rb"\x16\x03|\x80.\x01[\x00\x03]")


class Alarm(Protocol):
    """Bounds what its connection waits for, by raising TimeoutError."""

    def within(self, seconds: float) -> AbstractContextManager[None]:
        """For `with`: what is inside of it takes no longer."""
        ...

    def close(self) -> None:
        """It is not needed any more."""
        ...


class _Over(Exception):
    """Nothing more will come. waiting_for_dot: the client seems to have waited behind LF . LF."""

    def __init__(self, waiting_for_dot: bool = False) -> None:
        super().__init__()
        self.waiting_for_dot = waiting_for_dot


class Disconnected(_Over):
    """The client is gone, or does not read what we write."""


class TimedOut(_Over):
    """The client took too long."""


class LineTooLong(Exception):
    """A command line over its limit; all of it has been discarded."""


class DataRefused(Exception):
    """Mail data that cannot be kept; all of it up to its end has been read and dropped. size: its octets."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size


class DataTooLarge(DataRefused):
    """It is over the limit for one message."""


class OverBudget(DataRefused):
    """There is no room for it beside the other messages."""


class TlsHello(Exception):
    """The client speaks TLS where a command line is due."""


class TlsFailed(Exception):
    """The handshake came to nothing. The text says why, in words for the log."""


class LineIO:
    """Reads lines and data, writes replies. Replies to pipelined commands leave in one piece (RFC 2920 §3.2)."""

    def __init__(
        self,
        sock: socket.socket,
        clock: Clock,
        command_timeout_s: float,
        lifetime: Deadline,
        *,
        bare_lf: bool = False,
        alarm: Alarm | None = None,
        let_others_run: Callable[[], object] = lambda: None,
    ) -> None:
        """lifetime: the end of the connection; reads stop there, a reply that is due is still written.

        bare_lf: a bare LF ends a line of the mail data too. alarm: for the TLS handshake, where the socket's time-out
        counts for each read anew, and for all reads, where it costs less than that. let_others_run: for a client
        that sends faster than we read, and so never makes us wait.
        """
        self._socket = sock
        self._tls: TlsLayer | None = None
        self._clock = clock
        self._timeout_s = command_timeout_s
        self._lifetime = lifetime
        self._framing = BARE_LF if bare_lf else CR_LF
        self._alarm = alarm
        self._let_others_run = let_others_run
        self._work = 0  # since the others had their turn
        self._bound_s: float | None = -1.0  # what the socket's time-out is; below zero: not known
        self._buffer = b""
        self._at = 0  # how much of the buffer has been used
        self._unsent: list[bytes] = []
        self._sending = False

    def write(self, octets: bytes) -> None:
        """Queue a reply; it leaves before the next read that has to wait, or with flush()."""
        self._unsent.append(octets)

    def flush(self) -> None:
        """Send what is queued. Raises Disconnected.

        Does nothing while another greenlet is at it: that one waits for a client that does not read.
        """
        if not self._unsent or self._sending:
            return
        octets = b"".join(self._unsent)
        self._unsent.clear()
        self._sending = True
        try:
            if self._tls is not None:
                octets = self._tls.sealed(octets)
            self._bound(self._timeout_s)
            if octets:
                self._send(octets)
        except (OSError, ValueError) as fault:
            raise Disconnected from fault
        finally:
            self._sending = False

    def give_way(self, work: int = 1) -> None:
        """Let the other sessions run, if it is their turn. work: what was done since the last call, in lines."""
        self._work += work
        if self._work >= _TURN:
            self._work = 0
            self._let_others_run()

    def read_line(self, limit: int | None = None) -> bytes:
        """The next line without its line end. limit: octets with CR LF, 512 at least; None: by the verb it opens with.

        Raises LineTooLong, TlsHello, TimedOut, Disconnected.
        """
        until: float | None = None
        searched = self._at
        while True:
            # It may hold no LF, and waits for our part of the handshake.
            if self._buffer.startswith(_NO_COMMANDS, self._at) and _TLS_HELLO.match(self._buffer, self._at):
                raise TlsHello
            end = self._buffer.find(b"\n", searched)
            if end >= 0:
                line = self._buffer[self._at : end]
                self._at = end + 1
                if len(line) >= DEFAULT_LIMIT and len(line) + 1 > (limit or line_limit(line)):
                    raise LineTooLong
                return line[:-1] if line.endswith(b"\r") else line
            rest = self._rest()
            now = self._clock.monotonic()
            wait_s = self._timeout_s if until is None else until - now
            until = now + self._timeout_s if until is None else until
            if len(rest) > LONGEST_LINE:
                self._discard_line(until)
                raise LineTooLong
            searched = len(rest)
            self._buffer = rest + self._receive(wait_s)

    def read_data(self, limit: int, reservation: Reservation) -> Octets:
        """The mail data up to its end, dots unstuffed (RFC 5321 §4.5.2), its last line end included.

        limit: octets; above it, or where the reservation cannot grow, everything is drained and DataTooLarge or
        OverBudget raised. Raises TimedOut, Disconnected.
        """
        framing = self._framing
        # An imagined line end in front lets a dot in the very first line be found like any other.
        held = framing.line_end + (self._rest() or self._receive_data(b""))
        imagined = len(framing.line_end)
        spool: Spool | None = None  # a small message is mostly one piece, and needs none
        size = 0
        fits = True
        passed = b""  # the last octets before held, as they came
        while True:
            # A dot at the beginning of a line is either the end or a stuffed one: without one, neither is looked for.
            dot = held.find(framing.stuffed) if b"." in held else -1  # base64 has no dot, and is soon looked through
            end, behind = framing.find_end(held, dot) if dot >= 0 else (-1, -1)
            # No stuffed dot straddles two pieces, since what may be the beginning of one is held back.
            cut = end + len(framing.line_end) if end >= 0 else len(held) - framing.end_begun(held)
            piece = held[:cut] if dot == end else held[:cut].replace(framing.stuffed, framing.line_end)
            if imagined:
                piece, imagined = piece[imagined:], max(imagined - len(piece), 0)
            size += len(piece)
            fits = fits and size <= limit and reservation.grow(len(piece))
            if not fits:
                spool = None
                reservation.release()
            if end >= 0:
                self._buffer = held[behind:]
                break
            if fits:
                spool = spool if spool is not None else Spool(digested=True)
                spool.append(piece)
            passed, held = (passed + held[:cut])[-NEARLY_AN_END:], held[cut:]
            held += self._receive_data(passed + held)
        if size > limit:
            raise DataTooLarge(size)
        if not fits:
            raise OverBudget(size)
        if spool is None:
            return piece
        spool.append(piece)
        return spool.finish()

    def read_chunk(self, size: int, spool: Spool | None = None, reservation: Reservation | None = None) -> None:
        """Exactly that many octets (RFC 3030 §2), into the spool, or nowhere.

        Where the reservation cannot grow, they are drained, the spool cleared, and OverBudget raised. Raises TimedOut,
        Disconnected.
        """
        octets, left = self._rest(), size
        fits = True
        while True:
            self._buffer = octets[left:]
            if fits and spool is not None:
                piece = octets[:left]
                fits = reservation is None or reservation.grow(len(piece))
                if fits:
                    spool.append(piece)
                elif reservation is not None:
                    spool.clear()
                    reservation.release()
            left -= len(octets)
            if left <= 0:
                break
            octets = self._receive(self._timeout_s)
        if not fits:
            raise OverBudget(size)

    def start_tls(self, context: ssl.SSLContext) -> None:
        """The handshake; what the client sent ahead of it is discarded (CVE-2011-0411).

        Raises TlsFailed, Disconnected.
        """
        self.flush()
        self._buffer, self._at = b"", 0
        patience_s = min(self._timeout_s, self._lifetime.remaining())
        layer = TlsLayer(context)
        try:
            with self._alarm.within(patience_s) if self._alarm is not None else nullcontext():
                self._bound(patience_s)
                self._buffer = layer.shake_hands(self._socket.recv, self._send)
                if (
                    layer.version() != "TLSv1.3"
                ):  # there a ticket for the next time, which can leave with our next reply
                    self._send(layer.due())
        except (OSError, ValueError) as fault:
            raise TlsFailed(tls.why_failed(fault)) from fault
        self._tls = layer

    def tls_version(self) -> str:
        """`TLSv1.3`, or empty without TLS."""
        return self._tls.version() if self._tls is not None else ""

    def has_line(self) -> bool:
        """Whether the client's next line is here already."""
        return self._buffer.find(b"\n", self._at) >= 0

    def is_gone(self) -> bool:
        """Whether the client has closed the connection, with nothing more to say.

        Does not wait, nor give way: another session may ask this, and what is read here would not wake our own, which
        by then may wait for it.

        Whatever has come meanwhile is read into the buffer instead of being peeked at: over TLS only reading tells an
        end from a record. A command behind the message, such as a pipelined QUIT, belongs to a client that is there.
        """
        if self._at < len(self._buffer):
            return False
        if self._has_ended():
            return True
        self._buffer, self._at = b"", 0
        try:
            self._bound(0.0)
            for _ in range(_MOST_PIECES):
                octets = self._socket.recv(_PIECE)
                if not octets:
                    return True
                self._buffer = self._opened(octets)
                if self._buffer or self._has_ended():
                    break
        except (BlockingIOError, TimeoutError):
            return False
        except (Disconnected, OSError, ValueError):
            return True
        return self._has_ended() and not self._buffer

    def hang_up(self) -> None:
        """End it from another greenlet: whoever reads here gets Disconnected."""
        self._end_tls()
        with suppress(OSError, ValueError):  # gone already
            self._socket.shutdown(socket.SHUT_RDWR)

    def linger(self, seconds: float) -> None:
        """Read on for a moment: closing over unread input would reset our last reply away (RFC 1122 §4.2.2.13)."""
        patience = Deadline(self._clock, seconds)
        self._end_tls()
        with suppress(OSError, ValueError):  # gone already
            self._socket.shutdown(socket.SHUT_WR)
            while patience.remaining() > 0:
                self._bound(patience.remaining())
                if not self._socket.recv(_PIECE):
                    return

    def close(self) -> None:
        """The end of the connection; over TLS with close_notify."""
        if self._alarm is not None:
            self._alarm.close()
        self._end_tls()
        with suppress(OSError):
            self._socket.close()

    def _end_tls(self) -> None:
        """Without close_notify a client cannot tell our end from an attacker's (RFC 8446 §6.1).

        Where a reply is stuck in the middle of a record, the client will not read this either.
        """
        if self._tls is not None and not self._sending:
            with suppress(OSError, ValueError):  # gone already, or it does not read: both are an end
                self._bound(0.0)
                self._socket.send(self._tls.goodbye())

    def _rest(self) -> bytes:
        """What is in the buffer and not used yet, taken out."""
        rest = self._buffer[self._at :] if self._at else self._buffer
        self._buffer, self._at = b"", 0
        return rest

    def _receive_data(self, recent: bytes) -> bytes:
        try:
            return self._receive(self._timeout_s)
        except (TimedOut, Disconnected) as over:
            over.waiting_for_dot = NEARLY_ENDED.search(recent) is not None
            raise

    def _discard_line(self, until: float) -> None:
        while True:
            octets = self._receive(until - self._clock.monotonic())
            _, found, rest = octets.partition(b"\n")
            if found:
                self._buffer = rest
                return

    def _send(self, octets: bytes) -> None:
        sent = self._socket.send(octets)
        if sent < len(octets):  # sendall() asks the system for the size of its buffer first, each time
            self._socket.sendall(octets[sent:])

    def _bound(self, seconds: float | None) -> None:
        """What the next call of the socket may take; mostly it is the same as before."""
        if seconds != self._bound_s:
            self._bound_s = seconds
            self._socket.settimeout(seconds)

    def _receive(self, wait_s: float) -> bytes:
        """Some octets, within wait_s and the connection's lifetime. Over TLS, each part of a record is given wait_s."""
        while True:
            self.flush()
            if self._tls is not None and self._tls.ended:
                raise Disconnected
            self.give_way(_READ_WORK)
            left_s = self._lifetime.at - self._clock.monotonic()
            wait_s = wait_s if wait_s < left_s else left_s
            if wait_s <= 0:
                raise TimedOut
            try:
                if self._alarm is None:
                    self._bound(wait_s)
                    octets = self._socket.recv(_PIECE)
                else:
                    self._bound(None)
                    with self._alarm.within(wait_s):
                        octets = self._socket.recv(_PIECE)
            except TimeoutError:
                raise TimedOut from None
            except (OSError, ValueError) as fault:
                raise Disconnected from fault
            if not octets:
                raise Disconnected
            if self._tls is not None:
                octets = self._opened(octets)
            if octets:
                self._work += len(octets) // _LINE_OCTETS
                return octets
            self.write(b"")  # no whole record; what it was may be for TLS itself to answer

    def _opened(self, octets: bytes) -> bytes:
        """What is in these octets, over TLS too; empty while a record is not whole. Raises Disconnected."""
        try:
            return self._tls.opened(octets) if self._tls is not None else octets
        except ssl.SSLError as fault:
            raise Disconnected from fault

    def _has_ended(self) -> bool:
        """Whether the client has said over TLS that those were its last words, be its connection open or not."""
        return self._tls is not None and self._tls.ended
