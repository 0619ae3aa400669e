"""How far generated images are from test scans, class by class, and whether they are copies of the training scans; measured once."""

import hashlib
import pathlib
from collections.abc import Mapping

import ml_collections
import numpy as np

from gan import copies, scores
from metrics import fid, kid
from microscopy.atomic import write_json
from microscopy.normalisation import ValueMap
from microscopy.preparation import Prepared
from microscopy.scan import Scan
from studies import image_sets
from studies.image_sets import Images
from training.workdir import read_object

FILE = "quality.json"
LEAST = 3
"""Images that a jackknife of the KID needs."""


def measured(config, workdir: pathlib.Path, real: Mapping[str, Images], classes: tuple[str, ...]) -> dict:
    """Returns {"distances", "distances_protocol", "copies", "copies_protocol"} of the generated and selected images in WORKDIR/images.

    Kept in WORKDIR/quality.json and taken from there where images, settings and Inception's weights are the same. {} where there are none.
    """
    sets = {name: image_sets.read(workdir / "images" / name, classes) for name in ("generated", "selected") if _some(workdir, name)}
    if not sets:
        return {}
    sums = {name: hashlib.sha256(one.pixels.tobytes() + one.labels.tobytes()).hexdigest() for name, one in (*sets.items(), *real.items())}
    judge = scores.judge(ml_collections.ConfigDict({"weights": config.weights, "features": config.features}))
    key = {"sums": sums, "weights": judge.network if judge else "none"}  # "cached" would not tell when they have come
    key |= {name: config[name] for name in ("features", "num_searched", "seed")}
    path = workdir / FILE
    if path.exists() and (known := read_object(path)).get("of") == key:
        return known["found"]
    found = distances(judge, sets, real, classes) | searched(config, sets, real, classes)
    write_json(path, {"of": key, "found": found})
    return found


def _some(workdir: pathlib.Path, name: str) -> bool:
    return any((workdir / "images" / name).glob("*/*.png"))


def distances(judge: scores.Judge | None, sets: Mapping[str, Images], real: Mapping[str, Images], classes: tuple[str, ...]) -> dict:
    """Returns {"distances": rows, "distances_protocol"}: FID and KID, with the KID's 95 % interval, to the test scans of a class.

    A row a class and set, the real training scans among them, which is what a perfect generator of so few would get. No row without
    weights; a row without figures where a side has fewer than three images.
    """
    if judge is None:
        return {"distances": [], "distances_protocol": "No Inception weights, so no FID or KID."}
    features = {name: judge.extract(one.pixels) for name, one in ({"training scans": real["real"], **sets, "test": real["test"]}).items()}
    labels = {name: one.labels for name, one in ({"training scans": real["real"], **sets, "test": real["test"]}).items()}
    rows = []
    for number, label in enumerate(classes):
        there = features["test"][labels["test"] == number]
        for name in ("training scans", *sets):
            made = features[name][labels[name] == number]
            row = {"class": label, "images": name, "n": len(made), "n_test": len(there)}
            if min(len(made), len(there)) >= LEAST:
                far = kid.kernel_distance_interval(there, made)
                row |= {"fid": float(fid.frechet_distance(there, made)), "kid": far.value, "kid_low": far.low, "kid_high": far.high}
            rows.append(row)
    text = f"FID and KID: {judge.features} features of Inception {judge.network}, to the test scans of the class; no figures to set beside "
    return {"distances": rows, "distances_protocol": f"{text}those of 2048 features, and FIDs of different n are not comparable."}


def searched(config, sets: Mapping[str, Images], real: Mapping[str, Images], classes: tuple[str, ...]) -> dict:
    """Returns {"copies": rows, "copies_protocol"}: a row a set, `gan.copies.copies` of `config.num_searched` of its images."""
    if not config.num_searched:
        return {"copies": [], "copies_protocol": "No images were searched for copies (config.num_searched=0)."}
    prepared = as_prepared(real, classes)
    rows, notes = [], ""
    for name, one in sets.items():
        chosen = np.random.default_rng(config.seed).permutation(len(one.labels))[: config.num_searched]
        pixels = one.pixels[chosen] if one.pixels.ndim == 4 else one.pixels[chosen][..., None]
        scalars, _, notes = copies.copies(prepared.value_map.to_unit(pixels), prepared)
        rows.append({"images": name, "n": len(chosen), **{key.partition("/")[2]: value for key, value in scalars.items()}})
    return {"copies": rows, "copies_protocol": f"{notes[:1].upper()}{notes[1:]}."}


def as_prepared(real: Mapping[str, Images], classes: tuple[str, ...]) -> Prepared:
    """Returns the training and test images as scans, whose values 0 and 255 are -1 and 1."""
    splits = {
        split: [Scan(file, picture, "", label=classes[label]) for picture, label, file in zip(*real[name], strict=True)]
        for split, name in (("train", "real"), ("held_out", "test"))
    }
    return Prepared(splits, ValueMap(0.0, 255.0, "grey", (0.0, 0.0), dtype="uint8"), real["real"].pixels.shape[1:3], [], {}, classes)
