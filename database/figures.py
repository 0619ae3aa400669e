"""The page's pictures: scans beside generated images, low-resolution beside upscaled, reliefs, labels, segmented scans, nearest scans."""

import contextlib
import importlib
import io
import math
import pathlib
import tempfile

import cv2
import jax.numpy as jnp
import numpy as np

import resize
from database import charts, evidence, markup, relief
from database.evidence import Chain
from microscopy import formats, spectra
from microscopy.pictures import outlined, to_uint8
from microscopy.plots import Axis
from microscopy.preparation import prepare
from training import generation, pseudonyms
from training.errors import EXPECTED

NUM_REAL, NUM_GENERATED, NUM_PAIRS, NUM_LABELS, NUM_NEAREST = 6, 18, 6, 8, 6
CHUNK = 64
MOST_CURVES = 200
TILE = 256


def real_images(chain: Chain) -> str:
    """Returns crops of training scans, at the scale of the database's images."""
    tiles = []
    for path in evidence.spread(evidence.real_files(chain, "train"), NUM_REAL):
        shown = evidence.pixels(path)
        if shown is not None and shown.dtype == np.uint8:
            tiles.append(markup.figure(shown, f"crop {path.stem} of a training scan", evidence.real_name(chain, path)))
    if not tiles:
        return markup.missing("The real crops are not there yet, so nothing stands here to compare with.")
    return markup.note("Real: crops of training scans, turned at random, as much of each as a generated image shows.") + markup.group(
        "gallery", tiles
    )


def generated_images(chain: Chain) -> str:
    """Returns images of the database, evenly over its rows, with their ids."""
    tiles = []
    for row in evidence.spread(chain.rows, NUM_GENERATED):
        shown = evidence.picture(chain, row)
        if shown is not None:
            tiles.append(markup.figure(shown, f"generated image {row['id']}", row["id"]))
    if not tiles:
        return markup.missing("The database folder holds no readable image yet.")
    return markup.note(f"Generated: {len(tiles)} of {len(chain.rows):,}, evenly over the index, none chosen by hand.") + markup.group(
        "gallery", tiles
    )


def pairs(chain: Chain) -> str:
    """Returns what the generator made beside what stands in the database (figure 4 of CO-1144), bilinear between where SRGAN upscaled."""
    low, why = low_images(chain)
    parts = []
    for row in evidence.spread([row for row in chain.rows if row["id"] in low], NUM_PAIRS):
        high = evidence.picture(chain, row)
        if high is None:
            continue
        small = low[row["id"]]
        shown = {f"{small.shape[1]} x {small.shape[0]}, as generated": small}
        if chain.upscaler != "bilinear":
            shown["bilinear"] = _bilinear(small, *high.shape[:2])
        shown[f"{chain.upscaler or 'upscaled'}, {high.shape[1]} x {high.shape[0]}"] = high
        parts.append(markup.side_by_side(shown, f"generated image {row['id']}", f"image {row['id']}"))
    return markup.group("pairs", parts) if parts else markup.missing(f"No low-resolution images to show: {why}.")


def low_images(chain: Chain) -> tuple[dict[str, np.ndarray], str]:
    """Returns (id -> the generator's own 8-bit image (h, w) or (h, w, 3), why there is none): made anew from the seed of the first row.

    Only images among the first 64 of that seed are made: one call of the network.
    """
    if not chain.rows or chain.config is None:
        return {}, "the generator's run or the database is not there"
    seed, step = chain.rows[0].get("seed", ""), chain.rows[0].get("checkpoint", "").rpartition("@")[2]
    wanted = {row["id"]: int(row["index"]) for row in chain.rows if row.get("seed") == seed and row.get("index", "").isdecimal()}
    wanted = {id: index for id, index in wanted.items() if index < CHUNK}
    if not wanted or not seed.isdecimal():
        return {}, "the index names no seed"
    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        request = generation.Request(max(wanted.values()) + 1, int(seed), f"{place}/low", checkpoint=step or "last")
        try:
            importlib.import_module(chain.config.task).generate(chain.config, chain.workdir / "dcgan", request)
            files = {id: pathlib.Path(request.output) / f"generated_{index:06d}.png" for id, index in wanted.items()}
            return {id: formats.read_image(file, max_pixels=evidence.MOST_PIXELS) for id, file in files.items()}, ""
        except EXPECTED as error:
            return {}, str(error).splitlines()[0].rstrip(".")


def _bilinear(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    images = jnp.asarray(picture.reshape(1, *picture.shape[:2], -1), jnp.float32)
    found = np.asarray(resize.bilinear(images, height, width))[0].reshape(height, width, *picture.shape[2:])
    return np.clip(np.rint(found), 0, 255).astype(np.uint8)


def reliefs(chain: Chain) -> str:
    """Returns a real and a generated surface on the same axes, seen from the same place (figure 5 of CO-1144)."""
    files = evidence.real_files(chain, "scored") or evidence.real_files(chain, "train")
    row = chain.rows[len(chain.rows) // 2] if chain.rows else {}
    generated = evidence.generated_surface(chain, row) if row else None
    real = evidence.real_surface(chain, files[len(files) // 2]) if files else None
    if generated is None or real is None:
        return markup.missing(f"No relief: there is no readable {'real crop' if real is None else 'generated image'} yet.")
    surfaces = {f"Real: a crop of {evidence.real_name(chain, files[len(files) // 2])}": real, f"Generated: image {row['id']}": generated}
    ends = np.array([np.percentile(surface, (0.2, 99.8)) for surface in surfaces.values()])
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    nm, heights = evidence.nm_per_pixel(chain), chain.unit == "nm"
    name = "height, nm" if heights else "grey level" if chain.unit == "grey" else chain.unit
    drawn = []
    for words, surface in surfaces.items():
        tall, wide = (float(side) * (nm or 1.0) for side in surface.shape)
        scale = relief.Scale(wide, tall, "nm" if nm else "px", low, max(high, low + 1e-6), name)
        drawn.append(markup.drawing(relief.svg(surface, scale, f"relief, {words}"), words))
    told = "Both on the same axes; what stands up are grey levels, not measured heights."
    if heights and nm:
        told = f"Both on the same axes; heights are drawn {relief.exaggeration(scale):.2g} times larger than lengths."
    return markup.group("halves", drawn) + markup.note(told)


def labelled(chain: Chain) -> str:
    """Returns generated images with the outlines of their instances."""
    tiles = []
    for row in evidence.spread([row for row in chain.rows if row.get("label")], NUM_LABELS):
        shown, found = evidence.picture(chain, row), evidence.labels(chain, row)
        if shown is None or found is None or shown.shape[:2] != found.shape:
            continue
        twice = (2 * found.shape[1], 2 * found.shape[0])
        large = cv2.resize(found.astype(np.float32), twice, interpolation=cv2.INTER_NEAREST).astype(np.int32)
        number = len(np.unique(found[found > 0]))
        picture = outlined(cv2.resize(shown, twice, interpolation=cv2.INTER_LINEAR), large)
        words = f"{row['id']}: {number} instance{'' if number == 1 else 's'}"
        tiles.append(markup.figure(picture, f"generated image with the outlines of its labels, {words}", words))
    return markup.group("gallery large", tiles) if tiles else markup.missing("The images have no labels, so nothing is outlined here.")


def label_fields(chain: Chain) -> str:
    """Returns the picture of the generator's own evaluation: images with their outlines above their label fields, beside real crops'."""
    path = chain.workdir / "dcgan" / "evaluation" / "generated_images_and_real_crops_with_labels.png"
    picture = evidence.pixels(path)
    if picture is None or picture.dtype != np.uint8:
        return ""
    words = "Generated in the upper half, real crops in the lower: each image with the outlines of its instances above its label field"
    return markup.wide(picture, words, f"{words}, at the generator's own size.")


def nearest(chain: Chain) -> str:
    """Returns the generated images most alike to a training scan, each beside that scan, which is read again from its file."""
    rows = [row for row in chain.rows if math.isfinite(evidence.number(row, "nearest_similarity"))]
    rows = sorted(rows, key=lambda row: -evidence.number(row, "nearest_similarity"))[:NUM_NEAREST]
    if not rows or chain.config is None:
        return markup.missing("The index names no nearest scans, so none is shown.")
    try:
        prepared = prepare(chain.config)
    except EXPECTED as error:
        return markup.missing(f"The nearest scans cannot be shown: {str(error).splitlines()[0]}")
    scans, parts = {scan.id: scan for part in prepared.splits.values() for scan in part}, []
    for salt in filter(None, map(pseudonyms.salt_of, (chain.workdir, chain.workdir / "dcgan"))):
        scans |= {pseudonyms.pseudonym(id, salt): scan for id, scan in list(scans.items())}
    for row in rows:
        shown, scan = evidence.picture(chain, row), scans.get(row.get("nearest", ""))
        if shown is not None and scan is not None:
            words = f"{row['id']}: similarity {evidence.number(row, 'nearest_similarity'):.3g} to {row['nearest']}"
            whole = to_uint8(prepared.value_map.to_unit(_reduced(scan.pixels)))
            parts.append(markup.side_by_side({"generated": shown, "nearest scan, whole": whole}, words, words))
    return markup.group("pairs", parts) or markup.missing("The nearest scans are not among those the config names now.")


def _reduced(pixels: np.ndarray) -> np.ndarray:
    ratio = min(1.0, 2 * TILE / max(pixels.shape[:2]))
    size = tuple(max(1, round(side * ratio)) for side in pixels.shape[1::-1])
    return cv2.resize(pixels.astype(np.float32), size, interpolation=cv2.INTER_AREA)


def statistics(chain: Chain) -> str:
    """Returns the spectra and the histograms of heights of real crops and generated images, "" where one side cannot be read."""
    files = evidence.real_files(chain, "scored") or evidence.real_files(chain, "train")
    real = [evidence.real_surface(chain, path) for path in evidence.spread(files, MOST_CURVES)]
    generated = [evidence.generated_surface(chain, row) for row in evidence.spread(chain.rows, MOST_CURVES)]
    sets = {"real": [one for one in real if one is not None], "generated": [one for one in generated if one is not None]}
    if not all(sets.values()) or len({one.shape for stack in sets.values() for one in stack}) > 1:
        return ""
    stacks, nm = {name: np.stack(stack) for name, stack in sets.items()}, evidence.nm_per_pixel(chain)
    counts = f"{len(stacks['real'])} real crops, {len(stacks['generated'])} generated images."
    return markup.group("halves", [_spectrum(stacks, nm, chain.unit, counts), _histogram(stacks, chain.unit, counts)])


def _spectrum(sets: dict[str, np.ndarray], nm: float | None, unit: str, counts: str) -> str:
    found = {name: spectra.radial_psd(stack, nm) for name, stack in sets.items()}
    curves = {name: (frequency[1:], power[1:]) for name, (frequency, power) in found.items()}
    frequency, powers = curves["real"][0], np.concatenate([power for _, power in curves.values()])
    powers = powers[powers > 0]
    if not powers.size:
        return markup.missing("The images are flat: there is no spectrum to draw.")
    word, per = ("grey", "pixel") if unit == "grey" else (unit, "nm" if nm else "pixel")
    x = Axis(f"spatial frequency, 1/{'nm' if nm else 'pixel'}", frequency[0], frequency[-1], log=True)
    y = Axis(f"PSD, {word}² {per}²", float(powers.min()) / 1.5, float(powers.max()) * 1.5, log=True)
    return charts.curves("Radial power spectral density", x, y, curves, counts)


def _histogram(sets: dict[str, np.ndarray], unit: str, counts: str) -> str:
    above = {name: (stack - stack.mean(axis=(1, 2), keepdims=True)).ravel() for name, stack in sets.items()}
    ends = np.array([np.percentile(values, (0.1, 99.9)) for values in above.values()])
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    if not high > low:
        return markup.missing("The images are flat: there is no histogram to draw.")
    edges = np.linspace(low, high, 81)
    shares = {name: np.histogram(values, edges)[0] / (values.size * (edges[1] - edges[0])) for name, values in above.items()}
    word = "nm" if unit == "nm" else "grey level"
    x = Axis(f"{'height' if unit == 'nm' else 'value'} above the image's mean, {word}", low, high)
    y = Axis(f"share per {word}", 0.0, 1.05 * max(float(share.max()) for share in shares.values()))
    centres = (edges[1:] + edges[:-1]) / 2
    return charts.curves(
        f"Histogram of {'heights' if unit == 'nm' else 'values'}", x, y, {name: (centres, share) for name, share in shares.items()}, counts
    )


def segmented(chain: Chain) -> str:
    """Returns real scans that no stage was trained on, segmented by the U-Nets (figure 6 of CO-1144): the pictures of downstream.json."""
    named = chain.downstream.get("pictures")
    drawn = []
    for name, words in (("database", "U-Net trained on the database"), ("real", "U-Net trained on real crops")):
        path = evidence.inside(chain.workdir, str(named.get(name) or "")) if isinstance(named, dict) else None
        picture = evidence.pixels(path)
        if picture is not None and picture.dtype == np.uint8:
            drawn.append(markup.wide(picture, f"real scans segmented by the {words}", words))
    return "".join(drawn) or markup.missing("No real scan has been segmented: the U-Nets are not trained yet, or no scan was held out.")
