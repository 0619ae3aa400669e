"""Draws of N, the floor and the verdict."""

import numpy as np
import pytest
import scipy.stats

from metrics import intervals
from metrics.intervals import Interval
from microscopy.scan import DataError


def mean_gap(a, b):
    return float(b.mean() - a.mean())


def test_draws_have_the_closed_form_std_of_sampling_without_replacement():
    source = np.random.default_rng(0)
    real, generated = source.normal(size=(400, 1)), 2 + source.normal(size=(300, 1))
    found = intervals.resampled(mean_gap, real, generated, 100, 2000, seed=1)
    variance = real.var(ddof=1) / 100 * (1 - 100 / 400) + generated.var(ddof=1) / 100 * (1 - 100 / 300)
    assert found.mean == pytest.approx(mean_gap(real, generated), abs=4 * np.sqrt(variance / 2000))
    assert found.std == pytest.approx(np.sqrt(variance), rel=0.06)
    assert found.num == 100 and len(found.scores) == 2000
    assert found.std == pytest.approx(np.std(found.scores, ddof=1))


def test_draws_are_seeded():
    rows = np.random.default_rng(0).normal(size=(50, 2))
    first, again, other = (intervals.resampled(mean_gap, rows, rows, 10, 5, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.scores, again.scores) and not np.array_equal(first.scores, other.scores)
    assert len(set(first.scores)) == 5


def test_the_floor_compares_rows_with_other_rows():
    real = np.arange(40)[:, None]

    def shared(a, b):
        assert len(a) == len(b) == 20 and len(np.unique(a)) == len(np.unique(b)) == 20
        return float(len(np.intersect1d(a, b)))

    found = intervals.floor(shared, real, 20, 5, seed=0)
    assert found.mean == 0 and found.num == 20


def test_cannot_rank():
    low, high, between = (Interval(value, value - 1, value + 1, True, "") for value in (1.0, 4.0, 2.5))
    assert not intervals.cannot_rank(low, high) and not intervals.cannot_rank(high, low)
    assert intervals.cannot_rank(low, between) and intervals.cannot_rank(between, high)
    assert intervals.cannot_rank(low, low)
    assert intervals.cannot_rank(low, Interval(9.0, float("nan"), 10.0, True, ""))
    assert intervals.cannot_rank(low, Interval(9.0, 8.0, float("inf"), True, ""))


def test_normal_interval():
    found = intervals.normal_interval(3.0, 4.0, True, "closed form")
    assert (found.low, found.high) == pytest.approx((3 - 2 * 1.959964, 3 + 2 * 1.959964)) and found.calibrated


@pytest.mark.parametrize(("num", "repeats", "words"), [(51, 5, "50 rows"), (1, 5, "at least 2"), (10, 1, "at least 2")])
def test_impossible_draws_are_refused(num, repeats, words):
    rows = np.zeros((50, 2))
    with pytest.raises(DataError, match=words):
        intervals.resampled(mean_gap, rows, rows, num, repeats, 0)
    with pytest.raises(DataError, match=words):
        intervals.floor(mean_gap, rows, num, repeats, 0)


def test_permutation_p_is_uniform_under_the_null_and_small_beside_it():
    source = np.random.default_rng(0)
    score = lambda first, second: float(np.abs(first.mean() - second.mean()))  # noqa: E731
    values = [intervals.permutation_p(score, *source.normal(size=(2, 15, 2)), 39, seed) for seed in range(400)]
    assert min(values) >= 1 / 40 and scipy.stats.kstest(np.array(values) - source.uniform(0, 1 / 40, 400), "uniform").pvalue > 0.01
    assert intervals.permutation_p(score, np.zeros((9, 2)), np.ones((9, 2)), 99, 0) <= 0.02
    assert intervals.permutation_p(score, np.zeros((9, 2)), np.zeros((9, 2)), 19, 0) == 1
    with pytest.raises(DataError, match="0 permutations"):
        intervals.permutation_p(score, np.zeros((9, 2)), np.zeros((9, 2)), 0, 0)
