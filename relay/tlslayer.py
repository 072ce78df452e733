# SPDX-License-Identifier: MIT
"""TLS between octets and octets, for both sides of the relay. Knows no socket: who has one waits on it in its own way.

Python's TLS sockets ask the system twice for each record, once more to hear that nothing is there, and raise an
exception for it each time; gevent's make a second socket of each. In memory, one read and one write will do.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress

_PIECE = 65536
_RECORD = 16384  # RFC 8446 §5.1: octets of plain text, at most


class TlsLayer:
    """One connection's TLS, as its server or its client."""

    __slots__ = ("_incoming", "_outgoing", "_tls", "ended")

    def __init__(self, context: ssl.SSLContext, server_hostname: str | None = None) -> None:
        """server_hostname: of the server that we are a client of; None: we are the server."""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_hostname is None, server_hostname=server_hostname
        )
        self.ended = False
        """Nothing more will come: the other side has said so (close_notify), or what it said last is no TLS."""

    def shake_hands(self, receive: Callable[[int], bytes], send: Callable[[bytes], object]) -> bytes:
        """The whole handshake; what the other side has said behind it already. What is left to send is due().

        Raises ssl.SSLError, when the alert that says why has been sent, and what receive and send raise.
        """
        try:
            while not self._shook_hands():
                if due := self.due():
                    send(due)
                octets = receive(_PIECE)
                if octets:
                    self._incoming.write(octets)
                else:
                    self._incoming.write_eof()
        except ssl.SSLError:
            with suppress(OSError):  # gone, or does not read
                send(self.due())
            raise
        return self.opened(b"")

    def _shook_hands(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def due(self) -> bytes:
        """What TLS itself has to say to the other side; what is sealed next takes it along."""
        return self._outgoing.read()

    def sealed(self, octets: bytes) -> bytes:
        """These octets as they go over the wire, with what is due. Raises ssl.SSLError behind goodbye()."""
        written = self._tls.write(octets) if octets else 0
        while written < len(octets):
            written += self._tls.write(memoryview(octets)[written:])
        return self._outgoing.read()

    def opened(self, octets: bytes) -> bytes:
        """What these octets of the wire say; empty while a record is not whole.

        Raises ssl.SSLError for what is no TLS, where nothing stands before it.
        """
        self._incoming.write(octets)
        try:
            first = self._tls.read(_RECORD)
        except ssl.SSLWantReadError:
            return b""
        if not self._incoming.pending:
            self.ended = not first
            return first
        records = [first]
        try:
            while octets := self._tls.read(_RECORD):
                records.append(octets)
            self.ended = True
        except ssl.SSLError as fault:  # what came before it is whole, and may be the answer to a message that has gone
            self.ended = not isinstance(fault, ssl.SSLWantReadError)
        return b"".join(records)

    def goodbye(self) -> bytes:
        """close_notify, and any alert before it (RFC 8446 §6.1). The other side's is not waited for."""
        with suppress(ssl.SSLError):  # it waits for the answer, or the handshake never came to its end
            self._tls.unwrap()
        return self._outgoing.read()

    def version(self) -> str:
        """`TLSv1.3`"""
        return self._tls.version() or ""
