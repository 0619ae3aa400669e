"""The class-conditional WGAN: `make_task` for the loop, `generate` for images of chosen classes from a trained workdir.

Arjovsky et al. 2017 (arXiv 1701.07875) with clipped weights, or Gulrajani et al. 2017 (arXiv 1704.00028) with a gradient penalty.
A step is `config.train.critic_updates` updates of the critic, each on its own share of the batch, and one of the generator.
"""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from gan import class_evaluation, scores, settling, wasserstein
from gan.conditional import CONDITIONINGS, NORMS, ClassGenerator, Critic
from gan.dcgan import CHUNK, check_numbers
from microscopy.preparation import Prepared
from training import checkpoints, class_folders, devices, weights
from training import workdir as workdirs
from training.errors import ConfigError, RunError
from training.task import Net, Task

STEP = 16
"""Sides are multiples of it, so that four doublings at least lead to an image."""
OBJECTIVES = ("clip", "gp")


@flax.struct.dataclass
class State:
    """Both networks, the moving average of the generator's parameters ({} where it is off) and the step, int32."""

    step: jax.Array
    generator: Net
    critic: Net
    average: Any


LIMITS = {
    "model.base_filters": (1, 1024),
    "model.latent_dim": (1, 65536),
    "model.kernel_size": (3, 15),
    "model.leak": (0.0, 1.0),
    "model.dropout": (0.0, 0.95),
    "model.generator_dropout": (0.0, 0.95),
    "train.batch_size": (2, 1_000_000),
    "train.critic_updates": (1, 100),
    "train.generator_rate": (0.0, 1.0),
    "train.critic_rate": (0.0, 1.0),
    "train.beta1": (0.0, 0.9999),
    "train.beta2": (0.0, 0.999999),
    "train.l2": (0.0, 1.0),
    "train.shift": (0.0, 1.0),
    "train.zoom": (0.0, 2.0),
    "train.turn": (0.0, 180.0),
    "train.clip": (1e-6, 1e6),
    "train.penalty_weight": (0.0, 1e6),
    "train.ema_decay": (0.0, 0.999999),
    "eval.num_images": (4, 100_000),
    "eval.num_searched": (0, 100_000),
}
"""Smallest and largest value of every number in a WGAN config."""


def _check(config):
    check_numbers(config, LIMITS)
    data, model, train = config.data, config.model, config.train
    for side in ("height", "width"):
        if data[side] < STEP or data[side] % STEP:
            near = max(STEP, round(data[side] / STEP) * STEP)
            raise ConfigError(f"config.data.{side}={data[side]}: the WGAN makes images of multiples of {STEP} px; {near} is the nearest.")
    for section, name, known in (
        ("train", "objective", OBJECTIVES),
        ("model", "conditioning", CONDITIONINGS),
        ("model", "critic_norm", NORMS),
    ):
        if config[section][name] not in known:
            why = " A batch's statistics tie its images together, which a gradient penalty forbids." if name == "critic_norm" else ""
            raise ConfigError(f"config.{section}.{name}={config[section][name]!r}: choose {' or '.join(known)}.{why}")
    size, updates = train.batch_size, train.critic_updates
    if size % updates or size < 2 * updates:
        raise ConfigError(
            f"config.train.batch_size={size} is shared by config.train.critic_updates={updates}: give a multiple, such as "
            f"{updates * max(2, round(size / updates))}, which is {max(2, round(size / updates))} images an update."
        )
    if model.critic_norm == "layer" and train.objective == "clip":
        raise ConfigError("config.model.critic_norm='layer': clipping would take the norm's scale too; choose none, or the objective gp.")


def check_classes(source: str, prepared: Prepared) -> None:
    """Raises RunError where a scan has no class or a class cannot be learned, ConfigError where none has, or two would share a folder."""
    if not prepared.classes:
        raise ConfigError(
            f"config.data.source={source}: its scans have no classes, and this GAN learns classes.\n"
            "Give --config.data.source=folder:PATH with one sub-folder a class, or tfds:NAME of a set with labels (docs/data.md);\n"
            "configs/dcgan.py is the GAN for scans without."
        )
    for scan in (scan for split in prepared.splits.values() for scan in split):
        if scan.label is None:
            raise RunError(f"{scan.file or scan.id}: has no class, other scans have.\nMove it to a class's folder or take it away.")
    class_folders.folder_names(prepared.classes)  # what is trained must be possible to generate
    learned = {scan.label for scan in prepared.splits["train"]}
    for name in prepared.classes:
        if name not in learned:
            raise RunError(f"the class {name} has no training scan.\nAdd scans of it, hold out fewer, or take another --config.seed.")


def make_networks(config, num_classes: int) -> tuple[ClassGenerator, Critic]:
    """Returns the generator and the critic of so many classes that `config.model` and `config.data` describe."""
    model, data, dtype = config.model, config.data, jnp.dtype(devices.with_dtype(config).model.dtype)
    shape = {"num_classes": num_classes, "base_filters": model.base_filters, "kernel_size": model.kernel_size, "leak": model.leak}
    shape |= {"conditioning": model.conditioning, "dtype": dtype}
    generator = ClassGenerator(data.height, data.width, data.channels, dropout=model.generator_dropout, **shape)
    return generator, Critic(dropout=model.dropout, norm=model.critic_norm, sigmoid=model.sigmoid, **shape)


def optimizer_of(train, rate: float) -> optax.GradientTransformation:
    """Returns Adam on a loss with `train.l2` times the sum of the squared weights (biases and scales are left out) added to it."""
    adam = optax.adam(rate, b1=train.beta1, b2=train.beta2)
    decay = optax.add_decayed_weights(2.0 * train.l2, mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params))
    return optax.chain(decay, adam) if train.l2 else adam


def inference_params(state: State):
    """Returns the generator parameters that images are made with: the moving average where there is one."""
    return state.average or state.generator.params


def make_task(config) -> Task:
    """Returns the task the loop trains; config as in configs/cwgan_cytology.py, ConfigError naming a field that cannot be.

    The number of classes is that of the scans: the task is made for two, and again once they are read (`Task.for_scans`).
    """
    _check(config)

    def for_scans(prepared):
        check_classes(config.data.source, prepared)
        return task_of(config, len(prepared.classes))

    return dataclasses.replace(task_of(config, 2), for_scans=for_scans)


def task_of(config, num_classes: int) -> Task:
    """Returns the task of so many classes."""
    generator, critic = make_networks(config, num_classes)
    optimizers = [optimizer_of(config.train, rate) for rate in (config.train.generator_rate, config.train.critic_rate)]
    make_images = make_inference(config, num_classes)
    inception_judge = scores.judge(config.eval)

    def init(key, imported):
        return _init(key, imported, config, generator, critic, optimizers)

    def images_of(state, key, labels):
        noise = jax.random.normal(key, (len(labels), config.model.latent_dim))
        return make_images(inference_params(state), state.generator.stats, noise, labels)

    judge = jax.jit(lambda params, image, label: critic.apply({"params": params}, image, label, train=False))

    def evaluate(state, frozen, held, key):
        del frozen
        values = lambda image, label: judge(state.critic.params, image, label)  # noqa: E731 - the critic of this state
        return class_evaluation.evaluate(lambda labels: images_of(state, key, labels), held, config.eval, values, inception_judge)

    def preview(state, frozen, batch, key):
        del frozen, batch
        columns = class_evaluation.COLUMNS
        noise = jnp.tile(jax.random.normal(key, (columns, config.model.latent_dim)), (num_classes, 1))
        made = make_images(inference_params(state), state.generator.stats, noise, np.repeat(np.arange(num_classes), columns))
        return class_evaluation.rows(made)[None]

    step = wasserstein.make_train_step(config.train, config.model.latent_dim, generator, critic, optimizers)
    return Task({}, init, step, settle=make_settle(config, num_classes), evaluate=evaluate, preview=preview)


def _init(key, imported, config, generator, critic, optimizers) -> State:
    noise_key, generator_key, critic_key = jax.random.split(key, 3)
    noise, label = jax.random.normal(noise_key, (2, config.model.latent_dim)), jnp.zeros((2,), jnp.int32)
    image = jnp.zeros((2, config.data.height, config.data.width, config.data.channels))
    made = jax.jit(generator.init, static_argnames="train")(generator_key, noise, label, train=True)
    params, judged = made["params"], jax.jit(critic.init, static_argnames="train")(critic_key, image, label, train=False)["params"]
    if imported is not None:
        averaged = any(name.startswith("average/") for name in imported)  # the better images, where there is one
        params = weights.take(imported, "average" if averaged else "generator/params", params)
        judged = weights.take(imported, "critic/params", judged)
    if config.train.objective == "clip":
        judged = wasserstein.clipped(judged, config.train.clip)
    moments = [jax.jit(optimizer.init)(of) for optimizer, of in zip(optimizers, (params, judged), strict=True)]
    nets = Net(params, made["batch_stats"], moments[0]), Net(judged, {}, moments[1])
    return State(jnp.zeros((), jnp.int32), *nets, jax.tree.map(jnp.copy, params) if config.train.ema_decay else {})


def make_inference(config, num_classes: int):
    """Returns images(params, stats, noise (n, z), labels (n,)) -> np.ndarray (n, h, w, c) float32 in [-1, 1], 64 at a time, for any n.

    Normalised with the collected statistics, dropout off.
    """
    generator, _ = make_networks(config, num_classes)
    run = jax.jit(lambda params, stats, noise, label: generator.apply({"params": params, "batch_stats": stats}, noise, label, train=False))

    def images(params, stats, noise, labels):
        num, labels = len(labels), jnp.asarray(labels, jnp.int32)
        pad = -num % CHUNK
        noise, labels = jnp.pad(noise, ((0, pad), (0, 0))), jnp.pad(labels, (0, pad))
        chunks = [np.asarray(run(params, stats, noise[i : i + CHUNK], labels[i : i + CHUNK])) for i in range(0, num, CHUNK)]
        return np.concatenate(chunks)[:num]

    return images


def make_settle(config, num_classes: int):
    """Returns settle(state): the batch-norm statistics re-estimated on 16 fixed noise batches, classes in turn, dropout off."""
    generator, _ = make_networks(config, num_classes)
    size = config.train.batch_size // config.train.critic_updates
    shape = (settling.NUM_BATCHES, size)
    labels = (jnp.arange(settling.NUM_BATCHES * size, dtype=jnp.int32) % num_classes).reshape(shape)

    @jax.jit
    def moments(params, noise, label):
        _, changed = generator.apply({"params": params}, noise, label, train=True, mutable=["batch_stats"])
        return settling.moments(changed["batch_stats"])

    def settle(state: State) -> State:
        noise = jax.random.normal(jax.random.key(0), (*shape, config.model.latent_dim))
        stats = settling.pooled([moments(inference_params(state), *batch) for batch in zip(noise, labels, strict=True)])
        return state.replace(generator=state.generator.replace(stats=stats))

    return settle


def generate(config, workdir, request) -> None:
    """Writes the images of `request.labels` into class folders of `request.output` (see `training.class_folders`).

    Image i of class c depends on (seed, c, i) and the weights alone.
    """
    num_classes = len(workdirs.read_classes(workdir))
    state, step = checkpoints.restore_for_inference(workdir, task_of(scores.without(config), num_classes), request.checkpoint)
    make_images = make_inference(config, num_classes)

    @jax.jit
    def noise_of(label, indices):
        key = jax.random.fold_in(jax.random.key(request.seed), label)
        return jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (config.model.latent_dim,)))(indices)

    def chunk(label: int, number: int) -> np.ndarray:
        noise = noise_of(label, jnp.arange(number * CHUNK, (number + 1) * CHUNK))
        return make_images(inference_params(state), state.generator.stats, noise, np.full(CHUNK, label))

    class_folders.write_classes(workdir, request, chunk, chunk_size=CHUNK, step=step)
