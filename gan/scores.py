"""How far generated images are from held-out crops: the surface card, and FID and KID where Inception weights are at hand."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from metrics import fid, fid_infinity, inception, intervals, kid, surface_card, weights
from microscopy.normalisation import ValueMap
from microscopy.pictures import to_uint8
from training.errors import ConfigError
from training.task import Score

FLOOR_DRAWS = 10


class Judge(NamedTuple):
    """Inception up to one layer: `extract(uint8 images) -> (n, d)`, the layer's width as text, and whose network it is, with SHA-256."""

    extract: Callable[[np.ndarray], np.ndarray]
    features: str
    network: str


def judge(settings) -> Judge | None:
    """Returns the Judge of `config.eval`, None where it has none: `weights` is none, or cached and the cache folder has no file.

    Other values of `weights`: a file, or auto, which downloads the public one once. Raises ConfigError for an unknown layer, DataError
    for weights that cannot be read or do not reach the layer.
    """
    if settings.features not in ("64", "192", "768", "2048"):
        raise ConfigError(f"config.eval.features={settings.features!r}: choose 2048, 768, 192 or 64.")
    if settings.weights == "none" or (settings.weights == "cached" and not weights.cached_file().is_file()):
        return None
    loaded = weights.load("auto" if settings.weights == "cached" else settings.weights)
    run = inception.make_features(loaded, (settings.features,))
    return Judge(lambda images: run(images)[settings.features], settings.features, f"{loaded.network} {loaded.sha256[:8]}")


def without(config):
    """Returns the config with no Inception weights asked for, for what draws images and scores none."""
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.eval.weights = "none"
    return config


def score(images: np.ndarray, real: np.ndarray, value_map: ValueMap, inception_judge: Judge | None):
    """Returns (scalars, tables, protocol, Score) of generated images against real crops, both (n, h, w, c) in [-1, 1].

    The Score that ranks checkpoints, lower is better, is the KID of the whole sets, without a judge the surface card's. Both sets have at
    least 4 images. The card is of heights in nm where the scans have them.
    """
    scalars, tables, notes = _card(images, real, value_map)
    if inception_judge is None:
        best = Score("surface/card", scalars["surface/card"], f"{notes}, {len(images)} against {len(real)}")
        return scalars, tables, f"{notes}; no Inception weights, so no FID or KID", best
    features = [inception_judge.extract(to_uint8(one)) for one in (real, images)]
    scalars |= feature_scores(*features)
    width, names = inception_judge.features, ("fid", "kid")
    rows = [{"score": f"{name}-{width}", "n": len(images), "n_real": len(real), **_row(name, scalars)} for name in names]
    tables = {"FID and KID (whole sets) against held-out crops, with 95 % intervals": rows, **tables}
    protocol = f"{width}-d Inception {inception_judge.network}, {len(images)} against {len(real)}"
    return scalars, tables, f"{notes}; FID and KID {protocol}", Score("inception/kid", scalars["inception/kid"], protocol)


def feature_scores(real: np.ndarray, generated: np.ndarray) -> dict[str, float]:
    """Returns `inception/fid` and `inception/kid` of features (n, d) and (m, d), with `_low` and `_high`, `_floor` and the `kid_p`.

    The floor is the mean score of real halves against each other, so at half the N; the FID's interval is that of its value at
    infinite N, which is `fid_infinity`; `kid_p` is the permutation test's.
    """
    far, whole = fid_infinity.frechet_infinity(real, generated, 0), kid.kernel_distance_interval(real, generated)
    half = len(real) // 2
    floors = {name: intervals.floor(of, real, half, FLOOR_DRAWS, 0).mean for name, of in _DISTANCES.items()}
    found = {"fid": fid.frechet_distance(real, generated), "fid_floor": floors["fid"], "fid_infinity": far.value}
    found |= {"fid_low": far.low, "fid_high": far.high, "kid": whole.value, "kid_low": whole.low, "kid_high": whole.high}
    found |= {"kid_floor": floors["kid"], "kid_p": kid.permutation_test(real, generated, 999, 0).p_value}
    return {f"inception/{name}": float(value) for name, value in found.items()}


_DISTANCES = {"fid": fid.frechet_distance, "kid": kid.kernel_distance}


def _row(name: str, scalars: Mapping[str, float]) -> dict[str, float]:
    return {part or "value": scalars[f"inception/{name}{'_' if part else ''}{part}"] for part in ("", "low", "high", "floor")}


def _card(images: np.ndarray, real: np.ndarray, value_map: ValueMap) -> tuple[dict[str, float], dict[str, list[dict[str, Any]]], str]:
    heights = value_map.unit == "nm"
    sets = [np.mean(value_map.from_unit(one) if heights else one, axis=-1) for one in (real, images)]
    nm = value_map.nm_per_pixel[1] if value_map.nm_per_pixel else None
    card = surface_card.card(*sets, nm)
    names = {"score": "card", "score_low": "card_low", "score_high": "card_high", "score_floor_high": "card_floor", "p_value": "card_p"}
    scalars = {f"surface/{new}": float(card[old]) for old, new in names.items()}
    words = ("real", "generated", "distance", "low", "high", "floor")
    unit = "nm" if heights else "of 2, from -1 to 1"
    rows = [
        {"quantity": name, "unit": unit if row["unit"] == "z" else row["unit"], **{word: row[word] for word in words}}
        for name, row in card["quantities"].items()
    ]
    return scalars, {"Surface card (distances between the sets, 95 % intervals, floor of real against real)": rows}, "surface card"
