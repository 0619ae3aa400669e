"""A network on whole scans of any size: few shapes are compiled, the largest scans go in tiles."""

import math
from collections.abc import Callable

import cv2
import numpy as np

from microscopy import tiling
from segmentation import networks

STEP = 64
"""Sizes are continued by reflection to multiples of it, so that scans of many sizes share a compiled program; when predicting too, because
the network's own border shows in what it says."""
TILE = 2048
"""Longer sides are cut into tiles of this many pixels, and the halo the network needs."""


def make_whole(model: networks.UNet, probability: Callable, pitch: float = 1.0) -> Callable[[np.ndarray], np.ndarray]:
    """Returns whole(image): image (h, w, c) in [-1, 1] to the probability of foreground, float32 (h, w).

    `probability` takes (1, h', w', c) and gives (1, h', w'); its pixels are `pitch` pixels of the image wide.
    Tiles equal the whole to rounding, but with group norm, which sees all of an image: that network takes every image whole.
    """
    multiple = math.lcm(STEP, *networks.multiple(model))

    def network(tiles):
        return np.asarray(probability(tiles))[..., None]

    def at_the_networks_pixels(image):
        if model.norm == "group":
            wide = tiling.padded(image, multiple)
            return np.asarray(probability(wide[None]))[0, : image.shape[0], : image.shape[1]]
        halo = max(networks.receptive_radius(model))
        return tiling.in_tiles(network, image, tile=-(-TILE // multiple) * multiple, halo=halo, multiple=multiple)[..., 0]

    def whole(image):
        return np.clip(sized(at_the_networks_pixels(reduced(image, pitch)), image.shape[:2]), 0.0, 1.0)

    return whole


def reduced(image: np.ndarray, pitch: float) -> np.ndarray:
    """Returns an image (h, w, c) with pixels `pitch` times as wide, float32 (h', w', c); see `sized`."""
    small = sized(image, tuple(max(1, round(side / pitch)) for side in image.shape[:2]))
    return small.reshape(*small.shape[:2], -1)


def sized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns float32 (h, w) or (h, w, c) with `size` pixels: area averages along an axis that shrinks, linear along one that grows."""
    if image.shape[:2] == size:
        return image
    least = tuple(min(sides) for sides in zip(image.shape, size, strict=False))
    smaller = cv2.resize(image, least[::-1], interpolation=cv2.INTER_AREA)
    return cv2.resize(smaller, size[::-1], interpolation=cv2.INTER_LINEAR)
