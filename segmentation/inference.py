"""A trained U-Net on one scan: prepared as the run's scans were, whole or in tiles, the probability brought back to its own pixels."""

import dataclasses
import math
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from microscopy import preparation, resampling, tiling
from microscopy.folder import checked_scale
from microscopy.normalisation import ValueMap
from microscopy.scan import DataError, Scan
from segmentation import networks, whole
from segmentation.instances import MIN_AREA, THRESHOLD

STEP = 32
"""Pixels between two sizes of the ladder of tiles (`tiling.in_ladder`)."""
BUDGET = whole.BUDGET
"""Bytes that the maps of a tile may take."""
COPIES = 5
"""Arrays of `num_maps` float32 maps at the image's own size that may live at once: the skipped one, its concatenation, two convolutions."""


@dataclasses.dataclass(frozen=True)
class Network:
    """A trained U-Net as predicting needs it; `network_of` makes one.

    `probability` takes images (n, h, w, channels), float32 in [-1, 1], to float32 (n, h, w) in [0, 1]. `data` is the run's `config.data`,
    `value_map` its map to [-1, 1]. `halo` is the receptive radius in pixels, None where the whole image is seen; `multiple` what tiles
    are multiples of, `num_maps` the maps held at the image's own size. A pixel above `threshold` is foreground, instances
    under `min_area` pixels are left out. With `stacks` images (n, h, w, d) are stacks of any number of planes, as are probabilities.
    """

    probability: Callable
    data: Any
    value_map: ValueMap
    halo: int | None
    multiple: int
    num_maps: int
    threshold: float = THRESHOLD
    min_area: int = MIN_AREA
    stacks: bool = False

    @property
    def step(self) -> int:
        """The step of the ladder of tiles, a multiple of `multiple`."""
        return math.lcm(STEP, self.multiple)

    @property
    def grid(self) -> int:
        """What an image's sizes are continued to multiples of, as when held-out scans are judged."""
        return math.lcm(whole.STEP, self.multiple)

    @property
    def pitch(self) -> float:
        """How many pixels of a scan at the run's scale one of a training image is wide: `config.data.crop` is reduced to height x width."""
        return self.data.crop / max(self.data.height, self.data.width) if self.data.crop else 1.0


class Segmented(NamedTuple):
    """`probability` float32 (h, w) of the whole scan, (h, w, d) of a stack; `scan` what the run's margins leave (`window`), levelled."""

    probability: np.ndarray
    scan: Scan
    window: tuple[slice, slice]


def network_of(
    model: networks.UNet, probability: Callable, data, value_map: ValueMap, *, threshold: float = THRESHOLD, min_area: int = MIN_AREA
) -> Network:
    """Returns the Network of a `UNet` and `probability(images)`, its function with the parameters in it.

    That of a U-Net of stacks takes (n, d, h, w, 1) and gives (n, d, h, w). All planes of a tile of theirs are in the network at a time.
    """
    stacks = len(model.pool) == 3
    halo = None if model.norm == "group" else max(networks.receptive_radius(model)[-2:])
    probability = whole.planes_last(probability) if stacks else probability
    return Network(probability, data, value_map, halo, max(networks.multiple(model)[-2:]), model.base_width, threshold, min_area, stacks)


class Timed:
    """A network's `probability` on one device, one call at a time: compiled before it is timed, seconds on the device noted.

    `seconds` has for each `image` what its calls took from arguments on the device to results there; `compiled` is when the last
    compilation ended (`time.perf_counter`).
    """

    def __init__(self, probability: Callable):
        self._probability, self._shapes, self._lock, self._own = probability, set(), threading.Lock(), threading.local()
        self.seconds: list[float] = []
        self.compiled = -math.inf

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Returns float32 (n, h, w) on the host; adds to the seconds of this thread's image."""
        images = jax.block_until_ready(jax.device_put(images))
        with self._lock:
            if images.shape not in self._shapes:
                jax.block_until_ready(self._probability(images))
                self._shapes.add(images.shape)
                self.compiled = time.perf_counter()
            started = time.perf_counter()
            found = jax.block_until_ready(self._probability(images))
            self._own.seconds += time.perf_counter() - started
        return np.asarray(found)

    def image(self, segment: Callable[[], Segmented]) -> Segmented:
        """Returns `segment()`, whose calls, all in this thread, are those of one image."""
        self._own.seconds = 0.0
        found = segment()
        self.seconds.append(self._own.seconds)
        return found


def automatic_tile(network: Network) -> int:
    """Returns the side of a tile in pixels, a multiple of the ladder's step: what `BUDGET` bytes hold, but no less than two rungs."""
    side = (BUDGET / (4 * COPIES * network.num_maps)) ** 0.5
    least = tiling.least_rung(network.halo or 0, network.step)
    return max(int(side) // network.step * network.step, least)


def segment(network: Network, scan: Scan, *, tile: int = 0, ladder: bool = False) -> Segmented:
    """Returns the foreground probability of a scan, and the scan as it was prepared.

    In order, all of it the run's: margins cut off (probability 0 there), channels, levelling, resampling to its pixels where both state
    their size, the map to [-1, 1]. `tile` 0 is `automatic_tile`; tiles equal the whole within rounding. `ladder` as `tiling.in_ladder`,
    for scans of many sizes. DataError, naming the file, where the scan's unit or values are not the run's.
    """
    top, right, bottom, left = network.data.margins
    height, width = scan.pixels.shape[:2]
    if top + bottom >= height or left + right >= width:
        raise DataError(f"{scan.file or scan.id}: config.data.margins of the run leave nothing of {width} x {height} pixels")
    window = (slice(top, height - bottom), slice(left, width - right))
    own, _ = preparation.levelled(dataclasses.replace(scan, pixels=np.ascontiguousarray(scan.pixels[window])), network.data)
    _check_values(own, network.value_map)
    image = _at_the_networks_pixels(own, network)
    sides = (network.num_maps, network.halo or 0, network.step)
    tile = tile or (whole.stack_tile(*sides, image.shape) if network.stacks else automatic_tile(network))
    found = in_tiles(network, image, tile, ladder)
    if not np.isfinite(found).all():
        raise DataError(f"{scan.file or scan.id}: became NaN or infinite in the network; look at the weights")
    found = np.clip(whole.sized(found, own.pixels.shape[:2]), 0.0, 1.0)
    if found.shape[:2] == (height, width):
        return Segmented(found, own, window)
    probability = np.zeros((height, width, *found.shape[2:]), np.float32)
    probability[window] = found
    return Segmented(probability, own, window)


def in_tiles(network: Network, image: np.ndarray, tile: int, ladder: bool = False) -> np.ndarray:
    """Returns the probability (h, w) of an image (h, w, channels) in [-1, 1], continued to multiples of `network.grid`; see `segment`."""
    wide, window = tiling.padded(image, network.grid), tuple(slice(side) for side in image.shape[:2])
    if network.halo is None:  # it sees the whole image, which no tile equals
        return tiling.in_tiles(network.probability, wide, tile=max(wide.shape[:2]), halo=0, multiple=network.multiple)[window]
    if ladder:
        step = network.step
        return tiling.in_ladder(network.probability, wide, tile=tile, halo=network.halo, step=step, multiple=network.multiple)[window]
    return tiling.in_tiles(network.probability, wide, tile=tile, halo=network.halo, multiple=network.multiple)[window]


def _to_unit(pixels: np.ndarray, value_map: ValueMap) -> np.ndarray:
    """`value_map.to_unit`, of 8 bits by a table of its 256 values, ten times as fast."""
    if pixels.dtype == np.uint8:
        return value_map.to_unit(np.arange(256, dtype=np.uint8))[pixels]
    return value_map.to_unit(pixels)


def _check_values(scan: Scan, value_map: ValueMap) -> None:
    """A scan of another kind than the run's is refused: another unit, 8 bits for 16, or grey levels far beyond those trained on."""
    name = scan.file or scan.id
    if scan.unit != value_map.unit:
        raise DataError(
            f"{name}: holds {scan.unit}, the run was trained on {value_map.unit}; give scans of that kind (config.data.channel)"
        )
    if scan.unit != "grey":
        return
    span, some = value_map.high - value_map.low, scan.pixels[::7, ::7]
    far = np.mean((some < value_map.low - span) | (some > value_map.high + span)) > 0.5
    if far or scan.pixels.dtype == np.uint8 and value_map.high > 255:
        raise DataError(
            f"{name}: {scan.pixels.dtype} values from {scan.pixels.min():.6g} to {scan.pixels.max():.6g}, the run was trained on "
            f"{value_map.low:.6g} to {value_map.high:.6g}; store it as its scans were"
        )


def scale_factors(scan_nm: tuple[float, float] | None, network: Network) -> tuple[float, float] | None:
    """Returns how many of the network's pixels one pixel of a scan is (y, x), None where only their sizes in nm say so and one is missing.

    The network's pixels are those of a training image. A scan that states no size has that of `config.data.nm_per_pixel`.
    """
    if network.value_map.nm_per_pixel is None:
        return 1 / network.pitch, 1 / network.pitch
    scan_nm = scan_nm or _told_scale(network.data)
    if scan_nm is None:
        return None
    return tuple(own / trained for own, trained in zip(scan_nm, network.value_map.nm_per_pixel, strict=True))


def _told_scale(data) -> tuple[float, float] | None:
    """What the run was told of its scans' pixels, nm (y, x)."""
    return checked_scale(data.nm_per_pixel) if data.get("nm_per_pixel") else None


def _at_the_networks_pixels(scan: Scan, network: Network) -> np.ndarray:
    """The image (h, w, channels) in [-1, 1] with the pixels of a training image, in the two steps of training: at the scale of the run's
    scans, then reduced. A scan that states no size where they do, and is given none, is taken to have a training image's pixels."""
    trained, pitch = network.value_map.nm_per_pixel, network.pitch
    scan = dataclasses.replace(scan, nm_per_pixel=scan.nm_per_pixel or _told_scale(network.data))
    if trained and scan.nm_per_pixel:
        nm = math.sqrt(math.prod(trained)) / pitch
        scan = resampling.resampled(scan, nm, resampling.factors(scan, nm, network.data.max_pixels))
    elif trained:
        pitch = 1.0
    image = _to_unit(scan.pixels, network.value_map)
    return whole.reduced(image if image.ndim == 3 else image[..., None], pitch)
