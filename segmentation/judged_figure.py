"""The picture of an evaluation: scans, probabilities, and where the two masks differ."""

import cv2
import numpy as np

from microscopy import plots
from microscopy.pictures import to_uint8

WIDTH, GAP, LINE = 360, 4, 20
EXTRA, MISSED = (230, 60, 60), (60, 110, 240)
"""RGB of pixels that only the prediction, and only the truth, has as foreground."""


def draw(images: list[np.ndarray], found: list[np.ndarray], truths: list[np.ndarray], words: list[str]) -> np.ndarray:
    """Returns uint8 RGB (h, w, 3): a row a scan of three pictures, 360 px wide each, under one of the `words`.

    The scan, its probability of foreground, and over the scan in red what only the prediction has, in blue what only the truth has. Images
    (h, w, 1 or 3) in [-1, 1], probabilities (h, w), masks (h, w) with foreground above 0.
    """
    bands = []
    for image, probability, truth, text in zip(images, found, truths, words, strict=True):
        scan = np.ascontiguousarray(np.broadcast_to(to_uint8(image), (*image.shape[:2], 3)))
        tiles = [scan, np.repeat(to_uint8(2 * probability - 1)[..., None], 3, axis=-1), _differences(scan, probability > 0.5, truth > 0)]
        bands.append(_headed([_resized(tile) for tile in tiles], [text, "probability of foreground", "red: extra, blue: missed"]))
    space = np.full((GAP, bands[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for band in bands for part in (band, space)][:-1])


def _differences(scan: np.ndarray, predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    picture = scan.copy()
    picture[predicted & ~truth] = EXTRA
    picture[truth & ~predicted] = MISSED
    return picture


def _resized(picture: np.ndarray) -> np.ndarray:
    height = max(1, round(picture.shape[0] * WIDTH / picture.shape[1]))
    return cv2.resize(picture, (WIDTH, height), interpolation=cv2.INTER_AREA)


def _headed(tiles: list[np.ndarray], words: list[str]) -> np.ndarray:
    space = np.full((LINE + tiles[0].shape[0], GAP, 3), 255, np.uint8)
    columns = []
    for tile, text in zip(tiles, words, strict=True):
        head = np.full((LINE, WIDTH, 3), 255, np.uint8)
        plots.write(head, 2, LINE // 2, text)
        columns += [np.concatenate([head, tile]), space]
    return np.concatenate(columns[:-1], axis=1)
