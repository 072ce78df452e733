# SPDX-License-Identifier: MIT
"""A small HTTP proxy that knows CONNECT alone (RFC 9110 §9.3.6), with a password where one is given."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from types import TracebackType

_PIECE = 65536


class ConnectProxy:
    """`with ConnectProxy() as proxy:` — proxy.port. asked: the targets of all CONNECTs; refused: how many got 407."""

    def __init__(self, password: str = "") -> None:
        """password: `user:password`, or empty for none."""
        self._wanted = f"Basic {base64.b64encode(password.encode()).decode()}" if password else ""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.asked: list[str] = []
        self.refused = 0
        self._open: list[socket.socket] = []

    def __enter__(self) -> ConnectProxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.end_tunnels()

    def end_tunnels(self) -> None:
        """Close every connection, as a server or a firewall does with those that rest."""
        while self._open:
            with contextlib.suppress(OSError):
                self._open.pop().shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                piece = client.recv(1)
                if not piece:
                    return
                head += piece
            first, *fields = head.decode("latin-1").split("\r\n")
            target = first.split()[1]
            self.asked.append(target)
            if self._wanted and f"proxy-authorization: {self._wanted}".lower() not in map(str.lower, fields):
                self.refused += 1
                client.sendall(b'HTTP/1.1 407 Asks\r\nProxy-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n')
                return
            host, _, port = target.rpartition(":")
            with socket.create_connection((host, int(port))) as server:
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                self._open += (client, server)
                back = threading.Thread(target=_pass_on, args=(server, client), daemon=True)
                back.start()
                _pass_on(client, server)
                back.join()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while octets := source.recv(_PIECE):
            sink.sendall(octets)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
