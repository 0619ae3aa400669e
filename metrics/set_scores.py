"""Scores of a generated set against a real one, each with N, protocol, interval, and what real against real gets."""

from typing import NamedTuple

import numpy as np

from metrics import fid, fid_infinity, inception, inception_score, intervals, kid, neighbours, surface_card, weights
from metrics.image_sets import ImageSet
from microscopy import flaws, normalisation, pictures
from microscopy.scan import DataError, Scan

FLOOR_DRAWS = 20


class Options(NamedTuple):
    """Inception layer, weights (a file, or auto), resize to 299, nm per pixel of both sets (None: what the files say), seed."""

    features: str = "2048"
    weights: str = "auto"
    resize: str = "tf1"
    nm_per_pixel: float | None = None
    seed: int = 0


def score(names: tuple[str, ...], real: ImageSet, generated: ImageSet, options: Options) -> dict[str, dict]:
    """Returns name -> `value`, `n_real`, `n_generated`, `interval` and what else belongs to that score, as plain JSON values.

    fid: also `infinity` and its interval, `floor` (mean of real halves against each other, at half the real N), `rank`. kid: mean
    and `std` over subsets, `whole`, its interval, `p_value`. is: of the generated images' logits. prdc: k = 3 and 5. surface: the card.
    Images that are not 8 bit are mapped to 0..255 by the real set's 0.1 and 99.9 percentiles for Inception. Raises DataError.
    """
    found = {}
    if set(names) & {"fid", "kid", "prdc", "is"}:
        layers, facts = _features(names, real, generated, options)
        first, second = layers.get("features", (None, None))
        if "fid" in names:
            found["fid"] = facts | _fid(first, second, options.seed)
        if "kid" in names:
            found["kid"] = facts | _kid(first, second, options.seed)
        if "prdc" in names:
            precision, recall = neighbours.precision_recall(first, second)
            density, coverage = neighbours.density_coverage(first, second)
            found["prdc"] = facts | {"precision": precision, "recall": recall, "density": density, "coverage": coverage}
            found["prdc"] |= {"value": precision, "k": {"precision_recall": 3, "density_coverage": 5}}
        if "is" in names:
            splits = min(10, len(layers["logits"]) // 2)
            result = inception_score.inception_score(layers["logits"], splits=splits)
            found["is"] = facts | {"features": "logits", "value": result.mean, "std": result.std, "splits": splits}
    if "surface" in names:
        found["surface"] = _surface(real, generated, options)
    return {name: found[name] for name in names}


def lines(name: str, found: dict) -> list[str]:
    """Returns the printed lines of one score: value, interval, N, protocol."""
    who = f"{found['n_generated']} generated against {found['n_real']} real"
    if name == "surface":
        head = f"surface card: {found['value']:.4g} (1 is about real against real), p {found['p_value']:.3g}; {who}"
        rows = (f"  {key:24} {row['distance']:.4g} {row['unit']}, floor {row['floor']:.4g}" for key, row in found["quantities"].items())
        return [head, *rows]
    protocol = f"{found['features']}-d, resize {found['resize']}; {who}"
    if name == "fid":
        calibrated = "" if found["interval_calibrated"] else ", not calibrated at this N and width"
        low, high = found["interval"]
        floor = "" if found["floor"] is None else f"; real against real at N = {found['floor_n']}: {found['floor']:.4g}"
        extra = f"at infinite N {found['infinity']:.4g} ({low:.4g} .. {high:.4g}{calibrated}){floor}; rank {found['rank']}"
        return [f"fid {found['value']:.6g}: {protocol}", f"  {extra}"]
    if name == "kid":
        low, high = found["interval"]
        head = f"kid {found['value']:.6g} +- {found['std']:.3g} (subsets of {found['subset_size']}): {protocol}"
        calibrated = "" if found["interval_calibrated"] else ", not calibrated at this N and width"
        return [head, f"  whole sets {found['whole']:.6g} ({low:.4g} .. {high:.4g}{calibrated}); permutation p {found['p_value']:.3g}"]
    if name == "is":
        return [f"is {found['value']:.6g} +- {found['std']:.3g} ({found['splits']} splits): generated images, {protocol}"]
    words = ", ".join(f"{key} {found[key]:.4g}" for key in ("precision", "recall", "density", "coverage"))
    return [f"prdc: {words}: {protocol}"]


def _fid(real: np.ndarray, generated: np.ndarray, seed: int) -> dict:
    far = fid_infinity.frechet_infinity(real, generated, seed) if min(len(real), len(generated)) >= 4 else None
    num = len(real) // 2
    floor = intervals.floor(fid.frechet_distance, real, num, FLOOR_DRAWS if num < 500 else 2, seed).mean if num >= 2 else None
    found = {"value": fid.frechet_distance(real, generated), "floor": floor, "floor_n": num}
    found["rank"] = min(len(real) - 1, len(generated) - 1, real.shape[1])
    if far is None:
        raise DataError(f"fid: {len(real)} real and {len(generated)} generated images; 4 of each are needed for its interval.")
    return found | {"infinity": far.value, "interval": [far.low, far.high], "interval_calibrated": far.calibrated}


def _kid(real: np.ndarray, generated: np.ndarray, seed: int) -> dict:
    subsets, whole = kid.kernel_distance_subsets(real, generated, seed=seed), kid.kernel_distance_interval(real, generated)
    test = kid.permutation_test(real, generated, num=999, seed=seed)
    found = {"value": subsets.mean, "std": subsets.std, "subset_size": subsets.size, "num_subsets": subsets.num, "whole": whole.value}
    return found | {"interval": [whole.low, whole.high], "interval_calibrated": whole.calibrated, "p_value": test.p_value}


def _surface(real: ImageSet, generated: ImageSet, options: Options) -> dict:
    stacks = []
    for each in (real, generated):
        if not each.scans:
            raise DataError(f"{each.place}: holds features; the surface card needs images.")
        images = [flaws.luma(scan.pixels) if scan.pixels.ndim == 3 else scan.pixels for scan in each.scans]
        sizes = {image.shape for image in images}
        if len(sizes) > 1:
            shown = " and ".join(f"{w} x {h}" for h, w in sorted(sizes)[:2])
            raise DataError(f"{each.place}: images of {shown} px; the surface card needs one size.")
        stacks.append(np.stack(images).astype(np.float64))
    scales = [scan.nm_per_pixel[1] for each in (real, generated) for scan in each.scans if scan.nm_per_pixel]
    if scales and options.nm_per_pixel is None and max(scales) > 1.001 * min(scales):
        raise DataError(f"the images have {min(scales):.4g} to {max(scales):.4g} nm per pixel; the surface card needs one scale.")
    card = surface_card.card(*stacks, options.nm_per_pixel or (scales[0] if scales else None), seed=options.seed)
    return card | {"value": card["score"], "n_real": card["num_real"], "n_generated": card["num_generated"]}


def _features(names, real: ImageSet, generated: ImageSet, options: Options) -> tuple[dict, dict]:
    taps = tuple(dict.fromkeys([options.features] * bool(set(names) & {"fid", "kid", "prdc"}) + ["logits"] * ("is" in names)))
    facts = {"n_real": _count(real), "n_generated": _count(generated), "features": options.features, "resize": options.resize}
    if real.features is not None and generated.features is not None:
        if "is" in names:
            raise DataError("is: needs images; features in .npy files serve fid, kid and prdc.")
        return {"features": (real.features, generated.features)}, facts | {"features": str(real.features.shape[-1]), "resize": "as given"}
    if real.features is not None or generated.features is not None:
        raise DataError(f"{real.place} and {generated.place}: give two folders or two .npy files of features.")
    loaded = weights.load(options.weights)
    extract = inception.make_features(loaded, taps, how=options.resize)
    value_map = None if all(scan.pixels.dtype == np.uint8 for scan in real.scans) else normalisation.fit(real.scans)
    layers = [_of_scans(extract, each.scans, value_map, taps) for each in (real, generated)]
    found = {"features": tuple(layer[options.features] for layer in layers)} if options.features in taps else {}
    return found | ({"logits": layers[1]["logits"]} if "logits" in taps else {}), facts | {"weights_sha256": loaded.sha256}


def _count(each: ImageSet) -> int:
    return len(each.scans) if each.features is None else len(each.features)


def _of_scans(extract, scans: list[Scan], value_map, taps) -> dict[str, np.ndarray]:
    """Images of one size go through together; the order stays."""
    images = [_eight_bit(scan, value_map) for scan in scans]
    rows: dict[str, list] = {tap: [None] * len(images) for tap in taps}
    for shape in dict.fromkeys(image.shape for image in images):
        index = [i for i, image in enumerate(images) if image.shape == shape]
        for tap, values in extract(np.stack([images[i] for i in index])).items():
            for i, row in zip(index, values, strict=True):
                rows[tap][i] = row
    return {tap: np.stack(values) for tap, values in rows.items()}


def _eight_bit(scan: Scan, value_map) -> np.ndarray:
    if value_map is None and scan.pixels.dtype == np.uint8:
        return scan.pixels
    if value_map is None:
        raise DataError(f"{scan.file}: is {scan.pixels.dtype}, the real images are 8 bit; store both sets in one way.")
    if scan.unit != value_map.unit:
        raise DataError(f"{scan.file}: holds {scan.unit}, the real images {value_map.unit}; store both sets in one way.")
    return pictures.to_uint8(value_map.to_unit(scan.pixels))
