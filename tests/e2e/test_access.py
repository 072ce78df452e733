# SPDX-License-Identifier: MIT
"""Who may do what by address: networks, auth_limit, and the address that a load balancer tells of (PROXY protocol)."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import subprocess
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from relay.selfsigned import write_pair
from tests.e2e.conftest import need
from tests.support.raw import PATIENCE_S, RawClient, trusting
from tests.support.relay_process import RelayProcess, config_for, wait_until
from tests.support.sandbox_client import Upstream

# All of 127.0.0.0/8 is this machine, so a client may come from any of these.
HERE, THERE, BALANCER, GUESSING = "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.6"
FALLBACK = {"allow_anonymous": True, "fallback_smtp_user": "fallback@example.com", "fallback_smtp_pass": "x"}
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def v1(source: str) -> bytes:
    family = 6 if ":" in source else 4
    return f"PROXY TCP{family} {source} {'::1' if family == 6 else HERE} 40000 25\r\n".encode()


def v2(source: str) -> bytes:
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    packed = socket.inet_pton(family, source) * 2 + struct.pack("!HH", 40000, 25)
    return SIGNATURE + struct.pack("!BBH", 0x21, 0x21 if ":" in source else 0x11, len(packed)) + packed


V2_LOCAL = SIGNATURE + struct.pack("!BBH", 0x20, 0, 0)


def plain(user: str, password: str) -> str:
    return "AUTH PLAIN " + b64encode(f"\0{user}\0{password}".encode()).decode()


def statuses(client: RawClient, *commands: str) -> list[str]:
    """Of the greeting and of each command."""
    return [client.status(), *(client.say(command) for command in commands)]


def newest(relay: RelayProcess, event: str) -> dict[str, Any]:
    return wait_until(lambda: relay.events(event), event)[-1]


# Networks


@pytest.fixture(scope="module")
def relay_keys(directory: Path) -> dict[str, Any]:
    cert_file, key_file = write_pair(directory, [HERE], datetime.now(UTC))
    return {
        "tls": {
            "cert_file": str(cert_file),
            "key_file": str(key_file),
            "implicit_addr": f"{HERE}:0",
            "require_for_auth": False,
        },
        "listen_addr": [f"{HERE}:0", "[::1]:0"] if socket.has_ipv6 else [f"{HERE}:0"],
        "allowed_networks": [
            "127.0.0.0/31",
            "127.0.0.2/32",
            "127.0.0.6/32",
            "203.0.113.0/24",
            "2001:db8::/32",
            "::1/128",
        ],
        "anonymous_networks": ["127.0.0.1/32", "203.0.113.0/25"],
        "proxy_protocol_networks": [f"{BALANCER}/32"],
        "auth_limit": {"failures": 3, "window": 3600},
        **FALLBACK,
    }


def test_allowed_networks(relay: RelayProcess) -> None:
    with RawClient(relay.host, relay.port, source=THERE) as client:
        assert statuses(client, "EHLO c", "NOOP") == ["220", "250", "250 2.0.0"]
    with RawClient(relay.host, relay.port, source="127.0.0.4") as stranger:
        assert stranger.status() == "554 5.7.1"
        assert stranger.is_over()
    line = newest(relay, "network_refused")
    assert (line["client"], line["level"]) == ("127.0.0.4", "info")
    assert "allowed_networks" in line["reason"]


def test_allowed_networks_on_the_implicit_port(relay: RelayProcess) -> None:
    """Nothing can be said there before a handshake that this client is not worth."""
    with RawClient(*relay.addresses()[-1], source="127.0.0.4") as stranger:
        assert stranger.is_over()


def test_anonymous_networks(relay: RelayProcess, upstream: Upstream) -> None:
    mail = ("EHLO c", "MAIL FROM:<a@example.com>")
    with RawClient(relay.host, relay.port, source=HERE) as client:
        assert statuses(client, *mail) == ["220", "250", "250 2.1.0"]
    with RawClient(relay.host, relay.port, source=THERE) as client:
        assert statuses(client, *mail) == ["220", "250", "530 5.7.0"]
        line = newest(relay, "login_required")
        assert line["client"] == THERE
        assert "anonymous_networks" in line["reason"]
        assert client.say(plain("", "")) == "535 5.7.8", "nor the fallback credentials by an empty login"
        assert "anonymous_networks" in newest(relay, "auth_failed")["reason"]
        assert client.say(plain("me@example.com", "x")) == "235 2.7.0"


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_ipv6(relay: RelayProcess) -> None:
    host, port = relay.addresses()[1]
    assert host == "::1"
    with RawClient(host, port) as client:
        assert statuses(client, "EHLO c", "MAIL FROM:<a@example.com>") == ["220", "250", "530 5.7.0"]
    assert newest(relay, "login_required")["client"] == "::1"


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_ipv4_mapped_addresses_are_ipv4(tmp_path: Path, upstream: Upstream) -> None:
    """A socket for both families shows 127.0.0.2 as ::ffff:127.0.0.2, and a configuration may write it so."""
    config = config_for(upstream, listen_addr=":0", allowed_networks=["127.0.0.1", "::ffff:127.0.0.2"])
    with RelayProcess(tmp_path, config) as relay:
        for source in (HERE, THERE):
            with RawClient(HERE, relay.port, source=source) as client:
                assert statuses(client, "EHLO c") == ["220", "250"]
        with RawClient(HERE, relay.port, source="127.0.0.4") as stranger:
            assert stranger.status() == "554 5.7.1"
        assert newest(relay, "network_refused")["client"] == "127.0.0.4"


# auth_limit


def test_auth_limit_over_several_connections(relay: RelayProcess) -> None:
    """One failure a connection: only the address ties them together."""
    for _ in range(3):
        with RawClient(relay.host, relay.port, source=GUESSING) as client:
            assert statuses(client, "EHLO c", plain("aadsts50126@example.com", "x"))[-1] == "535 5.7.8"
    with RawClient(relay.host, relay.port, source=GUESSING) as client:
        assert statuses(client, "EHLO c", plain("me@example.com", "x"))[-1] == "421 4.7.0"
        assert client.is_over()
    line = newest(relay, "auth_limit")
    assert (line["client"], line["user"], line["level"]) == (GUESSING, "me@example.com", "warning")
    assert "auth_limit" in line["reason"]
    with RawClient(relay.host, relay.port, source=HERE) as other:
        assert statuses(other, "EHLO c", plain("me@example.com", "x"))[-1] == "235 2.7.0"


def test_auth_limit_forgets(tmp_path: Path, upstream: Upstream) -> None:
    def log_in(user: str) -> str:
        with RawClient(relay.host, relay.port) as client:
            return statuses(client, "EHLO c", plain(user, "x"))[-1]

    with RelayProcess(tmp_path, config_for(upstream, auth_limit={"failures": 1, "window": 1})) as relay:
        assert log_in("aadsts50126@example.com") == "535 5.7.8"
        wait_until(lambda: log_in("me@example.com") == "235 2.7.0", "the window to pass")


# The PROXY protocol


@pytest.mark.parametrize("header", [v1, v2], ids=["v1", "v2"])
@pytest.mark.parametrize(
    ("source", "address", "status"),
    [
        ("203.0.113.5", "203.0.113.5", "250 2.1.0"),
        ("203.0.113.200", "203.0.113.200", "530 5.7.0"),
        ("2001:db8::5", "2001:db8::5", "530 5.7.0"),
        ("::ffff:203.0.113.5", "203.0.113.5", "250 2.1.0"),
    ],
    ids=["anonymous", "not anonymous", "IPv6", "IPv4-mapped"],
)
def test_proxy_header(relay: RelayProcess, header: Any, source: str, address: str, status: str) -> None:
    """All rules look at the client behind the load balancer, not at the load balancer."""
    with RawClient(relay.host, relay.port, source=BALANCER, ahead=header(source)) as client:
        assert statuses(client, "EHLO c", "MAIL FROM:<a@example.com>")[-1] == status
    assert newest(relay, "smtp_command")["client"] == address


def test_proxy_header_of_a_client_that_may_not(relay: RelayProcess) -> None:
    with RawClient(relay.host, relay.port, source=BALANCER, ahead=v1("198.51.100.1")) as client:
        assert client.status() == "554 5.7.1"
    assert newest(relay, "network_refused")["client"] == "198.51.100.1"


def test_proxy_header_and_commands_in_one_segment(relay: RelayProcess) -> None:
    with RawClient(relay.host, relay.port, source=BALANCER, ahead=v2("203.0.113.5") + b"EHLO c\r\nQUIT\r\n") as client:
        assert [client.status() for _ in range(3)] == ["220", "250", "221 2.0.0"]


def test_proxy_header_octet_by_octet(relay: RelayProcess) -> None:
    with RawClient(relay.host, relay.port, source=BALANCER) as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in v1("203.0.113.5") + b"NOOP\r\n":
            client.send(bytes((octet,)))
        assert [client.status() for _ in range(2)] == ["220", "250 2.0.0"]


def test_proxy_header_ahead_of_implicit_tls(relay: RelayProcess, relay_keys: dict[str, Any]) -> None:
    context = trusting(relay_keys["tls"]["cert_file"])
    for header in (v1, v2):
        with RawClient(*relay.addresses()[-1], source=BALANCER, ahead=header("203.0.113.5"), tls=context) as client:
            assert statuses(client, "EHLO c", "MAIL FROM:<a@example.com>")[-1] == "250 2.1.0"


def test_a_health_check_of_the_load_balancer_itself(tmp_path: Path, upstream: Upstream) -> None:
    config = config_for(upstream, proxy_protocol_networks=[HERE])
    with RelayProcess(tmp_path, config) as relay:
        for header in (V2_LOCAL, b"PROXY UNKNOWN\r\n"):
            with RawClient(relay.host, relay.port, ahead=header) as client:
                assert statuses(client, "QUIT") == ["220", "221 2.0.0"]


@pytest.mark.parametrize("said", [b"EHLO c\r\n", b"\x16\x03\x01\x02\x00", b"PROXY TCP4 a b c d\r\n" + b" " * 20, b""])
def test_no_proxy_header(relay: RelayProcess, said: bytes) -> None:
    before = len(relay.events("proxy_header_missing"))
    with (
        RawClient(relay.host, relay.port, source=BALANCER, ahead=said) as client,
        contextlib.suppress(OSError),  # closed over the rest of what we said
    ):
        client.sock.shutdown(socket.SHUT_WR)
        assert client.sock.recv(100) == b""
    line = wait_until(lambda: relay.events("proxy_header_missing")[before:], "the line in the log")[0]
    assert (line["client"], line["level"]) == (BALANCER, "warning")
    assert "proxy_protocol_networks" in line["reason"]


def test_nobody_else_is_believed(relay: RelayProcess) -> None:
    """A client that is no load balancer cannot say that it is somebody else: the header is an unknown command."""
    with RawClient(relay.host, relay.port, source=THERE, ahead=v1("203.0.113.5")) as client:
        assert statuses(client, "EHLO c", "MAIL FROM:<a@example.com>") == ["220", "500 5.5.2", "250"]
        assert client.status() == "530 5.7.0"
    assert newest(relay, "login_required")["client"] == THERE
    with RawClient(relay.host, relay.port, source=THERE, ahead=v2("203.0.113.5")) as client:
        assert [client.status() for _ in range(3)] == ["220", "500 5.5.2", "221 2.0.0"], "it has a line QUIT in it"


# HAProxy


HAPROXY_CFG = """
global
    log stderr local0
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen v1
    bind 127.0.0.1:{ports[0]}
    bind :::{ports[3]} v4v6
    server relay {plain} send-proxy
listen v2
    bind 127.0.0.1:{ports[1]}
    server relay {plain} send-proxy-v2 check-send-proxy
listen implicit
    bind 127.0.0.1:{ports[2]}
    server relay {implicit} send-proxy-v2
"""


def free_ports(number: int) -> list[int]:
    found = [socket.create_server((HERE, 0)) for _ in range(number)]
    ports = [sock.getsockname()[1] for sock in found]
    for sock in found:
        sock.close()
    return ports


@contextmanager
def haproxy(relay: RelayProcess) -> Iterator[list[int]]:
    """In front of the relay; gives its ports: v1, v2, implicit TLS by v2, v1 for both families."""
    need("haproxy", "haproxy")
    plain_address, implicit = (f"{host}:{port}" for host, port in (relay.addresses()[0], relay.addresses()[-1]))
    ports = free_ports(4)
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "haproxy.cfg"
        config.write_text(HAPROXY_CFG.format(ports=ports, plain=plain_address, implicit=implicit))
        process = subprocess.Popen(
            ["haproxy", "-db", "-q", "-f", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_until(lambda: all(map(listens, ports)), "HAProxy to listen")
            yield ports
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def listens(port: int) -> bool:
    try:
        socket.create_connection((HERE, port)).close()
    except ConnectionRefusedError:
        return False
    return True


def test_behind_haproxy(tmp_path: Path, upstream: Upstream, relay_keys: dict[str, Any]) -> None:
    """The real counterpart: it connects from 127.0.0.1 and tells of a client at 127.0.0.2 or 127.0.0.4."""
    keys = {**relay_keys, "proxy_protocol_networks": [HERE], "anonymous_networks": [THERE], "allowed_networks": [THERE]}
    with RelayProcess(tmp_path, config_for(upstream, **keys)) as relay, haproxy(relay) as ports:
        context = trusting(relay_keys["tls"]["cert_file"])
        wanted = ["220", "250", "250 2.1.0", "250 2.1.5", "354"]
        commands = ("EHLO c", "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>", "DATA")
        ways: list[tuple[int, ssl.SSLContext | None]] = [(port, None) for port in (ports[0], ports[1], ports[3])]
        for number, (port, tls) in enumerate([*ways, (ports[2], context)], 1):
            with RawClient(HERE, port, source=THERE, tls=tls) as client:
                assert statuses(client, *commands) == wanted
                assert client.say(b"Subject: by way of HAProxy\r\n\r\nText.\r\n.\r\n") == "250 2.0.0"
            assert wait_until(lambda: relay.events("delivered"), "the line")[-1]["client"] == THERE
            assert len(upstream.messages()) == number
        with RawClient(HERE, ports[0], source="127.0.0.4") as stranger:
            assert stranger.status() == "554 5.7.1"
        assert newest(relay, "network_refused")["client"] == "127.0.0.4"
        relay.assert_sound()
