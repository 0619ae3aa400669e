"""Weighted scores against those of the samples written out, draws, and intervals and differences of known classifiers."""

import numpy as np
import pytest

from metrics import confusion, roc
from metrics.paired_bootstrap import SCORES, compare, draws, weighted_scores
from microscopy.scan import DataError


def told(labels, share, seed, num=3):
    """Probabilities (n, num) that are right for about `share` of the samples, with ties."""
    random = np.random.default_rng(seed)
    wanted = np.where(random.random(len(labels)) < share, labels, random.integers(0, num, len(labels)))
    found = np.round(random.random((len(labels), num)), 1) + 1.05 * np.eye(num)[wanted]
    return found / found.sum(1, keepdims=True)


def test_a_weight_counts_as_so_many_samples():
    labels = np.repeat([0, 1, 2], [20, 9, 6])
    found = told(labels, 0.5, 0)
    weights = draws(labels, 4, 1)
    scores = weighted_scores(found, labels, weights)
    for index, weight in enumerate(weights):
        chosen = np.repeat(np.arange(len(labels)), weight.astype(int))
        counts = confusion.matrix(labels[chosen], found[chosen].argmax(1), 3)
        assert scores["accuracy"][index] == pytest.approx(confusion.accuracy(counts))
        assert scores["macro_f1"][index] == pytest.approx(confusion.macro_f1(counts))
        assert scores["auc"][index] == pytest.approx(roc.mean_auc(found[chosen], labels[chosen], repeats=0)["auc"])


def test_a_draw_keeps_the_size_of_every_class_and_is_repeatable():
    labels = np.array([0, 0, 0, 1, 1, 3])
    weights = draws(labels, 500, 7)
    assert all((weights[:, labels == label].sum(1) == (labels == label).sum()).all() for label in (0, 1, 3))
    np.testing.assert_array_equal(weights, draws(labels, 500, 7))
    assert weights.mean(0) == pytest.approx(np.ones(6), abs=0.15)


def test_the_interval_of_an_accuracy_is_the_binomial_one():
    """Two classes of 100 each, right for 80 and 60 of them: the variance of the mean is that of two shares; one training."""
    labels = np.repeat([0, 1], 100)
    right = np.concatenate([np.arange(100) < 80, np.arange(100) < 60])
    found = np.where((right ^ (labels == 1))[:, None], [0.9, 0.1], [0.1, 0.9])
    (row,) = compare({"one": [found]}, labels, "none", 4000, 0)
    error = np.sqrt(0.8 * 0.2 / 100 + 0.6 * 0.4 / 100) / 2
    assert row["accuracy"] == pytest.approx(0.7) and row["seeds"] == 1 and row["accuracy_spread"] is None and "accuracy_gain" not in row
    assert row["accuracy_low"] == pytest.approx(0.7 - 1.96 * error, abs=0.006)
    assert row["accuracy_high"] == pytest.approx(0.7 + 1.96 * error, abs=0.006)


def test_gains_are_paired():
    labels = np.repeat([0, 1, 2], 60)
    base, better = ([told(labels, share, [share > 0.5, seed]) for seed in range(3)] for share in (0.4, 0.9))
    rows = {row["by"]: row for row in compare({"base": base, "same": base, "better": better}, labels, "base", 600, 0)}
    for score in SCORES:
        same, more = rows["same"], rows["better"]
        assert same[f"{score}_gain"] == same[f"{score}_gain_low"] == same[f"{score}_gain_high"] == 0 and same[f"{score}_p"] == 1
        assert same[score] == rows["base"][score] and f"{score}_gain" not in rows["base"]
        assert more[f"{score}_gain"] == pytest.approx(more[score] - same[score]) and more[f"{score}_gain_low"] > 0
        assert more[f"{score}_p"] == pytest.approx(2 / 601) and more[f"{score}_low"] < more[score] < more[f"{score}_high"]


def test_gains_pair_trainings_by_the_number_of_their_seed():
    """The same trainings on both sides, of which one side lacks the first: no gain, though their means and places differ."""
    labels = np.repeat([0, 1, 2], 30)
    several = {seed: told(labels, share, seed) for seed, share in enumerate((0.1, 0.5, 0.9))}
    fewer = {2: several[2], 1: several[1]}
    for found in ({"base": several, "other": fewer}, {"base": fewer, "other": several}):
        base, other = compare(found, labels, "base", 200, 0)
        assert {base["seeds"], other["seeds"]} == {2, 3} and other["seeds_compared"] == 2 and "seeds_compared" not in base
        assert abs(other["accuracy"] - base["accuracy"]) > 0.1
        for score in SCORES:
            assert other[f"{score}_gain"] == other[f"{score}_gain_low"] == other[f"{score}_gain_high"] == 0 and other[f"{score}_p"] == 1
    alone = compare({"base": {0: several[0]}, "other": {1: several[1]}}, labels, "base", 50, 0)[1]
    assert alone["seeds_compared"] == 0 and "accuracy_gain" not in alone and alone["accuracy"] > 0
    assert compare({"base": several, "other": fewer}, labels, "none", 50, 0) == compare(
        {"base": list(several.values()), "other": [several[1], several[2]]}, labels, "none", 50, 0
    )


def test_under_no_difference_p_is_seldom_small():
    """Two classifiers of equal skill: 5 % of the differences may pass for real ones; a few more, as the draws of 3 trainings vary less."""
    labels = np.repeat([0, 1], 40)
    small = 0
    for trial in range(60):
        one, other = ([told(labels, 0.6, [trial, side, seed], 2) for seed in range(3)] for side in range(2))
        rows = compare({"one": one, "other": other}, labels, "one", 200, trial)
        small += rows[1]["accuracy_p"] < 0.05
    assert small <= 10


def test_arrays_that_do_not_fit_are_refused():
    labels, found = np.array([0, 1, 1]), np.full((3, 2), 0.5)
    for arguments in ((found[:2], labels, np.ones((1, 3))), (found, labels * 0, np.ones((1, 3))), (found, labels, np.ones((1, 2)))):
        with pytest.raises(DataError):
            weighted_scores(*arguments)
    with pytest.raises(DataError, match="not finite"):
        weighted_scores(found * np.nan, labels, np.ones((1, 3)))
