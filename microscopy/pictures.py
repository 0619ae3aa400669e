"""Pictures for people: tiled, scaled to 8 bit and stored as PNG. Colours are RGB everywhere."""

import math
import os
import pathlib

import cv2
import numpy as np

from microscopy import atomic
from microscopy.scan import DataError

SEPARATOR = 2
"""Pixels between two tiles of a grid."""


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Returns uint8 of the same shape: -1 becomes 0, 1 becomes 255, rounded to the nearest level and clipped outside.

    `image` is any array of floats. Raises DataError where it holds a NaN, which has no grey level.
    """
    image = np.asarray(image, np.float32)
    if np.isnan(image).any():
        raise DataError("the image holds NaN, which no grey level can show; look at the weights or the input it came from")
    return np.clip(np.rint((image + 1) * 127.5), 0, 255).astype(np.uint8)


def grid(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Returns one uint8 picture (H, W) or (H, W, 3): the images row by row, white lines of 2 px between them.

    `images` is uint8 (n, h, w), (n, h, w, 1) or (n, h, w, 3); `columns` defaults to the nearest to a square that is
    not taller than wide. Missing tiles of the last row stay white. Raises DataError for another dtype or shape.
    """
    images = np.asarray(images)
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    if images.dtype != np.uint8 or not (images.ndim == 3 or images.ndim == 4 and images.shape[-1] == 3) or not images.size:
        raise DataError(f"a grid needs uint8 images (n, h, w) or (n, h, w, 1 or 3), not {images.dtype} {images.shape}")
    count, height, width = images.shape[:3]
    columns = min(count, columns or math.ceil(math.sqrt(count)))
    if columns < 1:
        raise DataError(f"a grid needs 1 column or more, not {columns}")
    rows = math.ceil(count / columns)
    down, right = height + SEPARATOR, width + SEPARATOR
    picture = np.full((rows * down - SEPARATOR, columns * right - SEPARATOR, *images.shape[3:]), 255, np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * down, index % columns * right
        picture[top : top + height, left : left + width] = image
    return picture


def middle_plane(images: np.ndarray) -> np.ndarray:
    """Returns images (n, h, w, c) as they are, of stacks (n, d, h, w, c) the middle plane of each."""
    return images[:, images.shape[1] // 2] if images.ndim == 5 else images


def outlined(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns a uint8 RGB picture (h, w, 3) of an image (h, w) or (h, w, 3) with the outlines of the instance map (h, w) drawn inside them.

    The image's 0.5 and 99.5 percentiles become black and white.
    """
    low, high = np.percentile(image, (0.5, 99.5))
    picture = to_uint8(2.0 * (image - low) / max(high - low, 1e-12) - 1.0)
    rgb = np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture
    kernel = np.ones((3, 3), np.uint8)
    values = labels.astype(np.float32)
    edge = (cv2.dilate(values, kernel) != cv2.erode(values, kernel)) & (labels > 0)
    rgb[edge] = (255, 120, 0)
    return rgb


def encode_png(picture: np.ndarray) -> bytes:
    """Returns the PNG file of `picture`, lossless: uint8 or uint16, (h, w), (h, w, 1) or RGB (h, w, 3).

    Raises DataError for another dtype or shape.
    """
    picture = np.asarray(picture)
    drawable = picture.ndim == 2 or picture.ndim == 3 and picture.shape[-1] in (1, 3)
    if not drawable or not picture.size or picture.dtype not in (np.uint8, np.uint16):
        raise DataError(f"a PNG holds uint8 or uint16 (h, w) or (h, w, 1 or 3), not {picture.dtype} {picture.shape}")
    if picture.ndim == 3 and picture.shape[-1] == 3:
        picture = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2BGR)
    done, content = cv2.imencode(".png", picture)
    if not done:
        raise DataError(f"OpenCV could not encode a picture {picture.dtype} {picture.shape} as PNG")
    return content.tobytes()


def write_png(path: str | os.PathLike, picture: np.ndarray) -> pathlib.Path:
    """Returns `path` after the picture (as in `encode_png`) stands under it, whole or not at all; makes its folder."""
    path = pathlib.Path(path)
    content = encode_png(picture)
    path.parent.mkdir(parents=True, exist_ok=True)
    return atomic.write_bytes(path, content)
