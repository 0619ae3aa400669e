"""ROC curves and the area under them, with DeLong's interval and a bootstrap band; ties between scores are counted right."""

import math

import numpy as np
import scipy.special
import scipy.stats

from microscopy.scan import DataError

REPEATS = 1_000


def curve(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the ROC curve (false positive rate, true positive rate, threshold), float64 (k + 1) for k different scores.

    `scores` (n) are numbers, higher for the positive class, `positive` (n) bool. A sample counts as positive where its score is at
    least the threshold; thresholds fall from inf, where both rates are 0, to the lowest score, where both are 1. Equal scores pass
    together: one sloped step, so that the trapezoidal area is `auc`. Raises DataError where the arrays do not fit together, a score
    is NaN or a class has no sample.
    """
    scores, positive = _checked(scores, positive)
    thresholds, group = np.unique(-scores, return_inverse=True)
    found = [np.cumsum(np.bincount(group[chosen], minlength=len(thresholds))) for chosen in (~positive, positive)]
    rates = [np.concatenate([[0.0], counts / counts[-1]]) for counts in found]
    return rates[0], rates[1], np.concatenate([[np.inf], -thresholds])


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Returns the area under the ROC curve, 0..1: the share of pairs (positive, negative) in the right order, ties counting half.

    Arguments and errors as for `curve`; the Mann-Whitney statistic by midranks, O(n log n).
    """
    return float(_placements(*_checked(scores, positive))[0].mean())


def auc_interval(scores: np.ndarray, positive: np.ndarray, level: float = 0.95) -> dict[str, float]:
    """Returns `auc`, `standard_error`, and `low` and `high` of its interval at confidence `level`, within 0..1.

    DeLong, DeLong and Clarke-Pearson, Biometrics 44, 837, 1988: the variance is that of the placement values, over positives and
    over negatives, divided by their numbers and added. The interval is symmetric on the logit scale, so it stays within 0..1. At an
    area of exactly 0 or 1 the estimated variance is 0: `low` (or 1 - `high`) is then ((1 - level) / 2)^(1 / n), n the smaller class, the
    binomial bound on a share of which all n were right; wide for few samples. One sample in a class gives NaN as standard error and 0..1;
    all scores equal give 0..1 too.
    Arguments and errors as for `curve`.
    """
    if not 0 < level < 1:
        raise DataError(f"level {level}: a confidence between 0 and 1 is needed.")
    above, below = _placements(*_checked(scores, positive))
    area, fewest = float(above.mean()), min(len(above), len(below))
    if fewest < 2:
        return {"auc": area, "standard_error": math.nan, "low": 0.0, "high": 1.0}
    error = math.sqrt(above.var(ddof=1) / len(above) + below.var(ddof=1) / len(below))
    if area in (0.0, 1.0):
        bound = ((1 - level) / 2) ** (1 / fewest)
        low, high = (bound, 1.0) if area == 1 else (0.0, 1 - bound)
    elif error == 0:
        low, high = 0.0, 1.0
    else:
        reach = scipy.stats.norm.ppf((1 + level) / 2) * error / (area * (1 - area))
        low, high = (float(scipy.special.expit(scipy.special.logit(area) + side * reach)) for side in (-1, 1))
    return {"auc": area, "standard_error": error, "low": low, "high": high}


def band(
    scores: np.ndarray,
    positive: np.ndarray,
    false_positive_rates: np.ndarray,
    *,
    level: float = 0.95,
    repeats: int = REPEATS,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (low, high) true positive rates, float64 (m), of the ROC curve at given false positive rates (m) within 0..1.

    A vertical bootstrap band: positives and negatives are each drawn anew with replacement `repeats` times, and the band lies
    between the (1 -+ level)/2 quantiles of the curves' heights (Fawcett, Pattern Recognition Letters 27, 861, 2006; vertical
    averaging). It holds at each rate by itself, not for the whole curve at once. The same `seed` gives the same band.
    Errors as for `curve`.
    """
    scores, positive = _checked(scores, positive)
    rates = np.asarray(false_positive_rates, np.float64)
    if rates.ndim != 1 or not ((rates >= 0) & (rates <= 1)).all() or repeats < 1 or not 0 < level < 1:
        raise DataError("band: false positive rates (m) within 0..1, at least one repeat and a level between 0 and 1 are needed.")
    random, members = np.random.default_rng(seed), [np.flatnonzero(chosen) for chosen in (positive, ~positive)]
    heights = np.empty((repeats, len(rates)))
    for index in range(repeats):
        drawn = np.concatenate([random.choice(numbers, len(numbers)) for numbers in members])
        found = curve(scores[drawn], positive[drawn])
        heights[index] = height_at(found[0], found[1], rates)
    low, high = np.quantile(heights, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def height_at(false_positive_rate: np.ndarray, true_positive_rate: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Returns a curve's true positive rate, float64 (m), at `rates` (m): linear between its points, the top where it is upright."""
    last = np.append(np.diff(false_positive_rate) > 0, True)
    first = np.insert(np.diff(false_positive_rate) > 0, 0, True)
    left = np.searchsorted(false_positive_rate[last], rates, side="right") - 1
    right = np.minimum(left + 1, last.sum() - 1)
    start, stop = false_positive_rate[last][left], false_positive_rate[last][right]
    share = np.where(stop > start, (rates - start) / np.where(stop > start, stop - start, 1), 0)
    bottom, top = true_positive_rate[last][left], np.where(right > left, true_positive_rate[first][right], true_positive_rate[last][left])
    return bottom + share * (top - bottom)


def one_vs_rest(scores: np.ndarray, labels: np.ndarray, level: float = 0.95) -> list[dict]:
    """Returns per class, in order, `class`, `positives`, `negatives`, what `auc_interval` finds, and `curve` (see there).

    `scores` (n, num_classes) are probabilities or logits, `labels` (n) ints. A class that has no sample, or all of them, has an area
    of NaN, the interval 0..1 and no curve (None). Raises DataError where the arrays do not fit together.
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or labels.dtype.kind not in "iu" or scores.shape[1] < 2 or not labels.size:
        raise DataError(f"scores {scores.shape} and labels {labels.shape} {labels.dtype}: (n, num_classes) and n whole numbers are needed.")
    if not 0 <= labels.min() <= labels.max() < scores.shape[1]:
        raise DataError(f"labels run from {labels.min()} to {labels.max()}: {scores.shape[1]} columns of scores hold classes from 0 on.")
    rows = []
    for number in range(scores.shape[1]):
        positive = labels == number
        row = {"class": number, "positives": int(positive.sum()), "negatives": int((~positive).sum())}
        if positive.any() and not positive.all():
            row |= auc_interval(scores[:, number], positive, level) | {"curve": curve(scores[:, number], positive)}
        else:
            row |= {"auc": math.nan, "standard_error": math.nan, "low": 0.0, "high": 1.0, "curve": None}
        rows.append(row)
    return rows


def mean_auc(scores: np.ndarray, labels: np.ndarray, *, level: float = 0.95, repeats: int = REPEATS, seed: int = 0) -> dict[str, float]:
    """Returns `auc`, the mean of the classes' areas of one against the rest, and `low` and `high` of its bootstrap interval.

    Classes without a sample are left out of the mean; NaN and 0..1 where fewer than two have some. Each class is drawn anew with
    replacement `repeats` times, so that none is lost, and the interval lies between the (1 -+ level) / 2 quantiles; where every area is 1,
    and so that of every draw, `low` is `auc_interval`'s of the smallest class. Arguments and errors as for `one_vs_rest`; 0 repeats
    leave the interval at 0..1.
    """
    one_vs_rest(scores, labels, level)  # checks the arrays
    scores, labels = np.asarray(scores), np.asarray(labels)
    members = {number: np.flatnonzero(labels == number) for number in np.unique(labels)}
    if len(members) < 2:
        return {"auc": math.nan, "low": 0.0, "high": 1.0}

    def mean(chosen):
        return float(np.mean([auc(scores[chosen, number], labels[chosen] == number) for number in members]))

    random, drawn = np.random.default_rng(seed), []
    for _ in range(repeats):
        drawn.append(mean(np.concatenate([random.choice(numbers, len(numbers)) for numbers in members.values()])))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]) if drawn else (0.0, 1.0)
    area = mean(np.arange(len(labels)))
    if area == 1 and drawn:
        low = ((1 - level) / 2) ** (1 / min(len(numbers) for numbers in members.values()))
    return {"auc": area, "low": float(low), "high": float(high)}


def _checked(scores, positive) -> tuple[np.ndarray, np.ndarray]:
    """Returns (scores float64 (n), positive bool (n)), or raises DataError."""
    scores, positive = np.asarray(scores), np.asarray(positive)
    if scores.ndim != 1 or scores.shape != positive.shape or positive.dtype != bool or scores.dtype.kind not in "biuf":
        raise DataError(
            f"scores {scores.shape} {scores.dtype}, positive {positive.shape} {positive.dtype}: n numbers and n bools are needed."
        )
    scores = scores.astype(np.float64)
    if np.isnan(scores).any():
        raise DataError(f"scores: {int(np.isnan(scores).sum())} of {scores.size} are NaN.")
    if positive.all() or not positive.any():
        raise DataError(f"{int(positive.sum())} of {positive.size} samples are positive: a ROC curve needs both classes.")
    return scores, positive


def _placements(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns for each positive the share of negatives below it, and for each negative the share of positives above it; ties half.

    By midranks: Sun and Xu, IEEE Signal Processing Letters 21, 1389, 2014.
    """
    ranks = scipy.stats.rankdata(scores)
    high, low = scores[positive], scores[~positive]
    above = (ranks[positive] - scipy.stats.rankdata(high)) / len(low)
    return above, 1 - (ranks[~positive] - scipy.stats.rankdata(low)) / len(high)
