"""Charts with labelled axes as pictures: drawn with OpenCV, for files beside the scans."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np

BLACK, GREY, PALE, WHITE = (0, 0, 0), (110, 110, 110), (225, 225, 225), (255, 255, 255)
COLOURS = ((37, 99, 235), (232, 89, 12), (47, 158, 68), (156, 54, 181))
"""RGB, in the order curves are given."""

WIDTH, HEIGHT = 640, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 88, WIDTH - 18, 40, HEIGHT - 56
_FONT, _SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.45


class Axis(NamedTuple):
    """An axis: its label with the unit, the values at its two ends, and whether it is logarithmic (then both are positive)."""

    label: str
    low: float
    high: float
    log: bool = False

    def place(self, values: np.ndarray) -> np.ndarray:
        """Returns where values lie, 0 at `low` and 1 at `high`."""
        values, low, high = (np.log10(v) if self.log else np.asarray(v, np.float64) for v in (values, self.low, self.high))
        return (values - low) / (high - low)

    def ticks(self) -> list[float]:
        """Returns the round values on it: about five, or powers of ten (with 2 and 5 times them where these are few)."""
        if not self.log:
            return ticks(self.low, self.high, 5)
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        factors = (1,) if len(exponents) > 4 else (1, 2, 5)
        inside = [factor * 10.0**exponent for exponent in exponents for factor in factors]
        inside = [value for value in inside if self.low <= value * (1 + 1e-9) and value <= self.high * (1 + 1e-9)]
        return inside[:: -(-len(inside) // 8)]


def ticks(low: float, high: float, count: int) -> list[float]:
    """Returns the multiples of 1, 2 or 5 times a power of ten inside [low, high], about `count` of them."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    pace = min((factor * power for factor in (1, 2, 5, 10)), key=lambda pace: abs(math.log(pace / rough)))
    return [index * pace for index in range(math.ceil(low / pace - 1e-9), math.floor(high / pace + 1e-9) + 1)]


def write(picture: np.ndarray, x: float, y: float, words: str, *, anchor: str = "left", colour=BLACK, scale: float = _SCALE) -> None:
    """Writes a line of text into a uint8 picture, its base line at y; `anchor` (left, middle, right) is what of it lies at x."""
    wide = text_width(words, scale)
    left = x - {"left": 0.0, "middle": wide / 2, "right": wide}[anchor]
    cv2.putText(picture, words, (round(left), round(y)), _FONT, scale, colour[: 1 if picture.ndim == 2 else 3], 1, cv2.LINE_AA)


def text_width(words: str, scale: float = _SCALE) -> int:
    """Returns the width of a line of text in px."""
    return cv2.getTextSize(words, _FONT, scale, 1)[0][0]


def chart(
    title: str,
    x: Axis,
    y: Axis,
    curves: Mapping[str, tuple],
    marks: Mapping[str, float] | None = None,
    *,
    filled: bool = False,
    band: tuple | None = None,
):
    """Returns uint8 RGB (420, 640, 3): curves (x values, y values) by name over labelled axes, their names above where there are several.

    `marks` are vertical lines with a word each; `filled` fills below the curves, as of histograms. What lies outside the axes is cut.
    `band` (x values, low, high) is shaded in the colour of the first curve.
    """
    picture = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    write(picture, _LEFT, 24, title, scale=0.5)
    _rules(picture, x, y)
    inside = picture[_TOP : _BOTTOM + 1, _LEFT : _RIGHT + 1]
    if band is not None:
        across = np.concatenate([band[0], band[0][::-1]])
        _shade(inside, _points(inside, x.place(across), y.place(np.concatenate([band[1], band[2][::-1]]))), COLOURS[0])
    for index, (values_x, values_y) in enumerate(curves.values()):
        _curve(inside, x.place(values_x), y.place(values_y), COLOURS[index % len(COLOURS)], filled)
    for number, (word, value) in enumerate((marks or {}).items()):
        _mark(picture, x, word, value, _TOP + 14 + 16 * number)
    right = _RIGHT
    for index, name in reversed(list(enumerate(curves)) if len(curves) > 1 else []):
        write(picture, right, 24, name, anchor="right", colour=COLOURS[index % len(COLOURS)])
        right -= text_width(name) + 14
    cv2.rectangle(picture, (_LEFT, _TOP), (_RIGHT, _BOTTOM), GREY, 1)
    return picture


def _rules(picture: np.ndarray, x: Axis, y: Axis) -> None:
    for tick in x.ticks():
        at = _LEFT + float(x.place(tick)) * (_RIGHT - _LEFT)
        cv2.line(picture, (round(at), _TOP), (round(at), _BOTTOM), PALE, 1)
        write(picture, at, _BOTTOM + 18, _number(tick, x), anchor="middle", colour=GREY)
    for tick in y.ticks():
        at = _BOTTOM - float(y.place(tick)) * (_BOTTOM - _TOP)
        cv2.line(picture, (_LEFT, round(at)), (_RIGHT, round(at)), PALE, 1)
        write(picture, _LEFT - 6, at + 4, _number(tick, y), anchor="right", colour=GREY)
    write(picture, (_LEFT + _RIGHT) / 2, HEIGHT - 14, x.label, anchor="middle")
    upright = np.full((20, HEIGHT), 255, np.uint8)
    write(upright, HEIGHT - (_TOP + _BOTTOM) / 2, 14, y.label, anchor="middle")
    picture[:, :20] = np.rot90(upright)[..., None]


def _number(value: float, axis: Axis) -> str:
    if axis.log and not 1e-3 < value < 1e4:
        return f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-")
    return f"{value:.6g}"


def _points(inside: np.ndarray, across: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Sixteenths of a pixel (n, 2), int32, of places 0..1; what is not finite is left out."""
    height, width = inside.shape[0] - 1, inside.shape[1] - 1
    points = np.stack([across * width, (1.0 - up) * height], axis=-1)
    return np.rint(np.clip(points[np.isfinite(points).all(1)], -10_000, 10_000) * 16).astype(np.int32)


def _shade(inside: np.ndarray, area: np.ndarray, colour) -> None:
    shade = inside.copy()
    cv2.fillPoly(shade, [area], colour, cv2.LINE_AA, 4)
    inside[:] = cv2.addWeighted(shade, 0.25, inside, 0.75, 0)


def _curve(inside: np.ndarray, across: np.ndarray, up: np.ndarray, colour, filled: bool) -> None:
    points, height = _points(inside, across, up), inside.shape[0] - 1
    if filled:
        _shade(inside, np.concatenate([[[points[0, 0], height * 16]], points, [[points[-1, 0], height * 16]]]).astype(np.int32), colour)
    cv2.polylines(inside, [points], False, colour, 2, cv2.LINE_AA, 4)


def _mark(picture: np.ndarray, x: Axis, word: str, value: float, y: int) -> None:
    place = float(x.place(value))
    if not 0.0 <= place <= 1.0:
        return
    at = round(_LEFT + place * (_RIGHT - _LEFT))
    cv2.line(picture, (at, _TOP), (at, _BOTTOM), BLACK, 1)
    right = at + 6 + text_width(word) < _RIGHT
    write(picture, at + 5 if right else at - 5, y, word, anchor="left" if right else "right")
