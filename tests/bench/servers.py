# SPDX-License-Identifier: MIT
"""The processes of the bench: starts and stops them, reads what they use of memory. Linux only: /proc."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
_PATIENCE_S = 30.0


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

    def rss_kib(self) -> int:
        """Resident memory now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


@contextmanager
def start(arguments: Sequence[str], output: Path) -> Iterator[Server]:
    """python with these arguments, from when it listens to the end of the block; output: the file for what it prints.

    Each of our servers prints a line of JSON with "listening" and its address.
    """
    started = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        yield Server(process, _wait_until_it_listens(process, output, arguments[0]), started)
    finally:
        process.terminate()
        try:
            process.wait(timeout=_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_it_listens(process: subprocess.Popen[bytes], output: Path, name: str) -> Mapping[str, Any]:
    deadline = time.monotonic() + _PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        for line in output.read_bytes().splitlines(keepends=True):
            if b'"listening"' in line and line.endswith(b"\n"):
                facts: dict[str, Any] = json.loads(line)
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
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        result: dict[str, Any] = json.loads(line) if line else {"fault": "load.py ended"}
        if "fault" in result:
            raise CannotRun(f"{job}: {result['fault']}")
        return result

    def stop(self) -> None:
        """It ends when there are no more jobs."""
        self._process.communicate(timeout=_PATIENCE_S)


def relay_arguments(directory: Path, upstream: Server) -> list[str]:
    """How the relay is started before this upstream; writes its configuration into directory."""
    url = upstream.facts["address"]
    config = {
        "listen_addr": "127.0.0.1:0",
        "hostname": "bench.example",  # or the time of the machine's resolver would be measured
        "log_format": "json",
        "max_connections": 1200,
        "oauth2_config": {
            "client_id": "00000000-0000-0000-0000-000000000001",
            "client_secret": "bench",
            "tenant_id": "bench",
            "authority": url,
        },
        "graph_url": url,
        "ca_bundle": upstream.facts["ca_file"],
    }
    path = directory / "config.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    return ["relay.py", "run", "--config", str(path)]


def peer_arguments(upstream: Server) -> list[str]:
    """How the peer is started before this upstream."""
    return [str(HERE / "peer_aiosmtpd.py"), upstream.facts["address"], upstream.facts["ca_file"]]
