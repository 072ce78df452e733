# SPDX-License-Identifier: MIT
"""The admin side on a port (gevent's pywsgi): bounded in connections and in patience. Knows no page."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gevent.pool import Pool
from gevent.pywsgi import WSGIServer

_PATIENCE_S = 30.0  # for a client's next octets
_CONNECTIONS = 64


class AdminServer(WSGIServer):  # type: ignore[misc]  # gevent has no types
    """Serves a WSGI function on a socket that listens already. It writes no access log."""

    def __init__(self, sock: socket.socket, application: Callable[..., Any]) -> None:
        super().__init__(sock, application, spawn=Pool(_CONNECTIONS), log=None, error_log=None)

    def wrap_socket_and_handle(self, client_socket: socket.socket, address: tuple[str, int]) -> None:
        """One connection. One that is cut or too slow is an ordinary ending."""
        client_socket.settimeout(_PATIENCE_S)
        with suppress(OSError):
            super().wrap_socket_and_handle(client_socket, address)
