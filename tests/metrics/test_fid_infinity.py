"""The Frechet distance at infinite N: closed-form values are covered as often as the interval says."""

import numpy as np
import pytest

from metrics.fid import frechet_distance
from metrics.fid_infinity import frechet_infinity
from microscopy.scan import DataError

NUM_SIMULATIONS = 300


def gaussians(width, kind):
    """Returns (scales, shift, scales) of two Gaussians with axes in common, whose distance is the sum of squared differences."""
    source = np.random.default_rng(7)
    scales = np.exp(0.7 * source.normal(size=width))
    if kind == "equal":
        return scales, np.zeros(width), scales
    spread = {"far": 0.7, "near": 0.1}[kind]
    return scales, spread / 2 * source.normal(size=width), scales * np.exp(spread * source.normal(size=width))


@pytest.mark.parametrize(("width", "kind"), [(2, "near"), (8, "equal"), (8, "near"), (8, "far"), (16, "equal")])
def test_the_interval_covers_in_90_to_98_percent_where_it_is_called_calibrated(width, kind):
    scales, shift, others = gaussians(width, kind)
    expected = shift @ shift + np.sum((scales - others) ** 2)
    source, covered, values = np.random.default_rng(11), 0, []
    for _ in range(NUM_SIMULATIONS):
        real, generated = scales * source.normal(size=(500, width)), shift + others * source.normal(size=(500, width))
        found = frechet_infinity(real, generated)
        assert found.calibrated and found.method == "infinitesimal jackknife"
        covered += found.low <= expected <= found.high
        values.append(found.value)
    assert 0.90 <= covered / NUM_SIMULATIONS <= 0.98
    assert abs(np.mean(values) - expected) < 0.25 * np.std(values)


def test_extrapolation_takes_the_bias_away():
    source = np.random.default_rng(0)
    real, generated = source.normal(size=(500, 32)), source.normal(size=(500, 32))
    assert abs(frechet_infinity(real, generated).value) < 0.2 * frechet_distance(real, generated)


@pytest.mark.parametrize(("num", "others", "width", "calibrated"), [(499, 900, 8, False), (900, 500, 65, False), (500, 500, 64, True)])
def test_calibrated_only_where_it_was_simulated(num, others, width, calibrated):
    source = np.random.default_rng(0)
    found = frechet_infinity(source.normal(size=(num, width)), source.normal(size=(others, width)))
    assert found.calibrated is calibrated and found.low < found.value < found.high


@pytest.mark.parametrize("num", [4, 5, 10, 50])
def test_fewer_rows_than_columns_give_finite_uncalibrated_intervals(num):
    source = np.random.default_rng(num)
    real, generated = source.normal(size=(num, 100)), source.normal(size=(num + 1, 100))
    found = frechet_infinity(real, generated, seed=3)
    assert np.isfinite(found[:3]).all() and not found.calibrated and found.method == "delete-a-group jackknife"
    assert found == frechet_infinity(real, generated, seed=3) != frechet_infinity(real, generated, seed=4)


def test_both_standard_errors_agree_where_both_can_be_had():
    source = np.random.default_rng(5)
    scales, shift, others = gaussians(8, "far")
    widths = []
    for num in range(20):
        real, generated = scales * source.normal(size=(100, 8)), shift + others * source.normal(size=(100, 8))
        padded = [np.concatenate([rows, np.zeros((100, 43))], axis=1) for rows in (real, generated)]
        first, second = frechet_infinity(real, generated, num), frechet_infinity(*padded, num)
        assert first.method != second.method and first.value == pytest.approx(second.value, rel=1e-6)
        widths.append((second.high - second.low) / (first.high - first.low))
    assert 0.8 < np.mean(widths) < 1.2


def test_too_few_rows_are_refused():
    with pytest.raises(DataError, match="real features: 3 rows .* at least 4"):
        frechet_infinity(np.zeros((3, 2)), np.zeros((9, 2)))
