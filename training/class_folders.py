"""Writing generated images of classes: a folder a class, OUT/NAME/generated_000000.png, and OUT/index.csv that lists them all."""

import csv
import difflib
import functools
import io
import pathlib
import re
import time
from collections.abc import Callable

import numpy as np
from tqdm import tqdm

from training import generation
from training import workdir as workdirs
from training.errors import ConfigError
from training.generation import Request

COLUMNS = ("file", "label", "seed", "index", "checkpoint")
MOST_BYTES = 200
"""Of a class's folder's name: file systems take 255."""

_WHERE = "in the scans' folders or in the table of config.data.labels."


def wanted(labels: str, classes: tuple[str, ...], num_images: int) -> dict[int, int]:
    """Returns class number -> how many images `--labels` asks for: "all" (or ""), or NAME:COUNT,NAME:COUNT,...

    A NAME without a COUNT, and "all", mean `num_images` of each class; blanks around both do not count. ConfigError for a name that is no
    class, with the nearest one, a count that is none, a class named twice, and more than `generation.MOST_IMAGES` in all.
    """
    counts = dict.fromkeys(range(len(classes)), num_images) if labels in ("", "all") else _named(labels, classes, num_images)
    if sum(counts.values()) > generation.MOST_IMAGES:
        asked = f"--labels={labels}" if labels else f"--num_images={num_images}"
        raise ConfigError(f"{asked}: {sum(counts.values()):,} images in all; ask for {generation.MOST_IMAGES:,} at most.")
    return counts


def _named(labels: str, classes: tuple[str, ...], num_images: int) -> dict[int, int]:
    counts = {}
    for part in labels.split(","):
        part = part if part in classes else part.strip()
        name, _, count = part.rpartition(":") if ":" in part and part not in classes else (part, "", str(num_images))
        name, count = name if name in classes else name.strip(), count.strip()
        if name not in classes:
            near = difflib.get_close_matches(name, classes, 1)
            hint = f"Did you mean {near[0]}?" if near else "Write NAME:COUNT,NAME:COUNT or all."
            raise ConfigError(f"--labels={labels}: {name!r} is no class of the run. {hint}\nThe classes are {', '.join(classes)}.")
        if not re.fullmatch(r"[1-9][0-9]*", count):
            raise ConfigError(f"--labels={labels}: {count!r} images of {name}; write a whole number, 1 or more.")
        if classes.index(name) in counts:
            raise ConfigError(f"--labels={labels}: {name} is named twice.")
        counts[classes.index(name)] = int(count)
    return counts


def write_classes(workdir, request: Request, chunk: Callable[[int, int], np.ndarray], *, chunk_size: int, step: int) -> int:
    """Returns how many images were written into the class folders that `request.labels` names; those already there are left.

    `chunk(label, k)` gives images k * chunk_size onwards of a class as for `generation.write_images`, whose formats, records and
    refusals hold here too. index.csv lists every image in the folder: file, class, seed, index i and the checkpoint's step.
    Another call may ask for other classes, or for more images, of the same seed and weights.
    """
    classes = workdirs.read_classes(workdir)
    counts = wanted(request.labels, classes, request.num_images)
    names = folder_names(classes)
    folder, value_map = generation.open_output(workdir, request, step, "*/generated_*")
    total, written, started = sum(counts.values()), 0, time.monotonic()
    with tqdm(total=total, unit="image", desc="generate") as bar:
        for label, num in counts.items():
            place = folder / names[label]
            place.mkdir(exist_ok=True)
            one = functools.partial(chunk, label)
            written += generation.write_missing(place, num, request, one, chunk_size, value_map, bar)
    generation.clear(folder, "index.csv")
    generation.write(folder / "index.csv", _index(folder, classes, names, request, step))
    print(generation.summary(folder, written, total, time.monotonic() - started, request.stop))
    return written


def folder_names(classes: tuple[str, ...]) -> list[str]:
    """Returns a folder's name for each class: the class's own, "_" for what cannot stand in one.

    ConfigError where two become one, whatever their case, and for one that is too long for a file system.
    """
    names, seen = [re.sub(r"[^\w +()-]|^\W", "_", name) for name in classes], {}
    for own, name in zip(classes, names, strict=True):
        if len(name.encode()) > MOST_BYTES:
            size = f"{len(name.encode())} bytes, {MOST_BYTES} at most"
            raise ConfigError(f"the class {own[:40]!r}... is too long for the name of a folder: {size}.\nRename it {_WHERE}")
        other = seen.setdefault(name.casefold(), own)
        if other != own:
            raise ConfigError(f"the classes {other!r} and {own!r} would have one folder of generated images, {name}.\nRename one {_WHERE}")
    return names


def _index(folder: pathlib.Path, classes, names, request: Request, step: int) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for name, place in zip(classes, names, strict=True):
        for file in sorted((folder / place).glob(f"generated_*.{request.format}")):
            writer.writerow((f"{place}/{file.name}", name, request.seed, int(file.stem.removeprefix("generated_")), step))
    return text.getvalue().encode()
