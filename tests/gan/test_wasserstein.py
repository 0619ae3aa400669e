"""The training step against its losses written out and differentiated one by one; shares of the batch; clipping; L2."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import cwgan_cytology, cwgan_gp_cytology
from gan import wasserstein, wgan
from training import affine

CONFIGS = {"clip": cwgan_cytology, "gp": cwgan_gp_cytology}


STILL = {"shift": 0.0, "zoom": 0.0, "turn": 0.0}


def start(objective, **train):
    config = CONFIGS[objective].get_config("tiny").unlock()
    config.model.update({"dropout": 0.0, "generator_dropout": 0.0})
    config.train.update({"batch_size": 4, "critic_updates": 1, "beta1": 0.5, "ema_decay": 0.0, "augment": (), **STILL, **train})
    task, networks = wgan.task_of(config, 3), wgan.make_networks(config, 3)
    size = config.train.batch_size
    image = jax.random.uniform(jax.random.key(5), (size, 16, 16, 3), minval=-1, maxval=1)
    return config, task, networks, task.init(jax.random.key(0), None), {"image": image, "label": jnp.arange(size) % 3}


def first_moment(net):
    """Of Adam after one step, over (1 - beta1): the gradient that it was given."""
    found = [state.mu for state in jax.tree.leaves(net.opt_state, is_leaf=lambda s: hasattr(s, "mu")) if hasattr(state, "mu")]
    return jax.tree.map(lambda leaf: 2.0 * np.asarray(leaf), found[0])


def test_real_images_are_moved_about_and_nothing_else():
    amounts = {"shift": 0.2, "zoom": 0.3, "turn": 90.0}
    _, moving, _, state, batch = start("gp", **amounts)
    _, still, _, _, _ = start("gp")
    key, move_key = jax.random.split(jax.random.key(9))
    moved = batch | {"image": affine.augment(move_key, batch["image"], affine.Policy(**amounts))}
    assert float(jnp.abs(moved["image"] - batch["image"]).mean()) > 0.1
    found, wanted = moving.train_step(state, {}, batch, jax.random.key(9)), still.train_step(state, {}, moved, key)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, wanted)


@pytest.mark.parametrize(("objective", "l2"), [("clip", 0.01), ("gp", 0.0)])
def test_both_networks_go_down_their_own_losses(objective, l2):
    _, task, (generator, critic), state, batch = start(objective, l2=l2)
    key, one = jax.random.split(jax.random.key(9), 2)
    make_key, update_key = jax.random.split(one)
    real, label = batch["image"], batch["label"]

    def make(params, key):
        noise = jax.random.normal(jax.random.split(key)[0], (4, 8))
        return generator.apply({"params": params}, noise, label, train=True, mutable=["batch_stats"])[0]

    def squares(params):
        return l2 * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params) if leaf.ndim > 1)

    def with_gradient(loss, params):
        return jax.value_and_grad(lambda p: (loss(p) + squares(p), loss(p)), has_aux=True)(params)

    def judge(params, image, label=label):
        return critic.apply({"params": params}, image, label, train=False)

    def of_critic(params):
        generated = make(state.generator.params, make_key)
        loss = jnp.mean(judge(params, generated)) - jnp.mean(judge(params, real))
        if objective == "clip":
            return loss
        mix = jax.random.uniform(jax.random.split(update_key, 6)[2], (4,)).reshape(4, 1, 1, 1)
        points = mix * real + (1 - mix) * generated
        slopes = jax.vmap(jax.grad(lambda x, y: judge(params, x[None], y[None])[0]))(points, label)
        return loss + 10.0 * jnp.mean((jnp.sqrt(jnp.sum(slopes**2, axis=(1, 2, 3))) - 1) ** 2)

    @jax.jit
    def both(state):
        after, scalars = task.train_step(state, {}, batch, jax.random.key(9))

        def of_generator(params):
            return -jnp.mean(judge(after.critic.params, make(params, jax.random.split(key, 3)[0])))

        pairs = (("critic", of_critic, state.critic), ("generator", of_generator, state.generator))
        wanted = {name: with_gradient(loss, net.params) for name, loss, net in pairs}
        return after, scalars, wanted

    after, scalars, wanted = both(state)
    for name, ((_, loss), gradient) in wanted.items():
        assert float(scalars[f"{name}/loss"]) == pytest.approx(float(loss), rel=1e-3, abs=1e-6)
        tolerance = 1e-4 * max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(gradient))
        found = first_moment(getattr(after, name))
        for m, g in zip(jax.tree.leaves(found), jax.tree.leaves(gradient), strict=True):
            np.testing.assert_allclose(m, g, rtol=2e-2, atol=tolerance)
    assert int(after.step) == 1


def test_each_update_has_its_share_of_the_batch_and_clipping_holds():
    config, _, _, state, batch = start("clip", batch_size=6, critic_updates=3, critic_rate=1.0, clip=0.02)
    calls, original = [], wasserstein.make_critic_update

    def spied(*given):
        update = original(*given)
        return lambda net, real, generated, label, key: (calls.append((real, label)), update(net, real, generated, label, key))[1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wasserstein, "make_critic_update", spied)
        step = wgan.task_of(config, 3).train_step

        def run(state, batch, key):
            calls.clear()
            return step(state, {}, batch, key)[0], list(calls)

        after, shares = jax.jit(run)(state, batch, jax.random.key(1))
    for number, (real, label) in enumerate(shares):
        np.testing.assert_array_equal(real, batch["image"][number::3])
        np.testing.assert_array_equal(label, batch["label"][number::3])
    assert len(shares) == 3
    largest = [float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(after.critic.params)]
    assert max(largest) == pytest.approx(0.02) and min(largest) <= 0.02  # a step of 1.0 would leave the bounds
    assert any(float(jnp.abs(leaf).max()) > 0.02 for leaf in jax.tree.leaves(after.generator.params))
    counts = [leaf for leaf in jax.tree.leaves(after.critic.opt_state) if leaf.dtype == jnp.int32]
    assert [int(count) for count in counts] == [3]


def test_clipping_is_of_every_number():
    clipped = wasserstein.clipped({"a": jnp.array([-3.0, 0.05, 0.2]), "b": {"c": jnp.array(-0.1)}}, 0.1)
    np.testing.assert_allclose(clipped["a"], [-0.1, 0.05, 0.1])
    assert float(clipped["b"]["c"]) == pytest.approx(-0.1)
