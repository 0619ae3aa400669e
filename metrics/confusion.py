"""Right and wrong among classes: the confusion matrix and the scores taken from it."""

import math

import numpy as np

from metrics.intervals import NORMAL_95
from microscopy.scan import DataError


def matrix(truth: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns int64 (num_classes, num_classes): how many samples of the row's class were taken for the column's.

    `truth` and `predicted` (n) are ints in 0..num_classes - 1; DataError otherwise.
    """
    arrays = [np.asarray(one) for one in (truth, predicted)]
    if arrays[0].ndim != 1 or arrays[0].shape != arrays[1].shape or any(one.dtype.kind not in "iu" for one in arrays):
        raise DataError(f"truth {arrays[0].shape} and predicted {arrays[1].shape}: n whole numbers each are needed.")
    if any(one.size and not 0 <= one.min() <= one.max() < num_classes for one in arrays):
        raise DataError(f"classes beyond 0..{num_classes - 1}: there are {num_classes} of them.")
    counts = np.bincount(arrays[0].astype(np.int64) * num_classes + arrays[1], minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def accuracy(counts: np.ndarray) -> float:
    """Returns the share of samples on the diagonal of a confusion matrix, 0..1; NaN without samples."""
    return float(np.trace(counts) / counts.sum()) if counts.sum() else math.nan


def recalls(counts: np.ndarray) -> np.ndarray:
    """Returns the share of each class that was found, float64 (num_classes); NaN for a class without samples."""
    return _shares(np.diag(counts), counts.sum(1))


def precisions(counts: np.ndarray) -> np.ndarray:
    """Returns the share of what was taken for a class that is of it, float64 (num_classes); NaN where nothing was taken for it."""
    return _shares(np.diag(counts), counts.sum(0))


def f1_scores(counts: np.ndarray) -> np.ndarray:
    """Returns 2 TP / (2 TP + FP + FN) of each class, float64 (num_classes); NaN for a class that neither is there nor was found."""
    return _shares(2 * np.diag(counts), counts.sum(0) + counts.sum(1))


def balanced_accuracy(counts: np.ndarray) -> float:
    """Returns the mean recall over the classes that have samples, 0..1 (Brodersen et al. 2010, doi 10.1109/ICPR.2010.764)."""
    return _mean(recalls(counts)[counts.sum(1) > 0])


def macro_f1(counts: np.ndarray) -> float:
    """Returns the mean F1 score over the classes that have samples, 0..1."""
    return _mean(f1_scores(counts)[counts.sum(1) > 0])


def wilson(right: int, num: int, z: float = NORMAL_95) -> tuple[float, float]:
    """Returns (low, high) of the 95 % interval of a share `right` of `num` (Wilson, JASA 22, 209, 1927); 0 and 1 without samples."""
    if not num:
        return 0.0, 1.0
    share, spread = right / num, z * z / num
    middle = (share + spread / 2) / (1 + spread)
    reach = z * math.sqrt(share * (1 - share) / num + spread / (4 * num)) / (1 + spread)
    return (middle - reach if right else 0.0), (middle + reach if right < num else 1.0)


def _shares(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else math.nan
