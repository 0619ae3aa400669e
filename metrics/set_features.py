"""Inception features of several image sets: by one map of values, with a bar, kept on disk between runs."""

import pathlib
import sys
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import tqdm

from metrics import feature_cache, image_sets, inception, weights
from metrics.image_sets import ImageSet
from metrics.inception_table import VARIANTS
from microscopy import normalisation, pictures
from microscopy.normalisation import ValueMap
from microscopy.scan import DataError, Scan

AT_A_TIME = 256
FEATURE_SCORES = ("fid", "kid", "prdc", "mifid")
FEWEST = {"fid": 4, "kid": 3, "is": 2, "prdc": 6, "mifid": 2, "surface": 2}
"""Images or rows a set must have: of fid for its interval, of prdc for a fifth neighbour."""


class Options(NamedTuple):
    """How sets are scored.

    Inception layer, weights (a file, or auto), resize to 299 (empty: the network's own), nm per pixel of all sets (None: what the files
    say), seed, folder of the feature cache (None: nothing is kept), and the draws of CO-1144: images a draw (0: none) and their number.
    """

    features: str = "2048"
    weights: str = "auto"
    resize: str = ""
    nm_per_pixel: float | None = None
    seed: int = 0
    cache: pathlib.Path | None = None
    draws: int = 0
    repeats: int = 20


class Measured(NamedTuple):
    """A set with its features by layer, `features` for the chosen one and `logits`; empty where no score needs them."""

    images: ImageSet
    layers: dict[str, np.ndarray]
    cached: bool = False


def measure(names: tuple[str, ...], sets: list[ImageSet], options: Options) -> tuple[list[Measured], dict]:
    """Returns (the sets, the real one first, with the features the scores `names` need; what of the protocol goes for all of them).

    Features in files are taken as they are. Images that are not 8 bit are mapped to 0..255 by the real set's 0.1 and 99.9 percentiles.
    Raises DataError for sets that do not fit together, and as `weights.load` and `inception.parameters`.
    """
    image_sets.check_alike(sets)
    for name in names:
        for each in sets:
            if len(each) < FEWEST[name]:
                what = f"{len(each)} image{'s' * (len(each) != 1)}" if each.features is None else f"{len(each)} rows"
                raise DataError(f"{each.place}: holds {what}; {name} needs {FEWEST[name]} at least.")
    taps = (options.features,) * bool(set(names) & set(FEATURE_SCORES)) + ("logits",) * ("is" in names)
    given = [each for each in sets if each.features is not None]
    if not taps or given:
        if taps and len(given) < len(sets):
            other = next(each for each in sets if each.features is None)
            raise DataError(f"{given[0].place} holds features, {other.place} images: give one kind for all sets.")
        if given and set(names) - set(FEATURE_SCORES):
            wrong = next(name for name in names if name not in FEATURE_SCORES)
            raise DataError(f"{wrong}: needs images; features serve {', '.join(FEATURE_SCORES)}.")
        layers = [{"features": each.features} if each.features is not None else {} for each in sets]
        facts = {"features": str(given[0].features.shape[1]), "resize": "as given"} if given else {}
        return [Measured(*pair) for pair in zip(sets, layers, strict=True)], facts
    loaded = weights.load(options.weights)
    value_map = value_map_of(sets[0].scans)
    how = options.resize or VARIANTS[loaded.network].resize
    extract = _make_extract(loaded, taps, value_map, how)
    mapped = None if value_map is None else [value_map.low, value_map.high, value_map.unit]
    made_by = {"weights": loaded.sha256, "network": loaded.network, "resize": how, "map": mapped, "platform": jax.default_backend()}
    measured = [_with_layers(each, taps, extract, made_by, options.cache) for each in sets]
    facts = {"features": options.features, "resize": how, "network": loaded.network, "weights_sha256": loaded.sha256}
    return measured, facts


def value_map_of(scans: list[Scan]) -> ValueMap | None:
    """Returns the map to 0..255 the real scans ask for: None for 8 bit, else that of their 0.1 and 99.9 percentiles."""
    return None if all(scan.pixels.dtype == np.uint8 for scan in scans) else normalisation.fit(scans)


def eight_bit(scan: Scan, value_map: ValueMap | None) -> np.ndarray:
    """Returns the scan's pixels as uint8: by the map, or as they are."""
    return scan.pixels if value_map is None else pictures.to_uint8(value_map.to_unit(scan.pixels))


def _with_layers(images: ImageSet, taps: tuple[str, ...], extract: Callable, made_by: dict, cache: pathlib.Path | None) -> Measured:
    keys = {tap: feature_cache.key(images.scans, made_by | {"tap": tap}) if cache else "" for tap in taps}
    layers = {tap: feature_cache.load(cache, name, len(images)) for tap, name in keys.items()}
    cached = all(layer is not None for layer in layers.values())
    if not cached:
        layers = extract(images)
        kept = [feature_cache.store(cache, keys[tap], layer) for tap, layer in layers.items()]
        if cache and not all(kept):
            print(f"{cache}: features cannot be kept there; they will be computed again.", file=sys.stderr)
    return Measured(images, {"logits" if tap == "logits" else "features": layer for tap, layer in layers.items()}, cached)


def _make_extract(loaded: weights.Weights, taps: tuple[str, ...], value_map: ValueMap | None, how: str) -> Callable[[ImageSet], dict]:
    """Returns a function of a set that returns {tap: float32 (n, d)}, with a bar."""
    run = inception.make_features(loaded, taps, how=how)

    def extract(images: ImageSet) -> dict[str, np.ndarray]:
        found = []
        # None: no bar where stderr is no terminal.
        with tqdm.tqdm(total=len(images), unit="image", desc=f"features of {pathlib.Path(images.place).name}", disable=None) as bar:
            for start in range(0, len(images), AT_A_TIME):
                part = [eight_bit(scan, value_map) for scan in images.scans[start : start + AT_A_TIME]]
                # Colour or not, whatever the neighbours are: the list may mix both, and sizes.
                found.append(run(part))
                bar.update(len(part))
        return {tap: np.concatenate([part[tap] for part in found]) for tap in taps}

    return extract
