# SPDX-License-Identifier: MIT
"""Figures → one SVG: each as a bar, in per cent of its target. Knows no way to measure anything."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from html import escape

from figures import FIGURES, Figure

_ROW, _LABELS, _BAR, _VALUES = 22, 340, 300, 130
_AT_TARGET = _BAR / 1.5  # what is over one and a half times its target is cut there
_MET, _MISSED = "#2a7f62", "#c2542d"


def svg(figures: Mapping[str, Sequence[float]], calibration_ms: Sequence[float]) -> str:
    """The chart. A bar that ends before the line meets its target; where more is better, it is turned round."""
    measured = [(figure, statistics.median(figures[figure.name])) for figure in FIGURES if figures.get(figure.name)]
    width, height = _LABELS + _BAR + _VALUES, _ROW * (len(measured) + 2)
    line = _LABELS + _AT_TARGET
    rows = [_row(number, figure, value) for number, (figure, value) in enumerate(measured)]
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
            'font-size="12">',
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
            *rows,
            f'<line x1="{line:.0f}" x2="{line:.0f}" y1="0" y2="{_ROW * len(measured)}" stroke="#555555"/>',
            f'<text x="{line:.0f}" y="{_ROW * len(measured) + 14}" text-anchor="middle" fill="#555555">target</text>',
            f'<text x="4" y="{height - 6}" fill="#555555">calibration loop: '
            f"{statistics.median(calibration_ms):.0f} ms</text>",
            "</svg>\n",
        )
    )


def _row(number: int, figure: Figure, value: float) -> str:
    share = figure.limit / max(value, 1e-9) if figure.at_least else value / max(figure.limit, 1e-9)
    length = min(max(share, 0.004) * _AT_TARGET, _BAR)
    top = number * _ROW
    colour = _MET if figure.is_met(value) else _MISSED
    return (
        f'<text x="{_LABELS - 8}" y="{top + 15}" text-anchor="end">{escape(figure.title)}</text>'
        f'<rect x="{_LABELS}" y="{top + 4}" width="{length:.0f}" height="{_ROW - 8}" fill="{colour}"/>'
        f'<text x="{_LABELS + length + 6:.0f}" y="{top + 15}">{value:.3g} {escape(figure.unit)}</text>'
    )
