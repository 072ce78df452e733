# SPDX-License-Identifier: MIT
"""Listeners, pool, admission and drain of the SMTP side (gevent StreamServer). Knows connections, not commands.

A gevent pool that is full stops accepting in silence. So the pool has more places than max_connections: they exist to
say 421 at once, and only a flood beyond them waits in the backlog.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import gevent
from gevent.pool import Pool
from gevent.server import StreamServer

from relay.clock import Clock, Deadline
from relay.config import ListenAddress
from relay.identity import Client, new_id, unmapped
from relay.smtp import proxy
from relay.smtp import reply as replies
from relay.smtp.budget import Budget
from relay.smtp.lineio import Disconnected, LineIO
from relay.smtp.proxy import NotProxyProtocol
from relay.smtp.reply import Reply
from relay.smtp.session import LINGER_S, Session

log = logging.getLogger(__name__)

SPARE_PLACES = 256
"""For those who are turned away: each is there for a tenth of a second at most, so 2,000 at once take one."""
_BACKLOG = 1024
_PROXY_PATIENCE_S = 10.0
_TURNED_AWAY_LINGER_S = 0.1  # it takes a place in the pool meanwhile, and has hardly said anything yet
_CLEAN_UP_S = 6.0  # for sessions that are cut off in the middle and have to delete a draft at Graph


@dataclass(frozen=True, slots=True)
class Door:
    """How a connection is let in; the callables see the configuration of the moment."""

    admits: Callable[[str], bool]  # by IP address: allowed_networks
    speaks_proxy: Callable[[str], bool]  # by IP address: proxy_protocol_networks
    make_session: Callable[[socket.socket, Client, bool], Session]  # the last: TLS from the first octet
    turned_away: Callable[[str, dict[str, object]], None] = lambda event, facts: None  # event and facts of the log


class CannotListen(OSError):
    """strerror: the address, and what to do about it."""


def listen(address: ListenAddress, key: str, *, with_ipv4: bool = False) -> socket.socket:
    """A listening socket. key: of the configuration, to change. Raises CannotListen.

    with_ipv4: [::] is for IPv4 too, as :PORT is.
    """
    try:
        if not address.host or (address.host == "::" and with_ipv4):
            return _listen_everywhere(address.port)
        found = socket.getaddrinfo(address.host, address.port, 0, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)
        # The program we come from takes the IPv4 address of a name too: localhost is mostly ::1 first.
        family, _, _, _, target = min(found, key=lambda one: one[0] != socket.AF_INET)
        return _bound(family, target)
    except (OSError, OverflowError) as fault:
        raise CannotListen(getattr(fault, "errno", None), f"{address}: {_bind_advice(fault, address, key)}") from fault


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
    except BaseException:  # raised on: a socket that is not given back is closed
        sock.close()
        raise
    return sock


def _bind_advice(fault: BaseException, address: ListenAddress, key: str) -> str:
    if isinstance(fault, PermissionError):
        return f"no permission to listen on port {address.port}; use a port from 1024 up, or grant CAP_NET_BIND_SERVICE"
    if isinstance(fault, socket.gaierror):
        return f"no such host; give an address of this machine in {key}"
    text = getattr(fault, "strerror", None) or str(fault)
    if "in use" in text:
        return f"the address is in use; stop the other program or change {key}"
    if "assign" in text:
        return f"not an address of this machine; change {key}"
    return text


class SmtpServer:
    """Accepts on all addresses; one greenlet a session, at most max_connections of them."""

    def __init__(self, places: Budget, door: Door, *, shares_listeners: bool = False) -> None:
        """places: for connections. shares_listeners: with other processes, which are to have their part of them."""
        self._places = places
        self._door = door
        self._pool = Pool(places.limit + SPARE_PLACES)
        self._most_at_a_time = 1 if shares_listeners else None
        self._servers: list[StreamServer] = []
        self._sessions: dict[Session, gevent.Greenlet] = {}
        self._draining = False

    def start(self, sockets: Sequence[socket.socket], *, implicit_tls: bool = False) -> None:
        """Begin to accept on sockets that listen already."""
        for sock in sockets:
            server = StreamServer(sock, partial(self._handle, implicit_tls), spawn=self._pool)
            if self._most_at_a_time is not None:
                server.max_accept = self._most_at_a_time
            server.start()
            self._servers.append(server)

    def drain(self, timeout_s: float) -> None:
        """Stop accepting, tell idle sessions 421 4.3.2, let the others finish; what is left is closed and named."""
        patience = Deadline(Clock(), timeout_s)
        self._draining = True
        for server in self._servers:
            server.close()
        # At the same time: a client that does not read must not keep the others waiting.
        gevent.joinall([gevent.spawn(session.drain) for session in self._sessions], timeout=patience.remaining())
        self._pool.join(timeout=patience.remaining())
        running = dict(self._sessions)
        if running:
            ending = [gevent.spawn(_cut, *each) for each in running.items()]
            gevent.joinall(ending, timeout=LINGER_S)
            gevent.killall(ending)  # these clients do not read
            left = [session.client.session for session in running]
            log.warning(
                "shutdown_timeout",
                extra={"sessions": left, "reason": "closed in the middle; these clients will send again"},
            )
        # Each is ended once: the second time would cut off its clean-up.
        gevent.killall(set(self._pool) - set(running.values()), block=False)
        self._pool.join(timeout=_CLEAN_UP_S)

    def _handle(self, implicit_tls: bool, sock: socket.socket, peer: tuple[str, int]) -> None:
        set_no_delay(sock)
        client = Client(unmapped(peer[0]), new_id())
        if self._door.speaks_proxy(client.address):
            try:
                client = Client(_read_proxy_header(sock) or client.address, client.session)
            except (NotProxyProtocol, OSError):
                facts = _facts(client, reason="see proxy_protocol_networks")
                log.warning("proxy_header_missing", extra=facts)
                self._door.turned_away("proxy_header_missing", facts)
                return
        if not self._door.admits(client.address):
            facts = _facts(client, reason="not in allowed_networks")
            log.info("network_refused", extra=facts)
            self._door.turned_away("network_refused", facts)
            _turn_away(sock, replies.NETWORK_REFUSED, implicit_tls)
        elif not self._places.take(1):
            facts = _facts(client, reason="raise max_connections if they are wanted")
            log.warning("too_many_connections", extra=facts)
            self._door.turned_away("too_many_connections", facts)
            _turn_away(sock, replies.TOO_MANY_CONNECTIONS, implicit_tls)
        else:
            try:
                self._serve(self._door.make_session(sock, client, implicit_tls))
            finally:
                self._places.give_back(1)

    def _serve(self, session: Session) -> None:
        self._sessions[session] = gevent.getcurrent()
        if self._draining:  # accepted just before, and not begun until now
            session.drain()
        try:
            session.run()
        finally:
            del self._sessions[session]
            session.close()


def _cut(session: Session, running: gevent.Greenlet) -> None:
    """Nothing is delivered from then on: the client, told to come back, would send it again."""
    try:
        session.cut()
    finally:
        running.kill(block=False)


def _facts(client: Client, **more: object) -> dict[str, object]:
    return {"session": client.session, "client": client.address, **more}


def _turn_away(sock: socket.socket, reply: Reply, implicit_tls: bool) -> None:
    """Say why and close; where TLS would have to come first, only close."""
    if implicit_tls:
        return
    clock = Clock()
    line_io = LineIO(sock, clock, LINGER_S, Deadline(clock, LINGER_S))
    line_io.write(reply.octets)
    with suppress(Disconnected):
        line_io.flush()
        line_io.linger(_TURNED_AWAY_LINGER_S)


def _read_proxy_header(sock: socket.socket) -> str:
    """The client's address, or empty. Takes not one octet more than the header: TLS may follow. Raises OSError."""
    patience = Deadline(Clock(), _PROXY_PATIENCE_S)
    octets = b""
    while True:
        header = proxy.parse(octets)
        if header.missing == 0:
            return unmapped(header.address)
        sock.settimeout(max(patience.remaining(), 0.001))
        more = sock.recv(header.missing)
        if not more:
            raise NotProxyProtocol
        octets += more


def set_no_delay(sock: socket.socket) -> None:
    """Without it, a pipelining client waits 40 ms for a reply (Nagle against delayed acknowledgement)."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
