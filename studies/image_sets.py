"""Sets of labelled images at training size, as class folders of 8-bit PNG files: scans as networks see them, generated ones, mixtures."""

import csv
import io
import pathlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import cv2
import numpy as np

from classification.views import make_view
from microscopy.atomic import write_bytes
from microscopy.pictures import encode_png, grid, to_uint8
from microscopy.preparation import Prepared
from training.class_folders import folder_names
from training.errors import RunError

CHUNK = 32


class Images(NamedTuple):
    """Images uint8 (n, h, w, 3) or (n, h, w), class numbers (n) and file names, those of a class together and in order."""

    pixels: np.ndarray
    labels: np.ndarray
    files: tuple[str, ...]


def of_scans(prepared: Prepared, data) -> dict[str, Images]:
    """Returns {"real": training scans, "test": held-out ones}: the middle of each, as large as a crop, at the training size.

    Files are CLASS/NUMBER.png by the order of the scans' SHA-256, so that no name is told, and salted ids change nothing.
    """
    view, found = make_view(prepared, data, CHUNK), {}
    folders = folder_names(prepared.classes)
    for name, split in (("real", "train"), ("test", "held_out")):
        scans = sorted(prepared.splits[split], key=lambda scan: (scan.label, scan.sha256))
        pixels = [to_uint8(view(scans[start : start + CHUNK])) for start in range(0, len(scans), CHUNK)]
        labels = np.array([prepared.classes.index(scan.label) for scan in scans])
        files = tuple(f"{folders[label]}/{number:04d}.png" for number, label in enumerate(labels))
        found[name] = Images(np.squeeze(np.concatenate(pixels), -1) if data.channels == 1 else np.concatenate(pixels), labels, files)
    return found


def shuffled(images: Images, classes: tuple[str, ...], seed: int) -> Images:
    """Returns the images with their labels dealt out anew, each class as large as before."""
    order = np.argsort(labels := np.random.default_rng(seed).permutation(images.labels), kind="stable")
    folders = folder_names(classes)
    files = tuple(f"{folders[label]}/{number:04d}.png" for number, label in enumerate(labels[order]))
    return Images(images.pixels[order], labels[order], files)


def write(folder: pathlib.Path, images: Images) -> None:
    """Makes `folder` hold these images and an index.csv (file, label), and no other image; files that stand as they should are left.

    Images that the index.csv there lists, which this wrote, are deleted; RunError for any other.
    """
    contents = {file: encode_png(picture) for file, picture in zip(images.files, images.pixels, strict=True)}
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*.png") if not path.name.startswith(".")}
    own = _indexed(folder)
    if foreign := sorted(there - own - contents.keys()):
        raise RunError(f"{folder / foreign[0]}: is no image of this set, and would count as one.\nMove it out of {folder}.")
    if own - contents.keys() or contents.keys() - own:
        _write_index(folder, sorted(own | contents.keys()))  # whatever interrupts this, what it wrote is known
    for file in sorted(there - contents.keys()):
        (folder / file).unlink()
    for file, content in contents.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != content:
            write_bytes(path, content)
    _write_index(folder, images.files)


def _indexed(folder: pathlib.Path) -> set[str]:
    path = folder / "index.csv"
    if not path.exists():
        return set()
    with open(path, newline="") as file:
        return {row.get("file", "") for row in csv.DictReader(file)}


def _write_index(folder: pathlib.Path, files: Iterable[str]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([("file", "label"), *((file, file.partition("/")[0]) for file in files)])
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / "index.csv", text.getvalue().encode())


def read(folder: pathlib.Path, classes: tuple[str, ...]) -> Images:
    """Returns the images of the class folders in `folder`; RunError for one that cannot be read."""
    files = [path for name in folder_names(classes) for path in sorted((folder / name).glob("*.png"))]
    numbers = {name: number for number, name in enumerate(folder_names(classes))}
    pixels = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in files]
    for path, picture in zip(files, pixels, strict=True):
        if picture is None:
            raise RunError(f"{path} cannot be read.\nRemove it, and the same command writes it anew.")
    pixels = [picture[..., ::-1] if picture.ndim == 3 else picture for picture in pixels]
    labels = np.array([numbers[path.parent.name] for path in files], int)
    return Images(np.stack(pixels), labels, tuple(path.relative_to(folder).as_posix() for path in files))


def first(images: Images, num: int) -> Images:
    """Returns the first `num` images of each class."""
    return taken(images, np.concatenate([np.flatnonzero(images.labels == label)[:num] for label in np.unique(images.labels)]))


def taken(images: Images, chosen: np.ndarray) -> Images:
    """Returns the images of these indices, in this order."""
    return Images(images.pixels[chosen], images.labels[chosen], tuple(images.files[index] for index in chosen))


def repeated(images: Images, others: np.ndarray) -> Images:
    """Returns the images, those of a class over and over where `others` (n), class numbers, has more of it, until there are as many.

    The first times under their own names, then as again1_NAME and so on: by files they are as likely to be drawn as the others.
    """
    chosen, files = [], []
    for label in np.unique(images.labels):
        own = np.flatnonzero(images.labels == label)
        for place in range(max(len(own), int((others == label).sum()))):
            turn, index = divmod(place, len(own))
            folder, _, file = images.files[own[index]].rpartition("/")
            chosen.append(own[index])
            files.append(f"{folder}/again{turn}_{file}" if turn else images.files[own[index]])
    return taken(images, np.array(chosen))._replace(files=tuple(files))


def mixed(parts: Mapping[str, Images]) -> Images:
    """Returns all images of several sets, whose names come before those of their files."""
    files = [f"{folder}/{name}_{file}" for name, one in parts.items() for folder, _, file in (text.partition("/") for text in one.files)]
    kept = [one for one in parts.values() if len(one.labels)]
    return Images(np.concatenate([one.pixels for one in kept]), np.concatenate([one.labels for one in kept]), tuple(files))


def distances(images: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Returns the root mean square difference of each image to each real one, float64 (n, m), in grey levels.

    The least over quarter turns and mirrors of the real one. `images` (n, s, s) or (n, s, s, c) and `real` (m, ...), uint8 squares.
    """
    flat = images.reshape(len(images), -1).astype(np.float64)
    least = np.full((len(images), len(real)), np.inf)
    for turned in (np.rot90(one, quarter, axes=(1, 2)) for one in (real, real[:, :, ::-1]) for quarter in range(4)):
        other = turned.reshape(len(real), -1).astype(np.float64)
        square = (flat**2).sum(1)[:, None] + (other**2).sum(1)[None] - 2.0 * flat @ other.T
        least = np.minimum(least, np.maximum(square, 0.0))
    return np.sqrt(least / flat.shape[1])


def select(candidates: Images, probabilities: np.ndarray, real: Images, num: int) -> tuple[np.ndarray, list[dict]]:
    """Returns (indices of at most `num` candidates of each class, a row a class of what was left out and why).

    Of a class those that lie no nearer to one of its real images than a tenth of these lie to their own nearest (copies), and no farther
    from the nearest than the farthest of these from its own nearest (strangers); and of those left the ones whose class a classifier is
    surest of, by its `probabilities` (n, k). A class of one real image has no such distances: none is left out. `as_asked` is the share
    of the candidates whose likeliest class is the one they were made for.
    """
    chosen, rows, confidence = [], [], probabilities[np.arange(len(candidates.labels)), candidates.labels]
    for label in np.unique(candidates.labels):
        own, there = np.flatnonzero(candidates.labels == label), real.pixels[real.labels == label]
        nearest = distances(candidates.pixels[own], there).min(1)
        between = (distances(there, there) + np.diag(np.full(len(there), np.inf))).min(1)
        # The 10 % quantile: of about 20 images one pair of near-duplicates must not make copies of all the others pass.
        low, high = (np.quantile(between, 0.1), between.max()) if len(there) > 1 else (0.0, np.inf)
        copies, strangers = nearest < low, nearest > high
        left = own[~copies & ~strangers]
        best = left[np.argsort(-confidence[left], kind="stable")[:num]]
        chosen.append(np.sort(best))
        row = {"class": int(label), "candidates": len(own), "copies": int(copies.sum()), "strangers": int(strangers.sum())}
        row |= {"selected": len(best), "least_confidence": float(confidence[best].min()) if len(best) else None}
        rows.append(row | {"as_asked": float((probabilities[own].argmax(1) == label).mean())})
    return np.concatenate(chosen), rows


def overview(folder: pathlib.Path, classes: tuple[str, ...], num: int = 10) -> np.ndarray:
    """Returns a picture, uint8 RGB or grey: of `real`, `generated` and `selected` in `folder`, as far as they are there, a row a class."""
    tiles = []
    for name in ("real", "generated", "selected"):
        if any((folder / name).glob("*/*.png")):
            images = read(folder / name, classes)
            for label in range(len(classes)):
                own = images.pixels[images.labels == label][:num]
                tiles.append(np.concatenate([own, np.full((num - len(own), *images.pixels.shape[1:]), 255, np.uint8)]))
    return grid(np.concatenate(tiles), num)
