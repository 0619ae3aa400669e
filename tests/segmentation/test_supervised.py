"""The supervised step against its definition, the fields that cannot be, and that a small network learns discs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import unet
from segmentation import losses, maps, supervised
from training.errors import ConfigError


def config(**train):
    c = unet.get_config("tiny").unlock()
    c.train.update({"augment": "none", **train})
    return c


def discs(num, side=32):
    """Batches of bright discs on a noisy ground."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    places = random.uniform(6, side - 6, (num, 2, 2))
    mask = np.stack([sum(((y - a) ** 2 + (x - b) ** 2 < 20) for a, b in pair) > 0 for pair in places]).astype(np.int32)
    image = np.clip(mask - 0.5 + random.normal(0, 0.3, mask.shape), -1, 1).astype(np.float32)
    return {"image": jnp.asarray(image[..., None]), "mask": jnp.asarray(mask * 7)}  # any number above 0 is foreground


@pytest.mark.parametrize(("output", "loss"), [("softmax", "cross_entropy"), ("tanh", "dice"), ("tanh", "cross_entropy_dice")])
def test_a_step_is_adam_down_the_gradient_of_the_loss(output, loss):
    c = config(loss=loss, ema_decay=0.5, class_weights=(1.0, 3.0) if loss == "cross_entropy" else ())
    c.model.update({"output": output, "norm": "none"})
    task, network, batch = supervised.make_task(c), supervised.make_network(c), discs(4)
    batch["weight"] = jnp.where(batch["mask"] > 0, 2.0, 0.5)
    state = task.init(jax.random.key(0), None)

    def expected(params):
        logits = maps.class_logits(network.apply({"params": params}, batch["image"], False))
        labels = (batch["mask"] > 0).astype(jnp.int32)
        if loss == "dice":
            return losses.soft_dice(logits, labels, batch["weight"])
        weights = jnp.asarray([1.0, 3.0]) if loss == "cross_entropy" else None
        return getattr(losses, {"cross_entropy_dice": "cross_entropy_and_dice"}.get(loss, loss))(logits, labels, batch["weight"], weights)

    value, gradient = jax.jit(jax.value_and_grad(expected))(state.network.params)
    after, scalars = jax.jit(task.train_step)(state, {}, batch, jax.random.key(1))
    assert float(scalars["network/loss"]) == pytest.approx(float(value), rel=1e-5)
    adam = optax.adam(c.train.rate, b1=c.train.beta1, b2=c.train.beta2)
    updates, _ = adam.update(gradient, adam.init(state.network.params))
    wanted = optax.apply_updates(state.network.params, updates)
    for found, one, grad in zip(*map(jax.tree.leaves, (after.network.params, wanted, gradient)), strict=True):
        sure = np.abs(grad) > 1e-5  # Adam's first step is the gradient's sign, which rounding decides near 0
        np.testing.assert_allclose(np.asarray(found)[sure], np.asarray(one)[sure], atol=2e-5)
    mixed = jax.tree.map(lambda a, b: 0.1 * a + 0.9 * b, state.network.params, after.network.params)  # decay (1 + 0) / (10 + 0)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), supervised.inference(after)[0], mixed)


def test_the_rate_falls_along_half_a_cosine():
    train = config(schedule="cosine", rate=0.5, num_steps=10).train
    optimizer, params = supervised.make_optimizer(train), {"x": jnp.zeros(())}
    state, moves = optimizer.init(params), []
    for _ in range(11):
        updates, state = optimizer.update({"x": jnp.ones(())}, state, params)  # Adam's step is its rate where the gradient never changes
        moves.append(-float(updates["x"]))
    np.testing.assert_allclose(moves, 0.25 * (1 + np.cos(np.pi * np.arange(11) / 10)), rtol=1e-4, atol=1e-6)


def test_a_small_network_learns_discs_and_the_preview_shows_them():
    c = config(batch_size=8, rate=3e-3, ema_decay=0.9)
    task, batch = supervised.make_task(c), discs(8)
    step, state = jax.jit(task.train_step), task.init(jax.random.key(0), None)
    for number in range(60):
        state, scalars = step(state, {}, batch, jax.random.key(number))
    assert float(scalars["network/iou"]) > 0.85
    pictures = task.preview(state, {}, batch, jax.random.key(0))
    assert pictures.shape == (8, 32, 96, 1) and pictures.dtype == np.uint8
    found = pictures[:, :, 32:64, 0] > 127
    truth = np.asarray(batch["mask"]) > 0
    assert (found & truth).sum() / (found | truth).sum() > 0.7
    assert np.array_equal(pictures[:, :, 64:, 0], np.where(truth, 255, 0))


def test_begun_from_anothers_average():
    c = config(ema_decay=0.9)
    task = supervised.make_task(c)
    state, _ = jax.jit(task.train_step)(task.init(jax.random.key(0), None), {}, discs(4), jax.random.key(1))
    flat = {f"average/{'/'.join(key.key for key in path)}": np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(state.average)}
    begun = task.init(jax.random.key(2), flat)
    jax.tree.map(np.testing.assert_array_equal, begun.network.params, state.average["params"])
    jax.tree.map(np.testing.assert_array_equal, begun.network.stats, state.average["stats"])


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("data.use_masks", False, "config.data.use_masks=false"),
        ("data.crop", 24, "config.data.crop=24: 32, the longer side"),
        ("model.output", "sigmoid", "config.model.output='sigmoid': choose softmax or tanh"),
        ("model.norm", "layer", "config.model: norm='layer': choose"),
        ("model.depth", 9, "config.model.depth=9: 1 to 6"),
        ("model.dropout", float("nan"), "config.model.dropout=nan"),
        ("train.schedule", "linear", "config.train.schedule='linear': choose constant or cosine"),
        ("train.loss", "focal", "config.train.loss='focal': choose cross_entropy"),
        ("train.augment", "much", "config.train.augment='much': choose none, light"),
        ("train.class_weights", (1.0,), "config.train.class_weights="),
        ("train.rate", -1.0, "config.train.rate=-1.0: 0.0 to 1.0"),
    ],
)
def test_a_field_that_cannot_be_is_named(field, value, reason):
    c = config()
    section, name = field.split(".")
    c[section][name] = value
    with pytest.raises(ConfigError, match=reason.replace("(", r"\(")):
        supervised.make_task(c)


def test_a_config_of_another_version_is_told():
    c = config()
    del c.eval.num_train_scans
    with pytest.raises(ConfigError, match="config.eval.num_train_scans is missing"):
        supervised.make_task(c)


def test_weights_that_the_loss_would_not_look_at_are_refused():
    with pytest.raises(ConfigError, match=r"config.train.class_weights=\(1.0, 3.0\): has no effect with config.train.loss=dice"):
        supervised.make_task(config(loss="dice", class_weights=(1.0, 3.0)))
