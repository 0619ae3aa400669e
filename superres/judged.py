"""How good enlarged images are: interpolation, the run's network, the one it began from and back-projection, against held-out crops."""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import skimage.filters

import resize
from metrics import frc, image, surface
from metrics.invented import invented_particles, particle_threshold
from microscopy.pictures import to_uint8
from superres import comparison_figure, consistency, srgan
from superres.smoothing import gaussian_blur
from training import cost, weights
from training.errors import EXPECTED
from training.task import Data, Evaluation, Score

CHUNK = 8
FILTERS = {"bilinear": resize.bilinear, "bicubic": resize.bicubic, "lanczos": resize.lanczos}
NUM_TIMED, NUM_SHOWN = 5, 3
MOST_DB = 200.0  # stands for infinity: equal images


class Upscaler(NamedTuple):
    """A way to enlarge: `run(low (n, h, w, c)) -> (n, H, W, c)`, and what it costs an image (None for interpolation)."""

    run: Callable[[jax.Array], jax.Array]
    num_parameters: int | None = None
    gflop: float | None = None
    memory_mb: float | None = None


def evaluate(config, upscale: Callable, state, frozen, data: Data) -> Evaluation:
    """Returns the scores of the run's network beside interpolation on held-out crops, training crops where nothing is held out.

    `upscale` is `srgan.make_upscale(config)`, the same at each evaluation, so that it is compiled once.

    A table for each size of the low-resolution input, a row a way of enlarging; the scalars are of the run's network, means over
    the sizes. The Score is the negative PSNR in the phase "pixels", else the feature distance or, without VGG, that of the spectra.
    """
    high = _crops(data, "held_out", config.eval.num_images)
    split = "held-out" if len(high) else "training"
    high = high if len(high) else _crops(data, "train", config.eval.num_images)
    own = "srresnet" if config.train.phase == "pixels" else "srgan"
    features = _features(config, frozen)
    tables, figures, found = {}, {}, []
    before, told = _before(config, data.upstream)
    for height, width in srgan.low_sizes(config):
        low = np.asarray(srgan.REDUCTIONS[config.model.reduction](jnp.asarray(high), height, width))
        ways = _ways(config, upscale, {**before, own: srgan.inference(state)}, low.shape[1:], high.shape[1:3])
        made = {name: _enlarged(way.run, low) for name, way in ways.items()}
        rows = [row(name, made[name], high, low, config, data.prepared.value_map, features) | _cost(ways[name], low) for name in ways]
        tables[f"{width} x {height} to {high.shape[2]} x {high.shape[1]} px ({len(high)} {split} crops)"] = rows
        figures[f"{width} x {height} px"] = figure(low, made, high, data.prepared.value_map)
        found.append({row["image"]: row for row in rows})
    scalars = {}
    for prefix, name in (("superres/", own), ("superres/bicubic_", "bicubic")):
        for key in found[0][name]:
            values = [rows[name][key] for rows in found]
            if key in _SCORES and all(value is not None for value in values):
                scalars[prefix + key] = float(np.mean(values))
    protocol = f"{len(high)} {split} crops of {high.shape[2]} x {high.shape[1]} px, low by {config.model.reduction}; {_PROTOCOL}"
    protocol += f" Features: VGG {', '.join(config.train.content_layers)}." if features else " No VGG, so no feature distance."
    if own == "srgan" and not features:
        protocol += " Trained without content loss."
    measure = "psnr_y" if config.train.phase == "pixels" else ("feature_distance" if features else "psd_distance")
    value = scalars[f"superres/{measure}"]
    score = Score(f"superres/{measure}", -value if measure == "psnr_y" else value, f"{len(high)} {split} crops")
    return Evaluation(scalars, tables, figures, protocol + told, score)


_SCORES = ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb", "feature_distance", "psd_distance", "consistency_psnr", "resolution", "invented")
_SCORES += ("lost",)
_PROTOCOL = (
    "PSNR (dB) and SSIM of 8-bit images over the scans' range, 4 px cut, Y and RGB; psd: RMS of log10 mean radial spectra to the corners; "
    "consistency: PSNR of the result, clipped to the range, reduced again against its input; resolution: Fourier ring correlation 0.5 "
    "against the truth, two pixels where it never falls so low; "
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


def _ways(config, upscale: Callable, networks: dict, low: tuple[int, ...], size: tuple[int, int]) -> dict[str, Upscaler]:
    """Interpolation, the networks {name: (params, stats)}, and the last of them with a Gaussian or back-projection behind it."""
    ways = {name: Upscaler(jax.jit(functools.partial(way, height=size[0], width=size[1]))) for name, way in FILTERS.items()}
    one = jax.ShapeDtypeStruct((1, *low), jnp.float32)
    for name, (params, stats) in networks.items():
        plan = upscale.lower(params, stats, one).compile().memory_analysis()
        memory = (plan.temp_size_in_bytes + plan.output_size_in_bytes) / 1e6 if plan else None
        run = functools.partial(_through, upscale, params, stats, size)
        ways[name] = Upscaler(run, cost.num_params(params), cost.gflop(upscale, params, stats, one), memory)
    own, plain = name, ways[name]
    if sigma := config.eval.smoothing:
        behind = plain._replace(run=lambda low: gaussian_blur(plain.run(low), sigma), gflop=None, memory_mb=None)
        ways[f"{own} + smoothing {sigma:g} px"] = behind
    if steps := config.eval.num_back_projections:
        down = srgan.REDUCTIONS[config.model.reduction]
        behind = plain._replace(run=lambda low: consistency.back_project(plain.run(low), low, steps, down=down), gflop=None, memory_mb=None)
        ways[f"{own} + {steps} back-projections"] = behind
    return ways


def _through(upscale: Callable, params, stats, size: tuple[int, int], low: jax.Array) -> jax.Array:
    return resize.bicubic(upscale(params, stats, low), *size)


def _before(config, upstream) -> tuple[dict, str]:
    """({"before": (params, stats)} of the weights the run began with, "") or ({}, why they cannot be judged)."""
    if not config.init_from:
        return {}, ""
    try:
        imported, entry = weights.read(config.init_from)
        task = srgan.make_task(srgan.without_judge(config))
        state = task.init(jax.random.key(0), imported)
    except EXPECTED:
        return {}, f" The weights it began from are no longer at {config.init_from}."
    if upstream and upstream[0].get("sha256") != entry["sha256"]:
        return {}, f" {config.init_from} has changed since the run began from it, so there is no row before."
    return {"before": (state.generator.params, state.generator.stats)}, ""


def _enlarged(run: Callable, low: np.ndarray) -> np.ndarray:
    """The images (n, H, W, c), clipped to [-1, 1], in parts of one size."""
    padded = np.concatenate([low, np.repeat(low[-1:], -len(low) % CHUNK, axis=0)])
    parts = [np.asarray(run(jnp.asarray(padded[i : i + CHUNK]))) for i in range(0, len(padded), CHUNK)]
    return np.clip(np.concatenate(parts)[: len(low)], -1.0, 1.0)


def row(name: str, made: np.ndarray, high: np.ndarray, low: np.ndarray, config, value_map, features) -> dict[str, Any]:
    """Returns a row of the table: `image` (the way's name) and the scores of images `made` (n, H, W, c) in [-1, 1] against `high`.

    `resolution` is in nm where the scans state a scale, else in px, None where nothing agrees; `invented` and `lost`
    are means per image of one channel, None for colour; `feature_distance` is None without VGG; NAME_error is a mean's standard error.
    """
    each = [image.scores(to_uint8(a), to_uint8(b)) for a, b in zip(made, high, strict=True)]
    found = {}
    for key in ("psnr_y", "psnr_rgb", "ssim_y", "ssim_rgb"):
        found |= _mean(key, [min(one[key], MOST_DB) for one in each])
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
    fineness = 2 * (nm or 1.0) if np.isnan(fineness) else fineness
    found["resolution"], found["resolution_unit"] = float(fineness) if np.isfinite(fineness) else None, "px" if nm is None else "nm"
    counts = _particles(grey, truth) if high.shape[-1] == 1 else []
    for key in ("invented", "lost"):
        found |= _mean(key, [one[key] for one in counts])
    return {"image": name, **found}


def _mean(key: str, values: list[float]) -> dict[str, float | None]:
    """The mean over images and its standard error, None where there are too few."""
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return {key: float(np.mean(values)) if values else None, f"{key}_error": error}


def _particles(made: np.ndarray, truth: np.ndarray) -> list[dict[str, int]]:
    """Counts image by image; where the truth is flat the threshold is that of the whole set, and none is found in a set that is flat."""
    if np.ptp(truth) == 0:
        return []
    common = float(skimage.filters.threshold_otsu(truth))
    thresholds = [particle_threshold(one) if np.ptp(one) > 0 else common for one in truth]
    return [invented_particles(*three) for three in zip(made, truth, thresholds, strict=True)]


def _cost(way: Upscaler, low: np.ndarray) -> dict[str, Any]:
    """Parameters, GFLOP, the median milliseconds an image after a first call, and the MB that XLA plans for result and scratch."""
    one, times = jnp.asarray(low[:1]), []
    for _ in range(NUM_TIMED + 1):
        start = time.perf_counter()
        jax.block_until_ready(way.run(one))
        times.append(time.perf_counter() - start)
    milliseconds = 1e3 * float(np.median(times[1:]))
    return {"parameters": way.num_parameters, "gflop": way.gflop, "ms": milliseconds, "memory_mb": way.memory_mb}


def figure(low: np.ndarray, made: dict[str, np.ndarray], high: np.ndarray, value_map=None) -> np.ndarray:
    """Returns a picture, uint8 RGB: `comparison_figure.draw` of three crops with the PSNR (Y) of each.

    The crops are the one of most contrast, the median and one between. Errors are in the unit of `value_map`,
    without one in grey levels; the scale bar needs its `nm_per_pixel`.
    """
    order = np.argsort(-high.std(axis=(1, 2, 3)), kind="stable")
    picked = order[np.unique(np.linspace(0, len(high) // 2, min(NUM_SHOWN, len(high))).astype(int))]
    made = {name: images[picked] for name, images in made.items()}
    truth = [to_uint8(one) for one in high[picked]]
    labels = {
        name: [f"{min(image.psnr(to_uint8(one), other), MOST_DB):.2f} dB" for one, other in zip(images, truth, strict=True)]
        for name, images in made.items()
    }
    known = value_map is not None and value_map.unit != "grey"
    return comparison_figure.draw(
        low[picked],
        made,
        high[picked],
        labels,
        unit_per_one=127.5 if value_map is None else (value_map.high - value_map.low) / 2,
        unit=value_map.unit if known else "grey levels",
        nm_per_pixel=value_map.nm_per_pixel[1] if value_map is not None and value_map.nm_per_pixel else None,
    )
