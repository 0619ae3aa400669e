"""Inception Score: how sure a classifier is of each image and how evenly its classes are spread (Salimans et al. 2016)."""

from typing import NamedTuple

import numpy as np
import scipy.special

from metrics.statistics import checked
from microscopy.scan import DataError


class Score(NamedTuple):
    """Mean and standard deviation (divided by the number of splits) of the score over the splits, and each split's own."""

    mean: float
    std: float
    splits: np.ndarray


def inception_score(outputs: np.ndarray, splits: int = 10, logits: bool = True, seed: int | None = None) -> Score:
    """Returns exp(mean over rows of KL(p(y|x) || p(y))), between 1 and the number of classes, over `splits` parts of the rows.

    Salimans et al. 2016, eq. 1 and their code: p(y) is the mean within a part, parts are consecutive and differ by one row at
    most. `outputs` (n, classes) are logits, or with logits=False probabilities that sum to 1 within 1e-3. A `seed` shuffles the
    rows first; None keeps their order. Raises DataError for fewer than 2 rows, 2 classes or 1 row a part, and for rows that are
    no probabilities.
    """
    outputs = checked(outputs, "logits" if logits else "probabilities")
    if outputs.shape[1] < 2:
        raise DataError(f"an Inception Score needs at least 2 classes, not {outputs.shape[1]}.")
    if not 1 <= splits <= len(outputs):
        raise DataError(f"{splits} splits of {len(outputs)} rows: take 1 to {len(outputs)}.")
    if seed is not None:
        outputs = np.random.default_rng(seed).permutation(outputs)
    logs = scipy.special.log_softmax(outputs, axis=1) if logits else _logs(outputs)
    scores = np.array([_score(part) for part in np.array_split(logs, splits)])
    return Score(float(scores.mean()), float(scores.std()), scores)


def _logs(probabilities: np.ndarray) -> np.ndarray:
    sums = probabilities.sum(axis=1)
    if probabilities.min() < 0 or np.abs(sums - 1).max() > 1e-3:
        raise DataError("probabilities: rows must be at least 0 and sum to 1; for the outputs before the softmax say logits=True.")
    with np.errstate(divide="ignore"):
        return np.log(probabilities / sums[:, None])


def _score(logs: np.ndarray) -> float:
    """Returns the score of one part from the logarithms of its probabilities; a class of probability 0 adds nothing."""
    probabilities = np.exp(logs)
    marginal = scipy.special.xlogy(probabilities.mean(axis=0), probabilities.mean(axis=0)).sum()
    return float(np.exp(scipy.special.xlogy(probabilities, probabilities).sum(axis=1).mean() - marginal))
