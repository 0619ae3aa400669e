"""Intervals of scores, and what may be said with them: draws of N, the floor of real against real, "cannot rank these two"."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from microscopy.scan import DataError

NORMAL_95 = 1.959963984540054


class Interval(NamedTuple):
    """A value with the ends of its 95 % interval; `calibrated` only where simulations showed that it covers as often as it says."""

    value: float
    low: float
    high: float
    calibrated: bool
    method: str


def normal_interval(value: float, variance: float, calibrated: bool, method: str) -> Interval:
    """Returns value +- 1.96 standard errors."""
    half = NORMAL_95 * float(np.sqrt(variance))
    return Interval(float(value), float(value) - half, float(value) + half, calibrated, method)


def cannot_rank(first: Interval, second: Interval) -> bool:
    """Returns whether the intervals of two scores overlap, or an end is not finite: then neither is better as far as is known.

    Stricter than a test at 5 %: two equal standard errors must lie 2.8, not 2, of their joint ones apart in value.
    """
    ends = (first.low, first.high, second.low, second.high)
    return not np.isfinite(ends).all() or (first.low <= second.high and second.low <= first.high)


class Draws(NamedTuple):
    """Mean and standard deviation (over repeats, divided by repeats - 1) of a score of `num` rows a side, and the scores."""

    mean: float
    std: float
    num: int
    scores: np.ndarray


def resampled(
    score: Callable[[np.ndarray, np.ndarray], float], real: np.ndarray, generated: np.ndarray, num: int, repeats: int, seed: int
) -> Draws:
    """Returns mean and std of score(rows of `real`, rows of `generated`) over `repeats` draws of `num` rows of each.

    Each draw is without replacement and anew from the whole set, so that the std shrinks as `num` nears a set's size. Raises
    DataError when a set has fewer than `num` rows, and for less than 2 repeats or rows.
    """
    _check_draws(num, repeats)
    for name, rows in (("real", len(real)), ("generated", len(generated))):
        if rows < num:
            raise DataError(f"{name} features: {rows} rows, draws of {num} were asked for; take at most {rows} a draw.")
    source = np.random.default_rng(seed)
    pick = [[source.choice(len(rows), num, replace=False) for rows in (real, generated)] for _ in range(repeats)]
    return _draws([score(real[first], generated[second]) for first, second in pick], num)


def floor(score: Callable[[np.ndarray, np.ndarray], float], real: np.ndarray, num: int, repeats: int, seed: int) -> Draws:
    """Returns mean and std of the score of `num` real rows against `num` other real rows: what a perfect generator would get.

    Raises DataError when there are fewer than 2 * num rows, and for less than 2 repeats or rows.
    """
    _check_draws(num, repeats)
    if len(real) < 2 * num:
        raise DataError(f"real features: {len(real)} rows, {2 * num} are needed for {num} against {num}; take at most {len(real) // 2}.")
    source = np.random.default_rng(seed)
    pick = [np.split(source.choice(len(real), 2 * num, replace=False), 2) for _ in range(repeats)]
    return _draws([score(real[first], real[second]) for first, second in pick], num)


def permutation_p(score: Callable[[np.ndarray, np.ndarray], float], real: np.ndarray, generated: np.ndarray, num: int, seed: int) -> float:
    """Returns the share of `num` random relabellings of all rows whose score is at least the observed one, that one included.

    p = (1 + count) / (1 + num), exact under the null for any score of two sets (Phipson & Smyth 2010); never 0. Seeded. Raises
    DataError for num < 1.
    """
    if num < 1:
        raise DataError(f"{num} permutations: at least 1 is needed.")
    source, pooled = np.random.default_rng(seed), np.concatenate([real, generated])
    observed = score(real, generated)
    # Relabellings that give the same sets differ from the observed value by rounding, and count as equal.
    least, count = observed - 1e-9 * abs(observed), 1
    for _ in range(num):
        order = source.permutation(len(pooled))
        count += score(pooled[order[: len(real)]], pooled[order[len(real) :]]) >= least
    return count / (1 + num)


def _check_draws(num: int, repeats: int) -> None:
    if num < 2 or repeats < 2:
        raise DataError(f"{repeats} draws of {num} rows: at least 2 of at least 2 are needed.")


def _draws(scores: list[float], num: int) -> Draws:
    found = np.asarray(scores, np.float64)
    return Draws(float(found.mean()), float(found.std(ddof=1)), num, found)
