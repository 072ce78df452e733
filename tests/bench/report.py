# SPDX-License-Identifier: MIT
"""Figures → text: medians with their spread, ratios to the peer, and the aims. Measures nothing."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Rounds = Sequence[Mapping[str, Any]]


def text(
    machine: Mapping[str, Any],
    calibration_ms: Sequence[float],
    start: Mapping[str, Rounds],
    cells: Sequence[Mapping[str, Any]],
    idle_connections: int,
) -> str:
    """The whole report."""
    relay, peer = start["relay"], start["aiosmtpd"]
    lines = [
        f"Python {machine['python']}, {machine['cpus']} CPUs, {machine['system']}, "
        f"load average before the start {machine['load_average']:.2f}",
        f"calibration loop {_spread(calibration_ms, '.1f')} ms; medians of {len(calibration_ms)} round(s), "
        "± half the range",
        "CPU share: of one core, over the same seconds; near 100 % is the bottleneck",
        "",
        f"{'':40}{'relay':^34}{'CPU share, %':^22}{'aiosmtpd':^17}{'relay : aiosmtpd':^18}",
        f"{'size, connections, upstream':40}{'msg/s':>12}{'CPU ms':>14}{'p99 ms':>8}"
        f"{'relay':>8}{'upstr.':>7}{'load':>6}{'msg/s':>9}{'CPU ms':>8}{'speed':>9}{'CPU':>8}",
        *(_row(cell) for cell in cells),
        "",
        f"{'':40}{'relay':>20}{'aiosmtpd':>20}",
        _pair("exec to first 220, s", relay, peer, lambda one: one["first_220_s"], ".2f"),
        _pair("RSS idle, MiB", relay, peer, lambda one: one["idle_kib"] / 1024, ".1f"),
        _pair(f"with {idle_connections} idle connections", relay, peer, lambda one: one["connected_kib"] / 1024, ".1f"),
        _pair("a further idle connection, KiB", relay, peer, lambda one: _each_kib(one, idle_connections), ".1f"),
        "",
        *_aims(relay, cells, idle_connections),
    ]
    return "\n".join(lines)


def _spread(values: Iterable[float], precision: str) -> str:
    values = list(values)
    return f"{statistics.median(values):{precision}} ±{(max(values) - min(values)) / 2:{precision}}"


def _median(rounds: Rounds, read: Callable[[Mapping[str, Any]], float]) -> float:
    return statistics.median(read(one) for one in rounds)


def _per_second(one: Mapping[str, Any]) -> float:
    return float(one["messages"] / one["seconds"])


def _cpu_ms(one: Mapping[str, Any]) -> float:
    return float(one["cpu_s"]["server"] / max(one["messages"], 1) * 1000)


def _share(rounds: Rounds, process: str) -> float:
    return _median(rounds, lambda one: one["cpu_s"][process] / one["seconds"] * 100)


def _each_kib(one: Mapping[str, Any], idle_connections: int) -> float:
    return float(one["connected_kib"] - one["idle_kib"]) / idle_connections


def _row(cell: Mapping[str, Any]) -> str:
    relay, peer = cell["relay"], cell["aiosmtpd"]
    speed, cpu = _median(relay, _per_second), _median(relay, _cpu_ms)
    peer_speed, peer_cpu = _median(peer, _per_second), _median(peer, _cpu_ms)
    return (
        f"{_name(cell):40}{_spread(map(_per_second, relay), '.0f'):>12}{_spread(map(_cpu_ms, relay), '.2f'):>14}"
        f"{_median(relay, lambda one: one['p99_ms']):8.0f}"
        f"{_share(relay, 'server'):8.0f}{_share(relay, 'upstream'):7.0f}{_share(relay, 'load'):6.0f}"
        f"{peer_speed:9.0f}{peer_cpu:8.2f}{speed / max(peer_speed, 0.001):8.1f}x{cpu / max(peer_cpu, 0.001):7.2f}x"
    )


def _name(cell: Mapping[str, Any]) -> str:
    size = f"{cell['size'] // 1024} KiB" if cell["size"] < 1024 * 1024 else f"{cell['size'] // (1024 * 1024)} MiB"
    manner = ("kept" if cell["keep"] else "new") + ("" if cell["pipeline"] else ", no pipelining")
    return f"{size} {cell['connections']:4} {cell['upstream_ms']:4} ms  {manner}"


def _pair(name: str, relay: Rounds, peer: Rounds, read: Callable[[Mapping[str, Any]], float], precision: str) -> str:
    return f"{name:40}{_spread(map(read, relay), precision):>20}{_spread(map(read, peer), precision):>20}"


def _aims(start: Rounds, cells: Sequence[Mapping[str, Any]], idle_connections: int) -> list[str]:
    def cell(connections: int, upstream_ms: int, *, keep: bool) -> Rounds:
        wanted = {"size": 2048, "connections": connections, "upstream_ms": upstream_ms, "keep": keep, "pipeline": True}
        found: Rounds = next(one for one in cells if wanted.items() <= one.items())["relay"]
        return found

    busy = cell(100, 0, keep=False)
    waiting = {"kept": cell(100, 200, keep=True), "new": cell(100, 200, keep=False)}
    return [
        "aims, which no exit code depends on:",
        *(
            _aim(f"msg/s, 200 ms, 100 {manner} connections", _median(rounds, _per_second), 475, at_least=True)
            for manner, rounds in waiting.items()
        ),
        _aim("CPU ms a message, 100 connections", _median(busy, _cpu_ms), 2.5),
        _aim("KiB a further idle connection", _median(start, lambda one: _each_kib(one, idle_connections)), 40),
        _aim("s from exec to the first 220", _median(start, lambda one: one["first_220_s"]), 0.6),
    ]


def _aim(name: str, value: float, limit: float, *, at_least: bool = False) -> str:
    met = value >= limit if at_least else value <= limit
    return f"  {name:40}{value:8.2f}  {'at least' if at_least else 'at most'} {limit:g}: {'met' if met else 'MISSED'}"
