"""Writes a folder of crops: every training scan cut at M random places, each crop in K reflections.

python -m tools.make_crops --config=configs/dcgan96.py --output=crops --crops_per_scan=10 --reflections=4

This is the set of N x M x K images of Computer Optics 47(2), 2023, CO-1144: originals of 512 x 512, crops of 256 x 256 turned by
random angles, reflections; 2000 images in all. Scanforge needs no such folder to train, it cuts while it trains; this is for other
programs and for looking at. Only training scans are cut, so that no held-out scan leaks; --config.data.held_out=0
--config.data.test=0 cuts all. Levelling, crop size and rotation are those of the config, and the crops are cut by the code that
training uses. Crops of one scan, and reflections of one crop, are no independent images: split by the column `scan` of index.csv.

The folder holds crop_SSSS_MMMMM_REFLECTION.png (8 bit; or float32 TIFF or npy, heights in nm where the scans have units), index.csv
(a line an image, written last) and crops.json (the request and the map from grey levels to values). The same command again goes on.
"""

import csv
import hashlib
import io
import json
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from tqdm import tqdm

import input_pipeline
from microscopy.preparation import Prepared, prepare
from training import command, generation, pseudonyms, workdir
from training.errors import ConfigError
from training.generation import Request
from training.signals import Stop

CHUNK = 64
"""Crops are cut this many at a time whatever is missing, so that a folder completed later holds the same bytes."""

WRITERS = 4
"""Threads that write files: they wait for the disk most of the time."""

MIRRORS = {
    "none": np.s_[:, :],
    "left_right": np.s_[:, ::-1],
    "up_down": np.s_[::-1, :],
    "both": np.s_[::-1, ::-1],
}
"""Reflections of an image (h, w, c), in the order they are added: the first K are used."""

COLUMNS = ("file", "scan", "source", "y_px", "x_px", "angle_degrees", "quarter", "reflection", "sha256")


def sized(config, size: int):
    """Returns a copy of the config whose crops come out at size x size; ConfigError for a size that cannot be."""
    if not 1 <= size <= 8192:
        raise ConfigError(f"--size={size}: 1 to 8192 px.")
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.data.update({"height": size, "width": size, "use_masks": False})
        config.data.update({"label_field": "none"} if "label_field" in config.data else {})
    return config


def draw(prepared: Prepared, rotation: str, crops_per_scan: int, seed: int) -> dict[str, jax.Array]:
    """Returns placements as `input_pipeline.draw` does, unmirrored: `crops_per_scan` in each training scan, scan by scan.

    Crop m of scan s is drawn from (seed, s, m).
    """
    scans = prepared.splits["train"]
    size = jnp.array([scan.pixels.shape[:2] for scan in scans], jnp.int32)
    index = jnp.repeat(jnp.arange(len(scans)), crops_per_scan)
    turn = jnp.tile(jnp.arange(crops_per_scan), len(scans))

    def one(scan, number):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), scan), number)
        place = input_pipeline.draw(key, {"size": size[scan][None]}, 1, prepared.crop, rotation, False)
        return {name: value[0] for name, value in place.items()} | {"scan": scan}

    return jax.jit(jax.vmap(one))(index, turn)


def cut(prepared: Prepared, data, places: dict[str, jax.Array]) -> Iterator[Callable[[], np.ndarray]]:
    """Yields, for each chunk of the placements, a function that returns its images, float32 (n, height, width, c) in [-1, 1]."""
    arrays = jax.tree.map(jnp.asarray, input_pipeline.resident(prepared.splits["train"], prepared, data))
    arrays.pop("label", None)

    @jax.jit
    def images(arrays, place):
        return input_pipeline.crops(arrays, place, prepared.crop, data.height, data.width)["image"]

    num = len(places["scan"])
    padded = jax.tree.map(lambda leaf: jnp.pad(leaf, (0, -num % CHUNK)), places)
    for start in range(0, num, CHUNK):
        place = jax.tree.map(lambda leaf, start=start: leaf[start : start + CHUNK], padded)
        yield lambda place=place, start=start: np.asarray(images(arrays, place))[: num - start]


def rows(prepared: Prepared, places: dict[str, jax.Array], crops_per_scan: int, reflections: int, kind: str) -> list[dict]:
    """Returns index.csv's lines as dicts, `reflections` for each placement.

    `y_px` and `x_px` are the crop's centre in px of the scan (the first pixel's centre is 0); the crop's x axis lies in the scan
    turned by `angle_degrees` and `quarter` quarter turns towards the scan's y axis; the reflection comes last.
    """
    places, scans, found = {name: np.asarray(value).tolist() for name, value in places.items()}, prepared.splits["train"], []
    for number, index in enumerate(places["scan"]):
        y, x = (f"{places[name][number]:.4f}" for name in ("y", "x"))
        angle = f"{np.degrees(places['angle'][number]):.4f}"
        shared = {"scan": scans[index].id, "source": scans[index].file, "y_px": y, "x_px": x, "angle_degrees": angle}
        shared |= {"quarter": places["quarter"][number], "sha256": scans[index].sha256}
        for name in list(MIRRORS)[:reflections]:
            file = f"crop_{index:04d}_{number % crops_per_scan:05d}_{name}.{kind}"
            found.append({"file": file, **shared, "reflection": name})
    return found


def write_crops(config, request: Request, *, crops_per_scan: int, reflections: int = 1, size: int = 256) -> int:
    """Returns how many images were written to `request.output`; those already there are left.

    `request` gives seed, format, folder and stop flag; its number of images is not looked at. Raises ConfigError, DataError
    or RunError with what to mend: flags, scans, a folder that holds another request, the disk.
    """
    generation.check(request)
    if crops_per_scan < 1:
        raise ConfigError(f"--crops_per_scan={crops_per_scan}: ask for at least 1.")
    if reflections not in (1, 2, 4):
        raise ConfigError(f"--reflections={reflections}: 1 (none), 2 (and left-right) or 4 (and up-down and both).")
    config = sized(config, size)
    prepared = pseudonyms.beside(config, request.output, prepare(config))
    generation.check_format(request.format, prepared.value_map)
    folder, scans, crop = pathlib.Path(request.output), prepared.splits["train"], prepared.crop
    num = len(scans) * crops_per_scan * reflections
    print(f"{len(scans)} training scans x {crops_per_scan} crops x {reflections} reflections = {num} images;", end=" ")
    print(f"crops {crop[1]} x {crop[0]} px to {size} x {size}{' (enlarged)' if max(crop) < size else ''}.", flush=True)
    facts = _facts(config, request, prepared, crops_per_scan, reflections)
    generation.claim(folder, "crops.json", facts, "crop_*", free=("config.data.source",))
    places = draw(prepared, config.data.rotation, crops_per_scan, request.seed)
    index = rows(prepared, places, crops_per_scan, reflections, request.format)
    started = time.monotonic()
    written = _write(folder, index, cut(prepared, config.data, places), reflections, request, prepared)
    if request.stop.signal is None:
        generation.write(folder / "index.csv", _csv(index))
    print(generation.summary(folder, written, num, time.monotonic() - started, request.stop))
    return written


def _write(folder, index, chunks, reflections, request, prepared) -> int:
    written, views = 0, list(MIRRORS.values())[:reflections]

    def store(path, image):
        generation.write(path, generation.encode(np.ascontiguousarray(image), request.format, prepared.value_map))

    request.stop.gentle = True  # between two crops nothing is half-written
    with tqdm(total=len(index), unit="image", desc="crops") as bar, ThreadPoolExecutor(WRITERS) as pool:
        for number, images in enumerate(chunks):
            if request.stop.signal is not None:
                break
            first = number * CHUNK * reflections
            part = [folder / row["file"] for row in index[first : first + CHUNK * reflections]]
            missing = [i for i, path in enumerate(part) if not path.exists()]
            if missing:
                cropped = images()
                list(pool.map(store, (part[i] for i in missing), (cropped[i // reflections][views[i % reflections]] for i in missing)))
            written += len(missing)
            bar.update(len(part))
    return written


def _facts(config, request, prepared, crops_per_scan, reflections) -> dict:
    """crops.json: all that the files depend on, so that a folder is never filled by two requests."""
    scans = prepared.splits["train"]
    plain = workdir.plain(config)
    plain["data"] |= pseudonyms.paths(config.data, prepared)
    return {
        "config": {name: plain[name] for name in ("name", "seed", "data")},
        "seed": request.seed,
        "format": request.format,
        "num_scans": len(scans),
        "crops_per_scan": crops_per_scan,
        "reflections": list(MIRRORS)[:reflections],
        "num_images": len(scans) * crops_per_scan * reflections,
        "crop_px": prepared.crop,
        "scans_sha256": hashlib.sha256(json.dumps([[scan.id, scan.sha256] for scan in scans]).encode()).hexdigest(),
        "unit": "grey, 8 bit" if request.format == "png" else prepared.value_map.unit,
        "value_map": prepared.value_map.__dict__,
    }


def _csv(index: list[dict]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(index)
    return text.getvalue().encode()


def run(argv: list[str]) -> int:
    """Returns the exit code: 0 done, 1 data or disk, 2 flags or config, 130 Ctrl-C, 143 SIGTERM."""
    values = command.new_flags(argv)
    flags.DEFINE_string("output", None, "Folder the crops are written to.", flag_values=values)
    flags.DEFINE_integer("crops_per_scan", None, "M: how many crops of each training scan.", flag_values=values)
    flags.DEFINE_integer("reflections", 1, "K: 1 (none), 2 (and left-right) or 4 (and up-down and both).", flag_values=values)
    flags.DEFINE_integer("size", 256, "Width and height the crops are written at, px.", flag_values=values)
    flags.DEFINE_integer("seed", 0, "Crop m of scan s depends on (seed, s, m).", flag_values=values)
    flags.DEFINE_string("format", "png", "png (8 bit), tiff or npy (float32; heights in nm where scans have units).", flag_values=values)
    return command.run(argv, values, _dispatch, __doc__)


def _dispatch(values: flags.FlagValues, stop: Stop) -> None:
    if values.config is None:
        raise ConfigError("--config=configs/NAME.py is missing: whose scans to cut; see configs/.")
    if values.crops_per_scan is None:
        raise ConfigError("--crops_per_scan=M is missing: how many crops of each training scan.")
    request = Request(1, values.seed, values.output or "", values.format, stop=stop)
    write_crops(values.config, request, crops_per_scan=values.crops_per_scan, reflections=values.reflections, size=values.size)


if __name__ == "__main__":
    sys.exit(run(sys.argv))
