"""Scans enlarged by a trained generator: whole or in tiles, in the depth and unit they came in, their pixel size divided by the scale.

What the network sees is in [-1, 1]. 8 bits are 0..255, as the published networks were trained. 16 bits and floats have no range of
their own (a 12-bit camera fills a sixteenth of the 16 bits, heights are any number): the image's own least and greatest value become
-0.9 and 0.9, so that nothing is clipped and tanh, which the output may end in, is far from its limits. Heights lose their least-squares
plane before and have it again, finer, afterwards: an unlevelled scan is a ramp in which the network would hardly see the surface.
One spike takes contrast from all the rest: despike such a scan first.
"""

import dataclasses
import io
import pathlib
import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from microscopy import planes, tiling
from microscopy.pictures import encode_png
from microscopy.scan import DataError, Scan
from microscopy.tiling import MAX_SHAPES, needs_ladder
from microscopy.writing import encode_gwy, encode_tiff
from superres.networks import SCALES
from superres.smoothing import TRUNCATE, gaussian_blur
from training import prediction
from training.errors import ConfigError

REACH = 0.9
"""Where the extremes of a 16-bit or float image come to lie in [-1, 1]."""
LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601: the weights of red, green and blue in the grey that a one-channel network is given."""
STEP = 32
"""Pixels between two sizes of that ladder."""
BUDGET = 2**30
"""Bytes that a tile may take in the network."""
COPIES = 2
"""Arrays of `num_maps` float32 maps at the output's size that live at once, by XLA's own plan of the memory (a test asks it)."""


@dataclasses.dataclass(frozen=True)
class Network:
    """A trained generator as predicting needs it.

    `upscale` takes low (n, h, w, channels), float32 in [-1, 1], to (n, scale h, scale w, channels).
    `halo` is its receptive radius in pixels of low (`receptive_radius`), `num_maps` the maps it holds at the output's size.
    """

    upscale: Callable
    scale: int
    channels: int
    halo: int
    num_maps: int


class Levels(NamedTuple):
    """The value in the middle of the network's range, what lies between it and 1, and the plane taken away before (`planes.plane`)."""

    middle: float
    reach: float
    plane: tuple[float, float, float] = (0.0, 0.0, 0.0)


def receptive_radius(model) -> int:
    """Returns how many input pixels away the farthest input pixel lies that changes an output pixel of a `superres.networks.Generator`.

    `model` has its fields first_kernel, num_blocks, last_kernel and scale. Exact: from the last kernel's half width r at the output's size,
    each halving of the size makes ceil(r / 2) of it and adds 1 for its 3x3 kernel; the trunk adds 1, each block 2, then the first kernel.
    Batch norm by stored statistics reaches no further.
    """
    radius = model.last_kernel // 2
    for _ in range(SCALES.index(model.scale) + 1):
        radius = -(-radius // 2) + 1
    return radius + 1 + 2 * model.num_blocks + model.first_kernel // 2


def automatic_tile(network: Network, halo: int) -> int:
    """Returns the side of a tile in pixels, a multiple of STEP: what `BUDGET` bytes hold, but no less than three halos."""
    side = (BUDGET / (4 * COPIES * network.num_maps * network.scale**2)) ** 0.5
    return max(int(side) // STEP, -(-3 * halo // STEP), 1) * STEP


def levels(pixels: np.ndarray, unit: str = "grey") -> Levels:
    """Returns how an image's values become the network's: see the module. `reach` is 0 for a 16-bit or float image of one value."""
    if pixels.dtype == np.uint8:
        return Levels(127.5, 127.5)
    if unit == "nm" and pixels.dtype.kind == "f":
        flat, plane = planes.plane(pixels)
        return levels(flat)._replace(plane=tuple(plane.tolist()))
    low, high = float(pixels.min()), float(pixels.max())
    return Levels((low + high) / 2, (high - low) / 2 / REACH)


def to_network(pixels: np.ndarray, levels: Levels, channels: int) -> np.ndarray:
    """Returns float32 (h, w, channels) in [-1, 1] of pixels (h, w) or (h, w, 3); three become one by `LUMA`, one three by repetition."""
    values = pixels.astype(np.float64)
    if any(levels.plane):
        values -= planes.plane_surface(values.shape, *levels.plane)
    unit = (values - levels.middle) / (levels.reach or 1.0)
    if unit.ndim == 3 and channels == 1:
        unit = unit @ np.array(LUMA)
    if unit.ndim == 2:
        unit = unit[..., None]
    return np.ascontiguousarray(np.broadcast_to(unit, (*unit.shape[:2], channels)), np.float32)


def from_network(image: np.ndarray, levels: Levels, like: np.ndarray) -> np.ndarray:
    """Returns stored values (h, w) or (h, w, 3) of an image (h, w, channels) in [-1, 1], in the dtype and, for grey, the shape of `like`.

    Integers are rounded and clipped to their type. Three channels of a grey image are averaged.
    """
    image = image.astype(np.float64)
    image = image.mean(-1) if like.ndim == 2 or image.shape[-1] == 1 else image
    values = image * levels.reach + levels.middle
    if any(levels.plane):
        finer = len(like) / len(values)
        values += planes.plane_surface(values.shape, levels.plane[0], *(slope * finer for slope in levels.plane[1:]))
    if like.dtype.kind == "f":
        return values.astype(np.float32)
    return np.clip(np.rint(values), 0, np.iinfo(like.dtype).max).astype(like.dtype)


def enlarge(upscale: Callable, low: np.ndarray, *, scale: int, tile: int, halo: int, ladder: bool = False) -> np.ndarray:
    """Returns `upscale` of the image (h, w, c), (h scale, w scale, c of the output), whole where it is no larger than the tile.

    Equal to the whole, to rounding, for a `halo` of the receptive radius or more. `ladder` bounds how many shapes are compiled: the tile is
    then the largest multiple of STEP that the image holds, still equal to the whole; an image too small for halos of such a tile is
    continued by reflection to a multiple of STEP, so that near its border it differs from what zero padding would give.
    """
    if ladder:
        return tiling.in_ladder(upscale, low, tile=tile, halo=halo, step=STEP, scale=scale)
    return tiling.in_tiles(upscale, low, tile=tile, halo=halo, scale=scale)


def suffixes(kind: str, file: pathlib.Path) -> tuple[str]:
    """Returns the suffix of the enlarged file: that of the format asked for, or for "" .png of PNG and JPEG, .npy of NPY, else .tiff."""
    own = {".png": "png", ".jpg": "png", ".jpeg": "png", ".npy": "npy"}.get(file.suffix.lower(), "tiff")
    return (f".{kind or own}",)


def encode(pixels: np.ndarray, suffix: str, nm_per_pixel: tuple[float, float] | None, unit: str) -> bytes:
    """Returns a file's content: PNG (8 or 16 bit), TIFF or NPY as they are, gwy for heights. DataError where it cannot hold them."""
    if suffix == ".png":
        if pixels.dtype.kind == "f":
            raise DataError("holds floating-point values, which a PNG cannot; use --format=tiff or npy")
        return encode_png(pixels)
    if suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, pixels, allow_pickle=False)
        return buffer.getvalue()
    if suffix == ".tiff":
        return encode_tiff(pixels, nm_per_pixel, unit)
    if unit != "nm" or pixels.dtype.kind != "f":
        raise DataError(f"is in {unit}, and a .gwy file here holds heights; use --format=tiff or npy")
    return encode_gwy(pixels, nm_per_pixel)


def predict(network: Network, request: prediction.Request, facts: Mapping, *, max_pixels: int, channel: str = "") -> prediction.Outcome:
    """Returns what came of it after every scan of `request.input` stands enlarged in `request.output` (see `training.prediction.run`).

    `facts` is `training.prediction.facts`. Prints what is done to the images where a user would not expect it.
    """
    prediction.check(request)
    smoothed = _smoothed(network, request.smoothing)
    tile = request.tile or automatic_tile(network, smoothed.halo)
    if tile <= 2 * smoothed.halo:
        raise ConfigError(
            f"--tile={tile}: {2 * smoothed.halo + 1} pixels at least, for this network sees {smoothed.halo} pixels to each side."
        )
    sizes = (size for size, _ in prediction.sizes(request.input, max_pixels=max_pixels, channel=channel))
    ladder = needs_ladder(sizes, tile)
    if ladder:
        least = tiling.least_rung(smoothed.halo, STEP)
        print(f"More than {MAX_SHAPES} sizes: those below {least} px are continued by reflection at their borders.")
    busy, told = threading.Lock(), set()

    def one(scan: Scan) -> dict[str, bytes]:
        (suffix,) = suffixes(request.format, pathlib.Path(scan.file))
        between = levels(scan.pixels, scan.unit)
        low = to_network(scan.pixels, between, network.channels)
        with busy:
            _tell_once(told, scan, network.channels)
            high = enlarge(smoothed.upscale, low, scale=network.scale, tile=tile, halo=smoothed.halo, ladder=ladder)
        if not np.isfinite(high).all():
            raise DataError("became NaN or infinite in the network; look at the weights, or at the scan for extreme values")
        values = from_network(high, between, scan.pixels)
        nm = scan.nm_per_pixel and tuple(size / network.scale for size in scan.nm_per_pixel)
        return {suffix: encode(values, suffix, nm, scan.unit)}

    return prediction.run(request, facts, lambda file: suffixes(request.format, file), one, max_pixels=max_pixels, channel=channel)


def _smoothed(network: Network, sigma: float) -> Network:
    """Returns the network with the Gaussian behind it, tile by tile, so that mixed sizes need no compilation each."""
    if not sigma:
        return network
    reach = int(TRUNCATE * sigma + 0.5)
    upscale = network.upscale
    return dataclasses.replace(
        network, upscale=lambda low: gaussian_blur(upscale(low), sigma), halo=network.halo + -(-reach // network.scale)
    )


def _tell_once(told: set, scan: Scan, channels: int) -> None:
    text = ""
    if scan.pixels.ndim == 3 and channels == 1:
        text = "colour is reduced to luma (ITU-R BT.601): this network has one channel"
    elif scan.pixels.ndim == 2 and channels == 3:
        text = "grey is repeated for the three channels of this network, whose outputs are averaged"
    if text and text not in told:
        told.add(text)
        tqdm.write(f"{scan.file}: {text}.")
