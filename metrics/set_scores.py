"""Scores of a generated set against a real one, each with N, protocol, interval, and what real against real gets."""

import sys

import numpy as np

from metrics import fid, fid_infinity, inception_score, intervals, kid, neighbours, surface, surface_card
from metrics.image_sets import ImageSet
from metrics.intervals import Interval
from metrics.set_features import Measured, Options
from metrics.statistics import covariance_rank
from microscopy import flaws, spectra
from microscopy.scan import DataError

NAMES = ("fid", "kid", "is", "prdc", "mifid", "surface")
FLOOR_DRAWS, FEW_FLOOR_DRAWS = 20, 4
RELABELLINGS, FEW_RELABELLINGS, MANY_ROWS = 199, 19, 500
"""Draws of the FID's floor and relabellings of its permutation test; fewer where a set has MANY_ROWS rows."""
RANK_VALUES = 2_000_000
"""Up to so many values a set the rank is computed; beyond, its bound min(N - 1, d) is stated."""
MIFID_THRESHOLD = 0.1
SIGNIFICANT = 0.05
_LONG_CARD = 4_000_000  # pixels in both sets


def score(names: tuple[str, ...], real: Measured, generated: Measured, facts: dict, options: Options) -> dict[str, dict]:
    """Returns name -> `value`, `n_real`, `n_generated`, `interval` where there is one, `protocol` and what else belongs to it, as JSON.

    fid: `infinity` and its interval, `floor` (mean of real against real at `floor_n` images a side), `p_value`, `rank`. kid: mean and
    `std` over subsets, `whole`, its interval, `p_value`. is: of the generated images' logits. prdc: k = 3 and 5. mifid:
    `memorisation_distance`. surface: the card. `differs` of fid, kid and surface: whether the set can be told from real ones, p <= 0.05.
    With `options.draws` fid, kid and is have `draws`: mean and std over draws of so many images.
    """
    both = (real.layers.get("features"), generated.layers.get("features"))
    numbers = {"n_real": len(real.images), "n_generated": len(generated.images)}
    shared = numbers | facts
    if both[0] is not None:
        shared |= _rank(*both)
    found = {}
    for name in names:
        if name == "surface":
            found[name] = numbers | _surface(real.images, generated.images, options)
        elif name == "is":
            found[name] = numbers | facts | {"features": "logits"} | _inception_score(generated.layers["logits"], options)
        else:
            found[name] = shared | _OF_FEATURES[name](*both, options)
    return found


def _rank(real: np.ndarray, generated: np.ndarray) -> dict:
    if max(real.size, generated.size) > RANK_VALUES:
        return {"rank": min(len(real) - 1, len(generated) - 1, real.shape[1]), "rank_is_bound": True}
    return {"rank": min(covariance_rank(real), covariance_rank(generated)), "rank_is_bound": False}


def _fid(real: np.ndarray, generated: np.ndarray, options: Options) -> dict:
    far = fid_infinity.frechet_infinity(real, generated, options.seed)
    num, many = min(len(real) // 2, len(generated)), max(len(real), len(generated)) >= MANY_ROWS
    floor = intervals.floor(fid.frechet_distance, real, num, FEW_FLOOR_DRAWS if many else FLOOR_DRAWS, options.seed)
    found = {"value": fid.frechet_distance(real, generated), "floor": floor.mean, "floor_n": num}
    relabellings = FEW_RELABELLINGS if many else RELABELLINGS
    p_value = intervals.permutation_p(fid.frechet_distance, real, generated, relabellings, options.seed)
    found |= {"p_value": p_value, "relabellings": relabellings, "differs": p_value <= SIGNIFICANT}
    found |= {"infinity": far.value, "interval": [far.low, far.high], "interval_calibrated": far.calibrated}
    found["protocol"] = "Frechet distance, covariance by N - 1; interval: at infinite N, by a line in 1/N"
    return found | _draws(fid.frechet_distance, real, generated, options)


def _kid(real: np.ndarray, generated: np.ndarray, options: Options) -> dict:
    subsets, whole = kid.kernel_distance_subsets(real, generated, seed=options.seed), kid.kernel_distance_interval(real, generated)
    test = kid.permutation_test(real, generated, num=999, seed=options.seed)
    found = {"value": subsets.mean, "std": subsets.std, "subset_size": subsets.size, "num_subsets": subsets.num, "whole": whole.value}
    found |= {"interval": [whole.low, whole.high], "interval_calibrated": whole.calibrated, "p_value": test.p_value}
    found |= {"floor": 0.0, "differs": test.p_value <= SIGNIFICANT}
    found["protocol"] = f"unbiased, cubic kernel, mean of {subsets.num} subsets of {subsets.size}; interval: whole sets"
    return found | _draws(kid.kernel_distance, real, generated, options)


def _prdc(real: np.ndarray, generated: np.ndarray, options: Options) -> dict:
    of = neighbours.manifold(real, generated)
    found = {"value": of.precision, "k": {"precision_recall": 3, "density_coverage": 5}, "protocol": "k = 3; density and coverage k = 5"}
    return found | of._asdict()


def _mifid(real: np.ndarray, generated: np.ndarray, options: Options) -> dict:
    distance = neighbours.memorisation_distance(real, generated)
    found = {"value": neighbours.mifid(real, generated, MIFID_THRESHOLD), "memorisation_distance": distance, "threshold": MIFID_THRESHOLD}
    return found | {"protocol": "FID over the memorisation distance (1 from 0.1 on) of real to nearest generated"}


_OF_FEATURES = {"fid": _fid, "kid": _kid, "prdc": _prdc, "mifid": _mifid}


def _inception_score(logits: np.ndarray, options: Options) -> dict:
    splits = min(10, len(logits) // 2)
    of = inception_score.inception_score(logits, splits=splits)
    found = {"value": of.mean, "std": of.std, "splits": splits, "protocol": f"{splits} consecutive splits of the generated images"}
    return found | _draws(lambda _, rows: inception_score.inception_score(rows, splits=1).mean, logits, logits, options)


def _draws(of, real: np.ndarray, generated: np.ndarray, options: Options) -> dict:
    """Returns the protocol of CO-1144: mean and std of the score of `options.draws` images, drawn anew `options.repeats` times."""
    if not options.draws:
        return {}
    found = intervals.resampled(of, real, generated, options.draws, options.repeats, options.seed)
    return {"draws": {"num": found.num, "repeats": options.repeats, "mean": found.mean, "std": found.std}}


def _surface(real: ImageSet, generated: ImageSet, options: Options) -> dict:
    stacks = [surface_maps(each) for each in (real, generated)]
    scale = options.nm_per_pixel or common_scale([real, generated])
    if sum(stack.size for stack in stacks) > _LONG_CARD:
        height, width = stacks[0].shape[1:]
        number = f"{len(real)} and {len(generated)} maps of {width} x {height} px, 3 x {surface_card.REPEATS} resamplings"
        print(f"surface card of {generated.place}: {number} ...", file=sys.stderr, flush=True)
    card = surface_card.card(*stacks, scale, seed=options.seed)
    unit = "grey level" if real.scans[0].unit == "grey" else real.scans[0].unit
    rows = {name: row | {"unit": unit if row["unit"] == "z" else row["unit"]} for name, row in card["quantities"].items()}
    found = {"quantities": rows, "value": card["score"], "interval": [card["score_low"], card["score_high"]], "interval_calibrated": False}
    found |= {"floor": 1.0, "differs": card["p_value"] <= SIGNIFICANT, "psd_slope": _slopes(stacks, scale)}
    height, width = stacks[0].shape[1:]
    found["protocol"] = f"{card['num_quantities']} quantities over real against real; {width} x {height} px"
    return card | found


def _slopes(stacks: list[np.ndarray], scale: float | None) -> dict | None:
    """Returns the slopes of both mean spectra over the octaves between 3 periods a side and half of Nyquist, None for small maps."""
    spectra_of = [spectra.radial_psd(stack, scale) for stack in stacks]
    frequency = spectra_of[0][0]
    low, high = float(frequency[min(3, len(frequency) - 1)]), float(frequency[-1] / 2)
    try:
        slopes = [surface.spectral_slope(*each, low, high) for each in spectra_of]
    except DataError:
        return None
    return {"real": slopes[0], "generated": slopes[1], "low": low, "high": high, "unit": "1/px" if scale is None else "1/nm"}


def surface_maps(images: ImageSet) -> np.ndarray:
    """Returns the set as float64 (n, h, w), colours as their luma. Raises DataError for features and for images of several sizes."""
    if not images.scans:
        raise DataError(f"{images.place}: holds features; the surface card needs images.")
    maps = [flaws.luma(scan.pixels) for scan in images.scans]
    sizes = {each.shape for each in maps}
    if len(sizes) > 1:
        shown = " and ".join(f"{w} x {h}" for h, w in sorted(sizes)[:2])
        raise DataError(f"{images.place}: images of {shown} px; the surface card needs one size: crop them, or leave surface out.")
    return np.stack(maps).astype(np.float64)


def common_scale(sets: list[ImageSet]) -> float | None:
    """Returns the nm per pixel (along x) of all images, None where none states one. Raises DataError where they differ or some lack it."""
    lacking = [scan for each in sets for scan in each.scans if not scan.nm_per_pixel]
    scales = [scan.nm_per_pixel[1] for each in sets for scan in each.scans if scan.nm_per_pixel]
    if scales and max(scales) > 1.001 * min(scales):
        raise DataError(f"the images have {min(scales):.4g} to {max(scales):.4g} nm per pixel; the surface card needs one scale.")
    if scales and lacking:
        raise DataError(f"{lacking[0].file}: states no nm per pixel, others do; give --nm_per_pixel for all, or one kind of files.")
    return scales[0] if scales else None


def verdicts(scores: dict[str, dict[str, dict]]) -> list[dict]:
    """Returns, for each score with an interval and each two of several generated sets, `score`, `first`, `second`, `better` and `verdict`.

    `scores`: set -> name -> as `score`. `better` is the set of the lower score, None where the
    intervals overlap (`intervals.cannot_rank`): then the verdict is "cannot rank these two". `calibrated` says whether simulations stand
    behind both intervals.
    """
    sets, found = list(scores), []
    for name in next(iter(scores.values())):
        rows = {each: _interval(scores[each][name]) for each in sets}
        pairs = [(first, second) for place, first in enumerate(sets) for second in sets[place + 1 :]]
        for first, second in pairs if all(rows.values()) else ():
            tied = intervals.cannot_rank(rows[first], rows[second])
            better = None if tied else min((first, second), key=lambda each: rows[each].low)
            verdict = {"score": name, "first": first, "second": second, "better": better}
            verdict["verdict"] = "cannot rank these two" if tied else f"{better} is better"
            found.append(verdict | {"calibrated": rows[first].calibrated and rows[second].calibrated})
    return found


def _interval(found: dict) -> Interval | None:
    if "interval" not in found:
        return None
    low, high = found["interval"]
    return Interval((low + high) / 2, low, high, found["interval_calibrated"], "")
