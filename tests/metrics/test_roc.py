"""ROC curves against counting pairs, DeLong's interval against its double sum and by simulation."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from metrics import roc
from microscopy.scan import DataError


def samples(num=60, seed=0, levels=None, shift=1.0):
    """Returns (scores, positive); `levels` rounds the scores so that many are equal."""
    random = np.random.default_rng(seed)
    positive = np.arange(num) % 3 == 0
    scores = random.normal(size=num) + shift * positive
    return (scores if levels is None else np.round(scores * levels) / levels), positive


def pairs(scores, positive):
    """Returns the order of every (positive, negative): 1 right, 0.5 tied, 0 wrong."""
    difference = scores[positive][:, None] - scores[~positive][None]
    return (difference > 0) + 0.5 * (difference == 0)


@pytest.mark.parametrize("levels", [None, 1, 4])
def test_the_area_is_the_share_of_pairs_in_order(levels):
    scores, positive = samples(levels=levels)
    order = pairs(scores, positive)
    assert roc.auc(scores, positive) == pytest.approx(order.mean(), abs=1e-14)
    false, true, _ = roc.curve(scores, positive)
    assert scipy.integrate.trapezoid(true, false) == pytest.approx(order.mean(), abs=1e-14)
    assert roc.auc(-scores, positive) == pytest.approx(1 - order.mean(), abs=1e-14)
    assert 0.55 < order.mean() < 0.95


def test_every_point_of_the_curve_counts_scores_at_or_above_its_threshold():
    scores, positive = samples(levels=2)
    false, true, thresholds = roc.curve(scores, positive)
    assert len(false) == len(np.unique(scores)) + 1 and thresholds[0] == np.inf
    for point in zip(false, true, thresholds, strict=True):
        assert point[:2] == ((scores[~positive] >= point[2]).mean(), (scores[positive] >= point[2]).mean())
    assert (false[-1], true[-1]) == (1, 1)


def test_all_scores_equal_is_chance():
    false, true, _ = roc.curve(np.zeros(6), np.arange(6) < 2)
    assert false.tolist() == true.tolist() == [0, 1]
    assert roc.auc_interval(np.zeros(6), np.arange(6) < 2) == {"auc": 0.5, "standard_error": 0, "low": 0, "high": 1}


@pytest.mark.parametrize("levels", [None, 2])
def test_delong_is_the_variance_of_placements(levels):
    scores, positive = samples(levels=levels)
    order = pairs(scores, positive)
    expected = math.sqrt(order.mean(1).var(ddof=1) / order.shape[0] + order.mean(0).var(ddof=1) / order.shape[1])
    found = roc.auc_interval(scores, positive)
    assert found["standard_error"] == pytest.approx(expected, rel=1e-12)
    assert 0 < found["low"] < found["auc"] < found["high"] < 1
    inner = roc.auc_interval(scores, positive, level=0.5)
    assert found["low"] < inner["low"] and inner["high"] < found["high"]


def test_the_interval_covers_the_closed_form_area_of_two_gaussians():
    expected = scipy.stats.norm.cdf(1 / math.sqrt(2))
    found = [roc.auc_interval(*samples(150, seed)) for seed in range(400)]
    assert 0.92 <= np.mean([one["low"] <= expected <= one["high"] for one in found]) <= 0.98
    spread = np.std([one["auc"] for one in found])
    assert np.mean([one["standard_error"] for one in found]) == pytest.approx(spread, rel=0.1)


def test_a_perfect_order_has_an_interval_of_some_width():
    found = roc.auc_interval(np.arange(20.0), np.arange(20) >= 15)
    assert (found["auc"], found["high"]) == (1, 1) and found["low"] == pytest.approx(0.025**0.2)
    found = roc.auc_interval(-np.arange(20.0), np.arange(20) >= 15)
    assert (found["auc"], found["low"]) == (0, 0) and found["high"] == pytest.approx(1 - 0.025**0.2)
    alone = roc.auc_interval(np.arange(5.0), np.arange(5) == 3)
    assert (alone["low"], alone["high"]) == (0, 1) and math.isnan(alone["standard_error"])


def test_heights_between_points_and_on_upright_parts():
    false, true = np.array([0, 0, 0.5, 0.5, 1]), np.array([0, 0.2, 0.4, 0.8, 1])
    np.testing.assert_allclose(roc.height_at(false, true, np.array([0, 0.25, 0.5, 0.75, 1])), [0.2, 0.3, 0.8, 0.9, 1])


def test_the_band_repeats_narrows_and_holds_the_true_curve():
    rates = np.linspace(0.05, 0.95, 10)
    truth = scipy.stats.norm.cdf(1 + scipy.stats.norm.ppf(rates))
    bands = [roc.band(*samples(240, seed), rates, repeats=200) for seed in range(25)]
    assert 0.85 <= np.mean([(low <= truth) & (truth <= high) for low, high in bands]) <= 1
    again = roc.band(*samples(240, 0), rates, repeats=200)
    np.testing.assert_array_equal(again, bands[0])
    assert not np.array_equal(roc.band(*samples(240, 0), rates, repeats=200, seed=1), bands[0])
    few, many = (np.ptp(roc.band(*samples(num), rates, repeats=200), axis=0).mean() for num in (60, 960))
    assert many < 0.5 * few


def test_one_vs_rest_takes_each_class_by_itself():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 90)
    scores = random.normal(size=(90, 4)) + 1.5 * np.eye(4)[labels]
    rows = roc.one_vs_rest(scores, labels)
    assert [row["class"] for row in rows] == [0, 1, 2, 3] and sum(row["positives"] for row in rows) == 90
    for row in rows[:3]:
        assert row["auc"] == pytest.approx(pairs(scores[:, row["class"]], labels == row["class"]).mean())
        assert row["low"] < row["auc"] < row["high"] and len(row["curve"]) == 3
    assert math.isnan(rows[3]["auc"]) and rows[3]["curve"] is None and rows[3]["positives"] == 0


def test_bad_input_is_refused():
    scores, positive = samples()
    for bad_scores, bad_positive, message in (
        (scores[1:], positive, "n bools"),
        (scores, positive.astype(int), "n bools"),
        (np.where(positive, np.nan, scores), positive, "NaN"),
        (scores, np.ones(60, bool), "both classes"),
    ):
        with pytest.raises(DataError, match=message):
            roc.auc(bad_scores, bad_positive)
    with pytest.raises(DataError, match="level"):
        roc.auc_interval(scores, positive, 1.0)
    with pytest.raises(DataError, match="rates"):
        roc.band(scores, positive, np.array([1.5]))
    for bad_scores, bad_labels, message in ((np.zeros((3, 2)), np.array([0, 1, 2]), "columns"), (np.zeros(3), np.arange(3), "num_classes")):
        with pytest.raises(DataError, match=message):
            roc.one_vs_rest(bad_scores, bad_labels)


def test_the_mean_area_is_that_of_the_classes_there_are_and_its_interval_holds_it():
    random = np.random.default_rng(3)
    labels = np.repeat([0, 1, 3], [20, 15, 25])
    scores = np.eye(4)[labels] + random.normal(0, 0.8, (60, 4))
    found = roc.mean_auc(scores, labels, repeats=200, seed=1)
    assert found["auc"] == pytest.approx(np.mean([roc.auc(scores[:, k], labels == k) for k in (0, 1, 3)]))
    assert found["low"] < found["auc"] < found["high"] and 0.01 < found["high"] - found["low"] < 0.3
    assert found == roc.mean_auc(scores, labels, repeats=200, seed=1) != roc.mean_auc(scores, labels, repeats=200, seed=2)
    sure = roc.mean_auc(np.eye(4)[labels], labels, repeats=10)
    assert (sure["auc"], sure["high"]) == (1, 1) and sure["low"] == pytest.approx(0.025 ** (1 / 15))
    alone = roc.mean_auc(scores[:20], labels[:20])
    assert np.isnan(alone["auc"]) and (alone["low"], alone["high"]) == (0.0, 1.0)


def test_the_interval_of_two_classes_is_about_delongs():
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], 100)
    score = labels + random.normal(0, 1, 200)
    delong = roc.auc_interval(score, labels == 1)
    found = roc.mean_auc(np.stack([-score, score], axis=1), labels, repeats=1000)
    assert found["auc"] == pytest.approx(delong["auc"])
    assert found["low"] == pytest.approx(delong["low"], abs=0.015) and found["high"] == pytest.approx(delong["high"], abs=0.015)
