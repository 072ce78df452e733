# SPDX-License-Identifier: MIT
"""Figures → text: medians with their spread, and the targets. Measures nothing."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from figures import FIGURES, PEERS

_CALIBRATION_MS = 100.0  # figures of time are also shown as they would be where the loop takes so long
_TIMES = ("ms", "s")


def text(
    machine: Mapping[str, Any],
    calibration_ms: Sequence[float],
    figures: Mapping[str, Sequence[float]],
    beside_ms: Mapping[str, Sequence[float]],
    cells: Mapping[str, Sequence[Mapping[str, Any]]],
) -> str:
    """The whole report."""
    rounds = max(map(len, figures.values()))
    return "\n".join(
        (
            f"Python {machine['python']}, {machine['cpus']} CPUs, {machine['system']}, "
            f"load average before the start {machine['load_average']:.2f}",
            f"calibration loop {min(calibration_ms):.0f} to {max(calibration_ms):.0f} ms; medians of {rounds} round(s) "
            "± half the range; `loop`: that loop beside the figure; `at 100`: where it takes 100 ms",
            "",
            f"{'':50}{'measured':>20}{'loop':>6}{'at 100':>15}{'target':>16}",
            *(_figure_row(figures, beside_ms)),
            "",
            "CPU share: of one core, over the same seconds; the process near 100 % is the bottleneck",
            f"{'':36}{'msg/s':>14}{'CPU ms':>15}{'p50 ms':>8}{'p95 ms':>8}{'p99 ms':>8}"
            f"{'server %':>10}{'nginx %':>9}{'load %':>8}",
            *(_cell_row(name, rounds) for name, rounds in cells.items()),
            "",
            *(
                _peer_row(name, peer, rounds, cells[f"{peer}:{name}"])
                for name, rounds in cells.items()
                for peer in PEERS
                if f"{peer}:{name}" in cells
            ),
        )
    )


def at_100(values: Sequence[float], beside_ms: Sequence[float]) -> list[float]:
    """Times as they would be where the calibration loop took 100 ms instead of what it took beside each."""
    return [value * _CALIBRATION_MS / loop_ms for value, loop_ms in zip(values, beside_ms, strict=True)]


def _figure_row(figures: Mapping[str, Sequence[float]], beside_ms: Mapping[str, Sequence[float]]) -> Iterable[str]:
    for figure in FIGURES:
        values = figures.get(figure.name)
        limit = f"{'>=' if figure.at_least else '<='} {figure.limit:g} {figure.unit}"
        if not values:
            yield f"{figure.title:50}{'not measured':>20}{'':21}{limit:>16}"
            continue
        met = "met" if figure.is_met(statistics.median(values)) else "MISSED"
        beside = f"{'':21}"
        if figure.unit in _TIMES and "late" not in figure.name:
            scaled = at_100(values, beside_ms[figure.name])
            beside = f"{statistics.median(beside_ms[figure.name]):6.0f}{_spread(scaled, 2):>15}"
            met = "met" if met == "met" else "met at 100" if figure.is_met(statistics.median(scaled)) else "MISSED"
        yield f"{figure.title:50}{_spread(values, 2):>20}{beside}{limit:>16}  {met}"


def _cell_row(name: str, rounds: Sequence[Mapping[str, Any]]) -> str:
    return (
        f"{name:36}{_spread([one['messages'] / one['seconds'] for one in rounds], 0):>14}"
        f"{_spread(map(_cpu_ms, rounds), 2):>15}"
        + "".join(f"{statistics.median(one[key] for one in rounds):8.1f}" for key in ("p50_ms", "p95_ms", "p99_ms"))
        + f"{_share(rounds, 'server'):10.0f}{_share(rounds, 'nginx'):9.0f}{_share(rounds, 'load'):8.0f}"
    )


def _peer_row(name: str, peer: str, rounds: Sequence[Mapping[str, Any]], peers: Sequence[Mapping[str, Any]]) -> str:
    ours, theirs = statistics.median(map(_cpu_ms, rounds)), statistics.median(map(_cpu_ms, peers))
    return f"{name:36} {PEERS[peer]}: {theirs / max(ours, 0.001):.1f} times the CPU"


def _cpu_ms(one: Mapping[str, Any]) -> float:
    return float(one["cpu_s"]["server"] / max(one["messages"], 1) * 1000)


def _share(rounds: Sequence[Mapping[str, Any]], process: str) -> float:
    return statistics.median(one["cpu_s"][process] / one["seconds"] * 100 for one in rounds)


def _spread(values: Iterable[float], digits: int) -> str:
    values = list(values)
    return f"{statistics.median(values):.{digits}f} ±{(max(values) - min(values)) / 2:.{digits}f}"
