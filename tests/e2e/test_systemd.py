# SPDX-License-Identifier: MIT
"""What systemd sees and gives: readiness, reload and stop are told; inherited sockets are served."""

from __future__ import annotations

import base64
import signal
import smtplib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from tests.support.needed import need
from tests.support.relay_process import PATIENCE_S, PROGRAM, RelayProcess, config_for, environment, wait_until
from tests.support.sandbox_client import Upstream

LONG_S = 5 * PATIENCE_S  # a client may wait in the backlog for as long as the next relay takes to start


def test_the_watchdog_is_fed(tmp_path: Path, upstream: Upstream) -> None:
    """Every so often, also at the stop while a client is still being served."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_S)
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "40000"}
        with RelayProcess(tmp_path / "relay", config_for(upstream), env=env):
            for _ in range(3):
                told(manager, "WATCHDOG=1")


def told(manager: socket.socket, wanted: str) -> str:
    """The next message that holds it."""
    while True:
        message = manager.recv(4096).decode("utf-8")
        if wanted in message:
            return message


def test_notify(tmp_path: Path, upstream: Upstream) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_S)
        config = config_for(upstream)
        with RelayProcess(tmp_path / "relay", config, env={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as relay:
            assert f"STATUS=listening on {relay.host}:{relay.port}" in told(manager, "READY=1")
            for text in (yaml.safe_dump(config), "nonsense: 1\n"):  # a faulty one ends the reload too
                relay.config_file.write_text(text)
                relay.signal(signal.SIGHUP)
                assert "MONOTONIC_USEC=" in told(manager, "RELOADING=1")
                told(manager, "READY=1")
            relay.signal(signal.SIGTERM)
            told(manager, "STOPPING=1")
            assert relay.wait() == 0


@contextmanager
def activated(config_file: Path, listener: socket.socket) -> Iterator[None]:
    """The relay as systemd starts it: with the socket as file descriptor 3."""
    launcher = (
        f"import os, sys; os.dup2({listener.fileno()}, 3); "
        "os.environ |= {'LISTEN_FDS': '1', 'LISTEN_FDNAMES': 'smtp', 'LISTEN_PID': str(os.getpid())}; "
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    command = [sys.executable, "-c", launcher, str(PROGRAM), "run", "--config", str(config_file)]
    with subprocess.Popen(
        command, pass_fds=[listener.fileno()], env=environment({}), stdout=subprocess.DEVNULL
    ) as process:
        try:
            yield
        finally:
            process.terminate()
        assert process.wait(PATIENCE_S) == 0


def test_a_restart_under_load_refuses_nobody(tmp_path: Path, upstream: Upstream) -> None:
    """Whoever connects is greeted or told 421 to come back; who is greeted gets an answer to each message."""
    config_file = tmp_path / "config.yaml"
    config_file.write_text(yaml.safe_dump(config_for(upstream, listen_addr="127.0.0.1:1")))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        load = Load(listener.getsockname(), clients=4)
        with load:
            for _ in range(3):
                with activated(config_file, listener):
                    load.wait_for_delivered(25)
            with activated(config_file, listener):
                load.wait_for_delivered(1)  # so that the clients find somebody who answers their last message
                load.finish()
    assert load.faults == []
    assert load.delivered == len(upstream.messages()) > 75


def test_systemds_own_activator(tmp_path: Path, upstream: Upstream) -> None:
    """Not the test's idea of the protocol: systemd-socket-activate opens the port and starts the relay."""
    need("systemd-socket-activate", "systemd")
    config_file = tmp_path / "config.yaml"
    config_file.write_text(yaml.safe_dump(config_for(upstream, listen_addr="127.0.0.1:1")))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
    relay = [sys.executable, str(PROGRAM), "run", "--config", str(config_file)]
    command = ["systemd-socket-activate", f"--listen=127.0.0.1:{address[1]}", "--fdname=smtp", *relay]
    with subprocess.Popen(command, env=environment({}), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert b"Listening on" in process.stderr.readline()
        with greeting(address) as client:
            assert client.recv(100).startswith(b"220 relay.example ")
        process.terminate()
        process.stderr.read()
        assert process.wait(PATIENCE_S) == 0


class Load:
    """Clients that send one message a connection, one behind the other, and note whatever is not as it should be."""

    def __init__(self, address: tuple[str, int], clients: int) -> None:
        self.delivered = 0
        self.faults: list[str] = []
        self._address = address
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(clients)]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self.finish()

    def finish(self) -> None:
        """Each client sends its last message."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def wait_for_delivered(self, more: int) -> None:
        wanted = self.delivered + more
        wait_until(lambda: self.delivered >= wanted or self.faults, f"{more} more messages", LONG_S)
        assert self.faults == []

    def _send(self, number: int) -> None:
        user = f"sender-{number}@example.com"
        while not self._over.is_set():
            try:
                with smtplib.SMTP(*self._address, "client.example", LONG_S) as client:
                    converse(client, user)
                    with self._lock:
                        self.delivered += 1
            except smtplib.SMTPResponseException as refusal:
                if refusal.smtp_code != 421:  # the relay is being stopped: come back
                    self.faults.append(repr(refusal))
            except (smtplib.SMTPException, OSError) as fault:
                self.faults.append(repr(fault))


def converse(client: smtplib.SMTP, user: str) -> None:
    """One message, command by command: smtplib's own methods go on behind a 421."""
    plain = base64.b64encode(f"\0{user}\0password".encode()).decode("ascii")
    for line, wanted in (
        ("EHLO client.example", 250),
        (f"AUTH PLAIN {plain}", 235),
        (f"MAIL FROM:<{user}>", 250),
        ("RCPT TO:<you@example.org>", 250),
        ("DATA", 354),
        ("Subject: x\r\n\r\nText.\r\n.", 250),
    ):
        client.send(f"{line}\r\n".encode("ascii"))
        code, text = client.getreply()
        if code != wanted:
            raise smtplib.SMTPResponseException(code, text)


def greeting(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, timeout=PATIENCE_S)


def test_socket_activation(tmp_path: Path, upstream: Upstream) -> None:
    """No connection is refused over a restart: it waits in the socket's backlog."""
    config_file = tmp_path / "config.yaml"
    config_file.write_text(yaml.safe_dump(config_for(upstream, listen_addr="127.0.0.1:1")))  # has no effect
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(10)
        address = listener.getsockname()
        for _ in range(2):
            with greeting(address) as early, activated(config_file, listener):
                assert early.recv(100).startswith(b"220 ")
                with greeting(address) as later:
                    assert later.recv(100).startswith(b"220 ")
