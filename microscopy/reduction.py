"""The copy of a scan that reduced crops are cut from: area-averaged once, so that a crop touches few pixels."""

import math
from fractions import Fraction
from typing import NamedTuple

import cv2
import numpy as np

OVERSAMPLING = {"free": Fraction(3, 2), "quarter": Fraction(1), "none": Fraction(1)}
"""Pixels of the copy for one pixel of a crop. At 1 all pixels of a crop lie at the same place between the copy's grid
points and are blurred alike; at 3/2 they would alternate between two places. Freely turned crops lie anywhere, at random."""


class Plan(NamedTuple):
    """One side of a scan in px: padded to `padded`, which becomes `whole`, of which the first `kept` are kept."""

    padded: int
    whole: int
    kept: int


def plan(size: int, crop: int, length: int, rotation: str) -> Plan:
    """Returns how a side of `size` px is reduced where `crop` px of it become `length` px of a training image.

    Without free rotation the copy's pitch is exactly crop / length px of the scan; for that the side is padded to a
    multiple of it. With free rotation `whole` is rounded. A crop that would be enlarged is cut from the scan itself.
    """
    pitch = Fraction(crop, length) / OVERSAMPLING[rotation]
    if pitch <= 1:
        return Plan(size, size, size)
    if rotation == "free":
        whole = max(1, round(size / pitch))
        return Plan(size, whole, whole)
    padded = math.ceil(size / pitch.numerator) * pitch.numerator
    return Plan(padded, int(padded / pitch), math.ceil(size / pitch))


def reduced(image: np.ndarray, rows: Plan, columns: Plan) -> np.ndarray:
    """Returns float32 (rows.kept, columns.kept, ...): area averages of `image` (h, w, ...), float32, mirrored beyond its edges."""
    pads = [(0, rows.padded - image.shape[0]), (0, columns.padded - image.shape[1])]
    if any(after for _, after in pads):
        image = np.pad(image, pads + [(0, 0)] * (image.ndim - 2), mode="symmetric")
    if image.shape[:2] == (rows.whole, columns.whole):
        return image
    if image.ndim == 3 and image.shape[2] > 4:  # more than OpenCV takes at a time: the planes of a stack
        return np.stack([reduced(np.ascontiguousarray(plane), rows, columns) for plane in np.moveaxis(image, -1, 0)], axis=-1)
    return cv2.resize(image, (columns.whole, rows.whole), interpolation=cv2.INTER_AREA)[: rows.kept, : columns.kept]
