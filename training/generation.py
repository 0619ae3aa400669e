"""Writing generated images to a folder: in chunks by index, resumable, nothing half-written under a final name."""

import concurrent.futures
import dataclasses
import io
import json
import pathlib
import time
from collections.abc import Callable, Mapping

import numpy as np
from tqdm import tqdm

from microscopy import label_field
from microscopy.atomic import leftovers, write_bytes, write_json
from microscopy.normalisation import ValueMap
from microscopy.pictures import encode_png, to_uint8
from microscopy.writing import encode_gwy, encode_tiff
from training import checkpoints
from training import workdir as workdirs
from training.errors import ConfigError, RunError
from training.signals import Stop

FORMATS = ("png", "tiff", "npy", "gwy")
MOST_IMAGES = 10_000_000
WRITERS = 4
"""Threads that encode and write files: OpenCV and the disk run beside each other."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What `--mode=generate` asks for."""

    num_images: int
    seed: int
    output: str
    format: str = "png"
    checkpoint: str = "last"
    stop: Stop = dataclasses.field(default_factory=Stop)
    labels: str = ""


def check(request: Request) -> None:
    """Raises ConfigError for a request that cannot be."""
    if request.num_images < 1:
        raise ConfigError(f"--num_images={request.num_images}: ask for at least 1.")
    if request.num_images > MOST_IMAGES:
        raise ConfigError(f"--num_images={request.num_images}: ask for {MOST_IMAGES:,} at most.")
    if not request.output:
        raise ConfigError("--output=DIR is missing: the folder the images are written to.")
    if request.format not in FORMATS:
        raise ConfigError(f"--format={request.format}: choose {', '.join(FORMATS)}.")
    if not 0 <= request.seed < 2**32:
        raise ConfigError(f"--seed={request.seed}: 0 to 4294967295.")


def write_images(
    workdir, request: Request, chunk: Callable[[int], np.ndarray], *, chunk_size: int, step: int, label_kind: str = "none"
) -> int:
    """Returns how many images were written as `generated_000000.png` ...; those already there are left.

    `chunk(k)` gives images k * chunk_size onwards, (chunk_size, h, w, c) float32 in [-1, 1]. PNG is 8 bit; TIFF and npy
    are float32, heights in nm where the scans had units, else the scans' grey levels; gwy holds heights, in m. generation.json says what
    the folder holds; another request for the same folder is refused, so that no two sets mix. With a `label_kind` the last channel is a
    label field, and `labels/generated_000000.png` are its instances (uint16, 0 = background; `label_field.instances`); beside TIFF and
    npy it stands itself, float32 in [-1, 1], as `fields/generated_000000.tiff` or npy.
    """
    if request.labels:
        raise ConfigError(f"--labels={request.labels}: the run of {workdir} learned no classes; leave it out.")
    folder, value_map = open_output(workdir, request, step, "generated_*", label_kind)
    started = time.monotonic()
    with tqdm(total=request.num_images, unit="image", desc="generate") as bar:
        written = write_missing(folder, request.num_images, request, chunk, chunk_size, value_map, bar, label_kind)
    print(summary(folder, written, request.num_images, time.monotonic() - started, request.stop))
    return written


def open_output(workdir, request: Request, step: int, pattern: str, label_kind: str = "none") -> tuple[pathlib.Path, ValueMap]:
    """Returns (the request's folder, claimed by its generation.json, the run's value map); ConfigError for a request that cannot be."""
    check(request)
    value_map = workdirs.read_value_map(workdir)
    check_format(request.format, value_map)
    folder = pathlib.Path(request.output)
    facts = _facts(workdir, request, value_map, step) | ({} if label_kind == "none" else {"label_field": label_kind})
    claim(folder, "generation.json", facts, pattern, free=("workdir",))
    return folder, value_map


def write_missing(
    folder, num: int, request: Request, chunk: Callable[[int], np.ndarray], chunk_size: int, value_map, bar, label_kind: str = "none"
) -> int:
    """Returns how many of `num` images `generated_000000.png` ... it wrote: those not there yet, until `request.stop` is signalled.

    `chunk(k)` and `label_kind` are as for `write_images`; `bar` is told of every chunk that is whole.
    """
    path_of = lambda i: folder / f"generated_{i:06d}.{request.format}"  # noqa: E731 - too many to list them
    request.stop.gentle, written = True, 0  # between two images nothing is half-written

    def write_one(i: int, image: np.ndarray) -> None:
        image, one = (image, None) if label_kind == "none" else label_field.apart(image)
        for path, content in ({} if one is None else _labels(path_of(i), one, label_kind, value_map)).items():
            write(path, content)
        write(path_of(i), encode(image, request.format, value_map))  # last: where it stands, what belongs to it does

    with concurrent.futures.ThreadPoolExecutor(WRITERS) as pool:
        for number, start in enumerate(range(0, num, chunk_size)):
            if request.stop.signal is not None:
                break
            stop = min(start + chunk_size, num)
            missing = [i for i in range(start, stop) if not path_of(i).exists()]
            if missing:
                images = chunk(number)
                written += sum(1 for _ in pool.map(write_one, missing, (images[i - start] for i in missing)))
            bar.update(stop - start if request.stop.signal is None else 0)
    return written


def _labels(path: pathlib.Path, field: np.ndarray, kind: str, value_map: ValueMap) -> dict[pathlib.Path, bytes]:
    """Returns the files, with their contents, of the label field (h, w) of the image at `path`."""
    found = {path.parent / "labels" / f"{path.stem}.png": encode_png(label_field.instances(field, kind=kind).astype(np.uint16))}
    if path.suffix in (".tiff", ".npy"):
        content = _npy(field) if path.suffix == ".npy" else encode_tiff(field, value_map.nm_per_pixel)
        found[path.parent / "fields" / path.name] = content
    return found


def summary(folder: pathlib.Path, written: int, wanted: int, seconds: float, stop: Stop) -> str:
    """Returns the closing line: how many images were written how fast, how many were there, or that it was interrupted."""
    if stop.signal is not None:
        return f"{folder}: interrupted after {written} images; the same command goes on."
    there = f", {wanted - written} were there" if written < wanted else ""
    return f"{folder}: {written} images written in {seconds:.1f} s ({written / max(seconds, 1e-9):.0f} images/s){there}."


def write(path: pathlib.Path, content: bytes) -> None:
    """Writes a file whole or not at all, and makes its folder; RunError where the disk is full or refuses."""
    try:
        path.parent.mkdir(exist_ok=True)
        write_bytes(path, content)
    except OSError as error:
        raise RunError(
            f"{path} cannot be written: {error.strerror or error}.\n"
            "The files there are whole: free space or mend the permissions, and the same command goes on."
        ) from error


def encode(image: np.ndarray, kind: str, value_map: ValueMap) -> bytes:
    """Returns the file content of one image (h, w, c) in [-1, 1]: 8-bit PNG, or float32 TIFF or npy in the map's unit, or Gwyddion's .gwy.

    TIFF and gwy state the pixel size where the map has one. ConfigError where gwy is asked for and the map has no heights.
    """
    image = image[..., 0] if image.shape[-1] == 1 else image
    if kind == "png":
        return encode_png(to_uint8(image))
    values = value_map.from_unit(image)
    if kind == "npy":
        return _npy(values)
    if kind == "tiff":
        return encode_tiff(values, value_map.nm_per_pixel, value_map.unit)
    check_format(kind, value_map)
    return encode_gwy(values, value_map.nm_per_pixel)


def check_format(kind: str, value_map: ValueMap) -> None:
    """Raises ConfigError where files of this kind cannot hold the map's values."""
    if kind == "gwy" and value_map.unit != "nm":
        raise ConfigError(f"--format=gwy holds heights, but the scans were in {value_map.unit}. Choose png, tiff or npy.")


def _npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def _facts(workdir, request: Request, value_map: ValueMap, step: int) -> dict:
    return {
        "workdir": str(workdir),
        "step": step,
        "weights_sha256": checkpoints.verify(workdir, step)["sha256"],
        "seed": request.seed,
        "format": request.format,
        "unit": "grey, 8 bit" if request.format == "png" else value_map.unit,
        "value_at_minus_one": value_map.low,
        "value_at_plus_one": value_map.high,
        "nm_per_pixel": value_map.nm_per_pixel,
    }


def clear(folder: pathlib.Path, *patterns: str) -> None:
    """Removes what killed processes left half-written of files like these (globs below `folder`)."""
    for pattern in patterns:
        for stray in leftovers(folder, pattern):
            stray.unlink(missing_ok=True)


def claim(folder: pathlib.Path, record: str, facts: Mapping, pattern: str, free: tuple[str, ...] = ()) -> None:
    """Makes the folder and writes the facts to its file `record`, or compares them with those there.

    ConfigError where the folder holds another request (nested facts by dotted names; those in `free` may differ), or
    files like `pattern` without a record; RunError where it cannot be read or written.
    """
    path = folder / record
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists() and (found := min(folder.glob(pattern), default=None)):
            raise ConfigError(
                f"--output={folder} holds files, such as {found.name}, without {record}, which says what they are of.\nUse an empty folder."
            )
        old = workdirs.flat(workdirs.read_object(path)) if path.exists() else None
        new = workdirs.flat(json.loads(json.dumps(facts)))
        names = sorted(old.keys() | new.keys()) if old is not None else ()
        differing = [name for name in names if name not in free and old.get(name) != new.get(name)]
        if differing:
            name = differing[0]
            raise ConfigError(
                f"--output={folder} holds the images of another request: {name} is {old.get(name)} there, {new.get(name)} now.\n"
                "Use another folder."
            )
        clear(folder, record, pattern, f"*/{pattern}")
        if old is None:
            write_json(path, facts)
    except OSError as error:
        raise RunError(f"--output={folder} cannot be used: {error.strerror or error}.") from error
