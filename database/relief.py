"""A height map as a lit surface in perspective with axes: inline SVG of a drawn picture, text and lines in the page's own colours."""

import base64
import html
import math
from typing import NamedTuple

import cv2
import numpy as np

from microscopy.plots import ticks

WIDTH, HEIGHT = 640, 392
AZIMUTH, ELEVATION, DISTANCE = math.radians(-35), math.radians(38), 3.2
"""Where it is seen from: turned so that the last row and the last column are in front; distance in widths of the surface."""
BOX = 0.3
"""Height of the drawn range over the width of the surface."""
MESH = 200
"""Most facets along a side."""
LIGHT = (-0.55, 0.25, 0.8)
"""The way from the surface to the light, along its right, away and up: it stands high on the left, a little behind."""
GOLD = np.array([(84, 42, 26), (146, 78, 34), (206, 134, 56), (244, 204, 120), (255, 246, 222)], np.float64)
"""RGB from the lowest to the highest, as scanning probe software shows heights."""
_OVERSAMPLED, _MARGIN = 3, (64, 14, 40, 50)  # left, top, right, bottom px, for numbers and names
_SHIFT = 4


class Scale(NamedTuple):
    """What the axes say: `width` and `height` of the surface in `length_unit`, heights from `low` to `high` in `unit`."""

    width: float
    height: float
    length_unit: str
    low: float
    high: float
    unit: str


def svg(heights: np.ndarray, scale: Scale, words: str) -> str:
    """Returns an `<svg>` of the surface of heights (h, w), labelled with `words` for those who do not see it; the same text each time.

    The first row lies at the back, the first column on the left. Heights outside `scale.low` .. `scale.high` lie at that end. Raises
    ValueError for anything but a finite map of 2 x 2 at least.
    """
    surface, place = _placed(heights, scale)
    picture = draw(surface, place, scale.height / scale.width)
    source = base64.b64encode(_encoded(picture)).decode()
    image = f'<image href="data:image/png;base64,{source}" width="{WIDTH}" height="{HEIGHT}"/>'
    return (
        f'<svg class="relief" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(words)}">'
        f"{image}{_axes(place, scale)}</svg>"
    )


def exaggeration(scale: Scale) -> float:
    """Returns how many times higher than wide it is drawn; only where both are of one unit does it mean something."""
    return BOX * scale.width / (scale.high - scale.low)


def draw(surface: np.ndarray, place, aspect: float) -> np.ndarray:
    """Returns uint8 RGBA (HEIGHT, WIDTH, 4) of a surface (h, w) in 0..1 of the box, lit, with the two walls in front.

    `place(x, y, z)` gives the pixels of points in the box, each coordinate in 0..1, y 0 at the back. Facets are filled from the back to
    the front, each in the colour of its height times its light.
    """
    count = _OVERSAMPLED
    canvas = np.zeros((HEIGHT * count, WIDTH * count, 4), np.uint8)
    rows, columns = surface.shape
    y, x = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    points = np.rint(np.stack(place(x, y, surface), axis=-1) * count * 2**_SHIFT).astype(np.int32)
    corners = np.stack([points[:-1, :-1], points[:-1, 1:], points[1:, 1:], points[1:, :-1]], axis=2)
    colours = _lit(surface, aspect)
    for row in range(rows - 1):
        for column in range(columns - 1):
            colour = (*colours[row, column].tolist(), 255)
            cv2.fillConvexPoly(canvas, corners[row, column], colour, cv2.LINE_8, _SHIFT)
    for edge, along, shade in (
        (points[-1], (np.linspace(0, 1, columns), 1.0), 0.34),
        (points[:, -1], (1.0, np.linspace(0, 1, rows)), 0.22),
    ):
        foot = np.stack(np.broadcast_arrays(*place(*along, 0.0)), axis=-1)
        wall = np.concatenate([edge, np.rint(foot * count * 2**_SHIFT).astype(np.int32)[::-1]])
        cv2.fillPoly(canvas, [wall], (*(GOLD[2] * shade + 24).tolist(), 255), cv2.LINE_8, _SHIFT)
    small = cv2.resize(canvas.astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    covered = small[..., 3:] / 255
    small[..., :3] /= np.maximum(covered, 1e-6)  # the mean over what is covered alone: no dark seam
    return np.clip(np.rint(small), 0, 255).astype(np.uint8)


def _placed(heights: np.ndarray, scale: Scale):
    """Returns (surface in 0..1 of the box with at most MESH facets a side, the function from the box to pixels)."""
    heights = np.asarray(heights, np.float32)
    if heights.ndim != 2 or min(heights.shape) < 2 or not np.isfinite(heights).all() or not scale.high > scale.low:
        raise ValueError(f"a relief needs finite heights (h, w) and a range, not {heights.shape} from {scale.low} to {scale.high}")
    size = tuple(min(side, MESH + 1) for side in heights.shape[::-1])
    reduced = cv2.resize(heights, size, interpolation=cv2.INTER_AREA) if size != heights.shape[::-1] else heights
    surface = np.clip((reduced.astype(np.float64) - scale.low) / (scale.high - scale.low), 0.0, 1.0)
    aspect = scale.height / scale.width
    corners = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float64)
    across, up = _seen(*corners.T, aspect)
    left, top, right, bottom = _MARGIN
    zoom = min((WIDTH - left - right) / np.ptp(across), (HEIGHT - top - bottom) / np.ptp(up))
    middle = (left + (WIDTH - left - right) / 2, top + (HEIGHT - top - bottom) / 2)
    shift = (across.max() + across.min()) / 2, (up.max() + up.min()) / 2

    def place(x, y, z):
        across, up = _seen(x, y, z, aspect)
        return middle[0] + (across - shift[0]) * zoom, middle[1] - (up - shift[1]) * zoom

    return surface, place


def _seen(x, y, z, aspect: float):
    """Across and up, as the eye sees points of the box; z 1 is BOX widths high."""
    x, away, z = np.asarray(x) - 0.5, (0.5 - np.asarray(y)) * aspect, np.asarray(z) * BOX
    across = x * math.cos(AZIMUTH) - away * math.sin(AZIMUTH)
    away = x * math.sin(AZIMUTH) + away * math.cos(AZIMUTH)
    depth = away * math.cos(ELEVATION) - z * math.sin(ELEVATION)
    near = DISTANCE / (DISTANCE + depth)
    return across * near, (z * math.cos(ELEVATION) + away * math.sin(ELEVATION)) * near


def _lit(surface: np.ndarray, aspect: float) -> np.ndarray:
    """Colours (h - 1, w - 1, 3) of the facets, 0..255: Lambert's law over a floor of ambient light, and a highlight."""
    smooth = cv2.GaussianBlur(surface, (0, 0), 0.7)  # at one facet a pixel, noise alone would decide what is bright
    corners = smooth[:-1, :-1], smooth[:-1, 1:], smooth[1:, :-1], smooth[1:, 1:]
    rows, columns = (side - 1 for side in surface.shape)
    slope_x = (corners[1] + corners[3] - corners[0] - corners[2]) / 2 * columns * BOX
    slope_away = (corners[0] + corners[1] - corners[2] - corners[3]) / 2 * rows * BOX / aspect
    normal = np.stack([-slope_x, -slope_away, np.ones_like(slope_x)], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    light = np.array(LIGHT) / np.linalg.norm(LIGHT)
    diffuse = np.clip(normal @ light, 0.0, 1.0)
    level = sum(corners) / 4
    colour = np.stack([np.interp(level, np.linspace(0, 1, len(GOLD)), channel) for channel in GOLD.T], axis=-1)
    colour = colour * (0.5 + 0.66 * diffuse)[..., None] + 24 * (diffuse**24)[..., None]
    return np.clip(colour, 0, 255)


def _axes(place, scale: Scale) -> str:
    """Ticks with numbers along the front edge, the right edge and the left upright, and what each is."""
    parts = []
    edges = (
        (scale.width, lambda share: (share, 1.0, 0.0), (0.0, 1.0), "middle", (0, 18), scale.length_unit),
        (scale.height, lambda share: (1.0, 1.0 - share, 0.0), (1.0, 0.0), "start", (4, 14), scale.length_unit),
    )
    for length, at, outward, anchor, (dx, dy), unit in edges:
        for tick in ticks(0.0, length, 4):
            x, y, z = at(tick / length)
            parts.append(_tick(place, (x, y, z), (x + 0.025 * outward[0], y + 0.025 * outward[1], z), f"{tick:g}", anchor, (dx, dy)))
        x, y = (float(value) for value in place(*at(0.5)))
        side, anchor = (46, "start") if outward[0] else (-30, "end")
        parts.append(f'<text class="name" x="{x + side:.1f}" y="{y + 44:.1f}" text-anchor="{anchor}">{html.escape(unit)}</text>')
    for tick in ticks(scale.low, scale.high, 3):
        z = (tick - scale.low) / (scale.high - scale.low)
        parts.append(_tick(place, (0.0, 1.0, z), (-0.02, 1.02, z), f"{tick:g}", "end", (-4, 5)))
    ends = [place(0.0, 1.0, z) for z in (0.0, 1.0)]
    parts.append(_line(*ends))
    parts.append(f'<text class="name" x="4" y="{float(ends[1][1]) - 12:.1f}">{html.escape(scale.unit)}</text>')
    return "".join(parts)


def _tick(place, start, end, words: str, anchor: str, shift: tuple[int, int]) -> str:
    first, last = place(*start), place(*end)
    x, y = float(last[0]) + shift[0], float(last[1]) + shift[1]
    return f'{_line(first, last)}<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'


def _line(first, last) -> str:
    (x, y), (right, down) = ((float(value) for value in point) for point in (first, last))
    return f'<line class="axis" x1="{x:.1f}" y1="{y:.1f}" x2="{right:.1f}" y2="{down:.1f}"/>'


def _encoded(picture: np.ndarray) -> bytes:
    """The PNG file of uint8 RGBA."""
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGBA2BGRA), [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()
