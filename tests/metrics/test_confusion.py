"""Scores of classes against numbers worked out by hand."""

import math

import numpy as np
import pytest

from metrics import confusion
from microscopy.scan import DataError

# Of class 0 two of three found, of class 1 its one sample lost to 0, of class 2 both found.
TRUTH, PREDICTED = np.array([0, 0, 0, 1, 2, 2]), np.array([0, 0, 2, 0, 2, 2])
COUNTS = np.array([[2, 0, 1], [1, 0, 0], [0, 0, 2]])


def test_the_matrix_has_truth_in_rows():
    np.testing.assert_array_equal(confusion.matrix(TRUTH, PREDICTED, 3), COUNTS)
    assert confusion.matrix(TRUTH, PREDICTED, 4).shape == (4, 4)


def test_scores_are_those_worked_out_by_hand():
    assert confusion.accuracy(COUNTS) == pytest.approx(4 / 6)
    np.testing.assert_allclose(confusion.recalls(COUNTS), [2 / 3, 0, 1])
    np.testing.assert_allclose(confusion.precisions(COUNTS), [2 / 3, math.nan, 2 / 3])
    np.testing.assert_allclose(confusion.f1_scores(COUNTS), [2 / 3, 0, 4 / 5])
    assert confusion.balanced_accuracy(COUNTS) == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert confusion.macro_f1(COUNTS) == pytest.approx((2 / 3 + 0 + 4 / 5) / 3)


def test_a_class_without_samples_counts_in_no_mean():
    counts = np.array([[3, 0, 0], [1, 1, 0], [0, 0, 0]])
    assert confusion.balanced_accuracy(counts) == pytest.approx((1 + 0.5) / 2)
    assert confusion.macro_f1(counts) == pytest.approx((6 / 7 + 2 / 3) / 2)
    assert math.isnan(confusion.accuracy(np.zeros((2, 2), int)))


@pytest.mark.parametrize(("right", "num"), [(8, 10), (0, 7), (7, 7)])
def test_wilsons_ends_are_the_shares_1_96_standard_errors_from_the_observed(right, num):
    low, high = confusion.wilson(right, num)
    assert low <= right / num <= high and high - low > 0.2
    for end in (low, high):
        assert (right / num - end) ** 2 == pytest.approx(1.959963984540054**2 * end * (1 - end) / num, abs=1e-12)
    assert confusion.wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("predicted", [[0, 1], [0, 0, 0, 0, 0, 3], [0.0] * 6, [0, 0, 0, 0, 0, -1]])
def test_labels_that_cannot_be_are_refused(predicted):
    with pytest.raises(DataError, match="needed|classes beyond"):
        confusion.matrix(TRUTH, np.array(predicted), 3)
