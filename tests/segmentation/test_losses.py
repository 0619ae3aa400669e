"""Losses against PyTorch, NumPy and SciPy by brute force; qualities against metrics.overlap on binary maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.special

from metrics import overlap
from segmentation import losses

RANDOM = np.random.default_rng(0)


def case(*sizes, num_classes=3):
    """Returns logits, labels and weights of some zeros."""
    logits = RANDOM.normal(size=(2, *sizes, num_classes)).astype(np.float32) * 3
    return logits, RANDOM.integers(0, num_classes, (2, *sizes)), RANDOM.integers(0, 3, (2, *sizes)).astype(np.float32)


@pytest.mark.parametrize("sizes", [(4, 5), (2, 3, 4)])
def test_cross_entropy_is_the_weighted_mean_of_negative_log_probabilities(sizes):
    logits, labels, weights = case(*sizes)
    own = -np.log(np.take_along_axis(scipy.special.softmax(logits.astype(np.float64), -1), labels[..., None], -1)[..., 0])
    assert float(losses.cross_entropy(logits, labels)) == pytest.approx(own.mean(), rel=1e-5)
    class_weights = np.array([0.2, 1.0, 3.0], np.float32)
    counted = weights * class_weights[labels]
    found = losses.cross_entropy(logits, labels, weights, class_weights)
    assert float(found) == pytest.approx((counted * own).sum() / counted.sum(), rel=1e-5)


def test_cross_entropy_with_class_weights_is_pytorchs():
    torch = pytest.importorskip("torch")
    logits, labels, _ = case(4, 5)
    class_weights = np.array([0.2, 1.0, 3.0], np.float32)
    theirs = torch.nn.functional.cross_entropy(torch.tensor(logits).moveaxis(-1, 1), torch.tensor(labels), torch.tensor(class_weights))
    assert float(losses.cross_entropy(logits, labels, None, class_weights)) == pytest.approx(float(theirs), rel=1e-5)


@pytest.mark.parametrize("sizes", [(4, 5), (2, 3, 4)])
def test_soft_dice_by_loops_over_classes(sizes):
    logits, labels, weights = case(*sizes)
    predicted, scores = scipy.special.softmax(logits.astype(np.float64), -1), []
    for number in range(3):
        p, g = predicted[..., number], labels == number
        scores.append((2 * (weights * p * g).sum() + 1) / ((weights * p).sum() + (weights * g).sum() + 1))
    dice = losses.soft_dice(logits, labels, weights)
    assert float(dice) == pytest.approx(1 - np.mean(scores), rel=1e-5)
    together = losses.cross_entropy_and_dice(logits, labels, weights, np.ones(3))
    assert float(together) == pytest.approx(float(dice + losses.cross_entropy(logits, labels, weights)), rel=1e-6)


def test_soft_dice_of_certain_logits_is_that_of_masks():
    labels, other = RANDOM.integers(0, 2, (2, 64, 64)), RANDOM.integers(0, 2, (2, 64, 64))
    dice = [overlap.dice(overlap.counts(labels == number, other == number)) for number in (0, 1)]
    found = losses.soft_dice(50 * jax.nn.one_hot(other, 2), labels)
    assert float(found) == pytest.approx(1 - np.mean(dice), abs=1e-3)  # one pixel of smoothing among 8,000
    assert float(losses.soft_dice(50 * jax.nn.one_hot(labels, 2), labels)) < 1e-6


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.soft_dice, losses.cross_entropy_and_dice])
def test_pixels_of_weight_0_have_no_gradient_and_without_any_pixel_all_is_finite(loss):
    logits, labels, weights = case(4, 5)
    gradient = np.asarray(jax.grad(loss)(logits, labels, weights))
    assert not gradient[weights == 0].any() and np.abs(gradient[weights > 0]).min() > 0
    value, gradient = jax.value_and_grad(loss)(logits, labels, jnp.zeros_like(weights))
    assert np.isfinite(value) and not np.asarray(gradient).any()


def test_balanced_classes_weigh_alike():
    labels = RANDOM.choice(4, (50, 50), p=[0.9, 0.07, 0.03, 0])
    weights = losses.balanced_class_weights(labels, 4)
    shares = [weights[number] * (labels == number).sum() for number in range(4)]
    np.testing.assert_allclose(shares, [625, 625, 625, 0], rtol=1e-5)


SCORES = {
    "module": overlap.module,
    "squaring": overlap.squaring,
    "percent": lambda a, b: overlap.percent(overlap.counts(a, b)) / 100,
    "iou": lambda a, b: overlap.iou(overlap.counts(a, b)),
    "iou_squared": lambda a, b: overlap.iou(overlap.counts(a, b)) ** 2,
}


@pytest.mark.parametrize("name", losses.QUALITIES)
def test_qualities_of_binary_maps_are_the_scores(name):
    predicted, truth = RANDOM.choice([-1.0, 1.0], (2, 3, 20, 30), p=[0.3, 0.7])
    predicted[2], truth[2] = -1, -1  # neither has any cell
    expected = [SCORES[name](a, b) for a, b in zip(predicted, truth, strict=True)]
    found = losses.QUALITIES[name](predicted, truth)
    assert found.shape == (3,) and found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(losses.QUALITIES[name](truth, truth), losses.BEST[name], atol=1e-6)
    maps = predicted * RANDOM.uniform(0.1, 1, predicted.shape)
    np.testing.assert_allclose(losses.QUALITIES[name](losses.to_signs(maps), truth), expected, rtol=1e-5)
    if name in ("module", "squaring"):
        soft = [SCORES[name](a, b) for a, b in zip(maps, truth, strict=True)]
        np.testing.assert_allclose(losses.QUALITIES[name](maps, truth), soft, rtol=1e-5)


@pytest.mark.parametrize("name", losses.QUALITIES)
def test_qualities_leave_out_what_weighs_nothing_and_have_the_gradients_of_finite_differences(name):
    quality, shape = losses.QUALITIES[name], (2, 6, 7)
    predicted = RANDOM.uniform(-0.9, 0.9, shape).astype(np.float32)
    truth = np.where(RANDOM.random(shape) < 0.5, 1, -1).astype(np.float32)
    weights = np.ones(shape, np.float32)
    weights[:, :, 4:] = 0
    np.testing.assert_allclose(quality(predicted, truth, weights), quality(predicted[:, :, :4], truth[:, :, :4]), rtol=1e-5)
    gradient = jax.grad(lambda x: quality(x, truth, weights).sum())(predicted)
    direction, step = RANDOM.normal(size=shape).astype(np.float32), 1e-2
    ends = [quality(predicted + e * direction, truth, weights).sum() for e in (step, -step)]
    assert float((gradient * direction).sum()) == pytest.approx(float(ends[0] - ends[1]) / (2 * step), rel=1e-2, abs=1e-3)
    nothing = jax.grad(lambda x: quality(x, -jnp.ones(shape)).sum())(-jnp.ones(shape))
    assert np.isfinite(nothing).all()


def test_the_soft_percentage_is_the_expected_share_of_pixels_drawn_by_their_probabilities():
    predicted = RANDOM.uniform(-1, 1, (1, 40, 40))
    truth = RANDOM.choice([-1.0, 1.0], (1, 40, 40))
    drawn = np.where(RANDOM.random((400, 40, 40)) < (1 + predicted) / 2, 1, -1)
    assert float(losses.percent(predicted, truth)[0]) == pytest.approx((drawn == truth).mean(), abs=0.002)
