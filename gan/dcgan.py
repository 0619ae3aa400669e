"""DCGAN on crops of scans: `make_task` for the loop, `generate` for images from a trained workdir.

Radford et al. 2016 (arXiv 1511.06434); sizes and widths of Computer Optics 47(2), 2023, CO-1144.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from gan import copies, diffaugment, evaluation, labelled, losses, scores, settling
from gan.networks import NUM_BLOCKS, Discriminator, Generator
from microscopy import fields, label_field
from training import checkpoints, devices, generation, weights
from training.descent import descend, follow
from training.errors import ConfigError
from training.task import Net, Task

CHUNK = 64
"""Images are computed this many at a time whatever is asked for: another batch size changes floats by one ulp."""


@flax.struct.dataclass
class State:
    """Both networks, the moving average of the generator's parameters ({} where it is off) and the step, int32."""

    step: jax.Array
    generator: Net
    discriminator: Net
    average: Any


def make_networks(config) -> tuple[Generator, Discriminator]:
    """Returns the generator and the discriminator that `config.model` and `config.data` describe; ConfigError where they cannot be."""
    model, data = config.model, config.data
    for name, size in (("height", data.height), ("width", data.width)):
        if size < 2**NUM_BLOCKS or size % 2**NUM_BLOCKS:
            raise ConfigError(
                f"config.data.{name}={size}: DCGAN needs a multiple of {2**NUM_BLOCKS}, such as {max(1, round(size / 16)) * 16}."
            )
    if model.kernel_size < 3:
        raise ConfigError(f"config.model.kernel_size={model.kernel_size}: 3 or more, 5 is usual.")
    if model.discriminator_norm not in ("batch", "spectral", "none"):
        raise ConfigError(f"config.model.discriminator_norm={model.discriminator_norm!r}: choose batch, spectral or none.")
    dtype = jnp.dtype(devices.with_dtype(config).model.dtype)
    maps = (fields.num_channels(data), model.base_filters)
    generator = Generator(data.height, data.width, *maps, model.kernel_size, model.leak, model.resize_convolution, dtype)
    options = (model.leak, model.dropout, model.discriminator_norm, dtype)
    label_weight = 1.0 if fields.label_kind(data) == "none" else fields.option(data, "label_weight")
    return generator, Discriminator(model.base_filters, model.kernel_size, *options, label_weight)


LIMITS = {
    "model.base_filters": (1, 4096),
    "model.latent_dim": (1, 65536),
    "model.leak": (0.0, 1.0),
    "model.dropout": (0.0, 0.95),
    "train.batch_size": (2, 1_000_000),
    "train.generator_rate": (0.0, 1.0),
    "train.discriminator_rate": (0.0, 1.0),
    "train.beta1": (0.0, 0.9999),
    "train.beta2": (0.0, 0.999999),
    "train.label_smoothing": (0.0, 0.5),
    "train.r1_weight": (0.0, 1e6),
    "train.ema_decay": (0.0, 0.999999),
    "eval.num_images": (4, 100_000),
    "eval.num_searched": (0, 100_000),
}
"""Smallest and largest value of every number in a DCGAN config."""


def _check(config):
    check_numbers(config, LIMITS)
    if config.train.loss not in losses.LOSSES:
        raise ConfigError(f"config.train.loss={config.train.loss!r}: choose {', '.join(losses.LOSSES)}.")


def check_numbers(config, limits) -> None:
    """Raises ConfigError for a field outside its `limits` ("section.field" to (least, largest)) and for an unknown augmentation."""
    for name, (low, high) in limits.items():
        section, field = name.split(".")
        if not low <= config[section][field] <= high:
            raise ConfigError(f"config.{name}={config[section][field]}: {low} to {high}.")
    for name in config.train.augment:
        if name not in diffaugment.POLICIES:
            raise ConfigError(f"config.train.augment: {name!r} is not one of {', '.join(diffaugment.POLICIES)}.")


def inference_params(state: State):
    """Returns the generator parameters that images are made with: the moving average where there is one."""
    return state.average or state.generator.params


def make_task(config) -> Task:
    """Returns the task the loop trains; config as in configs/dcgan96.py, ConfigError naming a field that cannot be."""
    _check(config)
    generator, discriminator = make_networks(config)
    model, train = config.model, config.train
    optimizers = [optax.adam(rate, b1=train.beta1, b2=train.beta2) for rate in (train.generator_rate, train.discriminator_rate)]
    make_images = make_inference(config)
    settle = make_settle(config)
    inception_judge, kind = scores.judge(config.eval), fields.label_kind(config.data)

    def init(key, imported):
        return _init(key, imported, config, generator, discriminator, optimizers)

    def preview(state, frozen, batch, key):
        del frozen, batch
        noise = jax.random.normal(key, (CHUNK, model.latent_dim))
        images = np.asarray(make_images(inference_params(state), state.generator.stats, noise))
        return label_field.shown(images if kind == "none" else images[: labelled.SHOWN])

    def evaluate(state, frozen, held, key):
        del frozen
        num = config.eval.num_images
        noise = jax.random.normal(key, (-(-num // CHUNK) * CHUNK, model.latent_dim))
        chunks = [make_images(inference_params(state), state.generator.stats, noise[i : i + CHUNK]) for i in range(0, num, CHUNK)]
        images = np.concatenate([np.asarray(chunk) for chunk in chunks])[:num]
        found = evaluation.evaluate(images, held, lambda image: judge(state.discriminator, image), inception_judge)
        found = found if kind == "none" else labelled.with_labels(found, images, held, kind)
        num = config.eval.num_searched
        return copies.with_copies(found, labelled.split(images[:num], config)[0], held.prepared) if num else found

    @jax.jit
    def judge(net, image):
        variables = {"params": net.params, "batch_stats": net.stats}
        logits, _ = discriminator.apply(variables, image, train=False, mutable=["batch_stats"])
        return logits

    step = make_train_step(train, model.latent_dim, generator, discriminator, optimizers)
    return Task(frozen={}, init=init, train_step=step, settle=settle, evaluate=evaluate, preview=preview)


def _init(key, imported, config, generator, discriminator, optimizers) -> State:
    noise_key, generator_key, discriminator_key = jax.random.split(key, 3)
    shape = (2, config.data.height, config.data.width, fields.num_channels(config.data))
    noise = jax.random.normal(noise_key, (2, config.model.latent_dim))
    made = jax.jit(generator.init, static_argnames="train")(generator_key, noise, train=True)
    judged = jax.jit(discriminator.init, static_argnames="train")(discriminator_key, jnp.zeros(shape), train=False)
    spectral = config.model.discriminator_norm == "spectral"
    generator_params, discriminator_params = made["params"], judged["params"]
    if imported is not None:
        averaged = any(name.startswith("average/") for name in imported)  # the better images, where there is one
        generator_params = weights.take(imported, "average" if averaged else "generator/params", generator_params)
        discriminator_params = weights.take(imported, "discriminator/params", discriminator_params)
    moments = [jax.jit(optimizer.init)(of) for optimizer, of in zip(optimizers, (generator_params, discriminator_params), strict=True)]
    return State(
        step=jnp.zeros((), jnp.int32),
        generator=Net(generator_params, made["batch_stats"], moments[0]),
        discriminator=Net(discriminator_params, judged["batch_stats"] if spectral else {}, moments[1]),
        average=jax.tree.map(jnp.copy, generator_params) if config.train.ema_decay else {},
    )


def make_train_step(train, latent_dim, generator, discriminator, optimizers):
    """Returns train_step(state, frozen, batch, key) -> (state, scalars): one simultaneous update of both networks.

    Each network passes once over each batch: the generated batch's pass serves both losses, pulled back separately.
    """
    discriminator_loss, generator_loss = losses.LOSSES[train.loss]

    def judge(params, stats, image, augment_key, dropout_key):
        image = diffaugment.augment(augment_key, image, train.augment)
        variables = {"params": params, "batch_stats": stats}
        keys = {"dropout": dropout_key}
        return discriminator.apply(variables, image, train=True, update_stats=True, rngs=keys, mutable=["batch_stats"])

    def train_step(state, frozen, batch, key):
        del frozen
        noise_key, *keys = jax.random.split(key, 5)
        stats, real = state.discriminator.stats, batch["image"]
        noise = jax.random.normal(noise_key, (real.shape[0], latent_dim))

        def make(params):
            variables = {"params": params, "batch_stats": state.generator.stats}
            return generator.apply(variables, noise, train=True, mutable=["batch_stats"])[0]

        generated, pull_generator = jax.vjp(make, state.generator.params)
        params = state.discriminator.params
        real_logits, pull_real, updated = jax.vjp(lambda p: judge(p, stats, real, keys[0], keys[1]), params, has_aux=True)
        judged = jax.vjp(lambda p, x: judge(p, stats, x, keys[2], keys[3])[0], params, generated)
        logits, pull_generated = judged

        loss_d, cotangents = jax.value_and_grad(discriminator_loss, (0, 1))(real_logits, logits, train.label_smoothing)
        loss_g, cotangent = jax.value_and_grad(generator_loss, 1)(real_logits, logits)
        gradient_d = jax.tree.map(jnp.add, pull_real(cotangents[0])[0], pull_generated(cotangents[1])[0])
        (gradient_g,) = pull_generator(pull_generated(cotangent)[1])
        scalars = {"discriminator/loss": loss_d, "generator/loss": loss_g}
        if train.r1_weight:
            penalty, extra = jax.value_and_grad(lambda p: losses.r1_penalty(lambda x: judge(p, stats, x, keys[0], keys[1])[0], real))(
                params
            )
            gradient_d = jax.tree.map(lambda a, b: a + train.r1_weight * b, gradient_d, extra)
            scalars["discriminator/r1"] = penalty
        # Only under cross entropy is a logit's sigmoid a probability.
        word, shown = ("probability", jax.nn.sigmoid) if train.loss == "cross_entropy" else ("logit", lambda logit: logit)
        scalars[f"discriminator/{word}_real"] = jnp.mean(shown(real_logits))
        scalars[f"discriminator/{word}_generated"] = jnp.mean(shown(logits))
        scalars["generator/gradient"], scalars["discriminator/gradient"] = optax.tree.norm(gradient_g), optax.tree.norm(gradient_d)
        net_g = descend(state.generator, gradient_g, optimizers[0])
        net_d = descend(state.discriminator, gradient_d, optimizers[1])
        if stats:
            net_d = net_d.replace(stats=updated["batch_stats"])
        average = follow(state.average, net_g.params, train.ema_decay, state.step)
        return State(state.step + 1, net_g, net_d, average), scalars

    return train_step


def make_inference(config):
    """Returns images(params, stats, noise) -> (b, h, w, c) float32 in [-1, 1], jitted, with the collected statistics."""
    generator, _ = make_networks(config)
    return jax.jit(lambda params, stats, noise: generator.apply({"params": params, "batch_stats": stats}, noise, train=False))


def make_settle(config):
    """Returns settle(state): the generator's batch-norm statistics re-estimated on 16 fixed noise batches (`settling.pooled`)."""
    generator, _ = make_networks(config)
    shape = (settling.NUM_BATCHES, config.train.batch_size, config.model.latent_dim)

    @jax.jit
    def moments(params, noise):
        _, changed = generator.apply({"params": params}, noise, train=True, mutable=["batch_stats"])
        return settling.moments(changed["batch_stats"])

    def settle(state: State) -> State:
        noise = jax.random.normal(jax.random.key(0), shape)
        stats = settling.pooled([moments(inference_params(state), batch) for batch in noise])
        return state.replace(generator=state.generator.replace(stats=stats))

    return settle


def generate(config, workdir, request) -> None:
    """Writes `request.num_images` images of the trained generator to `request.output` (see `training.generation`).

    Image i and, with config.data.label_field, its label depend on (seed, i) and the weights alone.
    """
    step = checkpoints.choose(workdir, request.checkpoint)
    chunk = _make_whole_chunks(config, workdir, str(step), request.seed)
    generation.write_images(workdir, request, chunk, chunk_size=CHUNK, step=step, label_kind=fields.label_kind(config.data))


def make_chunks(config, workdir, checkpoint: str, seed: int):
    """Returns chunk(k) -> (images (64, h, w, c), label fields (64, h, w) or None): float32, images 64 k onwards of that seed's stream.

    The same numbers `generate` writes, whichever chunks are asked for in which order. `checkpoint` is last, best or a step.
    """
    whole = _make_whole_chunks(config, workdir, checkpoint, seed)
    return lambda number: labelled.split(whole(number), config)


def _make_whole_chunks(config, workdir, checkpoint: str, seed: int):
    """Returns chunk(k) -> (64, h, w, c), the label field as last channel where there is one."""
    state, _ = checkpoints.restore_for_inference(workdir, make_task(scores.without(config)), checkpoint)
    make_images = make_inference(config)

    @jax.jit
    def noise_of(indices):
        key = jax.random.key(seed)
        return jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (config.model.latent_dim,)))(indices)

    def chunk(number: int) -> np.ndarray:
        indices = jnp.arange(number * CHUNK, (number + 1) * CHUNK)
        return np.asarray(make_images(inference_params(state), state.generator.stats, noise_of(indices)))

    return chunk
