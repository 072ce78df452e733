# SPDX-License-Identifier: MIT
"""make bench: how fast the relay is and how much memory it takes, beside a peer, in interleaved rounds.

Four processes: load.py → the relay, or peer_aiosmtpd.py → upstream.py. Figures are medians of the rounds. Nothing here
fails because of a figure; it fails when something does not run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import report
import servers
from servers import CannotRun, Load, Server

IDLE_CONNECTIONS = 1000
KIB, MIB = 1024, 1024 * 1024


@dataclass(frozen=True, slots=True)
class Cell:
    """One way to load a server."""

    size: int
    connections: int
    upstream_ms: int
    keep: bool = False
    pipeline: bool = True


CELLS = (
    *(Cell(2 * KIB, connections, upstream_ms) for upstream_ms in (0, 200) for connections in (1, 10, 100)),
    Cell(2 * KIB, 100, 200, keep=True),
    Cell(2 * KIB, 10, 0, keep=True),
    Cell(2 * KIB, 10, 0, pipeline=False),
    Cell(2 * KIB, 10, 0, keep=True, pipeline=False),
    Cell(MIB, 4, 0),
)


@dataclass(frozen=True, slots=True)
class Effort:
    """How long all takes."""

    rounds: int
    seconds: float  # for each cell, server and round
    warm_up_s: float


FULL = Effort(rounds=5, seconds=1.5, warm_up_s=0.4)
SHORT = Effort(rounds=1, seconds=0.4, warm_up_s=0.1)


@dataclass(slots=True)
class Results:
    """What was measured: a list item for each round, in the order of time."""

    machine: dict[str, Any]
    calibration_ms: list[float] = field(default_factory=list)
    start: dict[str, list[dict[str, float]]] = field(default_factory=dict)  # by server
    cells: list[dict[str, Any]] = field(default_factory=list)  # a Cell's fields, and a list of results by server


class Bench:
    """The processes, and one round after the other."""

    def __init__(self, directory: Path, effort: Effort, stack: ExitStack) -> None:
        self._directory = directory
        self._effort = effort
        self._load = Load()
        stack.callback(self._load.stop)
        self._upstream = stack.enter_context(
            servers.start([str(servers.HERE / "upstream.py"), str(directory)], directory / "upstream.log")
        )
        self._arguments = {
            "relay": servers.relay_arguments(directory, self._upstream),
            "aiosmtpd": servers.peer_arguments(self._upstream),
        }
        self._servers = {
            name: stack.enter_context(servers.start(arguments, directory / f"{name}.log"))
            for name, arguments in self._arguments.items()
        }

    def run(self, progress: Callable[[str], None]) -> Results:
        """All rounds. Raises CannotRun."""
        results = Results(_machine(), cells=[asdict(cell) for cell in CELLS])
        for server in self._servers.values():
            for upstream_ms in (0, 200):  # tokens are fetched, connections to the upstream opened
                self._send(server, Cell(2 * KIB, 100, upstream_ms), self._effort.warm_up_s)
        for number in range(self._effort.rounds):
            progress(f"round {number + 1} of {self._effort.rounds}")
            results.calibration_ms.append(calibrate_ms())
            names = list(self._servers)
            if number % 2:
                names.reverse()
            for name in names:
                results.start.setdefault(name, []).append(self._measure_start(name))
            for cell, kept in zip(CELLS, results.cells, strict=True):
                for name in names:
                    result = self._send(self._servers[name], cell, self._effort.seconds)
                    kept.setdefault(name, []).append(result)
        return results

    def _send(self, server: Server, cell: Cell, seconds: float) -> dict[str, Any]:
        return self._load.run(
            {
                "job": "send",
                **server.target,
                "size": cell.size,
                "connections": cell.connections,
                "users": f"d{cell.upstream_ms}.user",
                "seconds": seconds,
                "warm_up_s": self._effort.warm_up_s,
                "spread_s": cell.upstream_ms / 1000,
                "keep": cell.keep,
                "pipeline": cell.pipeline,
                "pids": {"server": server.process.pid, "upstream": self._upstream.process.pid},
            }
        )

    def _measure_start(self, name: str) -> dict[str, float]:
        """A fresh process: its first greeting, its memory, and what idle connections add."""
        with servers.start(self._arguments[name], self._directory / "start.log") as server:
            first_220_s = server.seconds_to_greeting()
            self._send(server, Cell(2 * KIB, 1, 0), 0.1)
            idle_kib = server.rss_kib()
            self._load.run({"job": "idle", **server.target, "count": IDLE_CONNECTIONS})
            connected_kib = server.rss_kib()
            self._load.run({"job": "close"})
        return {"first_220_s": first_220_s, "idle_kib": idle_kib, "connected_kib": connected_kib}


def calibrate_ms() -> float:
    """The time of a fixed piece of work in Python: by it, figures of different machines can be compared."""
    begun = time.process_time()
    words: dict[str, int] = {}
    for number in range(100_000):
        word = hashlib.sha256(b"%d" % (number % 1000)).hexdigest()[:8]
        words[word] = words.get(word, 0) + len(word.upper().split("a"))
    return (time.process_time() - begun) * 1000


def _machine() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],  # before anything was started: other work spoils all figures
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--short", action="store_true", help="one short round: shows that the bench runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args()
    most_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))  # for what we start: 1,000 connections
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as directory, ExitStack() as stack:
            bench = Bench(Path(directory), SHORT if options.short else FULL, stack)
            results = bench.run(lambda text: print(text, file=sys.stderr, flush=True))
    except CannotRun as fault:
        print(f"bench: {fault}", file=sys.stderr)
        return 1
    print(report.text(results.machine, results.calibration_ms, results.start, results.cells, IDLE_CONNECTIONS))
    if options.json:
        options.json.write_text(json.dumps(asdict(results), indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
