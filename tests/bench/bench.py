# SPDX-License-Identifier: MIT
"""make bench: how fast the relay is and how much memory it takes, beside two peers, in interleaved rounds.

Processes: load.py → the relay, or peer_*.py → nginx (upstream.py). Figures are medians of the rounds. Nothing
here fails because of a figure; it fails when something does not run. docs/performance.md says how to read it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import chart
import processes
import report
import servers
import upstream
from figures import FIGURES, PEERS
from servers import ROOT, CannotRun, Load, Server

sys.path.insert(0, str(ROOT))
from tests.support.relay_process import CLIENT_ID, CLIENT_SECRET
from tests.support.sandbox_client import Upstream as SandboxProcess

KIB, MIB = 1024, 1024 * 1024
IDLE_CONNECTIONS = 1000
_THROTTLED_DELAY_S = 0.5
_THROTTLED_PLACES = 4


@dataclass(frozen=True, slots=True)
class Cell:
    """One way to load a server. server: its name; peers: they get the same; tls: the newest version of the client."""

    name: str
    server: str
    size: int
    connections: int
    upstream_ms: int = 0
    keep: bool = False
    pipeline: bool = True
    peers: bool = False
    tls: str = "TLSv1_3"


CELLS = (
    Cell("2k_new_json", "json", 2 * KIB, 10, peers=True),
    Cell("2k_new_mime", "mime", 2 * KIB, 10),
    Cell("2k_new_tls", "tls", 2 * KIB, 10),
    Cell("2k_new_tls_12", "tls", 2 * KIB, 10, tls="TLSv1_2"),
    Cell("2k_kept_json", "json", 2 * KIB, 10, keep=True, peers=True),
    Cell("2k_kept_mime", "mime", 2 * KIB, 10, keep=True),
    Cell("2k_new_json_no_pipelining", "json", 2 * KIB, 10, pipeline=False),
    Cell("2k_new_json_1", "json", 2 * KIB, 1),
    Cell("2k_new_json_50", "json", 2 * KIB, 50),
    Cell("2k_new_json_50_two_workers", "workers", 2 * KIB, 50),
    Cell("2k_new_json_100_late", "json", 2 * KIB, 100, upstream_ms=200, peers=True),
    Cell("2k_kept_json_100_late", "json", 2 * KIB, 100, upstream_ms=200, keep=True),
    Cell("1m_json", "json", MIB, 4, peers=True),
    Cell("1m_mime", "mime", MIB, 4),
    Cell("20m_uploads", "json", 20 * MIB, 2),
)


@dataclass(frozen=True, slots=True)
class Effort:
    """How long all takes. large: the measurements that need gigabytes or ten thousand connections too."""

    rounds: int
    seconds: float  # for each cell, server and round
    warm_up_s: float
    throttled_s: float
    large: bool = True


FULL = Effort(rounds=5, seconds=1.5, warm_up_s=0.4, throttled_s=8.0)
SHORT = Effort(rounds=1, seconds=0.3, warm_up_s=0.1, throttled_s=1.5, large=False)


@dataclass(slots=True)
class Results:
    """What was measured: a list item for each round, in the order of time."""

    machine: dict[str, Any]
    calibration_ms: list[float] = field(default_factory=list)
    beside_ms: dict[str, list[float]] = field(default_factory=dict)  # by figure: the calibration loop beside each value
    cells: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # by cell; a peer's: PEER:CELL
    figures: dict[str, list[float]] = field(default_factory=dict)  # by the names of FIGURES

    def add(self, name: str, value: float) -> None:
        self.figures.setdefault(name, []).append(value)

    def calibrate(self) -> None:
        """Time the loop; what was measured since the last time is compared by the mean of both."""
        self.calibration_ms.append(calibrate_ms())
        beside_ms = statistics.mean(self.calibration_ms[-2:])
        for name, values in self.figures.items():
            known = self.beside_ms.setdefault(name, [])
            known += [beside_ms] * (len(values) - len(known))


class Bench:
    """The processes, and one round after the other."""

    def __init__(self, directory: Path, effort: Effort, stack: ExitStack, say: Callable[[str], None]) -> None:
        self._directory = directory
        self._effort = effort
        self._say = say
        self._loads = [Load() for _ in range(3)]
        for load in self._loads:
            stack.callback(load.stop)
        self._load = self._loads[0]
        self._upstream = stack.enter_context(upstream.start(directory))
        self._settings: dict[str, dict[str, Any]] = {
            "json": {},
            "mime": {"graph_format": "mime"},
            "tls": servers.implicit_tls(self._upstream),
            "workers": {"workers": 2},
        }
        self._servers: dict[str, Server] = {}
        for name in self._settings:
            try:
                self._servers[name] = stack.enter_context(self._relay(name))
            except CannotRun as fault:
                if name != "workers":
                    raise
                say(f"no figures with two workers: {fault}")
        self._peers = {
            peer: stack.enter_context(
                servers.start(servers.peer_arguments(peer, self._upstream), directory / f"{peer}.log")
            )
            for peer in PEERS
        }

    def run(self) -> Results:
        """All rounds. Raises CannotRun."""
        results = Results(_machine())
        for server in (*self._servers.values(), *self._peers.values()):
            for upstream_ms in (0, 200):  # tokens are fetched, connections to the upstream opened
                self._send(server, Cell("", "", 2 * KIB, 100, upstream_ms), seconds=0.5)
        for number in range(self._effort.rounds):
            self._say(f"round {number + 1} of {self._effort.rounds}")
            results.calibrate()
            for cell in CELLS if number % 2 == 0 else reversed(CELLS):
                self._measure(cell, results)
                results.calibrate()
            self._measure_start(results)
            results.calibrate()
            self._measure_fairness(results)
            results.calibrate()
            self._measure_idle(results, "plain")
            self._measure_idle(results, "tls")
            self._measure_throttled(results)
            self._measure_peak(results, "one_25m", 25 * MIB - 64 * KIB, 1)
            if self._effort.large:
                self._measure_peak(results, "four_20m", 20 * MIB, 4)
                self._measure_peak(results, "twenty_25m", 25 * MIB - 64 * KIB, 20)
                self._measure_peak(results, "fifty_20m", 20 * MIB, 50)
        if self._effort.large:
            self._say("10,000 idle connections")
            self._measure_many_idle(results)
        results.calibrate()
        return results

    @contextmanager
    def _relay(self, name: str, **settings: Any) -> Iterator[Server]:
        arguments = servers.relay_arguments(self._directory, self._upstream, name, **self._settings[name], **settings)
        output = self._directory / f"{name}-{time.monotonic_ns()}.log"
        with servers.start(arguments, output, 2 if name == "tls" else 1) as server:
            yield server

    def _send(self, server: Server, cell: Cell, *, load: int = 0, **more: Any) -> dict[str, Any]:
        job = {
            "job": "send",
            **server.target,
            "size": cell.size,
            "connections": cell.connections,
            "users": f"d{cell.upstream_ms}.user",
            "warm_up_s": self._effort.warm_up_s,
            "spread_s": cell.upstream_ms / 1000,
            "keep": cell.keep,
            "pipeline": cell.pipeline,
            "tls": cell.tls if cell.server == "tls" or server is self._servers.get("tls") else "",
            "ca_file": str(self._upstream.ca_file),
            "pids": {"server": server.process.pid}
            | {name: process.pid for name, process in self._upstream.processes.items()},
            **more,
        }
        return self._loads[load].run(job)

    def _measure(self, cell: Cell, results: Results) -> None:
        if cell.server not in self._servers:
            return
        seconds = self._effort.seconds
        # Large ones are counted, since few of them end within the seconds.
        much: dict[str, Any] = {"messages": 4} if cell.size > 10 * MIB else {"seconds": seconds}
        result = self._send(self._servers[cell.server], cell, **much)
        results.cells.setdefault(cell.name, []).append(result)
        if cell.peers:
            for peer, server in self._peers.items():
                results.cells.setdefault(f"{peer}:{cell.name}", []).append(self._send(server, cell, seconds=seconds))
        per_second = result["messages"] / result["seconds"]
        results.add(f"{cell.name}.cpu_ms", result["cpu_s"]["server"] / max(result["messages"], 1) * 1000)
        results.add(f"{cell.name}.per_second", per_second)
        results.add(f"{cell.name}.p99_ms", result["p99_ms"])
        if cell.upstream_ms:
            possible = cell.connections * 1000 / cell.upstream_ms
            results.add(f"{cell.name}.share", per_second / possible * 100)

    def _measure_start(self, results: Results) -> None:
        with self._relay("json") as server:
            results.add("first_220_s", server.seconds_to_greeting())
            self._send(server, Cell("", "", 2 * KIB, 1), messages=1)
            results.add("idle_mib", processes.memory_kib(server.process.pid) / KIB)

    def _measure_idle(self, results: Results, kind: str) -> None:
        with self._relay("tls" if kind == "tls" else "json") as server:
            cell = Cell("", "tls" if kind == "tls" else "json", 2 * KIB, 20)
            self._send(server, cell, messages=20)
            before = processes.memory_kib(server.process.pid)
            idle = {"job": "idle", **server.target, "count": IDLE_CONNECTIONS, "tls": cell.tls if kind == "tls" else ""}
            self._load.run({**idle, "ca_file": str(self._upstream.ca_file)})
            each = (processes.memory_kib(server.process.pid) - before) / IDLE_CONNECTIONS
            self._load.run({"job": "close"})
        results.add(f"idle_{kind}_kib", each)

    def _measure_many_idle(self, results: Results) -> None:
        with self._relay("json", max_connections=10_100) as server:
            self._load.run({"job": "idle", **server.target, "count": 10_000})
            sent = self._send(server, Cell("", "", 2 * KIB, 10), load=1, messages=1000)
            self._load.run({"job": "close"})
        results.add("many_idle_served", sent["messages"])

    def _measure_peak(self, results: Results, name: str, size: int, count: int) -> None:
        """The high-water mark of resident memory while so many messages come at a time, above what it was before."""
        with self._relay("json") as server:
            self._send(server, Cell("", "", 2 * KIB, 10), messages=50)
            before = processes.memory_kib(server.process.pid)
            processes.reset_peak(server.process.pid)
            self._send(server, Cell("", "", size, count), messages=count)
            peak = processes.memory_kib(server.process.pid, "VmHWM")
        results.add(f"{name}.peak_mib", (peak - before) / KIB)

    def _measure_fairness(self, results: Results) -> None:
        """2 KiB messages alone, and with NOOPs beside them while four of 20 MiB are handled all the time."""
        server = self._servers["json"]
        seconds = self._effort.seconds * 2
        small = Cell("", "json", 2 * KIB, 10)
        alone = self._send(server, small, seconds=seconds)
        target = {**server.target, "seconds": seconds + 0.5}
        large = {"job": "send", **target, "size": 20 * MIB, "connections": 4, "users": "d0.large"}
        self._loads[1].begin(large)
        time.sleep(0.3)
        self._loads[2].begin({"job": "probe", **target, "seconds": seconds})
        beside = self._send(server, small, seconds=seconds)
        probe = self._loads[2].finish()
        self._loads[1].finish()
        results.add("beside_large.p99_ms", beside["p99_ms"])
        results.add("beside_large.p99_ratio", beside["p99_ms"] / max(alone["p99_ms"], 0.001))
        results.add("beside_large.noop_p99_ms", probe["p99_ms"])
        results.add("beside_large.noop_longest_ms", probe["p100_ms"])

    def _measure_throttled(self, results: Results) -> None:
        """One mailbox before the sandbox, which answers 429 to a fifth request at a time."""
        directory = self._directory / f"sandbox-{time.monotonic_ns()}"
        directory.mkdir()
        settings = {"mailbox_concurrency": _THROTTLED_PLACES}
        with SandboxProcess(directory, **settings) as sandbox, ExitStack() as stack:
            sandbox.fault(kind="sendMail", count=-1, delay_s=_THROTTLED_DELAY_S)
            arguments = servers.relay_arguments(
                directory,
                sandbox,
                "throttled",
                oauth2_config={
                    "client_id": CLIENT_ID,
                    "client_secret": CLIENT_SECRET,
                    "tenant_id": "sandbox",
                    "authority": sandbox.url,
                },
            )
            server = stack.enter_context(servers.start(arguments, directory / "relay.log"))
            cell = Cell("", "", 2 * KIB, 12, keep=True)
            sent = self._send(server, cell, seconds=self._effort.throttled_s, users="me@bench.example")
            statuses: Mapping[str, int] = sandbox.stats()["requests"].get("sendMail", {})
        possible = _THROTTLED_PLACES / _THROTTLED_DELAY_S * sent["seconds"]
        results.add("throttled.refused", statuses.get("429", 0) / max(sum(statuses.values()), 1) * 100)
        results.add("throttled.share", sent["messages"] / possible * 100)


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
    parser.add_argument("--rounds", type=int, help="how many rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured there")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="write a chart there, in SVG")
    options = parser.parse_args()
    effort = SHORT if options.short else FULL
    rounds = options.rounds or effort.rounds
    most_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))  # for what we start

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as directory, ExitStack() as stack:
            effort = Effort(rounds, effort.seconds, effort.warm_up_s, effort.throttled_s, effort.large)
            results = Bench(Path(directory), effort, stack, say).run()
    except (CannotRun, upstream.NoNginx) as fault:
        print(f"bench: {fault}", file=sys.stderr)
        return 1
    _derive(results)
    print(report.text(results.machine, results.calibration_ms, results.figures, results.beside_ms, results.cells))
    if options.json:
        options.json.write_text(json.dumps(asdict(results), indent=1), encoding="utf-8")
    if options.chart:
        options.chart.write_text(chart.svg(results.figures, results.calibration_ms), encoding="utf-8")
    return 0


def _derive(results: Results) -> None:
    """Ratios of figures of the same round; of times, as they would be where the calibration loop took as long."""
    found = results.figures
    for figure in FIGURES:
        if figure.ratio_of and all(name in found for name in figure.ratio_of):
            above, below = (
                report.at_100(found[name], results.beside_ms[name]) if name.endswith("_ms") else found[name]
                for name in figure.ratio_of
            )
            found[figure.name] = [a / b for a, b in zip(above, below, strict=True) if b]


if __name__ == "__main__":
    sys.exit(main())
