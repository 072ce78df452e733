# SPDX-License-Identifier: MIT
"""Listeners, pool, admission and drain of the SMTP side (gevent StreamServer). Knows connections, not commands.

A gevent pool that is full stops accepting in silence. So the pool has a few places more than max_connections: they
exist to say 421 at once, and only a flood beyond them waits in the backlog.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence

from gevent.pool import Pool
from gevent.server import StreamServer

from relay.clock import Clock, Deadline
from relay.config import ListenAddress
from relay.identity import Client, new_id
from relay.smtp import reply as replies
from relay.smtp.lineio import set_no_delay, unmapped
from relay.smtp.reply import Reply
from relay.smtp.session import Session

log = logging.getLogger(__name__)

_SPARE_PLACES = 16
_BACKLOG = 1024
_LINGER_S = 1.0

MakeSession = Callable[[socket.socket, Client], Session]


def listen(address: ListenAddress) -> socket.socket:
    """A listening socket. Raises OSError with the address in its text."""
    family = socket.AF_INET6 if ":" in address.host or not address.host else socket.AF_INET
    try:
        if not address.host:
            return _listen_everywhere(address.port)
        found = socket.getaddrinfo(address.host, address.port, 0, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)
        family, _, _, _, target = found[0]
        return _bound(family, target)
    except (OSError, OverflowError) as fault:
        raise OSError(getattr(fault, "errno", None), f"{address}: {_bind_advice(fault, address)}") from fault


def _listen_everywhere(port: int) -> socket.socket:
    """IPv6 and IPv4 in one socket where the machine has both."""
    if socket.has_dualstack_ipv6():
        try:
            return _bound(socket.AF_INET6, ("::", port), dual_stack=True)
        except OSError as fault:
            log.debug("no_ipv6", extra={"reason": str(fault)})
    return _bound(socket.AF_INET, ("0.0.0.0", port))  # noqa: S104 - the administrator wrote :PORT


def _bound(family: int, target: tuple[object, ...], *, dual_stack: bool = False) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual_stack else 1)
        sock.bind(target)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_advice(fault: BaseException, address: ListenAddress) -> str:
    if isinstance(fault, PermissionError):
        return f"no permission to listen on port {address.port}; use a port from 1024 up, or grant CAP_NET_BIND_SERVICE"
    if isinstance(fault, socket.gaierror):
        return "no such host; give an address of this machine in listen_addr"
    text = getattr(fault, "strerror", None) or str(fault)
    if "in use" in text:
        return "the address is in use; stop the other program or change listen_addr"
    if "assign" in text:
        return "not an address of this machine; change listen_addr"
    return text


class SmtpServer:
    """Accepts on all addresses; one greenlet a session, at most max_connections of them."""

    def __init__(self, max_connections: int, make_session: MakeSession, admits: Callable[[str], bool]) -> None:
        """admits: whether a client of this IP address may connect at all."""
        self._max = max_connections
        self._make_session = make_session
        self._admits = admits
        self._pool = Pool(max_connections + _SPARE_PLACES)
        self._servers: list[StreamServer] = []
        self._sessions: dict[Session, socket.socket] = {}

    def start(self, sockets: Sequence[socket.socket]) -> None:
        """Begin to accept on sockets that listen already."""
        for sock in sockets:
            server = StreamServer(sock, self._handle, spawn=self._pool)
            server.start()
            self._servers.append(server)

    def addresses(self) -> list[str]:
        """HOST:PORT of each listener, with the port that the system chose."""
        return [str(ListenAddress(*server.socket.getsockname()[:2])) for server in self._servers]

    def drain(self, timeout_s: float) -> None:
        """Stop accepting, tell idle sessions 421 4.3.2, let the others finish; what is left is closed and named."""
        for server in self._servers:
            server.close()
        for session, sock in list(self._sessions.items()):
            if session.drain():
                _hang_up(sock)
        self._pool.join(timeout=timeout_s)
        left = [session.client.session for session in self._sessions]
        if left:
            log.warning(
                "shutdown_timeout",
                extra={"sessions": left, "reason": "closed in the middle; these clients will send again"},
            )
        self._pool.kill(timeout=1)

    def _handle(self, sock: socket.socket, address: tuple[str, int]) -> None:
        set_no_delay(sock)
        client = Client(unmapped(address[0]), new_id())
        if not self._admits(client.address):
            log.info("network_refused", extra=_facts(client, reason="not in allowed_networks"))
            _turn_away(sock, replies.NETWORK_REFUSED)
            return
        if len(self._sessions) >= self._max:
            log.warning("too_many_connections", extra=_facts(client, reason="raise max_connections if they are wanted"))
            _turn_away(sock, replies.TOO_MANY_CONNECTIONS)
            return
        session = self._make_session(sock, client)
        self._sessions[session] = sock
        try:
            session.run()
        finally:
            del self._sessions[session]
        if session.cut_short:
            _linger(sock)


def _facts(client: Client, **more: object) -> dict[str, object]:
    return {"session": client.session, "client": client.address, **more}


def _turn_away(sock: socket.socket, reply: Reply) -> None:
    try:
        sock.settimeout(_LINGER_S)
        sock.sendall(reply.octets)
    except OSError:
        return
    _linger(sock)


def _linger(sock: socket.socket) -> None:
    """Read on for a moment, since closing over unread input resets our last reply away (RFC 1122 §4.2.2.13)."""
    patience = Deadline(Clock(), _LINGER_S)
    try:
        sock.shutdown(socket.SHUT_WR)
        while patience.remaining() > 0:
            sock.settimeout(patience.remaining())
            if not sock.recv(65536):
                return
    except (OSError, ValueError):
        return  # gone already


def _hang_up(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # gone already
