# SPDX-License-Identifier: MIT
"""A sandbox in a process of its own, for tests: started, asked, told to fail, stopped."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

_SCRIPT = Path(__file__).with_name("upstream.py")
_PATIENCE_S = 40.0


class Upstream:
    """`with Upstream(tmp_path) as upstream:` — url and ca_file are what a relay's configuration needs.

    settings: fields of SandboxSettings; sets are given as lists. What the process writes to standard error stays
    visible in the test's own output.
    """

    def __init__(self, directory: Path, **settings: Any) -> None:
        self._directory = directory
        self._settings = settings
        self.url = ""
        self.ca_file = Path()

    def __enter__(self) -> Upstream:
        command = [sys.executable, str(_SCRIPT), "--dir", str(self._directory)]
        command += ["--settings", json.dumps(self._settings)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()  # ends at once, with nothing, when the process dies
        if not line:
            self._stop()
            raise RuntimeError("the sandbox did not start")
        ready = json.loads(line)
        self.url = ready["url"]
        self.ca_file = Path(ready["ca_file"])
        self._tls = ssl.create_default_context(cafile=self.ca_file)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def messages(self, after: int = 0) -> list[dict[str, Any]]:
        """What was captured, but for the first `after` messages."""
        found: list[dict[str, Any]] = self._ask(f"messages?after={after}")
        return found

    def drafts(self) -> list[dict[str, Any]]:
        """Drafts that were made and neither sent nor deleted."""
        found: list[dict[str, Any]] = self._ask("drafts")
        return found

    def stats(self) -> dict[str, Any]:
        """requests by kind and status, max_concurrent by mailbox, messages in all."""
        found: dict[str, Any] = self._ask("stats")
        return found

    def fault(self, **fault: Any) -> None:
        """Script one fault: the fields of relay.sandbox.faults.Fault."""
        self._ask("faults", [fault])

    def release(self) -> None:
        """Let go the requests that faults hold, those included that are still to come."""
        self._ask("release", None)

    def reset(self) -> None:
        """No messages, faults, counters or tokens any more."""
        self._ask("reset", None)

    def revoke(self) -> None:
        """Make every token that was given out invalid."""
        self._ask("revoke", None)

    def _ask(self, path: str, *content: Any) -> Any:
        """GET, or POST where there is content to post."""
        octets = json.dumps(content[0]).encode() if content else None
        request = urllib.request.Request(f"{self.url}/_sandbox/{path}", octets)  # noqa: S310 - always https
        with urllib.request.urlopen(request, context=self._tls, timeout=_PATIENCE_S) as answer:  # noqa: S310
            body = answer.read()
        return json.loads(body) if body else None

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
