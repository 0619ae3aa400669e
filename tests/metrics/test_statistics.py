"""Statistics in pieces against NumPy on the whole, and what is refused."""

import numpy as np
import pytest

from metrics import statistics as st
from microscopy.scan import DataError


def rows(num=100, width=7, seed=0, offset=1e4):
    return offset + np.random.default_rng(seed).normal(size=(num, width))


@pytest.mark.parametrize("sizes", [[100], [1] * 100, [50, 50], [1, 99], [99, 1], [13] * 7 + [9]])
def test_any_batch_size_in_any_order_gives_the_same(sizes):
    features = rows()
    batches = np.split(features, np.cumsum(sizes)[:-1])
    for order in (batches, batches[::-1]):
        found = st.statistics_of(order)
        assert found.count == 100
        np.testing.assert_allclose(found.mean, features.mean(axis=0), rtol=1e-14)
        # The offset costs digits: 1e4 squared is 1e8 times the variance.
        np.testing.assert_allclose(st.covariance(found), np.cov(features.T), rtol=1e-10, atol=1e-10)


def test_merging_is_associative():
    a, b, c = (st.statistics(part) for part in np.split(rows(), [20, 50]))
    left, right = st.merged(st.merged(a, b), c), st.merged(a, st.merged(b, c))
    assert left.count == right.count
    np.testing.assert_allclose(left.mean, right.mean, rtol=1e-14)
    np.testing.assert_allclose(left.m2, right.m2, rtol=1e-10, atol=1e-9)


def test_float32_features_are_summed_in_float64():
    features = rows(1000, 3).astype(np.float32)
    np.testing.assert_allclose(st.covariance(st.statistics(features)), np.cov(features.astype(np.float64).T), rtol=1e-9, atol=1e-10)


def test_rank():
    features = rows(50, 20, offset=0)
    assert st.covariance_rank(features) == 20 and st.covariance_rank(features[:10]) == 9
    assert st.covariance_rank(np.concatenate([features[:5]] * 4)) == 4
    features[:, 3] = 0.1
    assert st.covariance_rank(features) == 19
    assert st.covariance_rank(np.full((5, 3), 0.1)) == 0


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (np.zeros((1, 4)), "1 rows"),
        (np.zeros((0, 4)), "0 rows"),
        (np.zeros((4, 0)), "of 0 values"),
        (np.zeros(4), "shape"),
        (np.zeros((2, 2, 2)), "shape"),
        (np.zeros((4, 2), complex), "complex"),
        (np.array([["a", "b"], ["c", "d"]]), "real numbers"),
        (np.array([[1.0, 2.0], [np.nan, 1.0], [np.inf, 1.0]]), "2 of 3 rows hold NaN or infinity, the first is row 1"),
    ],
)
def test_bad_features_are_one_short_error_that_names_the_set(features, words):
    with pytest.raises(DataError, match=words) as caught:
        st.checked(features, "generated features")
    assert str(caught.value).startswith("generated features") and len(str(caught.value).splitlines()) <= 5


def test_sets_that_do_not_go_together_are_refused():
    with pytest.raises(DataError, match="7 columns and generated ones 5"):
        st.checked_pair(rows(), rows(width=5))
    with pytest.raises(DataError, match="cannot be merged"):
        st.merged(st.statistics(rows()), st.statistics(rows(width=5)))
    with pytest.raises(DataError, match="no batch"):
        st.statistics_of([])
    with pytest.raises(DataError, match="at least 2 rows"):
        st.covariance(st.statistics(rows(1)))
