# SPDX-License-Identifier: MIT
"""TLS in memory, both sides ours: what one seals, the other opens, in whatever pieces it comes."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from relay.clock import Clock
from relay.selfsigned import write_pair
from relay.tlslayer import TlsLayer


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of the server, and of a client that trusts it."""
    certificate, key = write_pair(tmp_path_factory.mktemp("tls"), ["localhost"], Clock().now())
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=certificate)


Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


def shaken(contexts: Contexts, name: str = "localhost") -> tuple[TlsLayer, TlsLayer]:
    """Server and client behind their handshake, with nothing on its way."""
    server, client = TlsLayer(contexts[0]), TlsLayer(contexts[1], name)
    ours, theirs = socket.socketpair()
    with ours, theirs, ThreadPoolExecutor(1) as threads:
        ours.settimeout(60)
        theirs.settimeout(60)

        def serve() -> None:
            try:
                server.shake_hands(ours.recv, ours.sendall)
            finally:
                ours.shutdown(socket.SHUT_WR)

        served = threads.submit(serve)
        try:
            client.shake_hands(theirs.recv, theirs.sendall)
            theirs.sendall(client.due())
        finally:
            theirs.shutdown(socket.SHUT_WR)
        served.result(60)
    assert client.opened(server.due()) == b""  # tickets for the next time
    return server, client


@pytest.mark.parametrize("size", [0, 1, 16384, 16385, 300_000])
def test_what_is_sealed_is_opened(contexts: Contexts, size: int) -> None:
    server, client = shaken(contexts)
    octets = bytes(index % 251 for index in range(size))
    sealed = server.sealed(octets)
    assert size < 16 or octets[:16] not in sealed
    assert client.opened(sealed) == octets
    assert server.opened(client.sealed(octets)) == octets


@pytest.mark.parametrize("step", [1, 7, 16383, 20000])
def test_pieces_of_any_size(contexts: Contexts, step: int) -> None:
    server, client = shaken(contexts)
    octets = bytes(40_000)
    sealed = server.sealed(octets) + server.sealed(b"the end")
    pieces = [client.opened(sealed[at : at + step]) for at in range(0, len(sealed), step)]
    assert b"".join(pieces) == octets + b"the end"
    assert (pieces[0] == b"") == (step < 16384)
    assert not client.ended


def test_the_end_may_come_with_the_last_words(contexts: Contexts) -> None:
    server, client = shaken(contexts)
    assert server.opened(client.sealed(b"QUIT") + client.goodbye()) == b"QUIT"
    assert server.ended
    assert server.goodbye()  # the other side may still want to hear ours


def test_an_end_alone(contexts: Contexts) -> None:
    server, client = shaken(contexts)
    assert server.opened(client.goodbye()) == b""
    assert server.ended
    with pytest.raises(ssl.SSLError):
        client.sealed(b"one more")


def test_octets_of_somebody_else(contexts: Contexts) -> None:
    server, client = shaken(contexts)
    sealed = bytearray(client.sealed(b"RCPT TO:<a@example.com>"))
    sealed[-1] ^= 1
    with pytest.raises(ssl.SSLError):
        server.opened(bytes(sealed))
    with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):  # the alert
        client.opened(server.goodbye())


@pytest.mark.parametrize("behind", [b"\x17\x03\x03\x00\x20" + bytes(32), b"HTTP/1.1 400 Bad Request"])
def test_what_is_whole_counts_whatever_stands_behind_it(contexts: Contexts, behind: bytes) -> None:
    server, client = shaken(contexts)
    assert client.opened(server.sealed(b"202 ") + server.sealed(b"Accepted") + behind) == b"202 Accepted"
    assert client.ended


def test_a_certificate_for_another_name(contexts: Contexts) -> None:
    """Refused by the client, and the server hears why."""
    with pytest.raises(ssl.SSLCertVerificationError) as refused:
        shaken(contexts, "other.example")
    assert "other.example" in refused.value.verify_message


def from_segments(segments: list[bytes]) -> Callable[[int], bytes]:
    """A receive that gives these, and then the end."""
    return lambda size: segments.pop(0) if segments else b""


def test_a_hang_up_within_the_handshake(contexts: Contexts) -> None:
    client = TlsLayer(contexts[1], "localhost")
    said: list[bytes] = []
    with pytest.raises(ssl.SSLError, match="EOF"):
        client.shake_hands(from_segments([]), said.append)
    assert said[0].startswith(b"\x16\x03")


def test_something_else_than_tls_is_answered_with_an_alert(contexts: Contexts) -> None:
    said: list[bytes] = []
    with pytest.raises(ssl.SSLError):
        TlsLayer(contexts[0]).shake_hands(from_segments([b"\x16\x03\x01\x00\x05hello"]), said.append)
    assert said[-1].startswith(b"\x15\x03")


def test_what_comes_right_behind_the_handshake_is_not_lost(contexts: Contexts) -> None:
    server, client = TlsLayer(contexts[0]), TlsLayer(contexts[1], "localhost")
    ours, theirs = socket.socketpair()
    with ours, theirs, ThreadPoolExecutor(1) as threads:
        ours.settimeout(60)
        theirs.settimeout(60)
        shaking = threads.submit(server.shake_hands, ours.recv, ours.sendall)
        client.shake_hands(theirs.recv, theirs.sendall)
        theirs.sendall(client.sealed(b"EHLO client.example\r\n"))  # the client's last part of the handshake in front
        assert shaking.result(60) == b"EHLO client.example\r\n"
