# SPDX-License-Identifier: MIT
"""A client that says exactly the octets it is told to, over plain TCP or TLS, and reads replies. Knows no commands."""

from __future__ import annotations

import re
import socket
import ssl
from types import TracebackType

PATIENCE_S = 40.0


def trusting(cert_file: str) -> ssl.SSLContext:
    """A context as careful as a client's should be, which trusts this certificate and no other."""
    return ssl.create_default_context(cafile=cert_file)


class RawClient:
    """`with RawClient(host, port) as client:` — connected; the greeting has not been read.

    source: the address that it comes from. ahead: octets before TLS, such as a PROXY header. tls: the context for a
    handshake before the greeting.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        source: str = "",
        ahead: bytes = b"",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.sock = socket.create_connection((host, port), PATIENCE_S, (source, 0) if source else None)
        self._received = b""
        if ahead:
            self.sock.sendall(ahead)
        if tls is not None:
            self.start_tls(tls)

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def start_tls(self, context: ssl.SSLContext) -> None:
        """The handshake, and nothing else. Raises OSError."""
        assert self._received == b"", "said in clear behind STARTTLS"
        try:
            self.sock = context.wrap_socket(self.sock, server_hostname="127.0.0.1")
        except OSError:
            self.sock.close()
            raise

    def say(self, octets: bytes | str) -> str:
        """The status of the reply to it: `250 2.1.0`."""
        self.send(octets if isinstance(octets, bytes) else f"{octets}\r\n".encode())
        return self.status()

    def send(self, octets: bytes) -> None:
        self.sock.sendall(octets)

    def reply(self) -> list[str]:
        """The lines of the next reply."""
        lines = [self._line()]
        while lines[-1][3:4] == "-":
            lines.append(self._line())
        return lines

    def status(self) -> str:
        """Code and enhanced code of the next reply."""
        last = self.reply()[-1]
        match = re.match(r"\d{3}(?: [245]\.\d+\.\d+(?= ))?", last)
        assert match, last
        return match[0]

    def is_over(self) -> bool:
        """Whether the server closes, in order, without another word."""
        return self._received == b"" and self.sock.recv(1) == b""

    def _line(self) -> str:
        while b"\r\n" not in self._received:
            octets = self.sock.recv(65536)
            assert octets, f"closed behind {self._received!r}"
            self._received += octets
        line, _, self._received = self._received.partition(b"\r\n")
        return line.decode("ascii")
