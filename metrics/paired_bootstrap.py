"""Classifiers compared on the same samples: accuracy, macro-F1 and area under the ROC curve with intervals and paired differences.

Samples are drawn anew within each class, so that none is lost, and trainings (seeds) with them: the two sources of chance of a comparison
(Efron and Tibshirani 1993, chapter 6; Bouthillier et al. 2021, arXiv:2103.03098). All classifiers see the same draws.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from microscopy.scan import DataError

SCORES = ("accuracy", "macro_f1", "auc")
LEVEL = 0.95
Trainings = Mapping[int, np.ndarray] | Sequence[np.ndarray]


def draws(labels: np.ndarray, repeats: int, seed: int) -> np.ndarray:
    """Returns how often each sample (n) is in each draw, float64 (repeats, n): every class is drawn anew from itself with replacement."""
    labels, random = np.asarray(labels), np.random.default_rng(seed)
    weights = np.zeros((repeats, len(labels)))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        weights[:, members] = random.multinomial(len(members), np.full(len(members), 1 / len(members)), size=repeats)
    return weights


def weighted_scores(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Returns `accuracy`, `macro_f1` and `auc` (the mean over classes of one against the rest), each float64 (repeats), 0..1.

    `probabilities` (n, k), higher for the likelier class, `labels` (n) ints, `weights` (repeats, n): a sample of weight 2 counts as two.
    Classes without samples are left out of both means. DataError where the arrays do not fit together or one class alone has samples.
    """
    probabilities, labels, weights = _checked(probabilities, labels, weights)
    num = probabilities.shape[1]
    there = np.unique(labels)
    pairs = np.zeros((len(labels), num * num))
    pairs[np.arange(len(labels)), labels * num + probabilities.argmax(1)] = 1
    counts = (weights @ pairs).reshape(-1, num, num)
    right = np.einsum("rkk->rk", counts)
    f1 = 2 * right / np.maximum(counts.sum(1) + counts.sum(2), 1e-300)
    areas = [_areas(probabilities[:, label], labels == label, weights) for label in there]
    return {"accuracy": right.sum(1) / weights.sum(1), "macro_f1": f1[:, there].mean(1), "auc": np.mean(areas, axis=0)}


def _areas(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted share of pairs (positive, negative) in the right order, ties counting half."""
    difference = scores[positive][:, None] - scores[~positive][None]
    order = (difference > 0) + 0.5 * (difference == 0)
    high, low = weights[:, positive], weights[:, ~positive]
    return np.einsum("rp,rp->r", high, low @ order.T) / (high.sum(1) * low.sum(1))


def compare(found: Mapping[str, Trainings], labels: np.ndarray, baseline: str, repeats: int, seed: int) -> list[dict]:
    """Returns a row a classifier of `found`: `by`, `seeds`, and of each of `SCORES` its mean over the trainings with NAME_low and _high.

    `found[name]` are the probabilities (n, k) of each training of a classifier by its seed's number, or a list of those of the seeds 0,
    1 and so on; `labels` (n) ints. NAME_gain is the mean difference to `found[baseline]` of the same seed, over the `seeds_compared` that
    both have, with its interval and the two-sided NAME_p: twice the smaller share of draws on either side of 0, those on it counting to
    both, (1 + count) / (1 + repeats), 1 at most; no gain without such a seed. Intervals are of 95 %, percentiles of `repeats` draws of the
    samples and of the trainings, the same on both sides of a difference. `baseline` itself has no gain. DataError as `weighted_scores`.
    """
    weights = np.concatenate([np.ones((1, len(labels))), draws(labels, repeats, seed)])
    numbered = {name: several if isinstance(several, Mapping) else dict(enumerate(several)) for name, several in found.items()}
    random = np.random.default_rng([seed, 1])
    picked = random.random((repeats, max(map(len, numbered.values()))))
    scored = {name: {one: weighted_scores(told, labels, weights) for one, told in several.items()} for name, several in numbered.items()}
    rows = []
    for name, several in scored.items():
        row = {"by": name, "seeds": len(several)}
        shared = several.keys() & scored[baseline].keys() if baseline in scored and name != baseline else set()
        row |= {"seeds_compared": len(shared)} if baseline in scored and name != baseline else {}
        for score in SCORES:
            value = _drawn(several, several, score, picked)
            row |= {score: float(value[0])} | _ends(score, value[1:])
            each = [one[score][0] for one in several.values()]
            row[f"{score}_spread"] = float(np.std(each, ddof=1)) if len(each) > 1 else None
            if shared:
                row |= _gain(score, _drawn(several, shared, score, picked) - _drawn(scored[baseline], shared, score, picked))
        rows.append(row)
    return rows


def _drawn(scored: Mapping[int, Mapping[str, np.ndarray]], seeds: Iterable[int], score: str, picked: np.ndarray) -> np.ndarray:
    """The mean of a score over the trainings of these seeds, then that of every draw of samples and of these trainings, (1 + repeats)."""
    values = np.stack([scored[number][score] for number in sorted(seeds)])
    num = len(values)
    chosen = np.minimum((picked[:, :num] * num).astype(int), num - 1)
    return np.concatenate([[values[:, 0].mean()], values[chosen, 1 + np.arange(len(chosen))[:, None]].mean(1)])


def _ends(name: str, values: np.ndarray) -> dict[str, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {f"{name}_low": float(low), f"{name}_high": float(high)}


def _gain(score: str, difference: np.ndarray) -> dict[str, float]:
    sides = [1 + int((difference[1:] <= 0).sum()), 1 + int((difference[1:] >= 0).sum())]
    share = min(1.0, 2 * min(sides) / len(difference))
    return {f"{score}_gain": float(difference[0]), **_ends(f"{score}_gain", difference[1:]), f"{score}_p": share}


def _checked(probabilities, labels, weights) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    probabilities, labels, weights = (np.asarray(one) for one in (probabilities, labels, weights))
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or labels.dtype.kind not in "iu":
        raise DataError(
            f"probabilities {probabilities.shape} and labels {labels.shape} {labels.dtype}: (n, k) and n whole numbers are needed."
        )
    if weights.ndim != 2 or weights.shape[1] != len(labels):
        raise DataError(f"weights {weights.shape}: (repeats, {len(labels)}) are needed.")
    if len(np.unique(labels)) < 2 or not 0 <= labels.min() <= labels.max() < probabilities.shape[1]:
        raise DataError(f"labels {np.unique(labels).tolist()[:8]}: two or more of the {probabilities.shape[1]} classes are needed.")
    if not np.isfinite(probabilities).all():
        raise DataError("probabilities: they hold values that are not finite.")
    return probabilities.astype(np.float64), labels.astype(np.int64), weights.astype(np.float64)
