"""The surface card: how far generated surfaces are from real ones, quantity by quantity, and one number that ranks checkpoints."""

import math

import numpy as np

from metrics import surface
from microscopy import particle_table, particles
from microscopy.scan import DataError
from microscopy.thresholds import footprint_mask

PER_IMAGE = ("sa", "sq", "ssk", "sku", "correlation_length", "diameter", "coverage", "density", "spacing")
NUM_CLASSES = 1024
MIN_AREA = 12
REPEATS = 200


def card(
    real: np.ndarray,
    generated: np.ndarray,
    nm_per_pixel: float | None = None,
    *,
    level: float = 0.95,
    repeats: int = REPEATS,
    seed: int = 0,
) -> dict:
    """Returns the surface card of generated against real height maps, (n, h, w) and (m, h, w) on the same scale, 2 at least of each.

    `quantities` holds, for each of PER_IMAGE, `heights` and `psd`, a dict: `distance`; its interval `low`, `high` at confidence `level`;
    `floor` and `floor_high`, what real against real gets at the same numbers of images (mean and `level` quantile); `ratio`, distance
    over floor (None where that is 0); `real` and `generated`, the means over images (None for heights and psd); `unit` (`z`: the maps').
    Distances are Wasserstein-1 between the two sets' values per image (`image_values`), and for `heights` between the pooled heights
    above each image's mean, in 1024 classes of the common range (exact to the width of one); that of `psd` is the rms over radial bins
    of log10 of the mean spectra's ratio, as `surface.log_psd_distance`, but to the corners of the spectrum, where checkerboards lie.

    `score` ranks checkpoints, lower is better: the mean ratio over the quantities whose floor is above 0 (`num_quantities`), about 1 for
    images that real ones could be; `score_low`, `score_high` are its interval, `score_floor_high` its real-against-real quantile. One
    quantity that is far off can dominate; read the rows. Compare scores only at the same real images, `num_real`, `num_generated`,
    `repeats` and `seed`, all of which are returned: floors fall with the numbers. `p_value` says whether the two sets can be told apart:
    the share of random divisions of all images into sets of these sizes (this one counted) whose distances, each over its mean over
    the divisions, are as large on average; exact for independent images, 1 / (repeats + 1) at least.

    Intervals draw whole images of both sets with replacement, `repeats` times (basic bootstrap: 2 d minus the quantiles, not below 0, which
    takes off the upward bias of resampled distances). Floors cut the real set into random halves and multiply by
    sqrt((1/n + 1/m) / (1/a + 1/b)), a and b the halves' sizes, as distances fall with the square root of the numbers; they are a scale, not
    a test: on simulated scans the mean score of real images was 1.1 to 1.2 at N = 10 to 50, and about 0.1 to 0.25 of them lay above
    `score_floor_high`. Images cut from one scan are not independent, which makes all of these too narrow; coverage is not calibrated.
    Raises DataError for sets that do not fit together, values that are not finite, and real images without any structure.
    """
    real, generated = _checked(real, generated, nm_per_pixel, level, repeats)
    values = [image_values(images, nm_per_pixel) for images in (real, generated)]
    shares, width = _height_shares(real, generated)
    powers = [np.stack([surface.radial_psd_to_corners(image, nm_per_pixel)[1][1:] for image in images]) for images in (real, generated)]
    sets = list(zip(values, shares, powers, strict=True))
    together = tuple(np.concatenate(pair) for pair in zip(*sets, strict=True))
    sizes = [len(real), len(generated)]
    half = sizes[0] // 2
    scale = math.sqrt((1 / sizes[0] + 1 / sizes[1]) / (1 / half + 1 / (sizes[0] - half)))
    random = np.random.default_rng(seed)
    found = _distances(*sets, *map(np.arange, sizes), width)
    drawn, floors, divided = np.empty((3, repeats, found.size))
    for index in range(repeats):
        drawn[index] = _distances(*sets, *(random.integers(size, size=size) for size in sizes), width)
        order = random.permutation(sizes[0])
        floors[index] = scale * _distances(sets[0], sets[0], order[:half], order[half:], width)
        order = random.permutation(sum(sizes))
        divided[index] = _distances(together, together, order[: sizes[0]], order[sizes[0] :], width)
    means = [[*one.mean(0), None, None] for one in values]
    return _summary(found, drawn, floors, means, level, nm_per_pixel) | {
        "p_value": _p_value(found, divided),
        "num_real": sizes[0],
        "num_generated": sizes[1],
        "level": level,
        "repeats": repeats,
        "seed": seed,
        "nm_per_pixel": nm_per_pixel,
    }


def image_values(images: np.ndarray, nm_per_pixel: float | None = None) -> np.ndarray:
    """Returns what each height map of (n, h, w) is like, float64 (n, 9) in the order of PER_IMAGE; lengths in nm, or in pixels.

    Heights and correlation length as in `metrics.surface`. Particles are what `thresholds.footprint_mask` finds, of 12 pixels at least,
    measured by `particles.measure` and `particle_table.describe`: median equivalent diameter of those not cut by the border, coverage
    (0..1), number per um^2 (without scale: per 10^6 pixels), mean distance to the nearest neighbour. Every value is finite, so that no
    image drops out: ssk and sku of a flat map are 0, a correlation that never falls to 0.2 counts as half the shorter side, no whole
    particle as a diameter of 0, fewer than two particles as a spacing of the frame's diagonal. Errors as for
    `surface.height_parameters`.
    """
    step = 1.0 if nm_per_pixel is None else nm_per_pixel
    rows = []
    for image in np.asarray(images, np.float64):
        heights = surface.height_parameters(image)
        length = surface.correlation_length(image, step)
        found = particles.measure(footprint_mask(image), nm_per_pixel=(step, step), min_area=MIN_AREA)
        table = particle_table.describe(found, image.shape, (step, step))
        limits = (min(image.shape) / 2 * step, 0.0, math.hypot(*image.shape) * step)
        lengths = (length, table["median_diameter_nm"], table["nearest_neighbour_mean_nm"])
        length, diameter, spacing = (limit if math.isnan(one) else one for one, limit in zip(lengths, limits, strict=True))
        shape = [0.0 if math.isnan(heights[name]) else heights[name] for name in ("ssk", "sku")]
        rows.append([heights["sa"], heights["sq"], *shape, length, diameter, table["coverage"], table["density_per_um2"], spacing])
    return np.array(rows)


def wasserstein(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns the Wasserstein-1 distance of each column of two samples (n, k) and (m, k), float64 (k): the area between their CDFs."""
    joined = np.concatenate([values, others])
    order = np.argsort(joined, axis=0)
    weights = np.repeat([1 / len(values), -1 / len(others)], [len(values), len(others)])[order]
    return (np.abs(np.cumsum(weights, axis=0))[:-1] * np.diff(np.take_along_axis(joined, order, axis=0), axis=0)).sum(0)


def _checked(real, generated, nm_per_pixel, level, repeats) -> tuple[np.ndarray, np.ndarray]:
    """Returns both sets as float64, or raises DataError."""
    if nm_per_pixel is not None and not 0 < nm_per_pixel < math.inf:
        raise DataError(f"nm_per_pixel {nm_per_pixel}: a positive number, or None for pixels, is needed.")
    if not 0 < level < 1 or repeats < 1:
        raise DataError(f"level {level}, repeats {repeats}: a confidence between 0 and 1 and at least one repeat are needed.")
    for name, images in (("real", np.asarray(real)), ("generated", np.asarray(generated))):
        if images.ndim != 3 or len(images) < 2 or min(images.shape[1:]) < 4 or images.dtype.kind not in "uif":
            raise DataError(f"{name} images {images.shape} {images.dtype}: at least 2 of one channel, (n, h, w), 4 x 4 pixels, are needed.")
        if not np.isfinite(images).all():
            raise DataError(f"{name} images: {int((~np.isfinite(images)).sum())} values are NaN or infinite.")
    real, generated = np.asarray(real, np.float64), np.asarray(generated, np.float64)
    if real.shape[1:] != generated.shape[1:]:
        raise DataError(f"images of {real.shape[1:]} and {generated.shape[1:]} pixels: resize one set to the other's size first.")
    if not np.ptp(real, axis=(1, 2)).any():
        raise DataError("the real images are flat: there is no surface to compare with.")
    return real, generated


def _height_shares(real: np.ndarray, generated: np.ndarray) -> tuple[list[np.ndarray], float]:
    """Returns (both sets' shares of pixels per height class (n, NUM_CLASSES), the width of a class)."""
    heights = [images - images.mean(axis=(1, 2), keepdims=True) for images in (real, generated)]
    low, high = min(one.min() for one in heights), max(one.max() for one in heights)
    edges = np.linspace(low - 1e-6 * (high - low), high + 1e-6 * (high - low), NUM_CLASSES + 1)
    return [surface.height_distribution(images, edges) for images in (real, generated)], float(edges[1] - edges[0])


def _distances(first, second, picks: np.ndarray, other_picks: np.ndarray, width: float) -> np.ndarray:
    """Returns the distances (11) between the picked images of two sets of (values, shares of heights, power spectra)."""
    (values, shares, powers), (others, other_shares, other_powers) = first, second
    difference = shares[picks].mean(0) - other_shares[other_picks].mean(0)
    heights = float(np.abs(np.cumsum(difference)).sum() * width)
    return np.array(
        [
            *wasserstein(values[picks], others[other_picks]),
            heights,
            surface.log_distance(powers[picks].mean(0), other_powers[other_picks].mean(0)),
        ]
    )


def _summary(found: np.ndarray, drawn: np.ndarray, floors: np.ndarray, means: list, level: float, nm_per_pixel: float | None) -> dict:
    """Returns `quantities` and the scores of `card` from distances (11), resampled ones (repeats, 11) and floors (repeats, 11)."""
    length, area = ("px", "1/Mpx") if nm_per_pixel is None else ("nm", "1/um2")
    units = ("z", "z", "", "", length, length, "", area, length, "z", "log10")
    floor = floors.mean(0)
    ranked = floor > 1e-12 * np.maximum(floors.max(0), found)
    quantities = {}
    for index, name in enumerate((*PER_IMAGE, "heights", "psd")):
        low, high = _interval(found[index], drawn[:, index], level)
        row = {"distance": float(found[index]), "low": low, "high": high, "floor": float(floor[index])}
        row["floor_high"] = float(np.quantile(floors[:, index], level))
        row["ratio"] = float(found[index] / floor[index]) if ranked[index] else None
        row |= {
            side: one[index] if one[index] is None else float(one[index]) for side, one in zip(("real", "generated"), means, strict=True)
        }
        quantities[name] = row | {"unit": units[index]}
    score, scores, floor_scores = (np.mean(one[..., ranked] / floor[ranked], axis=-1) for one in (found, drawn, floors))
    low, high = _interval(float(score), scores, level)
    return {
        "quantities": quantities,
        "score": float(score),
        "score_low": low,
        "score_high": high,
        "score_floor_high": float(np.quantile(floor_scores, level)),
        "num_quantities": int(ranked.sum()),
    }


def _p_value(found: np.ndarray, divided: np.ndarray) -> float:
    """Returns the permutation p-value of distances (11) among those of other divisions (repeats, 11) of the same images."""
    everything = np.vstack([found, divided])
    scale = everything.mean(0)
    scores = (everything[:, scale > 0] / scale[scale > 0]).mean(1)
    return float(np.mean(scores >= scores[0] * (1 - 1e-12)))


def _interval(value: float, drawn: np.ndarray, level: float) -> tuple[float, float]:
    """Returns the basic bootstrap interval of a distance, not below 0."""
    quantiles = np.quantile(drawn, [(1 + level) / 2, (1 - level) / 2])
    return tuple(float(max(2 * value - quantile, 0.0)) for quantile in quantiles)
