"""A network on whole scans of any size: few shapes are compiled, the largest scans go in tiles."""

import math
from collections.abc import Callable

import cv2
import jax.numpy as jnp
import numpy as np

from microscopy import tiling
from segmentation import networks

STEP = 64
"""Sizes are continued by reflection to multiples of it, so that scans of many sizes share a compiled program; when predicting too, because
the network's own border shows in what it says."""
BUDGET = 2**31
"""Bytes that the maps of a tile of a stack may take."""
STACK_COPIES = 10
"""Arrays of `num_maps` float32 maps at a stack's own size that live at once, 9.3 as measured on a CPU: convolutions go slice by slice."""
TILE = 2048
"""Longer sides are cut into tiles of this many pixels, and the halo the network needs."""


def make_whole(model: networks.UNet, probability: Callable, pitch: float = 1.0) -> Callable[[np.ndarray], np.ndarray]:
    """Returns whole(image): image (h, w, c) in [-1, 1] to the probability of foreground, float32 (h, w).

    `probability` takes (1, h', w', c) and gives (1, h', w'); its pixels are `pitch` pixels of the image wide.
    Tiles equal the whole to rounding, but with group norm, which sees all of an image: that network takes every image whole.
    Of a U-Net of stacks `probability` takes (1, d, h', w', 1) and gives (1, d, h', w'); image and result are (h, w, d), see `stack_tile`.
    """
    multiple, stacks = math.lcm(STEP, *networks.multiple(model)[-2:]), len(model.pool) == 3
    probability = planes_last(probability) if stacks else probability

    def network(tiles):
        return np.asarray(probability(tiles))[..., None]

    def at_the_networks_pixels(image):
        if model.norm == "group":
            wide = tiling.padded(image, multiple)
            return np.asarray(probability(wide[None]))[0, : image.shape[0], : image.shape[1]]
        halo = max(networks.receptive_radius(model)[-2:])
        tile = stack_tile(model.base_width, halo, multiple, image.shape) if stacks else -(-TILE // multiple) * multiple
        return tiling.in_tiles(network, image, tile=tile, halo=halo, multiple=multiple)[..., 0]

    def whole(image):
        return np.clip(sized(at_the_networks_pixels(reduced(image, pitch)), image.shape[:2]), 0.0, 1.0)

    return whole


def planes_last(probability: Callable) -> Callable:
    """Returns a function of stacks (n, h, w, d) to (n, h, w, d) from one of stacks (n, d, h, w, 1) to (n, d, h, w)."""

    def applied(images):
        return jnp.moveaxis(probability(jnp.moveaxis(images, -1, 1)[..., None]), 1, -1)

    return applied


def stack_tile(num_maps: int, halo: int, step: int, shape: tuple[int, ...]) -> int:
    """Returns the side of a tile of a stack of `shape` (h, w, d), in pixels: of those that `BUDGET` bytes hold the one of the least work.

    A tile has all planes, so that it is small and its halo counts. A multiple of `step`, with room for two halos; `num_maps` are held at
    the stack's own size.
    """
    height, width = (size + -size % step for size in shape[:2])
    most = math.isqrt(BUDGET // (4 * STACK_COPIES * num_maps * shape[2]))
    least = tiling.least_rung(halo, step)

    def work(side):
        return len(tiling.plan(height, width, side, halo, step)) * min(side, height) * min(side, width)

    return min(range(least, max(most, least) + 1, step), key=work)


def reduced(image: np.ndarray, pitch: float) -> np.ndarray:
    """Returns an image (h, w, c) with pixels `pitch` times as wide, float32 (h', w', c); see `sized`."""
    small = sized(image, tuple(max(1, round(side / pitch)) for side in image.shape[:2]))
    return small.reshape(*small.shape[:2], -1)


def sized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns float32 (h, w) or (h, w, c) with `size` pixels: area averages along an axis that shrinks, linear along one that grows."""
    if image.shape[:2] == size:
        return image
    if image.ndim == 3 and image.shape[2] != 3:  # a stack, one plane after the other
        return np.stack([sized(np.ascontiguousarray(image[..., plane]), size) for plane in range(image.shape[2])], axis=-1)
    least = tuple(min(sides) for sides in zip(image.shape, size, strict=False))
    smaller = cv2.resize(image, least[::-1], interpolation=cv2.INTER_AREA)
    return cv2.resize(smaller, size[::-1], interpolation=cv2.INTER_LINEAR)
