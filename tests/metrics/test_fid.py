"""The Frechet distance against SciPy's matrix square root, closed forms and reference values."""

import json

import numpy as np
import pytest
import scipy.linalg

from metrics import fid
from metrics.statistics import statistics, statistics_of
from microscopy.scan import DataError


@pytest.fixture(scope="module")
def stored(real_data):
    with np.load(real_data / "fid-reference" / "features_wbc_001_064.npz") as found:
        return {name: found[name] for name in found}


def by_square_root(real, generated):
    """The formula as published. Returns (distance, sum of both traces)."""
    real, generated = real.astype(np.float64), generated.astype(np.float64)
    first, second = np.cov(real.T), np.cov(generated.T)
    root = scipy.linalg.sqrtm(first @ second)
    traces = np.trace(first) + np.trace(second)
    return np.sum((real.mean(0) - generated.mean(0)) ** 2) + traces - 2 * np.trace(root).real, traces


def by_small_square_root(real, generated):
    """The same with the root of A^T S2 A, where A A^T = S1: for few rows that product is regular and sqrtm exact."""
    real, generated = real.astype(np.float64), generated.astype(np.float64)
    first, second = np.cov(real.T), np.cov(generated.T)
    values, vectors = np.linalg.eigh(first)
    kept = values > 1e-12 * values[-1]
    factor = vectors[:, kept] * np.sqrt(values[kept])
    root = scipy.linalg.sqrtm(factor.T @ second @ factor)
    return np.sum((real.mean(0) - generated.mean(0)) ** 2) + np.trace(first) + np.trace(second) - 2 * np.trace(root).real


@pytest.mark.parametrize("name", ["f64", "f192", "f768"])
def test_odd_against_even_rows_against_sqrtm(stored, name):
    odd, even = stored[name][::2], stored[name][1::2]
    found = fid.frechet_distance(odd, even)
    assert found == pytest.approx(by_small_square_root(odd, even), abs=1e-6)
    published, traces = by_square_root(odd, even)
    # Rank 31 of 64 to 768: sqrtm of the singular product is itself off by up to 4e-6.
    assert found == pytest.approx(published, abs=1e-6 * max(traces, 1))
    assert fid.frechet_from_statistics(statistics(odd), statistics(even)) == pytest.approx(found, abs=1e-10)


@pytest.mark.parametrize("num", [40, 41, 100, 2000])
def test_more_rows_than_columns_against_sqrtm(num):
    source = np.random.default_rng(num)
    real, generated = source.gamma(1.0, size=(num, 40)), source.gamma(1.2, size=(num + 5, 40))
    assert fid.frechet_distance(real, generated) == pytest.approx(by_square_root(real, generated)[0], abs=1e-6)


def exactly(mean, root, num, seed=0):
    """Rows whose sample mean and covariance are mean and root root^T to rounding."""
    rows = np.random.default_rng(seed).normal(size=(num, len(mean)))
    rows -= rows.mean(axis=0)
    white = rows @ np.linalg.inv(np.linalg.cholesky(np.cov(rows.T))).T
    return mean + white @ root.T


def test_closed_forms_of_gaussians():
    source = np.random.default_rng(3)
    width, num = 6, 50
    shift, a, b = source.normal(size=width), source.uniform(0.5, 2, width), source.uniform(0.5, 2, width)
    real = exactly(np.zeros(width), np.diag(a), num)
    assert fid.frechet_distance(real, real + shift) == pytest.approx(shift @ shift, rel=1e-10)
    assert fid.frechet_distance(real, 3 * real) == pytest.approx(4 * np.sum(a**2), rel=1e-10)
    commuting = exactly(shift, np.diag(b), num, seed=1)
    assert fid.frechet_distance(real, commuting) == pytest.approx(shift @ shift + np.sum((a - b) ** 2), rel=1e-10)
    turn = np.linalg.qr(source.normal(size=(width, width)))[0]
    assert fid.frechet_distance(real @ turn, commuting @ turn) == pytest.approx(fid.frechet_distance(real, commuting), rel=1e-10)
    # Two dimensions: Tr (S1 S2)^(1/2) = sqrt(Tr S1 S2 + 2 sqrt(det S1 S2)).
    roots = source.normal(size=(2, 2, 2))
    first, second = roots[0] @ roots[0].T, roots[1] @ roots[1].T
    root_trace = np.sqrt(np.trace(first @ second) + 2 * np.sqrt(np.linalg.det(first) * np.linalg.det(second)))
    found = fid.frechet_distance(exactly(np.zeros(2), roots[0], num), exactly(np.zeros(2), roots[1], num, seed=2))
    assert found == pytest.approx(np.trace(first) + np.trace(second) - 2 * root_trace, rel=1e-9)


@pytest.mark.parametrize(("num", "others"), [(2, 2), (2, 100), (3, 3), (10, 10), (63, 64), (64, 64), (65, 63), (2047, 2048), (5000, 2)])
def test_finite_and_not_negative_from_two_rows_on(num, others):
    source = np.random.default_rng(0)
    real, generated = source.normal(size=(num, 64)), source.normal(size=(others, 64))
    found = fid.frechet_distance(real, generated)
    assert np.isfinite(found) and found > 0
    assert fid.frechet_distance(generated, real) == pytest.approx(found, rel=1e-9)
    assert fid.frechet_from_statistics(statistics(real), statistics(generated)) == pytest.approx(found, rel=1e-9)
    assert 0 <= fid.frechet_distance(real, real) < 1e-9


@pytest.mark.parametrize("num", [2, 3, 10, 100])
def test_finite_at_2048_columns(num):
    source = np.random.default_rng(num)
    real, generated = source.normal(size=(num, 2048)), source.normal(size=(num, 2048))
    assert 0 < fid.frechet_distance(real, generated) < np.inf


def test_constant_columns_and_copies():
    source = np.random.default_rng(1)
    real = np.concatenate([source.normal(size=(200, 5)), np.full((200, 3), 0.1)], axis=1)
    assert fid.frechet_distance(real, real[::-1]) < 1e-9
    assert fid.frechet_distance(np.ones((4, 3)), np.zeros((9, 3))) == pytest.approx(3)
    assert fid.frechet_distance(np.ones((400, 3)), np.zeros((900, 3))) == pytest.approx(3)


def test_does_not_depend_on_order_or_batch_size(stored):
    real, generated = stored["f64"][:40], stored["f64"][40:]
    shuffled = np.random.default_rng(0).permutation(generated)
    expected = fid.frechet_distance(real, generated)
    assert fid.frechet_distance(real, shuffled) == pytest.approx(expected, rel=1e-10)
    for size in (1, 7, 24):
        pieces = statistics_of(shuffled[start : start + size] for start in range(0, len(shuffled), size))
        assert fid.frechet_from_statistics(statistics(real), pieces) == pytest.approx(expected, rel=1e-10)


def test_the_form_follows_the_rows():
    assert fid.by_rows(100, 100, 2048) and fid.by_rows(2, 50_000, 2048) and not fid.by_rows(5000, 5000, 2048)


def test_bad_input_is_refused():
    good = np.zeros((3, 4))
    with pytest.raises(DataError, match="generated features: 1 of 3 rows hold NaN"):
        fid.frechet_distance(good, np.array([[1.0] * 4, [np.nan] * 4, [1.0] * 4]))
    with pytest.raises(DataError, match="real features: 1 rows"):
        fid.frechet_distance(good[:1], good)
    with pytest.raises(DataError, match="4 columns and generated ones 3"):
        fid.frechet_from_statistics(statistics(good), statistics(good[:, :3]))


def test_reference_values_need_all_images(real_data, stored):
    """64 of the 300 images: near the reference of all of them, not equal; the exact pairs are computed from pixels."""
    pair = json.loads((real_data / "fid-reference" / "expected.json").read_text())["pairs"]["wbc odd_ids vs even_ids"]
    for width in (64, 192, 768):
        features = stored[f"f{width}"]
        assert pair[f"fid_{width}"] < fid.frechet_distance(features[::2], features[1::2]) < 5 * pair[f"fid_{width}"]
