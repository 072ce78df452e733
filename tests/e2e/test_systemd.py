# SPDX-License-Identifier: MIT
"""What systemd sees and gives: readiness, reload and stop are told; inherited sockets are served."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from tests.support.relay_process import PATIENCE_S, PROGRAM, RelayProcess, config_for, environment
from tests.support.sandbox_client import Upstream


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
