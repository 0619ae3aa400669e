"""The training step of a class-conditional WGAN: several updates of the critic, by clipped weights or a gradient penalty, then one of the
generator (Arjovsky et al. 2017, arXiv 1701.07875, algorithm 1; Gulrajani et al. 2017, arXiv 1704.00028, algorithm 1)."""

import jax
import jax.numpy as jnp
import optax

from gan import diffaugment, losses
from training import affine
from training.descent import descend, follow


def clipped(params, bound: float):
    """Returns the parameters, each number between -bound and bound (Arjovsky et al. 2017, algorithm 1, line 7)."""
    return jax.tree.map(lambda leaf: jnp.clip(leaf, -bound, bound), params)


def make_train_step(train, latent_dim, generator, critic, optimizers):
    """Returns train_step(state, frozen, batch, key) -> (state, scalars): `critic_updates` updates of the critic, one of the generator.

    Each update of the critic has its own equal share of the batch and its own noise; generated images are of the share's classes, so both
    have the same frequencies. Real images are shifted, zoomed and turned by `train`. The generator learns from the last share's classes.
    Scalars are those of the last update.
    """
    update = make_critic_update(train, critic, optimizers[1])
    policy = affine.Policy(*(train.get(name, 0.0) for name in affine.Policy._fields))  # runs of earlier versions have none of them

    def make(params, label, key):
        noise_key, dropout_key = jax.random.split(key)
        noise = jax.random.normal(noise_key, (label.shape[0], latent_dim))
        keys = {"dropout": dropout_key}
        return generator.apply({"params": params}, noise, label, train=True, drop=True, rngs=keys, mutable=["batch_stats"])[0]

    def train_step(state, frozen, batch, key):
        del frozen
        if any(policy):  # else no key is spent, and the draws are those of a config without
            key, move_key = jax.random.split(key)
            batch = batch | {"image": affine.augment(move_key, batch["image"], policy)}
        key, *keys = jax.random.split(key, train.critic_updates + 1)
        net, params = state.critic, state.generator.params
        for number, one in enumerate(keys):  # not a scan: convolution gradients inside one are slow on a CPU
            real, label = (_share(batch[name], number, train.critic_updates) for name in ("image", "label"))
            make_key, update_key = jax.random.split(one)
            net, scalars = update(net, real, make(params, label, make_key), label, update_key)
        make_key, augment_key, dropout_key = jax.random.split(key, 3)

        def loss_of(params):
            image = diffaugment.augment(augment_key, make(params, label, make_key), train.augment)
            values = critic.apply({"params": net.params}, image, label, train=True, rngs={"dropout": dropout_key})
            return losses.generator_wasserstein(values)

        loss, gradient = jax.value_and_grad(loss_of)(params)
        moved = descend(state.generator, gradient, optimizers[0])
        average = follow(state.average, moved.params, train.ema_decay, state.step)
        scalars = scalars | {"generator/loss": loss, "generator/gradient": optax.tree.norm(gradient)}
        return state.replace(step=state.step + 1, generator=moved, critic=net, average=average), scalars

    return train_step


def _share(x, number: int, parts: int):
    """Rows number, number + parts, ...: every device of a mesh, which holds neighbouring rows, has some of each share."""
    return x.reshape(-1, parts, *x.shape[1:])[:, number]


def make_critic_update(train, critic, optimizer):
    """Returns update(net, real, generated, label, key) -> (net, scalars): one step of the critic, with clipped weights or the penalty."""

    def update(net, real, generated, label, key):
        real_key, generated_key, mix_key, *keys = jax.random.split(key, 6)
        real, generated = (diffaugment.augment(one, image, train.augment) for one, image in ((real_key, real), (generated_key, generated)))
        mix = jax.random.uniform(mix_key, label.shape)

        def loss_of(params):
            def values(image, number):
                return critic.apply({"params": params}, image, label, train=True, rngs={"dropout": keys[number]})

            loss = losses.critic_wasserstein(values(real, 0), values(generated, 1))
            if train.objective == "clip":
                return loss, {"critic/distance": -loss}
            penalty = losses.gradient_penalty(lambda image: values(image, 2), real, generated, mix)
            return loss + train.penalty_weight * penalty, {"critic/distance": -loss, "critic/penalty": penalty}

        (loss, scalars), gradient = jax.value_and_grad(loss_of, has_aux=True)(net.params)
        net = descend(net, gradient, optimizer)
        if train.objective == "clip":
            net = net.replace(params=clipped(net.params, train.clip))
        return net, scalars | {"critic/loss": loss, "critic/gradient": optax.tree.norm(gradient)}

    return update
