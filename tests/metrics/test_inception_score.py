"""The Inception Score against closed forms and the definition written out."""

import numpy as np
import pytest
import scipy.special

from metrics.inception_score import inception_score
from microscopy.scan import DataError


def test_sure_and_even_is_the_number_of_classes():
    sure = np.tile(np.eye(7), (30, 1))
    found = inception_score(sure, splits=10, logits=False)
    assert found.mean == pytest.approx(7) and found.std == pytest.approx(0, abs=1e-12) and len(found.splits) == 10
    assert inception_score(1000 * sure, splits=1).mean == pytest.approx(7)
    assert inception_score(np.zeros((20, 7)), splits=2).mean == pytest.approx(1)
    assert inception_score(np.tile(sure[:1], (9, 1)), splits=3, logits=False).mean == pytest.approx(1)


def test_two_classes_by_hand():
    rows = np.array([[0.9, 0.1], [0.3, 0.7]])
    marginal = rows.mean(axis=0)
    expected = np.exp(np.mean([np.sum(row * np.log(row / marginal)) for row in rows]))
    assert inception_score(rows, splits=1, logits=False).mean == pytest.approx(expected, rel=1e-12)


def test_splits_are_consecutive_parts_and_the_std_is_theirs():
    logits = np.random.default_rng(0).normal(size=(103, 11))
    found = inception_score(logits, splits=10)
    parts = [inception_score(part, splits=1).mean for part in np.array_split(logits, 10)]
    assert (
        found.splits == pytest.approx(parts) and found.mean == pytest.approx(np.mean(parts)) and found.std == pytest.approx(np.std(parts))
    )
    probabilities = scipy.special.softmax(logits, axis=1)
    assert inception_score(probabilities, splits=10, logits=False).splits == pytest.approx(found.splits, rel=1e-10)


def test_a_seed_shuffles_and_an_offset_of_logits_changes_nothing():
    logits = np.random.default_rng(0).normal(size=(100, 5)) + np.repeat(np.arange(5), 20)[:, None] * np.eye(5)[0]
    kept, shuffled = inception_score(logits), inception_score(logits, seed=1)
    assert kept.mean != shuffled.mean and shuffled.mean == inception_score(logits, seed=1).mean
    assert inception_score(logits, splits=1).mean == pytest.approx(inception_score(logits, splits=1, seed=1).mean)
    assert inception_score(logits + 1e3).mean == pytest.approx(kept.mean, rel=1e-9)


@pytest.mark.parametrize(
    ("rows", "splits", "logits", "words"),
    [
        (np.zeros((5, 1)), 1, True, "2 classes"),
        (np.zeros((5, 3)), 6, True, "6 splits of 5 rows"),
        (np.zeros((5, 3)), 0, True, "0 splits"),
        (np.zeros((5, 3)), 1, False, "sum to 1"),
        (np.array([[1.5, -0.5], [0.5, 0.5]]), 1, False, "at least 0"),
        (np.full((5, 3), np.nan), 1, True, "logits: 5 of 5 rows"),
        (np.zeros((1, 3)), 1, True, "logits: 1 rows"),
    ],
)
def test_bad_input_is_refused(rows, splits, logits, words):
    with pytest.raises(DataError, match=words):
        inception_score(rows, splits, logits)
