"""How well masks and instance maps agree: counts first, every score from them; scores of partitions as in the ISBI 2012 challenge.

Counts of several images may be added before the score (all pixels or objects count alike), or scores averaged (all images do).
"""

import math

import numpy as np
import scipy.ndimage
import skimage.measure
import skimage.segmentation

from microscopy.scan import DataError


def counts(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns int64 (4): true positive, false positive, false negative and true negative pixels.

    Masks of the same shape, any number of dimensions: bool, or numbers of which those above 0 are the foreground (0 and 1, 0 and
    255, or +-1 maps). Raises DataError for different shapes, an empty mask, NaN or another dtype.
    """
    first, second = _foreground(predicted, "predicted"), _foreground(truth, "truth")
    _same_shape(first, second)
    found = ((first & second), (first & ~second), (~first & second), (~first & ~second))
    return np.array([np.count_nonzero(one) for one in found], np.int64)


def iou(pixels: np.ndarray) -> float:
    """Returns intersection over union (Jaccard index), TP / (TP + FP + FN), from `counts`; 1 where neither mask has any foreground."""
    true_positive, false_positive, false_negative, _ = map(int, pixels)
    union = true_positive + false_positive + false_negative
    return true_positive / union if union else 1.0


def dice(pixels: np.ndarray) -> float:
    """Returns the Dice coefficient (F1), 2 TP / (2 TP + FP + FN), from `counts`; 1 where neither mask has any foreground."""
    true_positive, false_positive, false_negative, _ = map(int, pixels)
    total = 2 * true_positive + false_positive + false_negative
    return 2 * true_positive / total if total else 1.0


def percent(pixels: np.ndarray) -> float:
    """Returns the share of pixels labelled right (pixel accuracy), 0..100, from `counts`."""
    return 100 * int(pixels[0] + pixels[3]) / int(np.sum(pixels))


def module(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Returns the mean of |predicted - truth| over all pixels of two +-1 maps, 0..2.

    Maps of the same shape, within [-1, 1] (a tanh output need not be thresholded) or bool (False is -1). For binary maps this is
    2 (1 - percent / 100). Raises DataError for unsigned integers (0 and 1, 0 and 255) and values outside, which are no such maps.
    """
    return float(np.mean(np.abs(_difference(predicted, truth))))


def squaring(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Returns the mean of (predicted - truth)^2 over all pixels of two +-1 maps, 0..4; 4 (1 - percent / 100) for binary ones.

    Arguments and errors as for `module`.
    """
    return float(np.mean(_difference(predicted, truth) ** 2))


def segments(mask: np.ndarray) -> np.ndarray:
    """Returns an int32 map (h, w) of segments from 1 on, 0 where there is none: the 4-connected foreground of a mask, or an instance map.

    A bool mask is cut into 4-connected components, as the ISBI challenge does (8-connected ones would leak through oblique borders);
    a map of whole numbers from 0 on keeps its segments, renumbered without gaps. Raises DataError for anything else.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.size == 0 or mask.dtype.kind not in "biu" or mask.min() < 0:
        raise DataError(f"mask {mask.shape} {mask.dtype}: a bool mask (h, w), or an instance map of whole numbers from 0 on, is needed.")
    if mask.dtype == bool:
        return skimage.measure.label(mask, connectivity=1).astype(np.int32)
    return skimage.segmentation.relabel_sequential(mask)[0].astype(np.int32)


def thin_borders(labels: np.ndarray) -> np.ndarray:
    """Returns an int32 instance map (h, w) in which segments have grown over the background until lines one pixel wide are left.

    Watershed of the distance to the nearest segment, so that the line runs midway (`labels` as for `segments`). Background that
    lies within or beside a single segment is filled. Segments that touch stay as they are.
    """
    labels = segments(labels)
    if labels.max() == 0:
        return labels
    return skimage.segmentation.watershed(scipy.ndimage.distance_transform_edt(labels == 0), labels, watershed_line=True).astype(np.int32)


def contingency(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns int64 (segments of predicted + 1, of truth + 1): pixels per pair of labels, 0 the background; maps as for `segments`."""
    first, second = segments(predicted), segments(truth)
    _same_shape(first, second)
    shape = int(first.max()) + 1, int(second.max()) + 1
    return np.bincount(first.ravel().astype(np.int64) * shape[1] + second.ravel(), minlength=shape[0] * shape[1]).reshape(shape)


def partition_scores(predicted: np.ndarray, truth: np.ndarray, *, thin: bool = True) -> dict[str, float]:
    """Returns `v_rand`, `v_rand_split`, `v_rand_merge`, `v_info`, `v_info_split` and `v_info_merge`, each 0..1, higher is better.

    Arganda-Carreras et al., Front. Neuroanat. 9, 142, 2015, as in the ISBI 2012 challenge: with p_ij the share of the truth's foreground
    pixels in segment i of the prediction and j of the truth, s_i and t_j its sums, V_rand is sum p_ij^2 over t_j^2 (split: low where a
    true segment is cut up), over s_i^2 (merge) and over the mean of the two; V_info is the mutual information over the entropy
    of s (split), of t (merge) and the mean of the two. Foreground-restricted: the truth's background counts nowhere, and each
    pixel there that the prediction leaves as background is a segment by itself. `thin`: after `thin_borders` of both maps, so that the
    width of borders does not count. Maps as for `segments`, 2D; a stack's score is the mean over its slices. An entropy of 0 on both
    sides (one segment) scores 1, on one side 0 or 1 as the ratio tends to. All NaN where the truth has no foreground.
    """
    maps = [thin_borders(one) if thin else segments(one) for one in (predicted, truth)]
    table = contingency(*maps)[:, 1:].astype(np.float64)
    total = table.sum()
    if total == 0:
        return dict.fromkeys(("v_rand", "v_rand_split", "v_rand_merge", "v_info", "v_info_split", "v_info_merge"), math.nan)
    alone = table[0].sum() / total
    joint, own, true = table[1:] / total, table[1:].sum(1) / total, table.sum(0) / total
    together = (joint**2).sum() + alone / total
    scores = _ratios("v_rand", together, (true**2).sum(), (own**2).sum() + alone / total)
    # Each pixel alone has the share 1 / total in the table and in the prediction.
    entropies = [_entropy(true), _entropy(own) + alone * math.log(total)]
    mutual = max(sum(entropies) - _entropy(joint) - alone * math.log(total), 0.0)
    return scores | _ratios("v_info", mutual, entropies[1], entropies[0])


def object_counts(predicted: np.ndarray, truth: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Returns float64 (4): true positive, false positive and false negative objects, and the sum of the matched pairs' IoU.

    Two objects match where their IoU is above `threshold`, 0.5 at least, so that none can match twice (Kirillov et al., CVPR 2019).
    Instance maps or bool masks as for `segments`. Raises DataError for a lower threshold or maps that do not fit together.
    """
    if not 0.5 <= threshold < 1:
        raise DataError(f"threshold {threshold}: an IoU of 0.5 at least, below 1, is needed for matches to be unique.")
    table = contingency(predicted, truth)
    areas, true_areas = table.sum(1)[1:, None], table.sum(0)[None, 1:]
    overlap = table[1:, 1:] / (areas + true_areas - table[1:, 1:])
    matched = overlap[overlap > threshold]
    return np.array([matched.size, areas.size - matched.size, true_areas.size - matched.size, matched.sum()])


def precision(objects: np.ndarray) -> float:
    """Returns the share of predicted objects that match a true one, TP / (TP + FP), from `object_counts`; NaN without predicted ones."""
    return float(objects[0] / (objects[0] + objects[1])) if objects[0] + objects[1] else math.nan


def recall(objects: np.ndarray) -> float:
    """Returns the share of true objects that were found, TP / (TP + FN), from `object_counts`; NaN where there is none to find."""
    return float(objects[0] / (objects[0] + objects[2])) if objects[0] + objects[2] else math.nan


def average_precision(objects: np.ndarray) -> float:
    """Returns TP / (TP + FP + FN) from `object_counts`, which is AP50 with its threshold of 0.5; 1 where neither map has any object.

    This is the average precision of instance maps, which carry no confidences (2018 Data Science Bowl; Caicedo et al., Nature
    Methods 16, 1247, 2019), not the area under COCO's precision-recall curve.
    """
    total = objects[:3].sum()
    return float(objects[0] / total) if total else 1.0


def panoptic_quality(objects: np.ndarray) -> dict[str, float]:
    """Returns `pq` = `sq` x `rq` from `object_counts`: mean IoU of the matched pairs, and TP / (TP + FP / 2 + FN / 2).

    Kirillov et al., Panoptic Segmentation, CVPR 2019, for one class; for counts at a threshold of 0.5. Without a match `sq` is 0;
    where neither map has any object all three are 1.
    """
    matched, extra, missed, overlap = map(float, objects)
    if matched + extra + missed == 0:
        return {"pq": 1.0, "sq": 1.0, "rq": 1.0}
    recognition = matched / (matched + extra / 2 + missed / 2)
    quality = overlap / matched if matched else 0.0
    return {"pq": quality * recognition, "sq": quality, "rq": recognition}


def _foreground(mask, name: str) -> np.ndarray:
    """Returns the mask as bool, or raises DataError."""
    mask = np.asarray(mask)
    if mask.size == 0 or mask.dtype.kind not in "biuf":
        raise DataError(f"{name} {mask.shape} {mask.dtype}: a mask of bools or numbers is needed.")
    if np.isnan(mask).any():
        raise DataError(f"{name}: {int(np.isnan(mask).sum())} pixels are NaN.")
    return mask > 0


def _difference(predicted, truth) -> np.ndarray:
    """Returns predicted - truth of two +-1 maps in float64, or raises DataError."""
    maps = []
    for name, one in (("predicted", np.asarray(predicted)), ("truth", np.asarray(truth))):
        if one.size == 0 or one.dtype.kind not in "bif" or not (np.abs(one.astype(np.float64)) <= 1).all():
            raise DataError(f"{name} {one.shape} {one.dtype}: a map within -1..1, or a bool mask, is needed.")
        maps.append(np.where(one, 1.0, -1.0) if one.dtype == bool else one.astype(np.float64))
    _same_shape(*maps)
    return maps[0] - maps[1]


def _same_shape(predicted: np.ndarray, truth: np.ndarray) -> None:
    """Raises DataError where the shapes differ."""
    if predicted.shape != truth.shape:
        raise DataError(f"predicted {predicted.shape} and truth {truth.shape} must have the same shape.")


def _entropy(shares: np.ndarray) -> float:
    """Returns -sum p log p in nats, zeros left out."""
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())


def _ratios(name: str, above: float, split: float, merge: float) -> dict[str, float]:
    """Returns above / split, above / merge and above / their mean under the names of `partition_scores`; 0 / 0 is 1."""
    below = {name: (split + merge) / 2, f"{name}_split": split, f"{name}_merge": merge}
    return {key: min(float(above / value), 1.0) if value > 1e-12 else 1.0 for key, value in below.items()}
