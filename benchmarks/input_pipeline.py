"""Crops a second of the input pipeline beside an OpenCV loop over the same scans, at several training sizes.

python -m benchmarks.input_pipeline --config=configs/dcgan96.py:cpu --batch=256

A crop is 256 x 256 px (or what `config.data` says) at a free angle, mirrored or not, reduced to the training size. OpenCV warps, flips
and area-averages each crop, on as many threads as ours; placements and scans are the same. docs/performance.md says how to read it.
"""

import concurrent.futures
import math
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import cv2
import jax
import numpy as np
from absl import flags

import input_pipeline
from benchmarks import command, timing
from microscopy.pictures import to_uint8
from training import devices
from training import workdir as workdirs
from training.errors import ConfigError


def main(argv: list[str]) -> int:
    """Returns the exit code after the figures are printed, and written where --json=FILE is given."""
    values = command.declare(argv, "configs/dcgan96.py:cpu")
    flags.DEFINE_integer("batch", 256, "Crops a call.", flag_values=values)
    flags.DEFINE_list("sizes", ["32", "48", "64", "96", "128"], "Training sizes in px.", flag_values=values)
    flags.DEFINE_integer("rounds", 20, "Timed calls of each.", flag_values=values)
    return command.run(argv, values, __doc__, _measure)


def _measure(values) -> dict:
    if not all(size.isdigit() and int(size) > 0 for size in values.sizes):
        raise ConfigError(f"--sizes={','.join(values.sizes)}: sizes in px, such as 32,64.")
    batch, rounds = (command.at_least(name, values[name].value, 1) for name in ("batch", "rounds"))
    config = values.config.copy_and_resolve_references().unlock()
    config.data.height = config.data.width = int(values.sizes[0])
    prepared = input_pipeline.prepare(config)
    threads, scans = timing.num_cores(), prepared.splits["train"]
    crop = f"{prepared.crop[1]} x {prepared.crop[0]} px"
    print(f"{len(scans)} scans, crops of {crop}, rotation {config.data.rotation}, {batch} a call, {rounds} calls. {devices.describe()}.")
    print(f"OpenCV {cv2.__version__} on {threads} threads.   crops/s")
    print("     px     ours   OpenCV float32        ratio   OpenCV uint8        ratio   apart (unrelated), grey levels")
    rows = [_one(config, prepared, int(size), batch, rounds, threads) for size in values.sizes]
    return {"config": workdirs.plain(config), "crop": list(prepared.crop), "opencv": cv2.__version__, "threads": threads, "sizes": rows}


def _one(config, prepared, size: int, batch: int, rounds: int, threads: int) -> dict:
    config.data.height = config.data.width = size
    data = input_pipeline.make_data(config, prepared)
    sample = jax.jit(data.sample, static_argnums=2)
    key, crop = jax.random.key(config.seed), prepared.crop
    draw = jax.jit(lambda arrays, key: input_pipeline.draw(key, arrays, batch, crop, config.data.rotation, config.data.mirror))
    place = jax.device_get(draw(data.arrays, key))
    images = [prepared.value_map.to_unit(scan.pixels) for scan in prepared.splits["train"]]
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        calls = {
            "ours": lambda: jax.block_until_ready(sample(data.arrays, key, batch)),
            "float32": lambda: opencv_crops(pool, threads, images, place, crop, size),
        }
        eight_bit = [to_uint8(image) for image in images]
        calls["uint8"] = lambda: opencv_crops(pool, threads, eight_bit, place, crop, size)
        before = cv2.getNumThreads()
        cv2.setNumThreads(1)  # the pool's threads are the parallel part
        # One call of ours takes a few milliseconds: several make a measurement, or waking the threads would be most of it.
        times = {name: timing.repeats_for(call, 0.1) for name, call in calls.items()}
        seconds = timing.interleaved({name: timing.repeated(call, times[name]) for name, call in calls.items()}, rounds)
        seconds = {name: [value / times[name] for value in values] for name, values in seconds.items()}
        theirs = calls["float32"]()
        cv2.setNumThreads(before)
    cut = jax.jit(input_pipeline.crops, static_argnums=(2, 3, 4))
    mine = np.asarray(cut(data.arrays, place, crop, size, size)["image"])
    figures = {"px": size, "batch": batch, "num_rounds": rounds}
    figures |= {f"{name}_crops_per_second": 1e3 * batch / timing.summary(values)["median_ms"] for name, values in seconds.items()}
    figures["ratios"] = {name: timing.ratio(seconds[name], seconds["ours"]) for name in ("float32", "uint8")}
    figures["apart"] = float(np.abs(mine - theirs).mean() * 127.5)
    figures["unrelated"] = float(np.abs(mine - np.roll(theirs, 1, axis=0)).mean() * 127.5)
    _print(figures)
    return figures


def _print(figures):
    line = f"{figures['px']:7}{figures['ours_crops_per_second']:9,.0f}"
    for name in ("float32", "uint8"):
        value = figures["ratios"][name]
        line += f"{figures[f'{name}_crops_per_second']:11,.0f}{value['median']:8.2f} ({value['min']:.2f} .. {value['max']:.2f})"
    print(f"{line}{figures['apart']:8.2f} ({figures['unrelated']:.2f})", flush=True)


def opencv_crops(pool, threads: int, images: list[np.ndarray], place, crop: tuple[int, int], size: int) -> np.ndarray:
    """Returns the crops at `place` (as from input_pipeline.draw), float32 (num, size, size, channels) in [-1, 1], by OpenCV.

    `images` are scans, float32 in [-1, 1] or uint8; every thread of the pool has an equal share of the crops.
    """
    num, channels = len(place["scan"]), 1 if images[0].ndim == 2 else images[0].shape[2]
    out = np.empty((num, size, size, channels), np.float32)
    columns = [place[name].tolist() for name in ("scan", "y", "x", "angle", "quarter", "flip")]

    def share(first):
        for index in range(first, num, threads):
            scan, y, x, angle, quarter, flip = (column[index] for column in columns)
            out[index] = opencv_crop(images[scan], y, x, angle + quarter * math.pi / 2, flip, crop, size).reshape(size, size, channels)

    list(pool.map(share, range(threads)))
    return out


def opencv_crop(image: np.ndarray, y: float, x: float, angle: float, flip: bool, crop: tuple[int, int], size: int) -> np.ndarray:
    """Returns one crop, float32 (size, size) or (size, size, 3): the whole crop warped, then mirrored, then area-averaged."""
    cos, sin = math.cos(angle), math.sin(angle)
    middle_y, middle_x = (crop[0] - 1) / 2, (crop[1] - 1) / 2
    matrix = np.array([[cos, -sin, x - cos * middle_x + sin * middle_y], [sin, cos, y - sin * middle_x - cos * middle_y]])
    # The matrix takes crop to scan, so it is not inverted again.
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    window = cv2.warpAffine(image, matrix, (crop[1], crop[0]), flags=how, borderMode=cv2.BORDER_REPLICATE)
    if flip:
        window = cv2.flip(window, 1)
    small = cv2.resize(window, (size, size), interpolation=cv2.INTER_AREA)
    return small if small.dtype == np.float32 else small * np.float32(2 / 255) - np.float32(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
