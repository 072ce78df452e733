# SPDX-License-Identifier: MIT
"""The relay as a process of its own, for tests: configured, started, its log read, signalled, stopped.

Knows the command line, the keys of the configuration and the shape of a JSON log line; nothing of the relay's insides.
Everything that the process writes stays as a file in its directory, where a test can search it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import smtplib
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeVar

import yaml

from tests.support.sandbox_client import Upstream

T = TypeVar("T")

CHECKOUT = Path(__file__).parents[2]
PROGRAM = CHECKOUT / "relay.py"
CLIENT_ID = "00000000-0000-0000-0000-000000000001"
CLIENT_SECRET = "sandbox-secret"
PATIENCE_S = 40.0
_LOOK_AGAIN_S = 0.01
# What would send the relay elsewhere than the test wants.
_NOT_INHERITED = frozenset(("GRAPH_SMTP_RELAY_CONFIG", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))
_LISTENING = re.compile(r'listening(?: address=|", "address": ")([^"\s]+:\d+)')
_FAULTS = frozenset(("session_fault", "submission_fault", "janitor_task_failed", "worker_fault", "supervisor_fault"))


def config_for(upstream: Upstream, **keys: Any) -> dict[str, Any]:
    """A configuration for a relay in front of this sandbox, on a free port. keys: what differs; None leaves one out."""
    config: dict[str, Any] = {
        "listen_addr": "127.0.0.1:0",
        "hostname": "relay.example",
        "log_level": "debug",
        "oauth2_config": {
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "tenant_id": "sandbox",
            "authority": upstream.url,
        },
        "graph_url": upstream.url,
        "ca_bundle": str(upstream.ca_file),
        "retry_initial_delay": 1,
        "auth_limit": {"failures": 1000, "window": 60},  # all tests come from one address
    }
    return {key: value for key, value in {**config, **keys}.items() if value is not None}


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Ours, without proxies and the like, and with more."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _NOT_INHERITED and not name.lower().endswith("_proxy")
    }
    return {**kept, **more}


def wait_until(look: Callable[[], T], what: str, patience_s: float = PATIENCE_S) -> T:
    """What look() gives as soon as it is true. Raises AssertionError when that takes too long."""
    end = time.monotonic() + patience_s
    while not (found := look()):
        assert time.monotonic() < end, f"waited {patience_s} s for {what}"
        time.sleep(_LOOK_AGAIN_S)
    return found


def run_once(
    *arguments: str | Path,
    program: Path = PROGRAM,
    prefix: Sequence[str] = (),
    python: str = sys.executable,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    text: str = "",
) -> subprocess.CompletedProcess[str]:
    """The command line run to its end, for what ends by itself. prefix: a command that starts it, such as setpriv."""
    return subprocess.run(
        [*prefix, python, str(program), *map(str, arguments)],
        input=text,
        capture_output=True,
        text=True,
        env=environment(env or {}),
        cwd=cwd,
        timeout=PATIENCE_S,
        check=False,
    )


class RelayProcess:
    """`with RelayProcess(tmp_path, config_for(upstream)) as relay:` — listening from then on, stopped at the end.

    arguments: the command line; without, `run --config FILE`. A process that does not end within the patience after
    SIGTERM is killed, and the test fails.
    """

    def __init__(
        self,
        directory: Path,
        config: Mapping[str, Any],
        *,
        arguments: Sequence[str | Path] | None = None,
        program: Path = PROGRAM,
        prefix: Sequence[str] = (),
        python: str = sys.executable,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.config_file = directory / "config.yaml"
        self.stdout_file = directory / "stdout.log"
        self.stderr_file = directory / "stderr.log"
        self.log_file = Path(config["log"]) if config.get("log") else self.stdout_file
        self.host, self.port = "", 0
        self.write_config(config)
        arguments = ("run", "--config", self.config_file) if arguments is None else arguments
        self._command = [*prefix, python, str(program), *map(str, arguments)]
        self._env = environment(env or {})
        self._cwd = cwd
        self._lines: list[dict[str, Any]] = []
        self._read_to = 0

    def __enter__(self) -> RelayProcess:
        with self.stdout_file.open("wb") as stdout:
            self.start(stdout)
        try:
            address = self._listening_address()
        except BaseException:
            self._kill()
            raise
        self.host, _, port = address.rpartition(":")
        self.port = int(port)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, stdout: IO[bytes]) -> None:
        """Start, and wait for nothing: for a relay whose log cannot be read. stop() has to follow."""
        with self.stderr_file.open("wb") as stderr:
            self.process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=self._env, cwd=self._cwd
            )

    def stop(self) -> None:
        """SIGTERM, where it has not ended yet."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._kill()
                raise

    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each listener: those of listen_addr, then those of tls.implicit_addr. For JSON logs."""
        found = [line["address"].rpartition(":") for line in self.events("listening")]
        return [(host.strip("[]"), int(port)) for host, _, port in found]

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the configuration file anew; SIGHUP makes the relay read it."""
        self.config_file.touch(0o600)
        self.config_file.write_text(yaml.safe_dump(dict(config), allow_unicode=True), encoding="utf-8")

    def smtp(self, login: str = "", password: str = "") -> smtplib.SMTP:
        """A client that is connected and has said EHLO; logged in where a login is given."""
        client = smtplib.SMTP(self.host, self.port, local_hostname="client.example", timeout=PATIENCE_S)
        try:
            client.ehlo()
            if login:
                client.login(login, password)
        except BaseException:
            client.close()
            raise
        return client

    def log(self) -> list[dict[str, Any]]:
        """Every log line so far. A line that is no JSON object fails the test."""
        with self.log_file.open("rb") as stream:
            stream.seek(self._read_to)
            octets = stream.read()
        whole = octets[: octets.rfind(b"\n") + 1]
        self._read_to += len(whole)
        self._lines += (json.loads(line) for line in whole.splitlines())
        return self._lines

    def events(self, *names: str, **facts: Any) -> list[dict[str, Any]]:
        """The lines of these events that hold all these facts."""
        return [
            line
            for line in self.log()
            if line["event"] in names and all(line.get(name) == value for name, value in facts.items())
        ]

    def wait_for(self, event: str, **facts: Any) -> dict[str, Any]:
        """The first line of this event with these facts, as soon as it is there."""

        def look() -> list[dict[str, Any]]:
            found = self.log_file.exists() and self.events(event, **facts)
            if not found:
                assert self.process.poll() is None, f"the relay ended: {self.stderr}"
            return found or []

        return wait_until(look, f"{event} in the log")[0]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, patience_s: float = PATIENCE_S) -> int:
        """The exit code, when the process ends."""
        return self.process.wait(patience_s)

    @property
    def stderr(self) -> str:
        return self.stderr_file.read_text(encoding="utf-8")

    def assert_sound(self, after: int = 0) -> None:
        """Running, nothing on standard error, and behind the first `after` lines of the log no fault of its own."""
        assert self.process.poll() is None
        assert [line for line in self.log()[after:] if line["event"] in _FAULTS] == []
        assert self.stderr == ""

    def _listening_address(self) -> str:
        """HOST:PORT, as the log gives it in either format."""

        def look() -> re.Match[str] | None:
            assert self.process.poll() is None, f"the relay ended: {self.stderr}"
            return _LISTENING.search(self.log_file.read_text("utf-8")) if self.log_file.exists() else None

        found = wait_until(look, "the relay to listen", 3 * PATIENCE_S)  # on a busy machine it takes its time
        assert found is not None
        return found[1]

    def _kill(self) -> None:
        self.process.kill()
        self.process.wait()
