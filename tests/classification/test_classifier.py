"""The classifier's step against its definition, the weights of classes, the fields that cannot be, and what it sees of a scan."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

from classification import classifier, judged
from classification.views import make_view
from configs import classifier as configs
from microscopy.normalisation import ValueMap
from microscopy.preparation import Prepared
from microscopy.scan import Scan
from training.errors import ConfigError


def config(**train):
    c = configs.get_config("tiny").unlock()
    c.train.update(train)
    return c


def scan(label, size=(16, 16), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    return Scan(f"{label}/{seed}", pixels, str(seed), label=label)


def prepared(counts, crop=(16, 16), **splits):
    train = [scan(label, seed=i) for label, num in counts.items() for i in range(num)]
    return Prepared(
        {"train": train, "held_out": [], "test": []} | splits, ValueMap(0.0, 255.0, "grey", (0.0, 0.0)), crop, [], {}, tuple(counts)
    )


def test_the_loss_is_the_weighted_cross_entropy_of_smoothed_labels():
    random = np.random.default_rng(0)
    logits, labels, counted = random.normal(size=(6, 3)), random.integers(0, 3, 6), np.array([0.5, 1.0, 3.0])
    target = 0.8 * np.eye(3)[labels] + 0.2 / 3
    each = -(target * scipy.special.log_softmax(logits, axis=1)).sum(1)
    wanted = (counted[labels] * each).sum() / counted[labels].sum()
    found = classifier.cross_entropy(jnp.asarray(logits), jnp.asarray(labels), jnp.asarray(counted), 0.2)
    assert float(found) == pytest.approx(wanted, rel=1e-5)


def test_a_step_is_adamw_down_the_gradient_and_the_average_follows():
    c = config(shift=0.0, zoom=0.0, turn=0.0, label_smoothing=0.1, ema_decay=0.5)
    c.model.dropout = 0.0
    task = classifier.make_task(c).for_scans(prepared({"a": 1, "b": 3}))
    np.testing.assert_allclose(task.frozen["class_weights"], [2.0, 2 / 3])
    image = jax.random.uniform(jax.random.key(0), (8, 16, 16, 3), minval=-1)
    batch, state = {"image": image, "label": jnp.arange(8) % 2}, task.init(jax.random.key(1), None)
    network = classifier.make_network(c, 2)

    def expected(params):
        logits, changed = network.apply({"params": params, "batch_stats": state.network.stats}, image, True, mutable=["batch_stats"])
        return classifier.cross_entropy(logits, batch["label"], jnp.array([2.0, 2 / 3]), 0.1), changed["batch_stats"]

    (value, stats), gradient = jax.jit(jax.value_and_grad(expected, has_aux=True))(state.network.params)
    after, scalars = jax.jit(task.train_step)(state, task.frozen, batch, jax.random.key(2))
    assert float(scalars["network/loss"]) == pytest.approx(float(value), rel=1e-4) and int(after.step) == 1
    adam = optax.adamw(c.train.rate, b1=c.train.beta1, b2=c.train.beta2, weight_decay=c.train.weight_decay)
    updates, _ = adam.update(gradient, adam.init(state.network.params), state.network.params)
    wanted = optax.apply_updates(state.network.params, updates)
    for found, one, grad in zip(*map(jax.tree.leaves, (after.network.params, wanted, gradient)), strict=True):
        sure = np.abs(grad) > 1e-4  # Adam's first step is the gradient's sign, which rounding decides near 0
        np.testing.assert_allclose(np.asarray(found)[sure], np.asarray(one)[sure], atol=2e-5)
    mixed = jax.tree.map(lambda a, b: 0.1 * a + 0.9 * b, state.network.stats, stats)  # decay (1 + 0) / (10 + 0)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), classifier.inference(after)[1], mixed)
    assert tuple(after.crop) == (16, 16)


def test_class_weights_are_balanced_given_or_none():
    scans = prepared({"a": 1, "b": 3, "c": 2})
    np.testing.assert_allclose(classifier.class_weights(config(), scans), [2, 2 / 3, 1])
    np.testing.assert_allclose(classifier.class_weights(config(class_weights="1,0,2.5"), scans), [1, 0, 2.5])
    np.testing.assert_allclose(classifier.class_weights(config(class_weights="none"), scans), [1, 1, 1])
    with pytest.raises(ConfigError, match="2 numbers for 3 classes"):
        classifier.class_weights(config(class_weights="1,2"), scans)


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("model", "kind", "deep"),
        ("model", "num_blocks", 0),
        ("model", "dropout", 1.0),
        ("train", "class_weights", "1,x"),
        ("train", "class_weights", "0,0"),
        ("train", "label_smoothing", 0.9),
        ("train", "turn", 360.0),
        ("data", "use_masks", True),
    ],
)
def test_fields_that_cannot_be_are_named(section, field, value):
    c = config()
    c[section][field] = value
    with pytest.raises(ConfigError, match=f"config.{section}.{field}"):
        classifier.make_task(c)


def test_classes_are_balanced_once():
    """By the batches or by the loss: by both a rare class would count as much more as it is rarer, twice over."""
    both = config(class_weights="balanced")
    both.data.class_balanced = True
    with pytest.raises(ConfigError, match=r"config\.data\.class_balanced=true and config\.train\.class_weights=balanced weigh") as error:
        classifier.make_task(both)
    assert len(str(error.value).splitlines()) == 1
    both.train.class_weights = "none"
    assert classifier.make_task(both).init


def test_a_scan_is_seen_by_its_middle_whatever_else_is_in_the_batch():
    c, sizes = config(), [(16, 16), (21, 40), (30, 17)]
    scans = [scan("a", size, seed) for seed, size in enumerate(sizes)]
    view = make_view(prepared({"a": 1}), c.data, 4)
    found = view(scans)
    for one, image in zip(scans, found, strict=True):
        top, left = ((side - 16) // 2 for side in one.pixels.shape[:2])
        np.testing.assert_allclose(image, one.pixels[top : top + 16, left : left + 16] / 127.5 - 1, atol=1e-5)
        np.testing.assert_array_equal(view([one])[0], image)


def test_a_reduced_view_is_the_average_of_the_pixels():
    one = scan("a", (32, 32))
    image = make_view(prepared({"a": 1}, crop=(32, 32)), config().data, 1)([one])[0]
    np.testing.assert_allclose(image, one.pixels.reshape(16, 2, 16, 2, 3).mean((1, 3)) / 127.5 - 1, atol=1e-5)


def test_an_evaluation_of_known_logits_has_the_scores_worked_out_by_hand():
    """A network that reads the class off the first pixel, and is wrong once."""
    labels, told = "aaabbb", [0, 0, 1, 1, 1, 1]
    scans = []
    for index, (label, value) in enumerate(zip(labels, told, strict=True)):
        one = scan(label, seed=index)
        one.pixels[0, 0] = 255 * value
        scans.append(one)

    def logits(image):
        return jnp.stack([jnp.zeros(len(image)), 2.0 * jnp.asarray(image)[:, 0, 0, 0]], axis=1)

    found = judged.evaluate(config(), logits, prepared({"a": 2, "b": 2}, held_out=scans))
    scalars = found.scalars
    assert scalars["classification/accuracy"] == pytest.approx(5 / 6)
    assert scalars["classification/balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert scalars["classification/macro_f1"] == pytest.approx((4 / 5 + 6 / 7) / 2)
    assert scalars["classification/auc"] == pytest.approx((3 * 2 + 3 * 0.5) / 9)  # of nine pairs six in order, three tied
    right, wrong = np.log1p(np.exp(-2)), np.log1p(np.exp(2))
    assert scalars["classification/nll"] == pytest.approx((5 * right + wrong) / 6)
    assert scalars["classification/temperature"] == pytest.approx(2 / np.log(5), rel=1e-6)  # five of six are right: odds of 5
    assert scalars["classification/ece"] == pytest.approx(abs(scipy.special.expit(2) - 5 / 6))
    assert scalars["classification/calibrated_ece"] == pytest.approx(0, abs=1e-9)
    assert found.score.value == scalars["classification/calibrated_nll"]
    assert all(picture.dtype == np.uint8 and picture.ndim == 3 for picture in found.figures.values())
