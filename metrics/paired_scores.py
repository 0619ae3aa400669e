"""Scores of pairs of images: fidelity (psnr, ssim) and masks (iou ... pq), averaged over pairs or over all pixels."""

import math

import numpy as np
from skimage import measure

from metrics import image, overlap
from microscopy.masks import as_ids, as_instances, is_binary
from microscopy.scan import DataError

NAMES = ("psnr", "ssim", "iou", "dice", "percent", "module", "squaring", "v_rand", "v_info", "ap50", "pq")
MOST_CLASSES, SCATTERED = 64, 16
"""A mask of more values numbers its instances, each of them in a few patches; in photographs every grey level lies in hundreds."""
_POOLED = {"iou": overlap.iou, "dice": overlap.dice, "percent": overlap.percent}


def score(names: tuple[str, ...], pairs: list[tuple[str, np.ndarray, np.ndarray]]) -> dict[str, dict]:
    """Returns name -> `value`, `std` over pairs, `n` pairs, `protocol`, of (stem, truth, other) as `image_sets.read_pairs` gives them.

    A value that is not finite is None, and `without` then says why: infinite, as the PSNR of equal images, or the pair that has none.

    psnr and ssim give `_y` and `_rgb`. iou, dice and percent are of the counts of all pixels of all pairs, their std over the
    pairs' own; ap50 and pq are of the objects of all pairs. A mask whose only value besides 0 is 1, 255 or 65535 is
    binary, its regions are the objects; other whole numbers are instances, all above 0 foreground. Raises DataError naming the
    pair, for a photograph in a mask's place too.
    """
    found: dict[str, list] = {}
    for stem, truth, other in pairs:
        try:
            for name in names:
                _one(name, truth, other, found)
        except DataError as error:
            raise DataError(f"{stem}: {error}") from None
    return {name: _summary(name, values, [stem for stem, *_ in pairs]) for name, values in found.items()}


def _one(name: str, truth: np.ndarray, other: np.ndarray, found: dict[str, list]) -> None:
    if name in ("psnr", "ssim"):
        for key, value in image.scores(other, truth).items():
            if key.startswith(name):
                found.setdefault(key, []).append(value)
        return
    first, second = _instances(other, "second"), _instances(truth, "first")
    if name in _POOLED:
        value = overlap.counts(first > 0, second > 0)
    elif name in ("module", "squaring"):
        value = getattr(overlap, name)(first > 0, second > 0)
    elif name in ("v_rand", "v_info"):
        value = overlap.partition_scores(_partition(other, first), _partition(truth, second))[name]
    else:
        value = overlap.object_counts(first, second)
    found.setdefault(name, []).append(value)


def _partition(mask: np.ndarray, instances: np.ndarray) -> np.ndarray:
    """What `overlap.segments` parts by the challenge's rule, over edges: a binary mask as it is; else the instances."""
    ids = as_ids(mask)
    return ids > 0 if is_binary(ids) else instances


def _instances(mask: np.ndarray, which: str) -> np.ndarray:
    ids = as_ids(mask)
    num_values = np.unique(ids).size
    if num_values > MOST_CLASSES:
        num_regions = measure.label(ids, background=-1, connectivity=1).max()
        if num_regions > SCATTERED * num_values:
            raise DataError(
                f"the {which} folder's holds {num_values} grey levels in {num_regions} patches, so it is a picture or a probability and no "
                "mask; give the folder of masks, or threshold it."
            )
    return as_instances(ids)


def _summary(name: str, values: list, stems: list[str]) -> dict:
    if name in _POOLED:
        single, pooled = [_POOLED[name](value) for value in values], _POOLED[name](sum(values))
    elif name in ("ap50", "pq"):
        of = overlap.average_precision if name == "ap50" else lambda objects: overlap.panoptic_quality(objects)["pq"]
        single, pooled = [of(value) for value in values], of(sum(values))
    else:
        single, pooled = values, float(np.mean(values))
    known = len(single) > 1 and np.isfinite(single).all()
    std = float(np.std(single, ddof=1)) if known else None
    found = {"value": pooled if math.isfinite(pooled) else None, "std": std, "n": len(values), "protocol": _PROTOCOLS[name]}
    if math.isfinite(pooled):
        return found
    lost = [stem for stem, value in zip(stems, single, strict=True) if math.isnan(value)]
    return found | {"without": "infinite" if math.isinf(pooled) else lost[0] if lost else "any pair"}


_PROTOCOLS = {
    "psnr_y": "dB, luma of Rec. 601 (grey as it is), 4 px cut, mean over pairs",
    "psnr_rgb": "dB, all channels, 4 px cut, mean over pairs",
    "ssim_y": "Gaussian window 11, sigma 1.5, luma, 4 px cut, mean over pairs",
    "ssim_rgb": "Gaussian window 11, sigma 1.5, mean of channels, 4 px cut, mean over pairs",
    "iou": "foreground pixels of all pairs together",
    "dice": "foreground pixels of all pairs together",
    "percent": "pixels of all pairs together",
    "module": "mean |difference| of +-1 maps",
    "squaring": "mean squared difference of +-1 maps",
    "v_rand": "foreground-restricted, borders thinned (ISBI 2012), mean over pairs",
    "v_info": "foreground-restricted, borders thinned (ISBI 2012), mean over pairs",
    "ap50": "TP / (TP + FP + FN) at IoU above 0.5, objects of all pairs together",
    "pq": "panoptic quality at IoU above 0.5, objects of all pairs together",
}
