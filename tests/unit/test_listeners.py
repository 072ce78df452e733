# SPDX-License-Identifier: MIT
"""Which addresses the service listens on, where several are to be listened on."""

from __future__ import annotations

import dataclasses
import socket

import pytest

from relay.config import AdminConfig, Config, ListenAddress, ListenConfig
from relay.listeners import open_listeners
from tests.support.needed import needs_ipv6

pytestmark = needs_ipv6


def free_port() -> int:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as sock:
        return int(sock.getsockname()[1])


def families(*addresses: ListenAddress, admin: ListenAddress | None = None) -> list[int]:
    """What reaches each of them: 4, 6, or 46 for both."""
    config = dataclasses.replace(Config(), listen=ListenConfig(addresses=addresses), admin=AdminConfig(addr=admin))
    opened = open_listeners(config)
    try:
        return [
            4 if sock.family == socket.AF_INET else 46 - 40 * sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            for sock in opened.plain
        ]
    finally:
        opened.close()


def test_every_address_of_ipv6_is_every_address() -> None:
    assert families(ListenAddress("::", free_port())) == [46]
    assert families(ListenAddress("::", 0), ListenAddress("127.0.0.1", 0)) == [46, 4]
    assert families(ListenAddress("::", free_port()), ListenAddress("::", 0)) == [46, 46]


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_unless_another_one_has_its_port(host: str) -> None:
    port = free_port()
    assert families(ListenAddress("::", port), ListenAddress(host, port)) == [6, 4]
    port = free_port()
    assert families(ListenAddress(host, port), ListenAddress("::", port)) == [4, 6]
    port = free_port()
    assert families(ListenAddress("::", port), admin=ListenAddress(host, port)) == [6]
