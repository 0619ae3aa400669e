"""Scans segmented by a trained U-Net: mask, probability, instances and outlines of each, and the particles of all in one table.

Of the scan "a": a_mask.png (0, 255: probability above the threshold), a_probability.tiff (float32, with the pixel size where known),
a_instances.png (16 bits, 0 = background), a_overlay.png (the scan with the instances' outlines) and a_particles.json (its part of the
tables, and what file it is of). particles.csv has a row a particle (`particles.measure`), images.csv a row an image; both are put together
from the parts that stand whenever a run ends, so that an interrupted one and those after it give what one run would have given.
"""

import contextlib
import dataclasses
import functools
import json
import math
import os
import pathlib
import threading
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from microscopy import particle_table, particles, tiling
from microscopy.pictures import encode_png, outlined
from microscopy.scan import DataError, Scan
from microscopy.writing import encode_tiff
from segmentation import instances
from segmentation.inference import Network, Segmented, Timed, automatic_tile, scale_factors, segment
from training import inputs, prediction, sources
from training.errors import ConfigError, RunError
from training.workdir import read_object

PARTS = "_particles.json"
SUFFIXES = ("_mask.png", "_probability.tiff", "_instances.png", "_overlay.png", PARTS)
TABLES = ("particles.csv", "images.csv")
MAX_INSTANCES = 65535
WORKERS = max(prediction.WORKERS, min(16, os.cpu_count() or 1))
"""Files under way at a time: instances and tables take the processor longer than the network an accelerator."""
FEWEST_FOR_P99 = 100


def predict(network: Network, request: prediction.Request, facts: Mapping) -> prediction.Outcome:
    """Returns what came of it after every scan of `request.input` is segmented in `request.output`: `training.prediction.write_all`.

    `facts` is `training.prediction.facts`, or what names a file of weights. Prints how long an image took. ConfigError for a request that
    cannot be, RunError at the end where files could not be read or segmented.
    """
    check(request, network)
    tile = request.tile or automatic_tile(network)
    timed = Timed(network.probability)
    network = dataclasses.replace(network, probability=timed)
    needs_ladder = make_needs_ladder(request, network, tile)

    def one(scan: Scan) -> dict[str, bytes]:
        ladder = needs_ladder(scan)
        return contents(network, scan, timed.image(lambda: segment(network, scan, tile=tile, ladder=ladder)))

    data = network.data
    facts = {**facts, "threshold": network.threshold, "min_area": network.min_area}
    options = {"max_pixels": data.max_pixels, "channel": data.channel, "pages": True, "workers": WORKERS}
    within = functools.partial(tables, pathlib.Path(request.output))
    outcome = prediction.write_all(request, facts, lambda file: SUFFIXES, one, **options, parts=PARTS, within=within)
    print_times(timed, outcome)
    prediction.refuse(request, outcome)
    return outcome


def check(request: prediction.Request, network: Network) -> None:
    """Raises ConfigError for a request that the network cannot be asked for."""
    prediction.check(request)
    if request.format or request.smoothing or request.size or request.back_projections:
        raise ConfigError(
            "--format, --smoothing, --size and --back_projections are for enlarged images; a segmentation's files are PNG, TIFF and CSV. "
            "Leave them out."
        )
    if request.tile and network.halo is None:
        raise ConfigError(f"--tile={request.tile}: a network with group norm sees the whole image, which no tiles equal; leave it out.")
    least = (-(-2 * (network.halo or 0) // network.multiple) + 1) * network.multiple
    if request.tile and (request.tile < least or request.tile % network.multiple):
        raise ConfigError(
            f"--tile={request.tile}: a multiple of {network.multiple}, {least} pixels at least, for this network sees {network.halo} "
            "pixels to each side."
        )


def make_needs_ladder(request: prediction.Request, network: Network, tile: int) -> Callable[[Scan], bool]:
    """Returns needs_ladder(scan) -> whether its tiles come from the ladder of sizes (`tiling.in_ladder`).

    All do where the input's scans have, at the network's scale, more sizes than are compiled one by one. Of files that arrive nobody knows
    how many there will be: those too small for the least rung, which the ladder changes at their borders, always do, whatever came before;
    the others, which it does not change, once there were more sizes.
    """
    data, least = network.data, tiling.least_rung(network.halo or 0, network.step)

    def at_scale(size, nm):
        factor, (top, right, bottom, left) = scale_factors(nm, network) or (1.0, 1.0), data.margins
        sides = size[0] - top - bottom, size[1] - left - right
        return tuple(-(-round(side * one) // network.grid) * network.grid for side, one in zip(sides, factor, strict=True))

    if request.watch:
        shapes, busy = set(), threading.Lock()

        def arrived(scan: Scan) -> bool:
            size = at_scale(scan.pixels.shape[:2], scan.nm_per_pixel)
            with busy:
                if len(shapes) <= tiling.MAX_SHAPES:
                    shapes.add(tuple(min(side, tile) for side in size))
                return min(size) < least or len(shapes) > tiling.MAX_SHAPES

        return arrived
    scaled = network.value_map.nm_per_pixel is not None
    found = inputs.sizes(request.input, max_pixels=data.max_pixels, channel=data.channel, pages=True, scaled=scaled)
    many = tiling.needs_ladder((at_scale(size, nm) for size, nm in found), tile)
    if many and network.halo is not None:
        print(f"More than {tiling.MAX_SHAPES} sizes: those below {least} px are continued by reflection at their borders.")
    return lambda scan: many


def contents(network: Network, scan: Scan, found: Segmented) -> dict[str, bytes]:
    """Returns suffix -> content of the files of one segmented scan; DataError where its instances are more than 16 bits can number."""
    mask = found.probability > network.threshold
    labels = instances.from_mask(mask, network.min_area, scan.nm_per_pixel)
    if labels.max() > MAX_INSTANCES:
        raise DataError(f"has {labels.max()} instances, a 16-bit PNG can number {MAX_INSTANCES}; give parts of the scan")
    picture = scan.pixels if scan.unit != "nm" else found.scan.pixels
    shown = np.zeros((*mask.shape, *picture.shape[2:]), picture.dtype)
    shown[...] = picture.min()
    shown[found.window if scan.unit == "nm" else ...] = picture
    rows = measured(found, labels)
    part = {"image": _plain(described(scan.id, found, rows)), "particles": [_plain(row) for row in rows], "source": sources.source(scan)}
    return {
        "_mask.png": encode_png(mask.astype(np.uint8) * 255),
        "_probability.tiff": encode_tiff(found.probability, scan.nm_per_pixel),
        "_instances.png": encode_png(labels.astype(np.uint16)),
        "_overlay.png": encode_png(outlined(shown, labels)),
        PARTS: json.dumps(part).encode(),
    }


def measured(found: Segmented, labels: np.ndarray) -> list[dict]:
    """Returns a row a particle of an instance map (h, w) of the whole scan, as `particles.measure`: with heights where the scan has them.

    `scan` is its id. Positions are in the whole scan; a particle at the edge of the run's margins is one at the border.
    """
    scan, (rows, columns) = found.scan, found.window
    pixels = scan.pixels if scan.pixels.ndim == 2 else scan.pixels.mean(axis=2)
    what = {"height": pixels} if scan.unit == "nm" else {"intensity": pixels}
    table = []
    for row in particles.measure(labels[found.window], nm_per_pixel=scan.nm_per_pixel, **what):
        row["y"], row["x"] = row["y"] + rows.start, row["x"] + columns.start
        if scan.nm_per_pixel is not None:
            row["y_nm"], row["x_nm"] = (row[axis] * size for axis, size in zip("yx", scan.nm_per_pixel, strict=True))
        table.append({"scan": scan.id, **row})
    return table


def described(id: str, found: Segmented, rows: Sequence[dict]) -> dict:
    """Returns the image's row of images.csv: size, scale, and `particle_table.describe` of its particles with the units in the names.

    `density_per_megapixel` is that of the pixels; per um2 where the scan states its scale. Shares are of the scan inside the margins.
    """
    scan = found.scan
    height, width = scan.pixels.shape[:2]
    facts = particle_table.describe(rows, (height, width), scan.nm_per_pixel)
    lengths = ("median_diameter", "nearest_neighbour_mean", "nearest_neighbour_median")
    named = {f"{name}_px" if name in lengths else name: value for name, value in facts.items()}
    size = {"height_px": height, "width_px": width}
    if scan.nm_per_pixel is not None:
        size |= dict(zip(("nm_per_pixel_y", "nm_per_pixel_x"), scan.nm_per_pixel, strict=True))
    return {"scan": id, **size, **named, "density_per_megapixel": len(rows) / (height * width) * 1e6}


def _plain(row: dict) -> dict:
    """JSON knows no NaN."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


@contextlib.contextmanager
def tables(folder: pathlib.Path, left_out: Collection[str], parts: str = PARTS, names: tuple[str, str] = TABLES):
    """Within it parts are written to a folder of predictions, and at its end, by an error too, the tables of them (`gather`)."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(RunError):  # what came first is told
            gather(folder, left_out, parts, names)
        raise
    gather(folder, left_out, parts, names)


def gather(folder: pathlib.Path, left_out: Collection[str], parts: str = PARTS, names: tuple[str, str] = TABLES) -> None:
    """Writes the tables `names`, of particles and of images, of all `parts` in a folder of predictions but those of the ids `left_out`.

    Without any part there are no tables, and those of before are removed. RunError where that cannot be.
    """
    rows, images = [], []
    for id, path in sources.standing(folder, parts).items():
        if id in left_out:
            continue
        part = read_object(path)
        try:
            images.append(dict(part["image"]))
            rows += [dict(row) for row in part["particles"]]
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{path} is damaged: it holds no particles.\nRemove it, and the same command segments its scan anew.") from error
    for name, table in zip(names, (rows, images), strict=True):
        filled = [{key: "" if value is None else value for key, value in row.items()} for row in particle_table.same_columns(table)]
        try:
            if images:
                particle_table.write_table(folder / name, filled)
            else:
                (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise RunError(f"{folder / name} cannot be written: {error.strerror or error}.") from error


def times_text(seconds: Sequence[float], what: str = "image") -> str:
    """Returns "p50 1.2 ms, p90 1.5 ms, p99 2 ms (120 images)"; p99 from 100 on, for fewer would be their greatest."""
    shares = (50, 90, 99) if len(seconds) >= FEWEST_FOR_P99 else (50, 90)
    values = np.percentile(np.asarray(seconds) * 1e3, shares)
    texts = (f"{value:.0f}" if value >= 100 else f"{value:.3g}" for value in values)
    listed = ", ".join(f"p{share} {text} ms" for share, text in zip(shares, texts, strict=True))
    return f"{listed} ({len(seconds)} {what}{'s' if len(seconds) > 1 else ''})"


def print_times(timed: Timed, outcome: prediction.Outcome, what: str = "image", workers: int = WORKERS) -> None:
    """Prints how long an image, or `what` it was, took on the device alone and from file to files; nothing where none was segmented."""
    if not timed.seconds or not outcome.spans:
        return
    warm = [end - start for start, end in outcome.spans if start > timed.compiled]
    note = "" if warm else ", compilation included"
    print(f"device alone: {times_text(timed.seconds, what)}")
    whole = times_text(warm or [end - start for start, end in outcome.spans], what)
    print(f"file to files, up to {workers} at a time{note}: {whole}")
