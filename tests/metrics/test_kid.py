"""The kernel distance against double loops, closed forms of Gaussians and its own two ways; p-values uniform under the null."""

import numpy as np
import pytest
import scipy.stats

from metrics import kid
from microscopy.scan import DataError


def double_loop(real, generated):
    """The definition, pair by pair."""
    real, generated = real.astype(np.float64), generated.astype(np.float64)
    width, n, m = real.shape[1], len(real), len(generated)
    first = sum((real[i] @ real[j] / width + 1) ** 3 for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    second = sum((generated[i] @ generated[j] / width + 1) ** 3 for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return first + second - 2 * sum((x @ y / width + 1) ** 3 for x in real for y in generated) / (n * m)


def sets(n=30, m=20, width=5, seed=0, shift=0.3):
    source = np.random.default_rng(seed)
    return source.normal(size=(n, width)), shift + source.normal(size=(m, width))


@pytest.mark.parametrize("name", ["f64", "f192", "f768"])
def test_odd_against_even_rows_against_a_double_loop(real_data, name):
    with np.load(real_data / "fid-reference" / "features_wbc_001_064.npz") as stored:
        features = stored[name]
    assert kid.kernel_distance(features[::2], features[1::2]) == pytest.approx(double_loop(features[::2], features[1::2]), abs=1e-6)


def test_chunks_and_order_change_nothing(monkeypatch):
    real, generated = sets()
    expected = double_loop(real, generated)
    for chunk in (1, 7, 64):
        monkeypatch.setattr(kid, "CHUNK", chunk)
        assert kid.kernel_distance(real[::-1], generated) == pytest.approx(expected, rel=1e-10)
        assert kid.kernel_distance_interval(real, generated).value == pytest.approx(expected, rel=1e-10)


def third_moments(mean, variances):
    """E x_i x_j x_k of a Gaussian with independent components."""
    mixed = np.einsum("i,jk->ijk", mean, np.diag(variances))
    return np.einsum("i,j,k->ijk", mean, mean, mean) + mixed + mixed.transpose(1, 0, 2) + mixed.transpose(1, 2, 0)


def mean_kernel(first, second):
    """E (x.y/d + 1)^3 of independent Gaussians given as (mean, variances)."""
    width = len(first[0])
    seconds = [np.outer(mean, mean) + np.diag(variances) for mean, variances in (first, second)]
    cubes = np.sum(third_moments(*first) * third_moments(*second)) / width**3
    return cubes + 3 * np.sum(seconds[0] * seconds[1]) / width**2 + 3 * (first[0] @ second[0]) / width + 1


@pytest.mark.parametrize(("width", "shift", "factor"), [(16, 0.5, 1.3), (16, 0.05, 1.03)])
def test_the_interval_covers_the_closed_form_in_90_to_98_percent(width, shift, factor):
    source = np.random.default_rng(4)
    mean, scales = np.abs(source.normal(size=width)), np.exp(0.5 * source.normal(size=width))
    first, second = (mean, scales**2), (mean + shift, (factor * scales) ** 2)
    expected = mean_kernel(first, first) + mean_kernel(second, second) - 2 * mean_kernel(first, second)
    covered, values = 0, []
    for _ in range(300):
        real, generated = (m + np.sqrt(v) * source.normal(size=(500, width)) for m, v in (first, second))
        found = kid.kernel_distance_interval(real, generated)
        assert found.calibrated
        covered += found.low <= expected <= found.high
        values.append(found.value)
    assert 0.90 <= covered / 300 <= 0.98
    assert np.mean(values) == pytest.approx(expected, abs=4 * np.std(values) / np.sqrt(300))


def test_the_jackknife_is_the_one_that_leaves_rows_out():
    real, generated = sets(12, 9)
    without_real = [kid.kernel_distance(np.delete(real, row, 0), generated) for row in range(12)]
    without_generated = [kid.kernel_distance(real, np.delete(generated, row, 0)) for row in range(9)]
    variance = 11 * np.var(without_real) + 8 * np.var(without_generated)
    found = kid.kernel_distance_interval(real, generated)
    assert (found.high - found.low) / 2 == pytest.approx(1.959964 * np.sqrt(variance), rel=1e-6)
    assert not found.calibrated


@pytest.mark.parametrize(("num", "size"), [(100, 15), (3, 4), (1, 20), (100, 2)])
def test_both_ways_to_the_subsets_agree_with_the_loop(num, size):
    real, generated = sets()
    source = np.random.default_rng(9)
    first = np.stack([source.choice(30, size, replace=False) for _ in range(num)])
    second = np.stack([source.choice(20, size, replace=False) for _ in range(num)])
    shared, single = kid._by_indicators(real, generated, first, second), kid._one_by_one(real, generated, first, second)
    np.testing.assert_allclose(shared, single, atol=1e-10)
    assert shared[0] == pytest.approx(double_loop(real[first[0]], generated[second[0]]), abs=1e-10)


def test_subsets_are_seeded_and_centre_on_the_whole_sets():
    real, generated = sets(300, 200)
    first, again, other = (kid.kernel_distance_subsets(real, generated, seed=seed) for seed in (1, 1, 2))
    assert first == again != other and first.size == 100 and first.num == 100
    many = kid.kernel_distance_subsets(real, generated, num=2000, size=50)
    assert many.mean == pytest.approx(kid.kernel_distance(real, generated), abs=4 * many.std / np.sqrt(2000))
    assert kid.kernel_distance_subsets(real, generated, num=4, size=10).std > 0


def test_subset_sizes():
    assert kid.subset_size(5000, 1000) == 1000 and kid.subset_size(5000, 999) == 499 and kid.subset_size(3, 2) == 2
    assert kid.subset_size(50, 40, 40) == 40
    for size in (1, 41):
        with pytest.raises(DataError, match=f"subsets of {size} rows: the smaller set has 40"):
            kid.subset_size(50, 40, size)


@pytest.mark.parametrize("num", [2, 3, 10, 100])
def test_finite_from_two_rows_on(num):
    real, generated = sets(num, num, 2048)
    assert np.isfinite(kid.kernel_distance(real, generated))
    assert np.isfinite(kid.kernel_distance_subsets(real, generated, num=5)[:2]).all()
    assert 0 < kid.permutation_test(real, generated, num=19).p_value <= 1
    assert num < 3 or np.isfinite(kid.kernel_distance_interval(real, generated)[:3]).all()


def test_p_values_are_uniform_under_the_null():
    source = np.random.default_rng(0)
    rows = source.normal(size=(400, 2, 24, 6))
    found = [kid.permutation_test(real, generated[:16], num=199, seed=seed).p_value for seed, (real, generated) in enumerate(rows)]
    # p lies on multiples of 1/200: spread evenly within its step before it is held against the continuous law.
    assert scipy.stats.kstest(np.array(found) - source.uniform(0, 1 / 200, 400), "uniform").pvalue > 0.01
    assert scipy.stats.kstest(np.array(found) ** 1.5, "uniform").pvalue < 0.01


def test_the_permutation_test_enumerated():
    """Three against two rows: ten relabellings, each as likely."""
    real, generated = sets(3, 2, 2, shift=2.0)
    pooled, observed = np.concatenate([real, generated]), kid.kernel_distance(real, generated)
    splits = [(i, j) for i in range(5) for j in range(i)]
    values = [kid.kernel_distance(np.delete(pooled, pair, 0), pooled[list(pair)]) for pair in splits]
    share = np.mean(np.array(values) >= observed - 1e-9)
    found = kid.permutation_test(real, generated, num=20_000, seed=1)
    assert found.value == pytest.approx(observed) and found.p_value == pytest.approx(share, abs=0.015)


def test_the_permutation_test_sees_a_difference_and_is_seeded():
    real, generated = sets(60, 60, shift=1.0)
    first, again = (kid.permutation_test(real, generated, num=499, seed=2) for _ in range(2))
    assert first == again and first.p_value == 1 / 500
    assert kid.permutation_test(real, real, num=99).p_value > 0.5


def test_bad_input_is_refused():
    real, generated = sets()
    generated[3, 2] = np.inf
    for score in (kid.kernel_distance, kid.kernel_distance_interval, kid.kernel_distance_subsets, kid.permutation_test):
        with pytest.raises(DataError, match="generated features: 1 of 20 rows"):
            score(real, generated)
    for score in (kid.kernel_distance_subsets, kid.permutation_test):
        with pytest.raises(DataError, match="at least 1"):
            score(real, real, num=0)
