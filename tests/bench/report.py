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
    cells: Mapping[str, Sequence[Mapping[str, Any]]],
) -> str:
    """The whole report."""
    calibration = statistics.median(calibration_ms)
    return "\n".join(
        (
            f"Python {machine['python']}, {machine['cpus']} CPUs, {machine['system']}, "
            f"load average before the start {machine['load_average']:.2f}",
            f"calibration loop {_spread(calibration_ms, 1)} ms; medians of {len(calibration_ms)} round(s) "
            "± half the range; `at 100`: where that loop takes 100 ms",
            "",
            f"{'':50}{'measured':>20}{'at 100':>10}{'target':>16}",
            *(_figure_row(figures, calibration)),
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


def _figure_row(figures: Mapping[str, Sequence[float]], calibration_ms: float) -> Iterable[str]:
    for figure in FIGURES:
        values = figures.get(figure.name)
        limit = f"{'>=' if figure.at_least else '<='} {figure.limit:g} {figure.unit}"
        if not values:
            yield f"{figure.title:50}{'not measured':>20}{'':10}{limit:>16}"
            continue
        value = statistics.median(values)
        scaled = value * _CALIBRATION_MS / calibration_ms
        shown = f"{scaled:10.2f}" if figure.unit in _TIMES and "late" not in figure.name else f"{'':10}"
        met = "met" if figure.is_met(value) else "MISSED"
        yield f"{figure.title:50}{_spread(values, 2):>20}{shown}{limit:>16}  {met}"


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
