"""A network on whole scans of any size: few shapes are compiled, the largest scans go in tiles."""

import math
from collections.abc import Callable

import numpy as np

from microscopy import tiling
from segmentation import inference, networks

STEP = 64
"""Sizes are continued by reflection to multiples of it, so that scans of many sizes share a compiled program."""
TILE = 2048
"""Longer sides are cut into tiles of this many pixels, and the halo the network needs."""


def make_whole(model: networks.UNet, probability: Callable) -> Callable[[np.ndarray], np.ndarray]:
    """Returns whole(image): image (h, w, c) in [-1, 1] to the probability of foreground, float32 (h, w).

    `probability` takes (1, h', w', c) and gives (1, h', w'). Tiles equal the whole to rounding, but with group norm, which sees all of an
    image: that network takes every image whole. Of a U-Net of stacks `probability` takes (1, d, h', w', 1) and gives (1, d, h', w');
    image and result are (h, w, d) and tiles have all planes, as many pixels as `inference.stack_tile` says.
    """
    if len(model.pool) == 3:
        stacks = inference.network_of(model, probability, None, None)
        return lambda image: inference.in_tiles(stacks, image, inference.stack_tile(stacks, image.shape))
    multiple = math.lcm(STEP, *networks.multiple(model))

    def network(tiles):
        return np.asarray(probability(tiles))[..., None]

    def whole(image):
        if model.norm == "group":
            wide = tiling.padded(image, multiple)
            return np.asarray(probability(wide[None]))[0, : image.shape[0], : image.shape[1]]
        halo = max(networks.receptive_radius(model))
        return tiling.in_tiles(network, image, tile=-(-TILE // multiple) * multiple, halo=halo, multiple=multiple)[..., 0]

    return whole
