"""The picture of a comparison: low-resolution image, each upscaled one and the truth side by side, error maps beneath."""

from collections.abc import Mapping

import cv2
import numpy as np

from microscopy import overview, plots
from microscopy.pictures import to_uint8

MIN_WIDTH, GAP, LINE, NAME_SCALE = 168, 4, 20, 0.45
SHOWN_ERROR = 99.5
"""The percentile of all errors shown that is the brightest colour."""


def draw(
    low: np.ndarray,
    upscaled: Mapping[str, np.ndarray],
    high: np.ndarray,
    labels: Mapping[str, list[str]],
    *,
    unit_per_one: float = 127.5,
    unit: str = "grey levels",
    nm_per_pixel: float | None = None,
) -> np.ndarray:
    """Returns uint8 RGB (H', W', 3): two rows an image; above low (pixels repeated), upscaled images, truth; beneath |upscaled - truth|.

    `low` (n, h, w, c), `upscaled` {name: (n, H, W, c)} and `high` (n, H, W, c) in [-1, 1]; `labels` {name: n words} stand under the
    names. Errors, the mean over channels, are on one scale for all, from 0 to their 99.5 percentile, in `unit` of which
    [-1, 1] has 2 `unit_per_one`. One-channel images are stretched to the truth's 0.5..99.5 percentile, the same for a whole row.
    Images under 168 px are enlarged by repeating pixels. The first truth has a scale bar where `nm_per_pixel` is known.
    """
    factor = -(-MIN_WIDTH // high.shape[2])
    errors = {name: np.abs(images - high).mean(-1) for name, images in upscaled.items()}
    largest = max(float(np.percentile(np.stack(list(errors.values())), SHOWN_ERROR)), 1e-6)
    names = ["low", *upscaled, "truth"]
    bands = []
    for row in range(len(high)):
        shown = [_enlarged(low[row], *high.shape[1:3]), *(images[row] for images in upscaled.values()), high[row]]
        tiles = [_tile(image, factor) for image in _stretched(shown, high[row])]
        if row == 0 and nm_per_pixel is not None:
            overview.draw_scale_bar(tiles[-1], nm_per_pixel / factor)
        maps = [_tile(_colours(error[row] / largest), factor) for error in errors.values()]
        blank, key = np.full_like(tiles[0], 255), _colour_key(tiles[0].shape, largest * unit_per_one, unit)
        words = [f"{low.shape[2]} x {low.shape[1]} px", *(labels[name][row] for name in upscaled), f"{high.shape[2]} x {high.shape[1]} px"]
        bands += [_headed(tiles, names, words), _joined([blank, *maps, key])]
    space = np.full((GAP, bands[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for band in bands for part in (band, space)][:-1])


def _enlarged(image: np.ndarray, height: int, width: int) -> np.ndarray:
    rows, columns = (np.arange(size) * there // size for size, there in ((height, image.shape[0]), (width, image.shape[1])))
    return image[rows][:, columns]


def _stretched(images: list[np.ndarray], truth: np.ndarray) -> list[np.ndarray]:
    low, high = np.percentile(truth, (0.5, 99.5)) if truth.shape[-1] == 1 else (-1.0, 1.0)
    low, high = (low, high) if high > low else (-1.0, 1.0)
    return [to_uint8((image - low) * (2 / (high - low)) - 1) for image in images]


def _tile(image: np.ndarray, factor: int) -> np.ndarray:
    """Returns uint8 RGB (factor h, factor w, 3) of uint8 (h, w, 1 or 3)."""
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)).repeat(factor, 0).repeat(factor, 1))


def _colours(share: np.ndarray) -> np.ndarray:
    """Returns uint8 RGB (h, w, 3) of values (h, w), black at 0 to pale yellow at 1 and above."""
    levels = np.clip(np.rint(share * 255), 0, 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def _colour_key(shape, largest: float, unit: str) -> np.ndarray:
    """Returns a white tile with the errors' colours and their two ends."""
    tile = np.full(shape, 255, np.uint8)
    across = tile.shape[1] - 24
    tile[40:56, 12 : 12 + across] = _colours(np.linspace(0, 1, across)[None])
    plots.write(tile, 12, 30, "|error|, mean of channels" if tile.shape[1] > 220 else "|error|")
    plots.write(tile, 12, 74, "0")
    plots.write(tile, 12 + across, 74, f"{largest:.3g} {unit}", anchor="right")
    return tile


def _headed(tiles: list[np.ndarray], names: list[str], words: list[str]) -> np.ndarray:
    heads = []
    for tile, name, word in zip(tiles, names, words, strict=True):
        head = np.full((2 * LINE + 4, tile.shape[1], 3), 255, np.uint8)
        for line, text in enumerate((name, word)):
            scale = min(NAME_SCALE, NAME_SCALE * (tile.shape[1] - 4) / max(plots.text_width(text, NAME_SCALE), 1))
            plots.write(head, 2, LINE * (line + 1) - 4, text, scale=scale, colour=plots.GREY if line else plots.BLACK)
        heads.append(head)
    return np.concatenate([_joined(heads), _joined(tiles)])


def _joined(tiles: list[np.ndarray]) -> np.ndarray:
    gap = np.full((tiles[0].shape[0], GAP, 3), 255, np.uint8)
    return np.concatenate([part for tile in tiles for part in (tile, gap)][:-1], axis=1)
