# SPDX-License-Identifier: MIT
"""A client's octets as a list of segments: a whole session plays in one thread, without a socket and without time."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from relay.clock import Deadline
from relay.smtp.backend import SessionSettings
from relay.smtp.budget import Budget, Reservation
from relay.smtp.lineio import LineIO
from relay.smtp.session import Session
from tests.support.backend import CLIENT, PASSWORD, USER, Delivery, MemoryBackend
from tests.support.clock import FakeClock
from tests.support.dialog import SETTINGS, encoded

LOGIN = f"EHLO c\r\nAUTH PLAIN {encoded(chr(0) + USER + chr(0) + PASSWORD)}\r\n".encode()
ENVELOPE = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"


class SegmentSocket:
    """recv() gives the next segment, or a part of it where it is too large; behind the last one `ending` happens."""

    def __init__(self, segments: Iterable[bytes], clock: FakeClock, ending: type[Exception] | None = None) -> None:
        """ending: None for a closed connection, TimeoutError for a client that waits, another error as it is."""
        self._segments = [segment for segment in segments if segment]
        self._ending = ending
        self._clock = clock
        self._timeout_s = 0.0
        self.sent: list[bytes] = []

    def settimeout(self, value: float | None, /) -> None:
        assert value is not None, "a socket call without a timeout"
        assert value >= 0
        self._timeout_s = value

    def send(self, data: bytes, /) -> int:
        self.sendall(data)
        return len(data)

    def sendall(self, data: bytes, /) -> None:
        self.sent.append(data)

    def shutdown(self, how: int, /) -> None:
        """Nobody reads here any more."""

    def recv(self, size: int, /) -> bytes:
        if self._timeout_s == 0 and (self._segments or self._ending is TimeoutError):
            raise BlockingIOError  # whoever does not wait finds that nothing has come yet
        if self._segments:
            segment = self._segments.pop(0)
            if len(segment) > size:
                self._segments.insert(0, segment[size:])
            return segment[:size]
        if self._ending is None:
            return b""
        if self._ending is TimeoutError:
            self._clock.advance(self._timeout_s)
        raise self._ending


def line_io(
    segments: Iterable[bytes],
    clock: FakeClock | None = None,
    *,
    command_timeout_s: float = 60,
    lifetime_s: float = 300,
    ending: type[Exception] | None = None,
    bare_lf: bool = False,
) -> tuple[LineIO, SegmentSocket]:
    clock = clock or FakeClock()
    sock = SegmentSocket(segments, clock, ending)
    return LineIO(sock, clock, command_timeout_s, Deadline(clock, lifetime_s), bare_lf=bare_lf), sock


def room() -> Reservation:
    """Room for any message."""
    return Budget(sys.maxsize).reservation()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a client saw, and what came out behind the session."""

    replies: bytes
    contents: tuple[bytes, ...]
    paths: tuple[tuple[str, ...], ...]
    writes: tuple[bytes, ...]

    def without_writes(self) -> tuple[object, ...]:
        """For comparing two runs: how replies were grouped depends on the segments, and may."""
        return self.replies, self.contents, self.paths


def converse(
    segments: Sequence[bytes],
    *,
    anonymous: bool = False,
    settings: SessionSettings = SETTINGS,
    ending: type[Exception] | None = None,
) -> Outcome:
    """A whole session over these segments, which ends with them at the latest."""
    backend = MemoryBackend(anonymous=anonymous)
    io, sock = line_io(segments, ending=ending)
    Session(io, CLIENT, backend, settings).run()
    deliveries: list[Delivery] = backend.deliveries
    assert len(backend.heard) == len(deliveries), "a message of which the backend does not hear how it ended"
    return Outcome(
        b"".join(sock.sent),
        tuple(delivery.content for delivery in deliveries),
        tuple(tuple(delivery.paths) for delivery in deliveries),
        tuple(sock.sent),
    )
