# SPDX-License-Identifier: MIT
"""The sockets that the service listens on, all of them or none; those that systemd hands over go before ours."""

from __future__ import annotations

import logging
import resource
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from relay import service
from relay.config import Config, ListenAddress
from relay.smtp.server import SPARE_PLACES, CannotListen, listen

log = logging.getLogger(__name__)

_SPARE_FILES = 64 + SPARE_PLACES  # listeners, log, libraries; and clients that are being turned away


@dataclass(frozen=True, slots=True)
class Listeners:
    """implicit: TLS from the first octet."""

    plain: tuple[socket.socket, ...]
    implicit: tuple[socket.socket, ...]
    admin: socket.socket | None

    def addresses(self) -> list[str]:
        """HOST:PORT of each for SMTP, with the port that the system chose."""
        return [address_of(sock) for sock in (*self.plain, *self.implicit)]

    def close(self) -> None:
        for sock in (*self.plain, *self.implicit, *((self.admin,) if self.admin else ())):
            sock.close()


def address_of(sock: socket.socket) -> str:
    return str(ListenAddress(*sock.getsockname()[:2]))


def open_listeners(config: Config) -> Listeners:
    """Raises CannotListen."""
    inherited, inherited_implicit = service.inherited_sockets()
    plain: Sequence[ListenAddress | socket.socket] = inherited or config.listen.addresses
    implicit: Sequence[ListenAddress | socket.socket] = inherited_implicit or config.tls.implicit_addresses
    if inherited_implicit and not config.tls.cert_file:
        raise CannotListen(None, "the inherited socket smtps: set tls.cert_file and tls.key_file")
    admin = config.admin.addr
    sockets: list[socket.socket] = []
    wanted = {"listen_addr": plain, "tls.implicit_addr": implicit, "admin_addr": [admin] if admin else []}
    ports = Counter(one.port for sources in wanted.values() for one in sources if isinstance(one, ListenAddress))
    try:
        for key, sources in wanted.items():
            for source in sources:
                if isinstance(source, ListenAddress):
                    # [::] leaves IPv4 alone where another line says who listens there.
                    source = listen(source, key, with_ipv4=not source.port or ports[source.port] == 1)
                sockets.append(source)
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    smtp = len(plain) + len(implicit)
    return Listeners(tuple(sockets[: len(plain)]), tuple(sockets[len(plain) : smtp]), sockets[smtp] if admin else None)


def allow_files(connections: int) -> None:
    """Each session has a socket, and may need one to Entra ID or Graph; many services start with 1024 in all."""
    wanted = 2 * connections + _SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        reason = f"max_connections may need {wanted} open files and the system allows {hard}; raise LimitNOFILE"
        log.warning("config", extra={"reason": reason})
