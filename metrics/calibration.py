"""Whether probabilities of classes mean what they say: negative log-likelihood, calibration error, temperature scaling."""

from typing import NamedTuple

import numpy as np
import scipy.special

from microscopy.scan import DataError

TEMPERATURES = (0.05, 20.0)
NUM_BINS = 10


def log_probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Returns the logarithms of softmax(logits / temperature), float64 (n, num_classes)."""
    return scipy.special.log_softmax(np.asarray(logits, np.float64) / temperature, axis=1)


def nll(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:
    """Returns the mean negative log-likelihood, nats a sample, of `labels` (n) int under `logits` (n, num_classes)."""
    logits, labels = _checked(logits, labels)
    return float(-log_probabilities(logits, temperature)[np.arange(len(labels)), labels].mean())


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the temperature within `TEMPERATURES` of the lowest `nll` (Guo et al. 2017, arXiv:1706.04599, section 4.2).

    The likelihood is convex in 1 / temperature: its slope, the mean logit expected less that of the true class, is bisected. 1 where
    every sample is right, for the likelihood then has no lowest point and says nothing of how sure to be.
    """
    logits, labels = _checked(logits, labels)
    own = logits[np.arange(len(labels)), labels]
    if (own >= logits.max(1)).all():
        return 1.0

    def slope(inverse):
        return float(((scipy.special.softmax(logits * inverse, axis=1) * logits).sum(1) - own).mean())

    low, high = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    for _ in range(100):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return float(1 / (low * high) ** 0.5)


class Reliability(NamedTuple):
    """Samples by confidence, in `NUM_BINS` bins of equal width: `counts` int64, mean `confidence` and share `right`, NaN in empty ones."""

    counts: np.ndarray
    confidence: np.ndarray
    right: np.ndarray


def reliability(probabilities: np.ndarray, labels: np.ndarray, num_bins: int = NUM_BINS) -> Reliability:
    """Returns how often the class of the highest probability is the true one, by that probability (its confidence).

    `probabilities` (n, num_classes), `labels` (n) int. Bin i holds confidences in (i / num_bins, (i + 1) / num_bins].
    """
    probabilities, labels = _checked(probabilities, labels)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    place = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    counts = np.bincount(place, minlength=num_bins)
    means = [np.bincount(place, values, num_bins) / np.where(counts, counts, np.nan) for values in (confidence, right)]
    return Reliability(counts, *means)


def expected_error(found: Reliability) -> float:
    """Returns the expected calibration error, 0..1: |share right - confidence| of the bins, weighted by their samples.

    Naeini et al. 2015 (AAAI 29); as in Guo et al. 2017, equation 3.
    """
    gaps = np.where(found.counts > 0, np.abs(found.right - found.confidence), 0.0)
    return float((gaps * found.counts).sum() / found.counts.sum())


def _checked(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels)
    if scores.ndim != 2 or not len(scores) or labels.shape != scores.shape[:1] or labels.dtype.kind not in "iu":
        raise DataError(f"scores {scores.shape} and labels {labels.shape} {labels.dtype}: (n, num_classes) and n whole numbers are needed.")
    if not 0 <= labels.min() <= labels.max() < scores.shape[1]:
        raise DataError(f"labels run from {labels.min()} to {labels.max()}: there are {scores.shape[1]} classes, from 0 on.")
    return scores, labels
