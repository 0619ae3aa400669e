"""How good enlarged images are: interpolation, the run's network, the one it began from and back-projection, against held-out crops."""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import resize
from metrics import frc, image, surface
from metrics.invented import invented_particles, particle_threshold
from microscopy import plots
from microscopy.pictures import to_uint8
from superres import consistency, cost, srgan
from training import weights
from training.errors import EXPECTED
from training.task import Data, Evaluation, Score

CHUNK = 8
FILTERS = {"bilinear": resize.bilinear, "bicubic": resize.bicubic, "lanczos": resize.lanczos}
NUM_TIMED, NUM_SHOWN = 5, 3
MOST_DB = 200.0  # stands for infinity: equal images
ERROR_RANGE = 0.25  # of the full range of values: the brightest of the error maps


class Upscaler(NamedTuple):
    """A way to enlarge: `run(low (n, h, w, c)) -> (n, H, W, c)`, jitted, and what it costs (None for interpolation)."""

    run: Callable[[jax.Array], jax.Array]
    num_parameters: int | None = None
    gflop: float | None = None


def evaluate(config, state, frozen, data: Data) -> Evaluation:
    """Returns the scores of the run's network beside interpolation on held-out crops, training crops where nothing is held out.

    A table for each size of the low-resolution input, a row a way of enlarging; the scalars are of the run's network, means over
    the sizes. The Score is the negative PSNR in the phase "pixels", else the feature distance or, without VGG, that of the spectra.
    """
    high = _crops(data, "held_out", config.eval.num_images)
    split = "held-out" if len(high) else "training"
    high = high if len(high) else _crops(data, "train", config.eval.num_images)
    own = "srresnet" if config.train.phase == "pixels" else "srgan"
    features = _features(config, frozen)
    tables, figures, found = {}, {}, []
    for height, width in srgan.low_sizes(config):
        low = np.asarray(srgan.REDUCTIONS[config.model.reduction](jnp.asarray(high), height, width))
        ways = _ways(config, state, own, low.shape[1:], high.shape[1:])
        made = {name: _enlarged(way.run, low) for name, way in ways.items()}
        rows = [row(name, made[name], high, low, config, data.prepared.value_map, features) | _cost(ways[name], low) for name in ways]
        tables[f"{width} x {height} to {high.shape[2]} x {high.shape[1]} px ({len(high)} {split} crops)"] = rows
        figures[f"{width} x {height} px"] = figure(low, made, high)
        found.append({row["image"]: row for row in rows})
    scalars = {}
    for prefix, name in (("superres/", own), ("superres/bicubic_", "bicubic")):
        for key in found[0][name]:
            values = [rows[name][key] for rows in found]
            if key in _SCORES and all(value is not None for value in values):
                scalars[prefix + key] = float(np.mean(values))
    protocol = f"{len(high)} {split} crops of {high.shape[2]} x {high.shape[1]} px, low by {config.model.reduction}; {_PROTOCOL}"
    protocol += f" Features: VGG {', '.join(config.train.content_layers)}." if features else " No VGG, so no feature distance."
    measure = "psnr_y" if config.train.phase == "pixels" else ("feature_distance" if features else "psd_distance")
    value = scalars[f"superres/{measure}"]
    score = Score(f"superres/{measure}", -value if measure == "psnr_y" else value, f"{len(high)} {split} crops")
    return Evaluation(scalars, tables, figures, protocol, score)


_SCORES = ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb", "feature_distance", "psd_distance", "consistency_psnr", "resolution", "invented")
_SCORES += ("lost",)
_PROTOCOL = (
    "PSNR (dB) and SSIM of 8-bit images over the scans' range, 4 px cut, Y and RGB; psd: RMS of log10 mean radial spectra to the corners; "
    "consistency: PSNR of the result reduced again against its input; resolution: Fourier ring correlation 0.5 against the truth; "
    "invented, lost: particles an image by the truth's Otsu threshold."
)


def _crops(data: Data, split: str, num: int) -> np.ndarray:
    batches = [np.asarray(batch["image"])[np.asarray(batch["valid"])] for batch in data.batches(split)]
    return np.concatenate(batches)[:num] if batches else np.zeros((0, 1, 1, 1), np.float32)


def _features(config, arrays) -> Callable | None:
    if not arrays:
        return None
    run = jax.jit(functools.partial(srgan.content_distance, train=config.train))
    return lambda made, high: float(np.mean([run(arrays, a[None], b[None]) for a, b in zip(made, high, strict=True)]))


def _ways(config, state, own: str, low: tuple[int, ...], high: tuple[int, ...]) -> dict[str, Upscaler]:
    size, down = high[:2], srgan.REDUCTIONS[config.model.reduction]
    ways = {name: Upscaler(jax.jit(functools.partial(way, height=size[0], width=size[1]))) for name, way in FILTERS.items()}
    upscale = srgan.make_upscale(config)
    networks = {own: srgan.inference(state)}
    before = _before(config)
    if before is not None:
        networks = {"before": before, **networks}
    for name, (params, stats) in networks.items():
        run = jax.jit(lambda low, params=params, stats=stats: resize.bicubic(upscale(params, stats, low), *size))
        operations = cost.gflop(upscale, params, stats, jax.ShapeDtypeStruct((1, *low), jnp.float32))
        ways[name] = Upscaler(run, cost.num_params(params), operations)
    if steps := config.eval.num_back_projections:
        plain = ways[own]
        project = jax.jit(lambda low: consistency.back_project(plain.run(low), low, steps, down=down))
        ways[f"{own} + back-projection"] = plain._replace(run=project)
    return ways


def _before(config):
    """(params, stats) of the weights the run began with; None where there were none, or where they are no longer there."""
    if not config.init_from:
        return None
    try:
        imported, _ = weights.read(config.init_from)
        task = srgan.make_task(srgan.without_judge(config))
        state = task.init(jax.random.key(0), imported)
    except EXPECTED:
        return None
    return state.generator.params, state.generator.stats


def _enlarged(run: Callable, low: np.ndarray) -> np.ndarray:
    """The images (n, H, W, c), clipped to [-1, 1], in parts of one size."""
    padded = np.concatenate([low, np.repeat(low[-1:], -len(low) % CHUNK, axis=0)])
    parts = [np.asarray(run(jnp.asarray(padded[i : i + CHUNK]))) for i in range(0, len(padded), CHUNK)]
    return np.clip(np.concatenate(parts)[: len(low)], -1.0, 1.0)


def row(name: str, made: np.ndarray, high: np.ndarray, low: np.ndarray, config, value_map, features) -> dict[str, Any]:
    """Returns a row of the table: `image` (the way's name) and the scores of images `made` (n, H, W, c) in [-1, 1] against `high`.

    `resolution` is in nm where the scans state a scale, else in px, None where the correlation never falls to 0.5; `invented` and `lost`
    are means per image of one channel, None for colour; `feature_distance` is None without VGG.
    """
    each = [image.scores(to_uint8(a), to_uint8(b)) for a, b in zip(made, high, strict=True)]
    each = [{key: min(value, MOST_DB) for key, value in one.items()} for one in each]
    found = {key: float(np.mean([one[key] for one in each])) for key in ("psnr_y", "psnr_rgb", "ssim_y", "ssim_rgb")}
    deviation = np.std([one["psnr_y"] for one in each], ddof=1) if len(each) > 1 else None
    found["psnr_y_error"] = None if deviation is None else float(deviation / np.sqrt(len(each)))
    found["feature_distance"] = features(made, high) if features else None
    grey, truth = made.mean(-1), high.mean(-1)
    power, other = (np.mean([surface.radial_psd_to_corners(one)[1][1:] for one in stack], axis=0) for stack in (truth, grey))
    found["psd_distance"] = surface.log_distance(power, other)
    down = srgan.REDUCTIONS[config.model.reduction]
    found["consistency_psnr"] = float(
        np.mean(np.minimum(consistency.consistency_psnr(jnp.asarray(made), jnp.asarray(low), down=down), 200))
    )
    nm = value_map.nm_per_pixel[1] if value_map.nm_per_pixel else None
    fineness = frc.resolution(frc.ring_correlation(grey, truth, nm), frc.REFERENCE)
    found["resolution"] = float(fineness) if np.isfinite(fineness) else None
    found["resolution_unit"] = "px" if nm is None else "nm"
    counts = [_particles(a, b) for a, b in zip(grey, truth, strict=True)] if high.shape[-1] == 1 else []
    found |= {key: float(np.mean([one[key] for one in counts])) if counts else None for key in ("invented", "lost")}
    return {"image": name, **found}


def _particles(made: np.ndarray, truth: np.ndarray) -> dict[str, int]:
    if np.ptp(truth) == 0:  # nothing there to be lost, and no threshold
        return {"invented": 0, "lost": 0}
    return invented_particles(made, truth, particle_threshold(truth))


def _cost(way: Upscaler, low: np.ndarray) -> dict[str, Any]:
    """Parameters, GFLOP and milliseconds an image, and the MB that XLA plans for it beside input and parameters."""
    one = jnp.asarray(low[:1])
    plan = way.run.lower(one).compile()
    memory, times = plan.memory_analysis(), []
    for _ in range(NUM_TIMED):
        start = time.perf_counter()
        jax.block_until_ready(plan(one))
        times.append(time.perf_counter() - start)
    size = (memory.temp_size_in_bytes + memory.output_size_in_bytes) / 1e6 if memory else None
    return {"parameters": way.num_parameters, "gflop": way.gflop, "ms": 1e3 * float(np.median(times)), "memory_mb": size}


def figure(low: np.ndarray, made: dict[str, np.ndarray], high: np.ndarray) -> np.ndarray:
    """Returns a picture, uint8 (h, w, 3): a row of enlarged images for each of three crops, and below it their errors, white for a
    quarter of the range and more; input left, truth right. The crops are the one of most contrast, the median and one between."""
    columns = {"input": None, **made, "truth": high}
    height, width = high.shape[1:3]
    side = max(1, round(192 / height))
    order = np.argsort(-high.std(axis=(1, 2, 3)), kind="stable")
    picked = order[np.unique(np.linspace(0, len(high) // 2, min(NUM_SHOWN, len(high))).astype(int))]
    rows = []
    for index in picked:
        tiles, errors = [], []
        for images in columns.values():
            shown = low[index] if images is None else images[index]
            reach = (height // shown.shape[0] + 1, width // shown.shape[1] + 1)
            grown = np.repeat(np.repeat(shown, reach[0], 0), reach[1], 1) if images is None else shown
            grown = np.asarray(resize.area(jnp.asarray(grown)[None], height, width))[0] if images is None else grown
            error = np.abs(grown - high[index]).mean(-1, keepdims=True) / (2 * ERROR_RANGE)
            tiles.append(_tile(grown, side))
            errors.append(_tile(2 * np.clip(error, 0, 1) - 1, side))
        rows += [np.concatenate(tiles, 1), np.concatenate(errors, 1)]
    body = np.concatenate(rows)
    head = np.full((22, body.shape[1], 3), 255, np.uint8)
    for place, name in enumerate(columns):
        plots.write(head, place * (body.shape[1] // len(columns)) + 4, 15, name)
    return np.concatenate([head, body])


def _tile(picture: np.ndarray, side: int) -> np.ndarray:
    grown = np.repeat(np.repeat(to_uint8(np.asarray(picture)), side, 0), side, 1)
    coloured = np.broadcast_to(grown, (*grown.shape[:2], 3)) if grown.shape[-1] == 1 else grown
    return np.pad(coloured, ((0, 4), (0, 4), (0, 0)), constant_values=255)
