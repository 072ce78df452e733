# SPDX-License-Identifier: MIT
"""Clients that misbehave: each is ended by a limit that has its reply, the others go on, and memory stays bounded."""

from __future__ import annotations

import contextlib
import resource
import signal
import socket
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Login
from tests.support.raw import PATIENCE_S, RawClient
from tests.support.relay_process import RelayProcess, config_for, wait_until
from tests.support.sandbox_client import Upstream

LINE = b"x" * 4096
MOST_TIMES = 10_000


@pytest.fixture(scope="module")
def relay_keys() -> dict[str, Any]:
    """Time limits as short as a test wants them; a message may have 64 KiB, which is less than a read."""
    return {
        "command_timeout": 1,
        "connection_timeout": 3,
        "max_message_size": 65536,
        "max_connections": 700,
        "log_level": "info",
        "allow_anonymous": True,
        "fallback_smtp_user": "fallback@example.com",
        "fallback_smtp_pass": "x",
    }


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def connect(relay: RelayProcess, stack: ExitStack) -> RawClient:
    return stack.enter_context(RawClient(relay.host, relay.port))


def greeted(relay: RelayProcess, stack: ExitStack) -> RawClient:
    client = connect(relay, stack)
    assert [client.status(), client.say("EHLO c")] == ["220", "250"]
    return client


def in_data(relay: RelayProcess, stack: ExitStack) -> RawClient:
    client = greeted(relay, stack)
    wanted = {"MAIL FROM:<a@example.com>": "250 2.1.0", "RCPT TO:<b@example.org>": "250 2.1.5", "DATA": "354"}
    assert {command: client.say(command) for command in wanted} == wanted
    return client


def memory_kib(relay: RelayProcess) -> int:
    """Resident, now."""
    status = Path(f"/proc/{relay.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def others_go_on(relay: RelayProcess, upstream: Upstream, login: Login) -> None:
    """Somebody else delivers a message; a relay that waited for a misbehaving client would run into a timeout here."""
    before = len(upstream.messages())
    with relay.smtp(login.user, login.password) as client:
        client.sendmail(login.user, ["you@example.org"], "Subject: meanwhile\r\n\r\nText.\r\n")
    assert len(upstream.messages()) == before + 1


def say_until_ended(client: RawClient, octets: bytes, pause_s: float = 0) -> list[str]:
    """Say it again and again until the server has had enough; the statuses that came."""
    client.sock.settimeout(PATIENCE_S)
    with contextlib.suppress(OSError):  # that is the end
        for _ in range(MOST_TIMES):
            client.send(octets)
            time.sleep(pause_s)
        pytest.fail("nothing ends this session")
    return hear_out(client)


def hear_out(client: RawClient) -> list[str]:
    found = []
    with contextlib.suppress(OSError, AssertionError):  # a reset may have taken the last words away
        while True:
            found.append(client.status())
    return found


# Slow ones


@pytest.mark.parametrize("said", ["command", "data", "auth"])
def test_an_octet_at_a_time(relay: RelayProcess, upstream: Upstream, login: Login, stack: ExitStack, said: str) -> None:
    """A command as a whole has command_timeout; data has it for each piece, and the connection its own end."""
    client = in_data(relay, stack) if said == "data" else greeted(relay, stack)
    if said == "auth":
        assert client.say("AUTH LOGIN") == "334"
    others_go_on(relay, upstream, login)
    assert say_until_ended(client, b"x", 0.1)[-1:] in (["421 4.4.2"], [])
    assert relay.wait_for("timeout")


def test_half_open(relay: RelayProcess, upstream: Upstream, login: Login, stack: ExitStack) -> None:
    """Twenty that connect and say nothing, and twenty that stop in the middle."""
    silent = [connect(relay, stack) for _ in range(20)]
    stuck = [in_data(relay, stack) for _ in range(20)]
    for client in stuck:
        client.send(b"Subject: half")
    others_go_on(relay, upstream, login)
    for client in silent:
        assert [client.status(), client.status()] == ["220", "421 4.4.2"]
        assert client.is_over()
    for client in stuck:
        assert client.status() == "421 4.4.2"
        assert client.is_over()
    assert [message for message in upstream.messages() if message["message"]["subject"] == "half"] == []


def test_who_does_not_read_our_replies(relay: RelayProcess, upstream: Upstream, login: Login, stack: ExitStack) -> None:
    """Each command asks for 40 times its octets. What nobody takes is not kept: we stop reading too, and end it."""
    clients = [greeted(relay, stack) for _ in range(10)]
    before = memory_kib(relay)
    for client in clients:
        client.sock.settimeout(0.2)
        with contextlib.suppress(OSError):  # full on both sides, or ended already
            while True:
                client.send(b"EHLO c\r\n" * 4000)
    others_go_on(relay, upstream, login)
    assert memory_kib(relay) - before < 60_000
    for client in clients:
        wait_until(lambda client=client: is_reset(client.sock), "the end of it")


def test_who_is_always_ahead_of_us(tmp_path: Path, upstream: Upstream, login: Login, stack: ExitStack) -> None:
    """Commands without end, faster than we read them, from somebody who takes all replies: others have their turns."""
    config = config_for(upstream, log_level="info", connection_timeout=3600)
    with RelayProcess(tmp_path, config) as relay:
        client = greeted(relay, stack)
        with ThreadPoolExecutor(2) as threads:
            threads.submit(say_for_ever, client, b"NOOP\r\n" * 50_000)
            threads.submit(hear_out, client)
            try:
                others_go_on(relay, upstream, login)
            finally:
                client.sock.shutdown(socket.SHUT_RDWR)
        relay.assert_sound()


def say_for_ever(client: RawClient, octets: bytes) -> None:
    with contextlib.suppress(OSError):  # that is the end
        while True:
            client.send(octets)


def test_the_end_of_the_service_does_not_wait_for_who_does_not_read(
    tmp_path: Path, upstream: Upstream, stack: ExitStack
) -> None:
    config = config_for(upstream, log_level="info", command_timeout=3600, shutdown_timeout=3600)
    with RelayProcess(tmp_path, config) as relay:
        client = greeted(relay, stack)
        client.sock.settimeout(1)
        say_for_ever(client, b"EHLO c\r\n" * 4000)  # until both sides are full
        relay.signal(signal.SIGTERM)
        assert relay.wait() == 0
        assert relay.events("session_fault", "shutdown_timeout") == []
        assert relay.stderr == ""


def is_reset(sock: socket.socket) -> bool:
    try:
        sock.send(b"x")
    except TimeoutError:
        return False
    except OSError:
        return True
    return False


# Endless ones


def test_an_endless_command(relay: RelayProcess, upstream: Upstream, login: Login, stack: ExitStack) -> None:
    """All of the line is discarded: when it ends at last, it was one command that was too long."""
    client = greeted(relay, stack)
    before = memory_kib(relay)
    for _ in range(5000):
        client.send(LINE)
    assert memory_kib(relay) - before < 10_000
    assert client.say(b"\r\n") == "500 5.5.2"
    assert client.say("NOOP") == "250 2.0.0"
    others_go_on(relay, upstream, login)


@pytest.mark.parametrize("line", [b"X-Header: x\r\n", b"x", b"\n.\n", b"\0\xff"], ids=["headers", "line", "lf", "nul"])
def test_endless_data(relay: RelayProcess, upstream: Upstream, login: Login, stack: ExitStack, line: bytes) -> None:
    """Over max_message_size it is read and dropped; nothing of it is kept."""
    client = in_data(relay, stack)
    before = memory_kib(relay)
    for _ in range(400):
        client.send(line * (65536 // len(line)))
    others_go_on(relay, upstream, login)
    assert memory_kib(relay) - before < 20_000
    assert client.say(b"\r\n.\r\n") == "552 5.3.4"
    assert client.say("NOOP") == "250 2.0.0"
    assert relay.events("rejected")[-1]["size_bytes"] > 25_000_000


def test_data_without_end_ends_with_the_connection(relay: RelayProcess, stack: ExitStack) -> None:
    client = in_data(relay, stack)
    assert say_until_ended(client, b"X: y\r\n" * 100, 0.01)[-1:] in (["421 4.4.2"], [])


def test_chunks_of_any_size(relay: RelayProcess, upstream: Upstream, login: Login, stack: ExitStack) -> None:
    """What a client announces costs nothing."""
    clients = [greeted(relay, stack) for _ in range(50)]
    before = memory_kib(relay)
    for client in clients:
        client.send(b"BDAT 18446744073709551615\r\n" + LINE * 20)
    others_go_on(relay, upstream, login)
    assert memory_kib(relay) - before < 20_000
    for client in clients:
        assert client.status() == "421 4.4.2"


def test_endless_auth(relay: RelayProcess, upstream: Upstream, login: Login, stack: ExitStack) -> None:
    """Responses without end, cancelled exchanges without end, and passwords without end."""
    endless = greeted(relay, stack)
    assert endless.say("AUTH LOGIN") == "334"
    for _ in range(500):
        endless.send(LINE)
    assert endless.say(b"\r\n") == "500 5.5.2"

    cancelled = greeted(relay, stack)
    answers = []
    for _ in range(20):
        answers += [cancelled.say("AUTH PLAIN"), cancelled.say("*")]
    assert answers == ["334", "501 5.7.0"] * 20
    assert cancelled.status() == "421 4.7.0"
    assert cancelled.is_over()

    guessing = greeted(relay, stack)
    word = b64encode(b"\0aadsts50126@example.com\0guess").decode()
    assert [guessing.say(f"AUTH PLAIN {word}") for _ in range(3)] == ["535 5.7.8"] * 3
    assert guessing.status() == "421 4.7.0"
    assert guessing.is_over()
    others_go_on(relay, upstream, login)


def test_20_bad_commands(relay: RelayProcess, stack: ExitStack) -> None:
    client = greeted(relay, stack)
    client.send(b"X-BAD\r\nRSET x\r\nEXPN x\r\nDATA\r\n" * 5 + b"NOOP\r\n" * 1000)
    assert [client.status() for _ in range(20)] == ["500 5.5.2", "501 5.5.4", "502 5.5.1", "503 5.5.1"] * 5
    assert client.status() == "421 4.7.0"
    assert client.is_over()


def test_a_message_in_the_commands_place(relay: RelayProcess, upstream: Upstream, stack: ExitStack) -> None:
    """A client that does not wait for 354 has its message taken for commands, most of which are none."""
    client = greeted(relay, stack)
    client.send(b"DATA\r\n" + b"Subject: x\r\n" * 30 + b"\r\n.\r\n")
    answers = hear_out(client)
    assert answers == ["503 5.5.1", *["500 5.5.2"] * 19, "421 4.7.0"]
    assert upstream.messages() == []


# Many


def test_600_connections_at_once(relay: RelayProcess, upstream: Upstream, login: Login, stack: ExitStack) -> None:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files[0] < 2000:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(files[1], 4000), files[1]))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, files)
    before = memory_kib(relay)
    clients = [connect(relay, stack) for _ in range(600)]
    assert {client.status() for client in clients} == {"220"}
    others_go_on(relay, upstream, login)
    assert (memory_kib(relay) - before) / 600 < 60, "KiB a connection"
    assert {client.status() for client in clients} == {"421 4.4.2"}


def test_far_more_connections_than_max_connections(tmp_path: Path, upstream: Upstream, stack: ExitStack) -> None:
    """Everyone above gets an answer, sessions go on meanwhile, and places that get free are given away."""
    with RelayProcess(tmp_path, config_for(upstream, max_connections=5, log_level="info")) as relay:
        served = [greeted(relay, stack) for _ in range(5)]
        flood = [connect(relay, stack) for _ in range(100)]
        assert [client.say("NOOP") for client in served] == ["250 2.0.0"] * 5
        for client in flood:
            assert client.status() == "421 4.7.0"
            client.close()
        assert served[0].say("QUIT") == "221 2.0.0"
        assert served[0].is_over()
        greeted(relay, stack)
        assert len(relay.events("too_many_connections")) == 100
        relay.assert_sound()


def test_more_connections_than_file_descriptors(tmp_path: Path, upstream: Upstream, stack: ExitStack) -> None:
    """The limit of the process rises to what max_connections asks for, where the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))  # inherited
    with RelayProcess(tmp_path, config_for(upstream, max_connections=150, log_level="info")) as relay:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        clients = [greeted(relay, stack) for _ in range(120)]
        assert {client.say("NOOP") for client in clients} == {"250 2.0.0"}
        relay.assert_sound()


def test_a_hard_limit_of_file_descriptors_is_named(tmp_path: Path, upstream: Upstream) -> None:
    """Only who may do it can raise that, so the administrator is told at the start."""
    config = config_for(upstream, max_connections=4000, log_level="info")
    with RelayProcess(tmp_path, config, prefix=("prlimit", "--nofile=1000:1000")) as relay:
        line = relay.wait_for("config")
        assert "max_connections" in line["reason"]
        assert "LimitNOFILE" in line["reason"]
