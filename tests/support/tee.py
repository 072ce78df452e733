# SPDX-License-Identifier: MIT
"""A TCP forwarder between a client and a server, that keeps what the client said. Knows no protocol.

It can be cut and joined again, which is how a test takes a network away.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType

_PIECE = 65536


class Tee:
    """`with Tee(host, port) as tee:` — what connects to tee.port speaks with that server."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._recordings: list[bytearray] = []
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", 0))
        self.host, self.port = self._listener.getsockname()
        self._threads: list[threading.Thread] = []

    def join(self) -> None:
        """Let connections through. Before it, they are refused."""
        self._listener.listen(128)
        self._start(self._accept)

    @property
    def recordings(self) -> list[bytes]:
        """What the client sent, a connection each."""
        return [bytes(recording) for recording in self._recordings]

    def forget(self) -> None:
        """Keep nothing of the connections so far."""
        self._recordings.clear()

    def __enter__(self) -> Tee:
        self.join()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # not listening: nothing to wake up
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(timeout=40)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            recording = bytearray()
            self._recordings.append(recording)
            self._start(self._serve, client, server, recording)

    def _serve(self, client: socket.socket, server: socket.socket, recording: bytearray) -> None:
        with client, server:
            back = threading.Thread(target=_forward, args=(server, client, None), daemon=True)
            back.start()
            _forward(client, server, recording)
            back.join()


def _forward(source: socket.socket, target: socket.socket, recording: bytearray | None) -> None:
    """Until source has no more, then target is told so."""
    with contextlib.suppress(OSError):  # either side may go away at any time
        while octets := source.recv(_PIECE):
            if recording is not None:
                recording += octets
            target.sendall(octets)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
