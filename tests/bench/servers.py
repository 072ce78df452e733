# SPDX-License-Identifier: MIT
"""The processes of the bench: starts and stops them, reads what they use of memory. Linux only: /proc."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upstream import Upstream

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
_PATIENCE_S = 120.0


class CannotRun(Exception):
    """A process did not start or did not do what it should. The text says which and what it wrote."""


@dataclass(frozen=True, slots=True)
class Server:
    """A process that listens. facts: the line in which it said so."""

    process: subprocess.Popen[bytes]
    facts: Mapping[str, Any]
    started: float  # monotonic, just before exec

    @property
    def target(self) -> dict[str, Any]:
        """Host and port, for a job of load.py."""
        host, _, port = str(self.facts["address"]).rpartition(":")
        return {"host": host, "port": int(port)}

    def seconds_to_greeting(self) -> float:
        """From exec to the first 220; to be called at once."""
        with socket.create_connection(tuple(self.target.values()), timeout=_PATIENCE_S) as sock:
            sock.recv(512)
            return time.monotonic() - self.started


@contextmanager
def start(arguments: Sequence[str], output: Path, listeners: int = 1) -> Iterator[Server]:
    """python with these arguments, from when it listens to the end of the block; output: the file for what it prints.

    Each of our servers prints a line of JSON with "listening" and its address; of several, the last one counts.
    """
    started = time.monotonic()
    # As from an installed package: compiled once, and without the import hooks of a development install.
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        "PYTHONPATH": f"{ROOT}{os.pathsep}{sysconfig.get_path('purelib')}",
        "PYTHONPYCACHEPREFIX": str(output.parent / "compiled"),
    }
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-S", *arguments], cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        yield Server(process, _wait_until_it_listens(process, output, arguments[0], listeners), started)
    finally:
        process.terminate()
        try:
            process.wait(timeout=_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_it_listens(process: subprocess.Popen[bytes], output: Path, name: str, listeners: int) -> dict[str, Any]:
    deadline = time.monotonic() + _PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        lines = output.read_bytes().splitlines(keepends=True)
        said = [line for line in lines if b'"listening"' in line and line.endswith(b"\n")]
        if len(said) >= listeners:
            facts: dict[str, Any] = json.loads(said[-1])
            return facts
        time.sleep(0.002)
    raise CannotRun(f"{name} does not listen; it wrote:\n{output.read_text(errors='replace')}")


class Load:
    """load.py as a process that waits for jobs."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "load.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """The job's result. Raises CannotRun."""
        self.begin(job)
        return self.finish()

    def begin(self, job: Mapping[str, Any]) -> None:
        """Let it start; finish() has to follow."""
        assert self._process.stdin is not None
        self._job = job
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()

    def finish(self) -> dict[str, Any]:
        """Wait for the job's result. Raises CannotRun."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        result: dict[str, Any] = json.loads(line) if line else {"fault": "load.py ended"}
        if "fault" in result:
            raise CannotRun(f"{self._job}: {result['fault']}")
        return result

    def stop(self) -> None:
        """It ends when there are no more jobs."""
        self._process.communicate(timeout=_PATIENCE_S)


def relay_arguments(directory: Path, upstream: Upstream, name: str, **settings: Any) -> list[str]:
    """How the relay is started before this upstream; writes its configuration into directory."""
    config = {
        "listen_addr": "127.0.0.1:0",
        "hostname": "bench.example",  # or the time of the machine's resolver would be measured
        "log_format": "json",
        "max_connections": 1200,
        "oauth2_config": {
            "client_id": "00000000-0000-0000-0000-000000000001",
            "client_secret": "bench",
            "tenant_id": "bench",
            "authority": upstream.url,
        },
        "graph_url": upstream.url,
        "ca_bundle": str(upstream.ca_file),
        **settings,
    }
    path = directory / f"{name}.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    return ["relay.py", "run", "--config", str(path)]


def implicit_tls(upstream: Upstream) -> dict[str, Any]:
    """The settings for a relay that takes TLS alone: a second address has to be there, and is not used."""
    files = {"cert_file": str(upstream.cert_file), "key_file": str(upstream.key_file)}
    return {"tls": {**files, "implicit_addr": "127.0.0.1:0"}}


def peer_arguments(peer: str, upstream: Upstream) -> list[str]:
    """How a peer is started before this upstream."""
    return [str(HERE / f"peer_{peer}.py"), upstream.url, str(upstream.ca_file)]
