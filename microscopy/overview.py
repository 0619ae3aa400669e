"""Pictures of what a config would train on: the levelled scans side by side, their heights and their spectra."""

import math

import cv2
import numpy as np

from microscopy import pictures, plots, spectra
from microscopy.flaws import luma
from microscopy.inspection import name
from microscopy.preparation import Prepared, size_text
from microscopy.scan import Scan

MOST_SHOWN = 60
"""Scans in a picture; of a larger set as many, evenly spaced."""

_TILE, _CAPTION = 200, 36
_BINS = 128
_MOST_SPECTRA = 200


def scans_picture(prepared: Prepared) -> np.ndarray:
    """Returns uint8 RGB: up to 60 levelled scans, each with name, split, size and a scale bar in nm.

    Grey levels are shown as training sees them. Heights and other signals have black and white at their own 0.5 and 99.5
    percentiles, whose distance stands in the caption: on one scale for all, the flatter scans would show nothing.
    """
    shown = [(scan, split) for split, part in prepared.splits.items() for scan in part]
    if len(shown) > MOST_SHOWN:
        shown = [shown[i] for i in np.linspace(0, len(shown) - 1, MOST_SHOWN).astype(int)]
    tiles = [_tile(scan, split.replace("_", " "), prepared) for scan, split in shown]
    return pictures.grid(np.stack(tiles), columns=min(len(tiles), max(4, math.ceil(math.sqrt(1.5 * len(tiles))))))


def _tile(scan: Scan, split: str, prepared: Prepared) -> np.ndarray:
    tile = np.full((_TILE + _CAPTION, _TILE, 3), 255, np.uint8)
    image, contrast = _shown(scan, prepared)
    ratio = _TILE / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * ratio)), max(1, round(image.shape[0] * ratio)))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_NEAREST)
    image = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else np.ascontiguousarray(image)
    if scan.nm_per_pixel:
        draw_scale_bar(image, scan.nm_per_pixel[1] / ratio)
    tile[: size[1], : size[0]] = image
    area = size_text(scan).rpartition(", ")[2]
    plots.write(tile, 2, _TILE + 14, _fitted(name(scan.id, scan.file)), scale=0.42)
    plots.write(tile, 2, _TILE + 30, _fitted(f"{split}, {area}{contrast}"), colour=plots.GREY, scale=0.42)
    return tile


def _shown(scan: Scan, prepared: Prepared) -> tuple[np.ndarray, str]:
    if scan.unit == "grey":
        values = scan.pixels if scan.pixels.shape[2:] in ((), (1,), (3,)) else luma(scan.pixels)
        return pictures.to_uint8(prepared.value_map.to_unit(values)), ""
    low, high = (float(value) for value in np.percentile(scan.pixels, (0.5, 99.5)))
    spread = max(high - low, np.finfo(np.float32).tiny)
    return pictures.to_uint8((scan.pixels.astype(np.float64) - low) * (2.0 / spread) - 1.0), f", {high - low:.3g} {scan.unit}"


def _fitted(text: str) -> str:
    while plots.text_width(text, 0.42) > _TILE - 4:
        middle = len(text.replace("...", "")) // 2
        text = text.replace("...", "")
        text = f"{text[: middle - 1]}...{text[middle + 1 :]}"
    return text


def scale_bar_nm(width_nm: float) -> float:
    """Returns the length of a scale bar: 1, 2 or 5 times a power of ten, at most two fifths of the width it is drawn in."""
    power = 10.0 ** math.floor(math.log10(0.4 * width_nm))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= 0.4 * width_nm)


def draw_scale_bar(image: np.ndarray, nm_per_pixel: float) -> None:
    """Draws a bar of `scale_bar_nm` with its length into the lower left of a uint8 picture (h, w) or RGB (h, w, 3)."""
    length = scale_bar_nm(image.shape[1] * nm_per_pixel)
    words = f"{length:g} nm" if length < 1000 else f"{length / 1000:g} µm"
    right, bottom = 8 + round(length / nm_per_pixel), image.shape[0] - 8
    panel = image[max(0, bottom - 22) : bottom + 5, 3 : max(right, 10 + plots.text_width(words, 0.42)) + 5]
    panel[:] = panel // 3  # letters are read on bright and dark scans alike
    cv2.rectangle(image, (8, bottom - 2), (right, bottom), plots.WHITE, -1)
    plots.write(image, 8, bottom - 7, words, colour=plots.WHITE, scale=0.42)


def statistics_picture(prepared: Prepared) -> np.ndarray:
    """Returns uint8 RGB: the histogram of the levelled values beside the radial power spectral density, a curve a split."""
    return np.concatenate([_histogram(prepared), _spectrum(prepared)], axis=1)


def histogram(scans: list[Scan], low: float, high: float, num_bins: int) -> np.ndarray:
    """Returns the percentage of all pixels in each of `num_bins` equal bins from `low` to `high`, float64; outside it is in none."""
    counts, total = np.zeros(num_bins), 0
    for scan in scans:
        values = luma(scan.pixels)
        counts += np.histogram(values, num_bins, (low, high))[0]
        total += values.size
    return 100.0 * counts / total


def _histogram(prepared: Prepared) -> np.ndarray:
    fitted = prepared.value_map
    margin = 0.15 * (fitted.high - fitted.low)
    low, high, num_bins = fitted.low - margin, fitted.high + margin, _BINS
    if all(scan.pixels.dtype.kind == "u" for part in prepared.splits.values() for scan in part):
        step = max(1, math.ceil((high - low) / _BINS))  # bins of whole levels, or every few would hold one level more
        low, num_bins = math.floor(low) - 0.5, math.ceil((high - low) / step) + 1
        high = low + step * num_bins
    edges = np.linspace(low, high, num_bins + 1)
    curves = {split.replace("_", " "): histogram(part, low, high, num_bins) for split, part in prepared.splits.items() if part}
    label = {"nm": "height, nm", "grey": "grey level"}.get(fitted.unit, f"value, {fitted.unit}")
    x, y = plots.Axis(label, low, high), plots.Axis("pixels, % a bin", 0.0, 1.08 * max(curve.max() for curve in curves.values()))
    steps = {name: (np.repeat(edges, 2)[1:-1], np.repeat(values, 2)) for name, values in curves.items()}
    title = f"Values of the levelled scans ({sum(map(len, prepared.splits.values()))})"
    return plots.chart(title, x, y, steps, {"-1": fitted.low, "1": fitted.high}, filled=len(steps) == 1)


def _spectrum(prepared: Prepared) -> np.ndarray:
    scans = [scan for part in prepared.splits.values() for scan in part]
    side, nm = min(256, *(min(scan.pixels.shape[:2]) for scan in scans)), scans[0].nm_per_pixel
    if side < 8:
        return np.full((plots.HEIGHT, plots.WIDTH, 3), 255, np.uint8)
    per, unit = ("nm", f"{prepared.value_map.unit}² nm²") if nm else ("pixel", f"{prepared.value_map.unit}² pixel²")
    curves = {}
    for split, part in prepared.splits.items():
        if part:
            chosen = [part[i] for i in np.unique(np.linspace(0, len(part) - 1, _MOST_SPECTRA).astype(int))]
            frequency, power = spectra.radial_psd(np.stack([_middle(scan, side) for scan in chosen]), nm[0] if nm else None)
            curves[split.replace("_", " ")] = (frequency[1:], np.maximum(power[1:], 1e-12 * max(power.max(), 1e-300)))
    powers = np.concatenate([power for _, power in curves.values()])
    x = plots.Axis(f"spatial frequency, 1/{per}", frequency[1], frequency[-1], log=True)
    y = plots.Axis(f"power spectral density, {unit}", 0.5 * powers.min(), 2.0 * powers.max(), log=True)
    finest = {}
    if prepared.size:  # what is finer than two of its pixels a training image cannot show
        finest = {"training image's limit": frequency[-1] * prepared.size[0] / prepared.crop[0]}
    return plots.chart(f"Spectrum of the middle {side} x {side} px of each scan", x, y, curves, finest)


def _middle(scan: Scan, side: int) -> np.ndarray:
    values = luma(scan.pixels)
    top, left = ((length - side) // 2 for length in values.shape)
    return values[top : top + side, left : left + side].astype(np.float32)
