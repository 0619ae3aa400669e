"""Charts of the page as inline SVG in its own colours: curves over any axes, distances over their floor, bars in groups."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from database import markup
from microscopy.plots import Axis

WIDTH, HEIGHT = 560, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, WIDTH - 14, 10, HEIGHT - 44
_NAMES, _ROW = 150, 26
NUM_COLOURS = 4
"""Curves or bars that can be told apart; the style has a colour for each."""


class Distance(NamedTuple):
    """A distance over its floor, the ends of its interval over the same floor, and what it is called."""

    name: str
    ratio: float
    low: float
    high: float


def curves(title: str, x: Axis, y: Axis, of: Mapping[str, tuple[np.ndarray, np.ndarray]], caption: str = "") -> str:
    """Returns a `<figure>` of curves (values along x, values along y) by name; what lies outside the axes is cut. At most four."""
    names = list(of)[:NUM_COLOURS]
    parts = [_grid(x, y)]
    for index, name in enumerate(names):
        across, up = (axis.place(np.asarray(values, np.float64)) for axis, values in zip((x, y), of[name], strict=True))
        kept = np.isfinite(across) & np.isfinite(up) & (across >= -0.001) & (across <= 1.001)
        points = zip(_LEFT + across[kept] * (_RIGHT - _LEFT), _BOTTOM - np.clip(up[kept], 0, 1) * (_BOTTOM - _TOP), strict=True)
        parts.append(f'<path class="solid s{index}" d="M{" L".join(f"{a:.1f},{b:.1f}" for a, b in points)}"/>')
    return _figure(title, names, HEIGHT, "".join(parts), f"{title}: {x.label} against {y.label}", caption)


def distances(title: str, rows: Sequence[Distance], caption: str = "") -> str:
    """Returns a `<figure>` of a dot and its interval a row on a logarithmic axis of multiples of the floor, which is a line at 1."""
    high = max(2.0, *(max(row.ratio, row.high) for row in rows)) * 1.2
    low = min(0.5, *(row.ratio for row in rows if row.ratio > 0))
    axis = Axis("distance over that of real from real", low, high, log=True)
    height = _TOP + _ROW * len(rows) + 44
    foot = height - 44

    def at(value: float) -> float:
        return _NAMES + float(np.clip(axis.place(max(value, low)), 0, 1)) * (_RIGHT - _NAMES)

    parts = []
    for tick in axis.ticks():
        parts.append(f'<line class="rule" x1="{at(tick):.1f}" x2="{at(tick):.1f}" y1="{_TOP}" y2="{foot}"/>')
        parts.append(f'<text x="{at(tick):.1f}" y="{foot + 18}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<line class="dashed" x1="{at(1):.1f}" x2="{at(1):.1f}" y1="{_TOP}" y2="{foot}"/>')
    for index, row in enumerate(rows):
        y = _TOP + _ROW * (index + 0.5)
        parts.append(f'<text class="ink" x="{_NAMES - 10}" y="{y + 4:.1f}" text-anchor="end">{markup.escaped(row.name)}</text>')
        parts.append(f'<line class="s0" stroke-width="2" x1="{at(row.low):.1f}" x2="{at(row.high):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<circle class="dot s0" r="4.5" cx="{at(row.ratio):.1f}" cy="{y:.1f}"/>')
    parts.append(f'<text x="{(_NAMES + _RIGHT) / 2:.1f}" y="{height - 6}" text-anchor="middle">{axis.label}</text>')
    return _figure(title, [], height, "".join(parts), f"{title}: {', '.join(f'{row.name} {row.ratio:.3g}' for row in rows)}", caption)


def bars(title: str, of: Mapping[str, Mapping[str, float]], caption: str = "") -> str:
    """Returns a `<figure>` of bars from 0: name of the bar -> name of the group -> value; each group on its own scale, to 1 at least."""
    names = list(of)[:NUM_COLOURS]
    groups = list(dict.fromkeys(group for values in of.values() for group in values))
    thick, parts, y = 18, [], _TOP
    for group in groups:
        values = [of[name].get(group, math.nan) for name in names]
        most = max([1.0, *(value for value in values if math.isfinite(value))])
        middle = y + thick * len(names) / 2 + 4
        parts.append(f'<text class="ink" x="{_NAMES - 10}" y="{middle:.1f}" text-anchor="end">{markup.escaped(group)}</text>')
        for index, value in enumerate(values):
            if math.isfinite(value):
                long = max(value, 0) / most * (_RIGHT - _NAMES - 60)
                parts.append(f'<rect class="bar s{index}" x="{_NAMES}" y="{y + 2}" width="{long:.1f}" height="{thick - 4}" rx="2"/>')
                parts.append(f'<text x="{_NAMES + long + 6:.1f}" y="{y + thick - 5}">{value:.3g}</text>')
            y += thick
        y += 12
    parts.append(f'<line class="axis" x1="{_NAMES}" x2="{_NAMES}" y1="{_TOP}" y2="{y - 12}"/>')
    words = "; ".join(f"{name}: {', '.join(f'{group} {value:.3g}' for group, value in of[name].items())}" for name in names)
    return _figure(title, names, y, "".join(parts), f"{title}. {words}", caption)


def _figure(title: str, names: Sequence[str], height: int, body: str, words: str, caption: str) -> str:
    items = "".join(f'<li><i class="s{index}"></i>{markup.escaped(name)}</li>' for index, name in enumerate(names))
    legend = f'<ul class="legend">{items}</ul>' if items else ""
    svg = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{markup.escaped(words)}">{body}</svg>'
    return markup.drawing(legend + svg, title, caption)


def _grid(x: Axis, y: Axis) -> str:
    parts = []
    for tick in y.ticks():
        at = _BOTTOM - float(y.place(tick)) * (_BOTTOM - _TOP)
        parts.append(f'<line class="rule" x1="{_LEFT}" x2="{_RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{_number(tick, y)}</text>')
    for tick in x.ticks():
        at = _LEFT + float(x.place(tick)) * (_RIGHT - _LEFT)
        parts.append(f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{_BOTTOM}" y2="{_BOTTOM + 4}"/>')
        parts.append(f'<text x="{at:.1f}" y="{_BOTTOM + 20}" text-anchor="middle">{_number(tick, x)}</text>')
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_RIGHT}" y1="{_BOTTOM}" y2="{_BOTTOM}"/>')
    parts.append(f'<text x="{(_LEFT + _RIGHT) / 2:.0f}" y="{HEIGHT - 4}" text-anchor="middle">{markup.escaped(x.label)}</text>')
    middle = (_TOP + _BOTTOM) / 2
    turned = f'transform="rotate(-90 14 {middle:.0f})"'
    return "".join(parts) + f'<text x="14" y="{middle:.0f}" text-anchor="middle" {turned}>{markup.escaped(y.label)}</text>'


def _number(value: float, axis: Axis) -> str:
    if axis.log and not 1e-3 < value < 1e4:
        return f"1e{round(math.log10(value))}" if abs(math.log10(value) % 1) < 1e-6 else f"{value:.0e}"
    return f"{value:.5g}"
