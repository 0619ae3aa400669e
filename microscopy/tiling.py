"""Images of any size in tiles of one shape, such that a network gives on the tiles what it gives on the whole.

The terms: a network has the receptive radius r when no output pixel depends on input further than r input pixels away. A tile
overlaps its neighbours; the `halo`, at least r wide, is real context and cut off again. At the image's own border there is no
halo: tiles are moved inward so that they end where the image ends, and the network's own padding does there what it does on the
whole. A network that pools or strides down to a `multiple` has a grid, so tiles begin at multiples of it and the image must be one
(`padded`).

What equals what (to rounding, for halo >= r):
- an image no smaller than the tile, along both axes: `in_tiles` equals the network on the whole image, and every tile has the
  same shape, thus one compilation for all such images;
- an image smaller than the tile along an axis: the tile is as small there. Still equal to the whole, with a compilation for each size;
- the same after `bucketed`: few shapes, but another border. It equals the network on the image continued by reflection, whatever
  the bucket, and so differs from the whole within r of the border, where a zero-padded network sees zeros instead.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from microscopy.scan import DataError

Window = tuple[slice, slice]
MAX_SHAPES = 8
"""Shapes of tile that a run compiles for one by one; with more of them tiles come from a ladder of sizes."""


class Tile(NamedTuple):
    """Where a tile lies in the image (`source`), what of it is kept (`inner`, in the tile) and where that belongs (`target`); y, x."""

    source: Window
    inner: Window
    target: Window


def plan(height: int, width: int, tile: int, halo: int, multiple: int = 1) -> list[Tile]:
    """Returns tiles of min(height, tile) x min(width, tile) pixels, row by row, whose targets cover every pixel of the image once.

    `halo` is at least the network's receptive radius in pixels, `multiple` the number that it needs sizes to be divisible by:
    sources begin and end at multiples. Raises DataError where `tile`, `height` or `width` is no multiple, or where the
    image is larger than a tile of which halos would leave nothing.
    """
    if multiple < 1 or halo < 0 or tile < multiple or tile % multiple:
        raise DataError(f"tile {tile}, halo {halo}: a tile divisible by {multiple} and a halo of 0 or more are needed.")
    if min(height, width) < 1 or height % multiple or width % multiple:
        raise DataError(f"image of {height} x {width} pixels: the network needs sizes divisible by {multiple}; pad it first.")
    rows, columns = (_along(size, tile, halo, multiple) for size in (height, width))
    return [Tile(*zip(row, column, strict=True)) for row in rows for column in columns]


def _along(size: int, tile: int, halo: int, multiple: int) -> list[tuple[slice, slice, slice]]:
    """Returns (source, inner, target) of each tile along one axis."""
    if size <= tile:
        return [(slice(0, size),) * 3]
    stride = (tile - 2 * halo) // multiple * multiple
    if stride < 1:
        raise DataError(f"tile {tile} with a halo of {halo}: a tile of {2 * halo + multiple} pixels at least is needed.")
    starts = [*range(0, size - tile, stride), size - tile]
    edges = [0, *(start + tile - halo for start in starts[:-1]), size]
    found = []
    for start, low, high in zip(starts, edges[:-1], edges[1:], strict=True):
        found.append((slice(start, start + tile), slice(low - start, high - start), slice(low, high)))
    return found


def cut(image: np.ndarray, tiles: Iterable[Tile]) -> np.ndarray:
    """Returns the tiles (n, tile height, tile width, c) of an image (h, w, c), a copy of its dtype."""
    return np.stack([image[tile.source] for tile in tiles])


def stitch(outputs: Iterable[np.ndarray], tiles: Iterable[Tile], shape: tuple[int, int], scale: int = 1) -> np.ndarray:
    """Returns the image (h scale, w scale, c) put together from the network's output on each tile, halos left out.

    `outputs` are (tile height scale, tile width scale, c), one per tile and in order (an iterator will do: one is held at a time);
    `shape` is the (h, w) that was planned for, `scale` how many times larger the output is. The dtype is that of the first output.
    Raises DataError for an output of another size.
    """
    whole = None
    for output, tile in zip(outputs, tiles, strict=True):
        if output.shape[:2] != tuple((side.stop - side.start) * scale for side in tile.source):
            raise DataError(f"output of {output.shape[:2]} pixels for a tile {tile.source}: it is not {scale} times as large.")
        if whole is None:
            whole = np.empty((shape[0] * scale, shape[1] * scale, *output.shape[2:]), output.dtype)
        whole[_scaled(tile.target, scale)] = output[_scaled(tile.inner, scale)]
    if whole is None:
        raise DataError("no tiles: there is nothing to put together.")
    return whole


def _scaled(window: Window, scale: int) -> Window:
    return tuple(slice(side.start * scale, side.stop * scale) for side in window)


def in_tiles(
    network: Callable[[np.ndarray], np.ndarray],
    image: np.ndarray,
    *,
    tile: int,
    halo: int,
    multiple: int = 1,
    scale: int = 1,
    batch: int = 1,
) -> np.ndarray:
    """Returns `network` of an image (h, w, c), worked out tile by tile: (h scale, w scale, c of the output), NumPy.

    `network` takes (batch, tile height, tile width, c) and gives (batch, tile height scale, tile width scale, any c). It is always
    called with `batch` tiles, the last ones repeated where too few are left, so that it compiles once per shape of tile.
    An image that is no multiple is `padded` first and the output cropped. What this equals: see the module. Errors as for `plan`.
    """
    height, width = image.shape[:2]
    image = padded(image, multiple)
    tiles = plan(*image.shape[:2], tile, halo, multiple)
    whole = stitch(_outputs(network, image, tiles, batch), tiles, image.shape[:2], scale)
    return whole[: height * scale, : width * scale]


def in_ladder(
    network: Callable[[np.ndarray], np.ndarray], image: np.ndarray, *, tile: int, halo: int, step: int, multiple: int = 1, scale: int = 1
) -> np.ndarray:
    """Returns `in_tiles` of an image (h, w, c) by tiles from a ladder of sizes, so that images of many sizes compile few shapes.

    The tile is the largest multiple of `step` (itself one of `multiple`) that the image holds: equal to the whole. An image too small for
    halos of such a tile, below `least_rung`, is `bucketed`: near its border it differs from what zero padding would give.
    """
    side = min(*image.shape[:2], tile)
    side = side if side == tile else side // step * step
    if side == tile or side >= least_rung(halo, step):
        return in_tiles(network, image, tile=side, halo=halo, multiple=multiple, scale=scale)
    wide, window = bucketed(image, halo, step, multiple)
    inner = tuple(slice(one.start * scale, one.stop * scale) for one in window)
    return in_tiles(network, wide, tile=tile, halo=halo, multiple=multiple, scale=scale)[inner]  # its other side may be long


def least_rung(halo: int, step: int) -> int:
    """Returns the least tile of `in_ladder`: two of them span an image short of the next one."""
    return -(-(2 * halo + step) // step) * step


def needs_ladder(sizes: Iterable[tuple[int, int]], tile: int) -> bool:
    """Returns whether images of these (h, w) would have a network compiled for more than MAX_SHAPES shapes of tile."""
    shapes = set()
    for height, width in sizes:
        shapes.add((min(height, tile), min(width, tile)))
        if len(shapes) > MAX_SHAPES:
            return True
    return False


def _outputs(network, image: np.ndarray, tiles: list[Tile], batch: int) -> Iterator[np.ndarray]:
    """Yields the network's output on each tile."""
    for start in range(0, len(tiles), batch):
        some = tiles[start : start + batch]
        full = some + some[-1:] * (batch - len(some))
        yield from np.asarray(network(cut(image, full)))[: len(some)]


def padded(image: np.ndarray, multiple: int) -> np.ndarray:
    """Returns an image (h, w, c), continued at the bottom and the right by reflection (the border pixel is not repeated) to multiples."""
    return np.pad(image, [(0, -size % multiple) for size in image.shape[:2]] + [(0, 0)] * (image.ndim - 2), mode="reflect")


def bucketed(image: np.ndarray, halo: int, step: int, multiple: int = 1) -> tuple[np.ndarray, Window]:
    """Returns (an image (h, w, c) continued by reflection to one of few sizes, the window of it that is the image itself).

    Sizes are the least multiples of `step` that hold the image and at least `halo` pixels before and behind it. For a halo of the
    receptive radius or more the network's own border then reaches nothing of what is kept, and the choice of `step` changes
    nothing. The image begins at a multiple of `multiple`. Raises DataError where `step` is no multiple of it.
    """
    if halo < 0 or multiple < 1 or step < 1 or step % multiple:
        raise DataError(f"bucket step {step}, halo {halo}: a step divisible by {multiple} and a halo of 0 or more are needed.")
    before = halo + -halo % multiple
    sizes = [before + size + halo for size in image.shape[:2]]
    pads = [(before, halo + -size % step) for size in sizes]
    window = tuple(slice(before, before + size) for size in image.shape[:2])
    return np.pad(image, pads + [(0, 0)] * (image.ndim - 2), mode="reflect"), window
