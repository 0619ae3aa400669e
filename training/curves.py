"""Curves of logged scalars as inline SVG: thinned, with round ticks and a legend. No scripts, no external resources."""

import html
import math
from collections.abc import Mapping

import numpy as np

from microscopy.plots import ticks

Series = tuple[np.ndarray, np.ndarray]
"""Steps (n) and values (n), in file order."""

COLOURS = ("#2563eb", "#e8590c", "#2f9e44", "#9c36b5", "#d6336c", "#0b7285", "#947600", "#495057")
WIDTH, HEIGHT = 560, 250
LEFT, RIGHT, TOP, BOTTOM = 60, WIDTH - 14, 12, HEIGHT - 38


def thin(steps: np.ndarray, values: np.ndarray, num_points: int = 1000) -> Series:
    """Returns at most `num_points` of the points, in order: the minimum and the maximum of each of equal runs of points.

    Peaks survive, as an average would not let them; a series that is short enough comes back as it is.
    """
    if len(values) <= num_points:
        return steps, values
    edges = np.linspace(0, len(values), num_points // 2 + 1).astype(int)
    kept = []
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        run = values[start:stop]
        kept += sorted({start + int(run.argmin()), start + int(run.argmax())})
    return steps[kept], values[kept]


def running_mean(values: np.ndarray, reach: int) -> np.ndarray:
    """Returns the mean (n) over the `reach` points on each side and the point itself, at the ends over those there are."""
    index = np.arange(len(values))
    start, stop = np.maximum(index - reach, 0), np.minimum(index + reach + 1, len(values))
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    return (sums[stop] - sums[start]) / (stop - start)


def limits(values: np.ndarray) -> tuple[float, float]:
    """Returns the range an axis shows: all values, or their 0.5..99.5 percentile where a few outliers would flatten the rest."""
    low, high = float(values.min()), float(values.max())
    inner_low, inner_high = (float(value) for value in np.percentile(values, [0.5, 99.5]))
    if inner_high > inner_low and high - low > 3 * (inner_high - inner_low):
        low, high = inner_low, inner_high
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def chart(title: str, series: Mapping[str, Series], last_step: int) -> str:
    """Returns an HTML figure: heading, legend with the latest values, and the curves over the steps 0..`last_step`.

    `series` holds non-empty finite values. Above 200 points, noisy values are pale under their running mean over 2 % of the points.
    """
    shown = np.concatenate([values for _, values in series.values()])
    low, high = limits(shown)
    last_step = max(1, last_step)
    colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(series)}
    body = [_axes(low, high, last_step), f'<svg x="{LEFT}" y="{TOP}" width="{RIGHT - LEFT}" height="{BOTTOM - TOP}">']
    drawn = [_curve(steps, values, colours[name], (low, high), last_step) for name, (steps, values) in series.items()]
    body += [pale for pale, _ in drawn] + [solid for _, solid in drawn] + ["</svg>"]
    note = f"Axis cut: values reach from {shown.min():.3g} to {shown.max():.3g}." if shown.min() < low or shown.max() > high else ""
    legend = "".join(
        f'<li><i style="background:{colours[name]}"></i>{html.escape(name)} <b>{values[-1]:.4g}</b></li>'
        for name, (_, values) in series.items()
    )
    return (
        f'<figure class="chart"><h3>{html.escape(title)}</h3><ul class="legend">{legend}</ul>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)} over steps">{"".join(body)}</svg>'
        f"<figcaption>{note}</figcaption></figure>"
    )


def _x(step: float, last_step: int) -> float:
    return step / last_step * (RIGHT - LEFT)


def _y(value: float, low: float, high: float) -> float:
    return (high - value) / (high - low) * (BOTTOM - TOP)


def _axes(low: float, high: float, last_step: int) -> str:
    lines = []
    for tick in ticks(low, high, 5):
        y = TOP + _y(tick, low, high)
        lines.append(f'<line class="rule" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'<text class="y" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_label(tick, low, high)}</text>')
    for tick in ticks(0, last_step, 6):
        x = LEFT + _x(tick, last_step)
        lines.append(f'<line class="rule" x1="{x:.1f}" x2="{x:.1f}" y1="{BOTTOM}" y2="{BOTTOM + 4}"/>')
        lines.append(f'<text class="x" x="{x:.1f}" y="{BOTTOM + 18}" text-anchor="middle">{tick:,.10g}</text>')
    lines.append(f'<line class="axis" x1="{LEFT}" x2="{RIGHT}" y1="{BOTTOM}" y2="{BOTTOM}"/>')
    return "".join(lines) + f'<text x="{(LEFT + RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">step</text>'


def _label(value: float, low: float, high: float) -> str:
    """Returns a tick of the axis [low, high] with the decimals this axis needs, with a power of ten where numbers would be long."""
    power = math.floor(math.log10(max(abs(low), abs(high))))
    power = power if power >= 6 or power < -3 else 0
    decimals = max(0, 1 - math.floor(math.log10((high - low) / 10.0**power)))
    return f"{value / 10.0**power:,.{decimals}f}" + (f"e{power}" if power and value else "")


def _path(steps: np.ndarray, values: np.ndarray, span: tuple[float, float], last_step: int) -> str:
    points = (f"{_x(step, last_step):.1f},{_y(value, *span):.1f}" for step, value in zip(steps, values, strict=True))
    return "M" + " L".join(points)


def _curve(steps: np.ndarray, values: np.ndarray, colour: str, span: tuple[float, float], last_step: int) -> tuple[str, str]:
    """Returns what is drawn below and above: the pale values with their solid mean, or only the solid values where a mean adds nothing."""
    line = f'stroke="{colour}" d="{_path(*thin(steps, values), span, last_step)}"/>'
    if len(values) > 200:
        mean = running_mean(values, len(values) // 100)
        if np.abs(values - mean).mean() > 0.01 * (span[1] - span[0]):
            path = _path(*thin(steps, mean, 400), span, last_step)
            return f'<path class="pale" {line}', f'<path class="solid" stroke="{colour}" d="{path}"/>'
    places = [(_x(step, last_step), _y(value, *span)) for step, value in zip(steps, values, strict=True)] if len(values) <= 40 else []
    dots = "".join(f'<circle r="2.6" fill="{colour}" cx="{x:.1f}" cy="{y:.1f}"/>' for x, y in places)
    return "", f'<path class="solid" {line}{dots}'
