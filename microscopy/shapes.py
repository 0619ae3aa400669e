"""Outlines of labelled regions: convex hull, Feret diameters, perimeter. Pixels may be oblong."""

import cv2
import numpy as np

_HALVES = np.array([[0.5, 0.0], [-0.5, 0.0], [0.0, 0.5], [0.0, -0.5]])
_DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1))


def hull(image: np.ndarray) -> np.ndarray:
    """Returns the corners (n, 2), int64 (y, x), in order, of the convex hull of the pixel centres of a bool image (h, w) with any True."""
    y = np.flatnonzero(image.any(1))
    first = image[y].argmax(1)
    last = image.shape[1] - 1 - image[y, ::-1].argmax(1)
    points = np.concatenate([np.stack([y, first], -1), np.stack([y, last], -1)]).astype(np.int32)
    return cv2.convexHull(points).reshape(-1, 2).astype(np.int64)


def hull_pixels(corners: np.ndarray) -> int:
    """Returns how many pixel centres lie in the hull or on its outline: area + outline / 2 + 1 (Pick's theorem)."""
    step = np.roll(corners, -1, axis=0) - corners
    doubled = abs(int(np.sum(corners[:, 0] * np.roll(corners[:, 1], -1) - corners[:, 1] * np.roll(corners[:, 0], -1))))
    outline = int(np.gcd(step[:, 0], step[:, 1]).sum())
    return (doubled + outline) // 2 + 1


def feret_diameters(corners: np.ndarray, scale: tuple[float, float] = (1.0, 1.0)) -> tuple[float, float]:
    """Returns (largest, smallest) caliper width of a region from its `hull`, in the unit of `scale` (y, x) per pixel.

    Of the outline through the middles of the pixels' outer edges: a single square pixel is 1 wide, a disc neither gains nor loses on
    average. The largest is the greatest distance of two points, the smallest is found with one jaw on an edge of the hull.
    """
    around = (corners[:, None] + _HALVES).reshape(-1, 2)
    outline = cv2.convexHull(around.astype(np.float32)).reshape(-1, 2) * np.array(scale, np.float64)
    apart = outline[:, None] - outline
    edges = np.roll(outline, -1, axis=0) - outline
    normals = np.stack([-edges[:, 1], edges[:, 0]], -1) / np.hypot(edges[:, 0], edges[:, 1])[:, None]
    across = normals @ outline.T
    return float(np.sqrt((apart**2).sum(-1).max())), float(np.ptp(across, axis=1).min())


def perimeters(labels: np.ndarray, scale: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """Returns the perimeter of every label 0..max of an instance map (h, w), float64, in the unit of `scale` (y, x) per pixel.

    Cauchy-Crofton: half the integral over directions of the number of outline crossings, here along rows, columns and both
    diagonals, each for the directions nearest to it (Legland, Kieu and Devaux, Image Anal. Stereol. 26, 83, 2007). The border of the map is
    an outline like any other. Label 0 gets that of the background.
    """
    padded = np.pad(labels, 1)
    size, total = int(labels.max()) + 1, np.zeros(int(labels.max()) + 1)
    vectors = np.array(_DIRECTIONS) * np.array(scale, np.float64)
    angles = np.mod(np.arctan2(vectors[:, 0], vectors[:, 1]), np.pi)
    later = np.mod(np.roll(angles, -1) - angles, np.pi)
    shares = (later + np.roll(later, 1)) / 2
    for (down, right), vector, share in zip(_DIRECTIONS, vectors, shares, strict=True):
        here = padded[: len(padded) - down, max(0, -right) : padded.shape[1] - max(0, right)]
        there = padded[down:, max(0, right) : padded.shape[1] - max(0, -right)]
        crossed = here != there
        num = np.bincount(here[crossed], minlength=size) + np.bincount(there[crossed], minlength=size)
        total += share * num * (scale[0] * scale[1] / np.hypot(*vector)) / 2
    return total
