"""Super-resolution by SRResNet and SRGAN: `make_task` for the loop, one phase a workdir, chained by `config.init_from`.

Ledig et al. 2017 (arXiv 1609.04802). `config.train.phase` is "pixels" (SRResNet: mean squared error alone) or "adversarial" (SRGAN: content
and adversarial loss). A batch is made of crops of height x width; the low-resolution inputs are made from them on the device.
"""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

import resize
from gan import losses
from metrics.image import CUT, RADIUS
from microscopy import levelling
from microscopy.pictures import to_uint8
from superres import networks, prediction, vgg
from superres.weights import load_vgg
from training import checkpoints, devices, weights
from training import prediction as predictions
from training import workdir as workdirs
from training.descent import descend, follow
from training.errors import ConfigError
from training.task import Net, Task

PHASES = ("pixels", "adversarial")
REDUCTIONS = prediction.REDUCTIONS
NUM_SHOWN = 8
NO_CONTENT = "config.train.vgg=none: SRGAN without its content loss; --config.train.vgg=auto downloads VGG19 (548 MB), or name a file."


@flax.struct.dataclass
class State:
    """Both networks (the discriminator's empty in the phase "pixels"), the generator's moving average ({}: none) and the step, int32."""

    step: jax.Array
    generator: Net
    discriminator: Net
    average: Any


def make_networks(config) -> tuple[networks.Generator, networks.Discriminator]:
    """Returns the generator and the discriminator that `config.model` describes; ConfigError naming a field that cannot be."""
    model, dtype = config.model, jnp.dtype(devices.with_dtype(config).model.dtype)
    names = ("scale", "num_blocks", "num_maps", "first_kernel", "last_kernel", "norm", "trunk_norm", "trunk_prelu", "output")
    fields = {name: model[name] for name in (*names, "output_mean", "pad_value", "momentum")}
    generator = networks.Generator(channels=config.data.channels, dtype=dtype, **fields)
    discriminator = networks.Discriminator(model.discriminator_maps, model.leak, model.discriminator_norm, model.discriminator_pool, dtype)
    image = jax.ShapeDtypeStruct((2, 16, 16, config.data.channels), jnp.float32)
    for network, arguments in ((generator, {"train": True}), (discriminator, {})):
        try:
            jax.eval_shape(functools.partial(network.init, **arguments), jax.random.key(0), image)
        except ValueError as error:
            raise ConfigError(f"config.model: {error}.") from error
    return generator, discriminator


LIMITS = {
    "model.num_blocks": (0, 256),
    "model.num_maps": (1, 4096),
    "model.first_kernel": (1, 31),
    "model.last_kernel": (1, 31),
    "model.pad_value": (-1.0, 1.0),
    "model.momentum": (0.0, 0.9999),
    "model.discriminator_maps": (1, 1024),
    "model.leak": (0.0, 1.0),
    "train.batch_size": (1, 1_000_000),
    "train.generator_rate": (0.0, 1.0),
    "train.discriminator_rate": (0.0, 1.0),
    "train.beta1": (0.0, 0.9999),
    "train.beta2": (0.0, 0.999999),
    "train.pixel_weight": (0.0, 1e6),
    "train.content_weight": (0.0, 1e6),
    "train.adversarial_weight": (0.0, 1e6),
    "train.ema_decay": (0.0, 0.999999),
    "eval.num_images": (2, 100_000),
    "eval.num_back_projections": (0, 1000),
    "eval.smoothing": (0.0, 100.0),
}
"""Smallest and largest value of every number in a super-resolution config."""
LEAST_SIZE = 2 * (CUT + RADIUS) + 1
"""Height and width that a crop has at least: what SSIM's window needs after the margin is cut off."""


def _check(config) -> None:
    for name, (low, high) in LIMITS.items():
        section, field = name.split(".")
        if field not in config[section]:
            raise ConfigError(f"config.{name} is missing: the config was written for another version; begin from configs/.")
        if not low <= config[section][field] <= high:
            raise ConfigError(f"config.{name}={config[section][field]}: {low} to {high}.")
    model, train, data = config.model, config.train, config.data
    if train.phase not in PHASES:
        raise ConfigError(f"config.train.phase={train.phase!r}: choose {' or '.join(PHASES)}.")
    if model.reduction not in REDUCTIONS:
        raise ConfigError(f"config.model.reduction={model.reduction!r}: choose {' or '.join(REDUCTIONS)}.")
    if model.scale not in networks.SCALES:
        raise ConfigError(f"config.model.scale={model.scale}: choose {', '.join(map(str, networks.SCALES))}.")
    unknown = [layer for layer in train.content_layers if layer not in vgg.LAYERS]
    if unknown or not train.content_layers:
        raise ConfigError(f"config.train.content_layers={train.content_layers}: name layers from {vgg.LAYERS[0]} to {vgg.LAYERS[-1]}.")
    if train.vgg_padding not in vgg.PADDINGS:
        raise ConfigError(f"config.train.vgg_padding={train.vgg_padding!r}: choose {' or '.join(vgg.PADDINGS)}.")
    if train.loss not in losses.LOSSES:
        raise ConfigError(f"config.train.loss={train.loss!r}: choose {', '.join(losses.LOSSES)}.")
    for name in ("height", "width"):
        if data[name] < LEAST_SIZE:
            raise ConfigError(f"config.data.{name}={data[name]}: {LEAST_SIZE} or more, or SSIM cannot score the crops.")
    for size in model.low_sizes:
        if not 4 <= size <= min(data.height, data.width) or size * data.width % data.height:
            raise ConfigError(f"config.model.low_sizes: {size} is no height of a smaller picture of {data.width} x {data.height}.")
    if train.batch_size % max(1, len(model.low_sizes)):
        raise ConfigError(f"config.train.batch_size={train.batch_size}: a multiple of the {len(model.low_sizes)} low_sizes is needed.")
    if not model.low_sizes and (data.height % model.scale or data.width % model.scale):
        raise ConfigError(f"config.data.height, width: multiples of config.model.scale={model.scale} are needed.")
    if train.phase == "pixels" and not train.pixel_weight:
        raise ConfigError("config.train.pixel_weight=0: the phase pixels has no other loss.")


def low_sizes(config) -> list[tuple[int, int]]:
    """Returns the (height, width) of the low-resolution inputs: those of `config.model.low_sizes`, else the crop's over the scale."""
    data, model = config.data, config.model
    return [(size, size * data.width // data.height) for size in model.low_sizes] or [
        (data.height // model.scale, data.width // model.scale)
    ]


def make_upscale(config):
    """Returns upscale(params, stats, low): low (n, h, w, c) in [-1, 1] to float32 (n, scale h, scale w, c), jitted, as in inference."""
    generator, _ = make_networks(config)
    return jax.jit(lambda params, stats, low: generator.apply({"params": params, "batch_stats": stats}, low, train=False))


def inference(state: State) -> tuple[Any, Any]:
    """Returns (params, stats) that images are enlarged with: the moving average's parameters where there is one."""
    return state.average or state.generator.params, state.generator.stats


def make_task(config) -> Task:
    """Returns the task the loop trains; config as in configs/srgan.py, ConfigError naming a field that cannot be.

    DataError where the weights of VGG cannot be read or do not reach a layer of `config.train.content_layers`.
    """
    _check(config)
    generator, discriminator = make_networks(config)
    train = config.train
    optimizers = [optax.adam(rate, b1=train.beta1, b2=train.beta2) for rate in (train.generator_rate, train.discriminator_rate)]
    frozen = judge_arrays(config)
    upscale = make_upscale(config)
    sizes = low_sizes(config)

    def init(key, imported):
        return _init(key, imported, config, generator, discriminator, optimizers)

    def preview(state, frozen, batch, key):
        del frozen, key
        high = jnp.asarray(batch["image"])[:NUM_SHOWN]
        low = REDUCTIONS[config.model.reduction](high, *sizes[0])
        enlarged = resize.bicubic(upscale(*inference(state), low), *high.shape[1:3])
        shown = [resize.bicubic(low, *high.shape[1:3]), enlarged, high]
        return to_uint8(np.concatenate([np.asarray(image) for image in shown], axis=2))

    def evaluate(state, frozen, data, key):
        del key
        from superres import judged  # it names what this file makes

        return judged.evaluate(config, upscale, state, frozen, data)

    step = make_train_step(config, generator, discriminator, optimizers)
    words = ", ".join(f"{width} x {height}" for height, width in sizes)
    notes = (f"Low-resolution inputs {words} px, by {config.model.reduction}.",)
    notes += () if frozen or train.phase == "pixels" else (NO_CONTENT,)
    return Task(frozen=frozen, init=init, train_step=step, settle=lambda state: state, evaluate=evaluate, preview=preview, notes=notes)


def judge_arrays(config) -> dict[str, np.ndarray]:
    """Returns VGG's arrays for the content loss, {} where `config.train.vgg` is none."""
    if config.train.vgg == "none":
        return {}
    return load_vgg(config.train.vgg, tuple(config.train.content_layers)).arrays


def _init(key, imported, config, generator, discriminator, optimizers) -> State:
    generator_key, discriminator_key = jax.random.split(key)
    low, (height, width) = low_sizes(config)[0], (config.data.height, config.data.width)
    channels = config.data.channels
    made = jax.jit(generator.init, static_argnames="train")(generator_key, jnp.zeros((1, *low, channels)), train=False)
    params, stats = made["params"], made.get("batch_stats", {})
    judged = {}
    if config.train.phase == "adversarial":
        judged = jax.jit(discriminator.init)(discriminator_key, jnp.zeros((1, height, width, channels)))["params"]
    if imported is not None:
        averaged = any(name.startswith("average/") for name in imported)  # the better images, where there is one
        params = weights.take(imported, "average" if averaged else "generator/params", params)
        stats = weights.take(imported, "generator/stats", stats)
        if any(name.startswith("discriminator/params/") for name in imported):
            judged = weights.take(imported, "discriminator/params", judged)
    return State(
        step=jnp.zeros((), jnp.int32),
        generator=Net(params, stats, jax.jit(optimizers[0].init)(params)),
        discriminator=Net(judged, {}, jax.jit(optimizers[1].init)(judged)),
        average=jax.tree.map(jnp.copy, params) if config.train.ema_decay else {},
    )


def make_train_step(config, generator, discriminator, optimizers):
    """Returns train_step(state, frozen, batch, key) -> (state, scalars): one update of the generator and, adversarially, of the other.

    With several `low_sizes` each has its share of the batch. The generated batch passes the discriminator once for both losses.
    """
    train, sizes = config.train, low_sizes(config)
    adversarial = train.phase == "adversarial"
    judge_loss, fool_loss = losses.LOSSES[train.loss]

    def enlarged(params, stats, high):
        out = []
        for part, size in zip(jnp.split(high, len(sizes)), sizes, strict=True):
            low = REDUCTIONS[config.model.reduction](part, *size)
            variables = {"params": params, "batch_stats": stats}
            image, changed = generator.apply(variables, low, train=not train.freeze_norm, mutable=["batch_stats"])
            stats = changed.get("batch_stats", {})
            out.append(image if image.shape == part.shape else resize.bicubic(image, *part.shape[1:3]))
        return jnp.concatenate(out), stats

    def judge(params, image):
        return discriminator.apply({"params": params}, image, mutable=["batch_stats"])[0]

    def fidelity(image, high, frozen):
        parts = {"pixels": jnp.mean((image - high) ** 2)}
        if adversarial and frozen and train.content_weight:
            parts["content"] = content_distance(frozen, image, high, train)
        total = train.pixel_weight * parts["pixels"] + train.content_weight * parts.get("content", 0.0)
        return total, parts

    def train_step(state, frozen, batch, key):
        del key
        high = batch["image"]
        make = lambda params: enlarged(params, state.generator.stats, high)  # noqa: E731 - named for the line below
        image, pull, stats = jax.vjp(make, state.generator.params, has_aux=True)
        (loss, parts), cotangent = jax.value_and_grad(lambda x: fidelity(x, high, frozen), has_aux=True)(image)
        scalars = {f"generator/{name}": value for name, value in parts.items()}
        net_d = state.discriminator
        if adversarial:
            real, pull_real = jax.vjp(lambda p: judge(p, high), net_d.params)
            made, pull_made = jax.vjp(judge, net_d.params, image)
            loss_d, (to_real, to_made) = jax.value_and_grad(judge_loss, (0, 1))(real, made)
            fooled, to_fool = jax.value_and_grad(fool_loss, 1)(real, made)
            gradient_d = jax.tree.map(jnp.add, pull_real(to_real)[0], pull_made(to_made)[0])
            cotangent = cotangent + train.adversarial_weight * pull_made(to_fool)[1]
            loss = loss + train.adversarial_weight * fooled
            net_d = descend(net_d, gradient_d, optimizers[1])
            scalars |= {
                "discriminator/loss": loss_d,
                "generator/adversarial": fooled,
                "discriminator/gradient": optax.tree.norm(gradient_d),
            }
        (gradient,) = pull(cotangent)
        net_g = descend(state.generator, gradient, optimizers[0]).replace(stats=stats)
        average = follow(state.average, net_g.params, train.ema_decay, state.step)
        scalars |= {"generator/loss": loss, "generator/gradient": optax.tree.norm(gradient)}
        return State(state.step + 1, net_g, net_d, average), scalars

    return train_step


def content_distance(arrays, image: jax.Array, other: jax.Array, train) -> jax.Array:
    """Returns the mean over `train.content_layers` of the mean squared difference of VGG features (Ledig et al. 2017, eq. 5)."""
    layers, dtype = tuple(train.content_layers), jnp.float32
    found = [vgg.features(arrays, one, layers, train.vgg_padding, dtype) for one in (image, other)]
    return sum(jnp.mean((found[0][layer] - found[1][layer]) ** 2) for layer in layers) / len(layers)


def predict(config, workdir, request) -> None:
    """Writes the enlarged images of `request.input` to `request.output` (see `training.prediction` and `superres.prediction`)."""
    state, step = checkpoints.restore_for_inference(workdir, make_task(without_judge(config)), request.checkpoint)
    upscale, (params, stats) = make_upscale(config), inference(state)
    halo, model, data = prediction.receptive_radius(config.model), config.model, config.data
    trained = workdirs.read_value_map(workdir)
    method = levelling.auto(trained.unit) if data.levelling == "auto" else data.levelling
    shape = (model.scale, data.channels, halo, model.num_maps)
    network = prediction.Network(lambda low: upscale(params, stats, low), *shape, trained, method, model.reduction)
    if model.low_sizes and not request.size:
        sizes = ", ".join(map(str, model.low_sizes))
        print(f"Trained to bring images {sizes} px high to {data.height} px: --size={max(data.height, data.width)} does so.")
    facts = predictions.facts(workdir, request, step)
    prediction.predict(network, request, facts, max_pixels=data.max_pixels, channel=data.channel)


def without_judge(config):
    """Returns the config with no VGG asked for, for what enlarges images and trains nothing."""
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.train.vgg = "none"
    return config
