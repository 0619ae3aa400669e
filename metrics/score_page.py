"""One picture of a comparison: scores, generated images above their nearest real ones, power spectra and height histograms."""

import pathlib
import textwrap

import cv2
import jax.numpy as jnp
import numpy as np

import resize
from metrics import score_lines, set_scores
from metrics.image_sets import ImageSet
from metrics.neighbours import nearest
from metrics.set_features import Measured, Options, eight_bit, value_map_of
from microscopy import flaws, pictures, plots, spectra
from microscopy.plots import Axis
from microscopy.scan import DataError

MOST_SETS = 3
COLUMNS, TILE, CAPTION = 8, 156, 20
THUMBNAIL = 32
_WIDTH, _MARGIN, _LINE = 2 * plots.WIDTH + 24, 16, 20
_BINS, _SHOWN = 120, (0.1, 99.9)
_MOST_SPECTRA = 200


def write(path: str, measured: list[Measured], places: list[str], scores: dict, verdicts: list[dict], options: Options) -> pathlib.Path:
    """Returns `path` after the page stands there as a PNG: the real set first in `measured`, at most three generated ones are shown.

    `scores` and `verdicts` as from `set_scores`. Raises DataError naming the path where it cannot be written.
    """
    shown, labels = measured[: 1 + MOST_SETS], ["real", *scores][: 1 + MOST_SETS]
    value_map = value_map_of(measured[0].images.scans)
    parts = [_header(places, scores, verdicts, options)]
    for label, each in zip(labels[1:], shown[1:], strict=True):
        parts.append(_neighbours(label, measured[0], each, value_map))
    sets = dict(zip(labels, [each.images for each in shown], strict=True))
    spectrum, heights = spectra_chart(sets, options.nm_per_pixel), heights_chart(sets)
    gap = np.full((plots.HEIGHT, _WIDTH - 2 * plots.WIDTH, 3), 255, np.uint8)
    parts.append(np.concatenate([spectrum, gap, heights], axis=1))
    framed = np.pad(np.concatenate(parts), ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0)), constant_values=255)
    try:
        return pictures.write_png(path, framed)
    except OSError as error:
        raise DataError(f"--page={path}: cannot be written ({error.strerror or error}); name another file.") from None


def _header(places: list[str], scores: dict, verdicts: list[dict], options: Options) -> np.ndarray:
    first = next(iter(scores.values()))
    protocol = [f"{found['features']}-d features, resize {found['resize']}" for found in first.values() if "resize" in found][:1]
    lines = [f"{len(places) - 1} generated against real {places[0]}" if len(places) > 2 else f"{places[1]} against real {places[0]}"]
    for label, of in scores.items():
        numbers = f"{next(iter(of.values()))['n_generated']} generated, {next(iter(of.values()))['n_real']} real"
        lines.append("; ".join([f"{label}: {numbers}", *protocol, f"seed {options.seed}"]))
        lines += [f"    {_told(name, found)}" for name, found in of.items()]
    lines += [score_lines.verdict_line(verdict) for verdict in verdicts]
    wrapped = [part for line in lines for part in _wrapped(_plain(line), 0.48)]
    picture = np.full((_LINE * len(wrapped) + 12, _WIDTH, 3), 255, np.uint8)
    for number, line in enumerate(wrapped):
        plots.write(picture, 16 * (len(line) - len(line.lstrip())) // 4, 15 + _LINE * number, line.lstrip(), scale=0.48)
    return picture


def _wrapped(line: str, scale: float) -> list[str]:
    """Returns the line in parts that fit the page, those after the first set in."""
    width = next(width for width in range(len(line) + 1, 20, -1) if plots.text_width(line[:width], scale) < 0.95 * _WIDTH)
    return textwrap.wrap(line, width, initial_indent="", subsequent_indent=" " * 8, drop_whitespace=True) if line.strip() else []


def _told(name: str, found: dict) -> str:
    if name == "prdc":
        return ", ".join(f"{key} {found[key]:.3g}" for key in ("precision", "recall", "density", "coverage")) + "  (k = 3; 5)"
    words, interval = f"{name} {found['value']:.5g}", ""
    if "interval" in found:
        interval = " ({:.4g} .. {:.4g}".format(*found["interval"]) + ", not calibrated)" * (not found["interval_calibrated"])
        interval += ")" * found["interval_calibrated"]
    if name == "fid":
        words += (
            f", real against real {found['floor']:.4g} (N {found['floor_n']}), rank {found['rank']}, at infinite N {found['infinity']:.5g}"
        )
    elif name == "kid":
        words += f" +- {found['std']:.3g} (subsets of {found['subset_size']}), whole sets {found['whole']:.5g}"
    elif name == "mifid":
        words += f", memorisation distance {found['memorisation_distance']:.4g}"
    words += interval
    if "differs" in found:
        words += f"; {'differs' if found['differs'] else 'cannot be told'} from real against real"
    return words


def _neighbours(label: str, real: Measured, generated: Measured, value_map) -> np.ndarray:
    """Returns a strip: generated images, evenly spaced over the set, above the real ones nearest to them, distances below."""
    picks = np.unique(np.linspace(0, len(generated.images) - 1, COLUMNS).astype(int))
    by_features = "features" in real.layers
    if by_features:
        found, distances = nearest(generated.layers["features"][picks], real.layers["features"])
        space = f"in {real.layers['features'].shape[1]}-d features"
    else:
        tables = [_thumbnails([scans[i] for i in index], value_map) for scans, index in _chosen(generated.images, real.images, picks)]
        found, distances = nearest(*tables)
        space = f"in luma at {THUMBNAIL} x {THUMBNAIL} px, 0 .. 1"
    strip = np.full((30 + 2 * (TILE + 4) + CAPTION + 12, _WIDTH, 3), 255, np.uint8)
    title = f"{label}: generated (above) and the nearest real image (below), distance {space}"
    plots.write(strip, 0, 20, _plain(title), scale=0.5)
    for column, (i, j, distance) in enumerate(zip(picks, found, distances, strict=True)):
        left = column * (_WIDTH // COLUMNS)
        for row, scan in enumerate((generated.images.scans[i], real.images.scans[j])):
            top = 30 + row * (TILE + 4)
            tile = _tile(eight_bit(scan, value_map))
            strip[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
        plots.write(strip, left, 30 + 2 * (TILE + 4) + 14, f"distance {distance:.4g}", colour=plots.GREY)
    return strip


def _chosen(generated: ImageSet, real: ImageSet, picks: np.ndarray):
    return (generated.scans, picks), (real.scans, range(len(real)))


def _thumbnails(scans: list, value_map) -> np.ndarray:
    """Returns the scans' luma at 32 x 32 px (each pixel the mean over its area) in 0..1, a row a scan."""
    small = [resize.area(jnp.asarray(flaws.luma(eight_bit(scan, value_map)))[None, ..., None], THUMBNAIL, THUMBNAIL) for scan in scans]
    return np.concatenate([np.asarray(each) for each in small]).reshape(len(scans), -1) / 255


def _tile(image: np.ndarray) -> np.ndarray:
    ratio = TILE / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * ratio)), max(1, round(image.shape[0] * ratio)))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_NEAREST)
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


def spectra_chart(sets: dict[str, ImageSet], nm_per_pixel: float | None = None) -> np.ndarray:
    """Returns uint8 RGB (420, 640, 3): radial power spectra by name, of the middle of each image in the size all of them have.

    At most 200 evenly spaced images a set; in cycles per nm where the scale is known and one for all, else per pixel.
    """
    scale = nm_per_pixel
    if scale is None:
        try:
            scale = set_scores.common_scale(list(sets.values()))
        except DataError:
            scale = None  # several scales: only pixels are common
    maps = {label: [flaws.luma(scan.pixels) for scan in _some(each)] for label, each in sets.items()}
    height, width = (min(image.shape[axis] for images in maps.values() for image in images) for axis in (0, 1))
    found = {
        label: spectra.radial_psd(np.stack([_middle(image, height, width) for image in images]), scale) for label, images in maps.items()
    }
    curves = {_short(label): (frequency[1:], np.maximum(power[1:], 0)) for label, (frequency, power) in found.items()}
    positive = np.concatenate([power[power > 0] for _, power in curves.values()])
    if not positive.size:
        raise DataError("--page: all images are flat; there is no spectrum to draw.")
    curves = {label: (x, np.maximum(power, positive.min())) for label, (x, power) in curves.items()}
    frequency = next(iter(curves.values()))[0]
    unit = _unit(sets)
    x = Axis("spatial frequency, 1/nm" if scale else "spatial frequency, 1/pixel", frequency[0], frequency[-1], log=True)
    y = Axis(f"PSD, {unit}^2 {'nm' if scale else 'pixel'}^2", positive.min() / 1.5, positive.max() * 1.5, log=True)
    return plots.chart(f"Radial power spectral density, middle {width} x {height} px", x, y, curves)


def heights_chart(sets: dict[str, ImageSet]) -> np.ndarray:
    """Returns uint8 RGB (420, 640, 3): histograms of values above each image's mean by name, from the 0.1 to the 99.9 percentile of all."""
    values = {label: np.concatenate([_above_mean(scan.pixels) for scan in _some(each)]) for label, each in sets.items()}
    ends = np.array([np.percentile(each, _SHOWN) for each in values.values()])
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    high = high if high > low else low + 1.0
    width = (high - low) / _BINS
    if next(iter(sets.values())).scans[0].pixels.dtype.kind == "u":
        width = max(1.0, np.round(width))  # classes of 2.2 grey levels would hold 2 or 3 of them in turn
    edges = np.arange(low, high + width, width)
    shares = {_short(label): np.histogram(each, edges)[0] / (each.size * width) for label, each in values.items()}
    unit = _unit(sets)
    x = Axis(f"height above the image's mean, {unit}" if unit == "nm" else f"value above the image's mean, {unit}", low, high)
    y = Axis(f"share per {unit}", 0.0, 1.05 * max(float(share.max()) for share in shares.values()))
    centres = (edges[1:] + edges[:-1]) / 2
    return plots.chart(
        "Histogram of heights" if unit == "nm" else f"Histogram of {unit}s",
        x,
        y,
        {label: (centres, share) for label, share in shares.items()},
        filled=True,
    )


def _some(images: ImageSet) -> list:
    index = np.unique(np.linspace(0, len(images) - 1, min(len(images), _MOST_SPECTRA)).astype(int))
    return [images.scans[i] for i in index]


def _above_mean(pixels: np.ndarray) -> np.ndarray:
    image = flaws.luma(pixels).astype(np.float64)
    return (image - image.mean()).ravel()[:: max(1, image.size // 40_000)]


def _middle(image: np.ndarray, height: int, width: int) -> np.ndarray:
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def _unit(sets: dict[str, ImageSet]) -> str:
    unit = next(iter(sets.values())).scans[0].unit
    return "grey level" if unit == "grey" else unit


def _short(label: str) -> str:
    return _plain(label if len(label) <= 18 else f"{label[:8]}...{label[-8:]}")


def _plain(words: str) -> str:
    """Returns the words in the letters the drawing font has."""
    return words.encode("ascii", "replace").decode()
