"""Temperature scaling against SciPy's optimiser, calibration errors against hand-made bins."""

import numpy as np
import pytest
import scipy.optimize
import scipy.special

from metrics import calibration
from microscopy.scan import DataError


def drawn(num, sureness, seed=0):
    """Logits (num, 3) `sureness` times as large as those that the labels were drawn from."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (num, 3))
    cumulative = scipy.special.softmax(logits, axis=1).cumsum(1)
    labels = (random.uniform(size=(num, 1)) > cumulative).sum(1)
    return sureness * logits, labels


@pytest.mark.parametrize("sureness", [0.3, 1.0, 4.0])
def test_the_temperature_is_that_of_scipys_optimiser_and_of_the_truth(sureness):
    logits, labels = drawn(2000, sureness)

    def by_hand(temperature):
        scaled = logits / temperature
        return float((scipy.special.logsumexp(scaled, axis=1) - scaled[np.arange(len(labels)), labels]).mean())

    found = calibration.fit_temperature(logits, labels)
    wanted = scipy.optimize.minimize_scalar(by_hand, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-9}).x
    assert found == pytest.approx(wanted, rel=1e-5)
    assert found == pytest.approx(sureness, rel=0.15)
    assert calibration.nll(logits, labels, found) == pytest.approx(by_hand(wanted), abs=1e-9)
    assert calibration.nll(logits, labels) >= calibration.nll(logits, labels, found)


def test_where_all_are_right_or_no_better_than_chance_the_temperature_is_bounded():
    logits = np.array([[3.0, 0.0], [0.0, 5.0]])
    assert calibration.fit_temperature(logits, np.array([0, 1])) == 1.0
    assert calibration.fit_temperature(logits, np.array([1, 0])) == pytest.approx(20.0, rel=1e-6)


def test_the_expected_error_is_that_of_bins_made_by_hand():
    # Two of confidence 0.9, one right; two of confidence 0.6, both right.
    probabilities = np.array([[0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.4, 0.6]])
    found = calibration.reliability(probabilities, np.array([0, 0, 0, 1]))
    np.testing.assert_array_equal(found.counts, [0, 0, 0, 0, 0, 2, 0, 0, 2, 0])
    assert found.confidence[8] == pytest.approx(0.9) and found.right[8] == 0.5 and np.isnan(found.right[0])
    assert calibration.expected_error(found) == pytest.approx((0.4 * 2 + 0.4 * 2) / 4)
    sure = calibration.reliability(np.eye(2), np.array([0, 1]))
    assert calibration.expected_error(sure) == 0 and sure.counts[-1] == 2


def test_a_fitted_temperature_mends_the_calibration():
    logits, labels = drawn(2000, 4.0)
    errors = [
        calibration.expected_error(calibration.reliability(np.exp(calibration.log_probabilities(logits, temperature)), labels))
        for temperature in (1.0, calibration.fit_temperature(logits, labels))
    ]
    assert errors[0] > 0.1 and errors[1] < 0.04


@pytest.mark.parametrize("labels", [[0], [0, 3], [0.0, 1.0], [-1, 0]])
def test_labels_that_do_not_fit_are_refused(labels):
    with pytest.raises(DataError, match="labels"):
        calibration.nll(np.zeros((2, 3)), np.array(labels))
