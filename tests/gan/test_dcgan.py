"""The training step against losses differentiated one by one; options; re-estimated statistics; images by index alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import dcgan as base
from gan import dcgan, diffaugment, evaluation, losses


def tiny(**changes):
    config = base.config("test", 32, 4, "tiny").unlock()
    for name, value in changes.items():
        section = "train" if name in config.train else "model"
        config[section][name] = value
    return config


def start(config):
    task = dcgan.make_task(config)
    image = jax.random.uniform(jax.random.key(5), (8, 32, 32, 1), minval=-1, maxval=1)
    return task, task.init(jax.random.key(0), None), {"image": image}


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_gradients_are_those_of_each_loss_alone(loss):
    """Two separate value_and_grad calls, each with its own forward passes, give what the shared passes pull back."""
    config = tiny(loss=loss, dropout=0.0)
    task, state, batch = start(config)
    generator, discriminator = dcgan.make_networks(config)
    key = jax.random.key(9)
    noise = jax.random.normal(jax.random.split(key, 5)[0], (8, 8))
    loss_d, loss_g = losses.LOSSES[loss]

    def make(params):
        return generator.apply({"params": params}, noise, train=True, mutable=["batch_stats"])[0]

    def judge(params, image):
        return discriminator.apply({"params": params}, image, train=True, mutable=["batch_stats"])[0]

    @jax.jit
    def alone(g, d):
        of_d = jax.value_and_grad(lambda p: loss_d(judge(p, batch["image"]), judge(p, make(g)), 0.0))(d)
        return of_d, jax.value_and_grad(lambda p: loss_g(judge(d, batch["image"]), judge(d, make(p))))(g)

    (value_d, gradient_d), (value_g, gradient_g) = alone(state.generator.params, state.discriminator.params)
    after, scalars = jax.jit(task.train_step)(state, {}, batch, key)
    assert float(scalars["discriminator/loss"]) == pytest.approx(float(value_d), rel=1e-4)
    assert float(scalars["generator/loss"]) == pytest.approx(float(value_g), rel=1e-4)
    for net, gradient in ((after.generator, gradient_g), (after.discriminator, gradient_d)):
        first_moment = net.opt_state[0].mu  # (1 - beta1) times the gradient after one step of Adam
        jax.tree.map(lambda m, g: np.testing.assert_allclose(2.0 * m, g, rtol=2e-2, atol=2e-4), first_moment, gradient)


@pytest.fixture(scope="module")
def plainly():
    """The state after one step without options, and its scalars."""
    task, state, batch = start(tiny())
    return jax.jit(task.train_step)(state, {}, batch, jax.random.key(1))


@pytest.mark.parametrize(
    "changes",
    [
        {"r1_weight": 10.0},
        {"discriminator_norm": "spectral", "loss": "hinge"},
        {"discriminator_norm": "none", "loss": "relativistic"},
        {"label_smoothing": 0.1},
        {"augment": ("colour", "translation", "cutout")},
        {"ema_decay": 0.9},
        {"resize_convolution": True},
        {"generator_rate": 1e-4, "discriminator_rate": 4e-4},
    ],
    ids=lambda changes: "+".join(changes),
)
def test_each_option_trains_and_changes_what_it_should(changes, plainly):
    task, state, batch = start(tiny(**changes))
    after, scalars = jax.jit(task.train_step)(state, {}, batch, jax.random.key(1))
    plain, plain_scalars = plainly
    assert all(np.isfinite(value) for value in scalars.values())
    if "ema_decay" in changes:
        wanted = jax.tree.map(lambda old, new: 0.1 * old + 0.9 * new, state.average, after.generator.params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.average, wanted)  # decay starts at 1/10
        assert dcgan.inference_params(after) is after.average
    elif "generator_rate" in changes:
        for network, factor in (("generator", 0.5), ("discriminator", 2.0)):
            moved, usual = (jax.tree.leaves(getattr(s, network).params)[1] for s in (after, plain))
            begun = jax.tree.leaves(getattr(state, network).params)[1]
            np.testing.assert_allclose(moved - begun, factor * (usual - begun), rtol=1e-2, atol=1e-6)
    else:
        assert float(scalars["discriminator/loss"]) != float(plain_scalars["discriminator/loss"]) or "discriminator/r1" in scalars
    if "r1_weight" in changes:
        assert float(scalars["discriminator/r1"]) > 0
        assert float(scalars["discriminator/gradient"]) != float(plain_scalars["discriminator/gradient"])
    if changes.get("discriminator_norm") == "spectral":
        before, now = (jax.tree.leaves(s.discriminator.stats) for s in (state, after))
        assert any(not np.array_equal(a, b) for a, b in zip(before, now, strict=True))


def test_settled_statistics_are_the_moments_of_sixteen_batches():
    """The first norm layer sees a linear map of the noise: its pooled mean and variance by NumPy."""
    config = tiny()
    task, state, _ = start(config)
    stats = task.settle(state).generator.stats["BatchNorm_0"]
    noise = np.asarray(jax.random.normal(jax.random.key(0), (16, 8, 8))).reshape(128, 8)
    values = (noise @ np.asarray(state.generator.params["Dense_0"]["kernel"])).reshape(-1, 32)
    np.testing.assert_allclose(stats["mean"], values.mean(0), atol=1e-5)
    np.testing.assert_allclose(stats["var"], values.var(0), rtol=1e-3)


def test_inference_does_not_depend_on_the_rest_of_the_batch():
    config = tiny()
    task, state, _ = start(config)
    state = task.settle(state)
    images = dcgan.make_inference(config)
    noise = jax.random.normal(jax.random.key(4), (64, 8))
    one = images(state.generator.params, state.generator.stats, noise)
    two = images(state.generator.params, state.generator.stats, noise.at[1:].set(0.0))
    np.testing.assert_allclose(one[0], two[0], atol=1e-6)


def test_pairwise_difference_by_brute_force():
    images = np.random.default_rng(0).normal(size=(5, 4, 3, 1))
    pairs = [np.sqrt(((images[i] - images[j]) ** 2).mean()) for i in range(5) for j in range(i)]
    assert evaluation.pairwise_difference(images) == pytest.approx(np.mean(pairs))
    assert evaluation.pairwise_difference(np.repeat(images[:1], 4, axis=0)) == pytest.approx(0, abs=1e-7)
    assert evaluation.diversities(images, 2 * images)["diversity/ratio"] == pytest.approx(0.5)


def test_accuracies_count_signs():
    real = {"train": np.full((4, 2, 2, 1), 0.5), "held_out": np.array([1.0, -1.0, 1.0, 1.0]).reshape(4, 1, 1, 1)}
    made = np.array([-1.0, 1.0]).reshape(2, 1, 1, 1)
    found = evaluation.accuracies(real, made, lambda image: image.mean((1, 2, 3)))
    assert found == {
        "discriminator/accuracy_train": 1.0,
        "discriminator/accuracy_held_out": 0.75,
        "discriminator/accuracy_generated": 0.5,
    }


def test_augmentation_is_seen_by_both_real_and_generated(monkeypatch):
    seen = []
    original = diffaugment.augment
    monkeypatch.setattr(diffaugment, "augment", lambda key, image, names: (seen.append(image.shape), original(key, image, names))[1])
    task, state, batch = start(tiny(augment=("cutout",)))
    jax.eval_shape(task.train_step, state, {}, batch, jax.random.key(0))
    assert seen == [(8, 32, 32, 1)] * 2


def test_weights_begin_as_stated():
    _, state, _ = start(tiny())
    kernels = [leaf for leaf in jax.tree.leaves((state.generator.params, state.discriminator.params)) if leaf.ndim == 4]
    assert np.std(np.concatenate([np.ravel(k) for k in kernels])) == pytest.approx(0.02, rel=0.05)
    assert jnp.abs(jnp.mean(kernels[0])) < 0.005


def test_spectral_distances_rank_a_copy_before_noise():
    """Disks: other disks of the same kind are near, blurred noise of the same mean and variance is far."""
    y, x = np.mgrid[:32, :32]

    def disks(seed):
        centres = np.random.default_rng(seed).uniform(4, 28, (40, 4, 2))
        distance = np.hypot(y[None, None] - centres[..., :1, None], x[None, None] - centres[..., 1:, None])
        return np.where((distance < 4).any(1), 1.0, -1.0)

    found = evaluation.spectral_distances(disks(0), disks(1), disks(2))
    assert found["surface/log_psd_distance"] < 0.5 * found["surface/log_psd_distance_blurred_noise"]
    assert found["surface/log_psd_distance_floor"] < 0.5 * found["surface/log_psd_distance_blurred_noise"]
