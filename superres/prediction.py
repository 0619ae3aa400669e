"""Scans enlarged by a trained generator: whole or in tiles, in the depth and unit they came in, their pixel size divided by the scale.

What the network sees is in [-1, 1] by the map of the scans it was trained on, heights levelled as those were. What of a scan that takes
away or cannot show, tilt, rows' offsets and values outside the map's range, is enlarged bilinearly and added again, so nothing is
clipped. A scan of another kind (another unit, or grey levels of another depth) has its own map: 8 bits are 0..255, of others the least
and greatest value become -0.9 and 0.9, and heights lose their least-squares plane first.
"""

import dataclasses
import io
import pathlib
import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple

import cv2
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import resize
from microscopy import levelling, tiling
from microscopy.normalisation import ValueMap
from microscopy.pictures import encode_png
from microscopy.scan import DataError, Scan
from microscopy.tiling import MAX_SHAPES, needs_ladder
from microscopy.writing import encode_gwy, encode_tiff
from superres import consistency
from superres.networks import SCALES
from superres.smoothing import TRUNCATE, gaussian_blur
from training import inputs, prediction
from training.errors import ConfigError

REACH = 0.9
"""Where the extremes of a 16-bit or float image come to lie in [-1, 1]."""
LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601: the weights of red, green and blue in the grey that a one-channel network is given."""
STEP = 32
"""Pixels between two sizes of that ladder."""
BUDGET = 2**30
"""Bytes that a tile may take in the network."""
TOLD = 0.01
"""Share of values outside the training range from which on it is told: a scan's 0.1 percentiles lie there in any case."""
EDGE = 2
"""Pixels that what is interpolated is continued by, as a plane goes on."""
REACHED = 4
"""Pixels of low that a step of back-projection reaches: two of the reduction's kernel and two of the enlargement's."""
REDUCTIONS = {"bicubic": resize.bicubic, "area": resize.area}
COPIES = 2
"""Arrays of `num_maps` float32 maps at the output's size that live at once, by XLA's own plan of the memory (a test asks it)."""


@dataclasses.dataclass(frozen=True)
class Network:
    """A trained generator as predicting needs it.

    `upscale` takes low (n, h, w, channels), float32 in [-1, 1], to (n, scale h, scale w, channels).
    `halo` is its receptive radius in pixels of low (`receptive_radius`), `num_maps` the maps it holds at the output's size.
    `value_map` and `levelling` are those of the scans it was trained on, None where they are not known; `reduction` (of `REDUCTIONS`) made
    its low-resolution images.
    """

    upscale: Callable
    scale: int
    channels: int
    halo: int
    num_maps: int
    value_map: ValueMap | None = None
    levelling: str = "plane"
    reduction: str = "bicubic"


class Seen(NamedTuple):
    """A scan as the network sees it, and the way back.

    `low` float32 (h, w, channels) in [-1, 1]; 0 is the value `middle`, 1 is `reach` more; `rest` float64 (h, w) or (h, w, 3) is what of the
    scan is not in `low`; `notes` tell what a user would not expect.
    """

    low: np.ndarray
    middle: float
    reach: float
    rest: np.ndarray
    notes: list[str]


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


def seen(scan: Scan, network: Network) -> Seen:
    """Returns what of a scan the network sees, and what not; DataError where the scan cannot be levelled."""
    notes: list[str] = []
    values = _in_channels(scan.pixels.astype(np.float64), network.channels, notes)
    own = network.value_map is None or not fits(scan, network.value_map)
    flat = values
    if scan.unit == "nm" and scan.pixels.dtype.kind == "f" and values.ndim == 2:
        flat = levelling.level(scan.pixels, "plane" if own else network.levelling)[0].astype(np.float64)
    if own:
        middle, reach = own_range(scan.pixels if flat is values else flat)
        if network.value_map is not None:
            notes.append(f"{_kind(scan)} is not what the network was trained on; its own range takes the place of the training scans'")
    else:
        low, high = network.value_map.low, network.value_map.high
        middle, reach = (low + high) / 2, (high - low) / 2
    unit = np.clip((flat - middle) / (reach or 1.0), -1.0, 1.0)
    outside = np.mean(np.abs(flat - middle) > 1.0001 * reach)
    if outside > TOLD:
        notes.append(f"{100 * outside:.0f} % of the values lie outside the range the network was trained on, where they are interpolated")
    rest = values - (unit * reach + middle)
    low = np.broadcast_to(unit if unit.ndim == 3 else unit[..., None], (*unit.shape[:2], network.channels))
    return Seen(np.ascontiguousarray(low, np.float32), middle, reach, rest, notes)


def _in_channels(values: np.ndarray, channels: int, notes: list[str]) -> np.ndarray:
    if values.ndim == 3 and channels == 1:
        notes.append("colour is reduced to luma (ITU-R BT.601): this network has one channel")
        return values @ np.array(LUMA)
    if values.ndim == 2 and channels == 3:
        notes.append("grey is repeated for the three channels of this network, whose outputs are averaged")
    return values


def fits(scan: Scan, value_map: ValueMap) -> bool:
    """Returns whether a scan is of the kind the map was fitted on: the same unit, and grey levels of the same depth."""
    return scan.unit == value_map.unit and (scan.unit != "grey" or value_map.dtype in ("", str(scan.pixels.dtype)))


def _kind(scan: Scan) -> str:
    return f"{scan.unit} stored as {scan.pixels.dtype}"


def own_range(values: np.ndarray) -> tuple[float, float]:
    """Returns (middle, reach) of values by themselves: those of 0..255 for 8 bits, else with the extremes at -0.9 and 0.9."""
    if values.dtype == np.uint8:
        return 127.5, 127.5
    low, high = float(values.min()), float(values.max())
    return (low + high) / 2, (high - low) / 2 / REACH


def stored(image: np.ndarray, of: Seen, like: np.ndarray, size: int = 0) -> np.ndarray:
    """Returns stored values (H, W) or (H, W, 3) of an image (H, W, channels) in [-1, 1], in the dtype and, for grey, the shape of `like`.

    The rest is added, enlarged bilinearly, planes going on to the border. With `size` the longer side is brought to it by `resize.bicubic`.
    Integers are rounded and clipped to their type. Three channels of a grey image are averaged.
    """
    image = image.astype(np.float64)
    image = image.mean(-1) if like.ndim == 2 or image.shape[-1] == 1 else image
    values = image * of.reach + of.middle
    if of.rest.any():
        scale = len(values) // len(of.rest)
        margins = [(EDGE, EDGE)] * 2 + [(0, 0)] * (of.rest.ndim - 2)
        wide = np.pad(of.rest, margins, mode="reflect", reflect_type="odd") if min(of.rest.shape[:2]) > EDGE else of.rest
        cut = scale * EDGE if wide is not of.rest else 0
        larger = cv2.resize(wide, (wide.shape[1] * scale, wide.shape[0] * scale), interpolation=cv2.INTER_LINEAR)
        values = values + larger[cut : len(larger) - cut, cut : larger.shape[1] - cut]
    if size:
        mean = values.mean()  # kept out of float32
        shape = [max(1, round(side * size / max(values.shape[:2]))) for side in values.shape[:2]]
        resized = resize.bicubic((values - mean).reshape(1, *values.shape[:2], -1).astype(np.float32), *shape)
        values = np.asarray(resized, np.float64).reshape(*shape, *values.shape[2:]) + mean
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
    smoothed = _consistent(_smoothed(network, request.smoothing), request.back_projections)
    tile = request.tile or automatic_tile(network, smoothed.halo)
    if tile <= 2 * smoothed.halo:
        raise ConfigError(
            f"--tile={tile}: {2 * smoothed.halo + 1} pixels at least, for this network sees {smoothed.halo} pixels to each side."
        )
    sizes = (size for size, _ in inputs.sizes(request.input, max_pixels=max_pixels, channel=channel))
    ladder = needs_ladder(sizes, tile)
    if ladder:
        least = tiling.least_rung(smoothed.halo, STEP)
        print(f"More than {MAX_SHAPES} sizes: those below {least} px are continued by reflection at their borders.")
    busy, told = threading.Lock(), set()

    def one(scan: Scan) -> dict[str, bytes]:
        (suffix,) = suffixes(request.format, pathlib.Path(scan.file))
        shown = seen(scan, network)
        with busy:
            _tell(told, scan, shown.notes)
            high = enlarge(smoothed.upscale, shown.low, scale=network.scale, tile=tile, halo=smoothed.halo, ladder=ladder)
        if not np.isfinite(high).all():
            raise DataError("became NaN or infinite in the network; look at the weights, or at the scan for extreme values")
        values = stored(high, shown, scan.pixels, request.size)
        ratios = [new / old for new, old in zip(values.shape, scan.pixels.shape[:2], strict=False)]
        nm = scan.nm_per_pixel and tuple(size / ratio for size, ratio in zip(scan.nm_per_pixel, ratios, strict=True))
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


def _consistent(network: Network, num_steps: int) -> Network:
    """Returns the network with back-projection behind it: its result, reduced again, comes to the scan (`consistency.back_project`)."""
    if not num_steps:
        return network
    upscale, down = network.upscale, REDUCTIONS[network.reduction]

    def consistent(low):
        return consistency.back_project(upscale(low), jnp.asarray(low), num_steps, down=down)

    return dataclasses.replace(network, upscale=consistent, halo=network.halo + REACHED * num_steps)


def _tell(told: set, scan: Scan, notes: list[str]) -> None:
    """Prints each kind of note with the first scan it holds for."""
    for note in notes:
        kind = note.partition(" % ")[2] or note
        if kind not in told:
            told.add(kind)
            tqdm.write(f"{scan.file}: {note}; the same of others is not told again.")
