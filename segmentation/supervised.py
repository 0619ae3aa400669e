"""A U-Net trained on masks: `make_task` for the loop (Ronneberger et al. 2015, arXiv:1505.04597).

Foreground is where a mask is above 0. Crops are reduced to `config.data.height` x `width`, and so are whole scans for the network; what it
says is brought back to their own pixels before it is judged. The best checkpoint is that of the highest held-out Jaccard index
on whole scans, the last the one a resume goes on from. With `config.data.planes` it is a 3D U-Net of z-stacks: images (b, d, h, w, 1).
"""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from microscopy import fields
from microscopy.pictures import to_uint8
from segmentation import augment, exported, judged, losses, maps, networks, prediction, stack_prediction
from training import devices, weights
from training.descent import descend, follow
from training.errors import ConfigError
from training.task import Net, Task

NUM_SHOWN = 8
OUTPUTS = {"softmax": 2, "tanh": 1}
"""How many maps the network has: the logits of both classes, or one within [-1, 1]."""


@flax.struct.dataclass
class State:
    """The network, the moving average of its parameters and statistics ({}: none) and the step, int32."""

    step: jax.Array
    network: Net
    average: Any


SCHEDULES = ("constant", "cosine")
LIMITS = {
    "model.base_width": (1, 1024),
    "model.depth": (1, 6),
    "model.kernel": (1, 15),
    "model.leak": (0.0, 1.0),
    "model.dropout": (0.0, 0.95),
    "model.momentum": (0.0, 0.9999),
    "train.batch_size": (1, 1_000_000),
    "train.rate": (0.0, 1.0),
    "train.beta1": (0.0, 0.9999),
    "train.beta2": (0.0, 0.999999),
    "train.weight_decay": (0.0, 10.0),
    "train.ema_decay": (0.0, 0.999999),
    "eval.num_scans": (0, 1_000_000),
    "eval.num_train_scans": (0, 1_000_000),
}
"""Smallest and largest value of every number in a segmentation config."""
STACK_LIMITS = {"model.kernel_depth": (1, 15), "model.pool_depth": (1, 2)}
"""The same of what only a network of stacks has: along the planes, the length of the kernels and of each pooling."""


def check(config, limits=LIMITS) -> None:
    """Raises ConfigError naming the field unless a U-Net can be trained with the config."""
    stacks = fields.num_planes(config.data) > 0
    for name, (low, high) in {**limits, **(STACK_LIMITS if stacks else {})}.items():
        section, field = name.split(".")
        if field not in config[section]:
            raise ConfigError(f"config.{name} is missing: the config was written for another version; begin from configs/.")
        value = config[section][field]
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ConfigError(f"config.{name}={value}: {low} to {high}.")
    data, model, train = config.data, config.model, config.train
    for name in ("partition", "objects") if stacks else ():
        if config.eval[name]:
            raise ConfigError(f"config.eval.{name}=true: its scores are of images; set it to false for stacks.")
    if _schedule(train) not in SCHEDULES:
        raise ConfigError(f"config.train.schedule={train.schedule!r}: choose {' or '.join(SCHEDULES)}.")
    if model.output not in OUTPUTS:
        raise ConfigError(f"config.model.output={model.output!r}: choose {' or '.join(OUTPUTS)}.")
    if not data.use_masks:
        raise ConfigError("config.data.use_masks=false: a segmentation network is trained on masks; set it to true.")
    if data.crop < max(data.height, data.width):
        raise ConfigError(
            f"config.data.crop={data.crop}: {max(data.height, data.width)}, the longer side of height x width, or more: crops are "
            "reduced to height x width, never enlarged."
        )
    if train.augment not in augment.POLICIES:
        raise ConfigError(f"config.train.augment={train.augment!r}: choose {', '.join(augment.POLICIES)}.")
    if len(train.class_weights) not in (0, 2) or not all(weight >= 0 for weight in train.class_weights):
        raise ConfigError(f"config.train.class_weights={train.class_weights}: (background, foreground) from 0 on, or () for 1 and 1.")
    if train.class_weights and train.loss == "dice":
        raise ConfigError(f"config.train.class_weights={train.class_weights}: has no effect with config.train.loss=dice; leave it out.")


def make_network(config) -> networks.UNet:
    """Returns the U-Net that `config.model` describes; ConfigError naming a field that cannot be."""
    model, dtype = config.model, jnp.dtype(devices.with_dtype(config).model.dtype)
    own = {name: model[name] for name in ("base_width", "depth", "activation", "leak", "norm", "dropout", "momentum")}
    kernel, pool = (model.kernel, model.kernel), (2, 2)
    if fields.num_planes(config.data):
        kernel, pool = (model.kernel_depth, *kernel), (model.pool_depth, *pool)
    network = networks.UNet(num_maps=OUTPUTS[model.output], kernel=kernel, pool=pool, dtype=dtype, **own)
    image = networks.example(network, config.data.channels)
    try:
        jax.eval_shape(lambda image: network.init(jax.random.key(0), image, False), image)
    except ValueError as error:
        raise ConfigError(f"config.model: {error}.") from error
    return network


def make_probability(config):
    """Returns probability(params, stats, image): (n, h, w, c) in [-1, 1] to that of foreground, float32 (n, h, w); jitted.

    Of stacks (n, d, h, w, 1) to (n, d, h, w).
    """
    network = make_network(config)

    def probability(params, stats, image):
        return maps.probability(network.apply({"params": params, "batch_stats": stats}, image, False))

    return jax.jit(probability)


def inference(state: State) -> tuple[Any, Any]:
    """Returns (params, stats) that scans are segmented with: the moving averages where there are some."""
    chosen = state.average or {"params": state.network.params, "stats": state.network.stats}
    return chosen["params"], chosen["stats"]


def make_task(config) -> Task:
    """Returns the task the loop trains; config as in configs/unet.py, ConfigError naming a field that cannot be."""
    check(config)
    if config.train.loss not in LOSSES:
        raise ConfigError(f"config.train.loss={config.train.loss!r}: choose {', '.join(LOSSES)}.")
    network, probability = make_network(config), make_probability(config)
    optimizer = make_optimizer(config.train)

    def init(key, imported):
        params, stats = initial(network, key, imported, config.data)
        average = {"params": params, "stats": stats} if config.train.ema_decay else {}
        net = Net(params, stats, jax.jit(optimizer.init)(params))
        return State(jnp.zeros((), jnp.int32), net, jax.tree.map(jnp.copy, average))

    def evaluate(state, frozen, data, key):
        del frozen, key
        return judged.evaluate(config, network, functools.partial(probability, *inference(state)), data.prepared)

    def preview(state, frozen, batch, key):
        del frozen, key
        return shown(functools.partial(probability, *inference(state)), batch)

    step = make_train_step(config, network, optimizer)
    notes, planes = (), fields.num_planes(config.data)
    if planes:
        by, of = (" x ".join(map(str, sides)) for sides in (network.kernel, network.pool))
        notes = (f"Stacks of {planes} planes; kernels of {by}, poolings of {of} (planes first).",)
    return Task(frozen={}, init=init, train_step=step, settle=lambda state: state, evaluate=evaluate, preview=preview, notes=notes)


def predict(config, workdir, request) -> None:
    """Writes what is segmented of `request.input` to `request.output` (`segmentation.prediction`, `stack_prediction`)."""
    network, *rest = exported.opened(config, workdir, request)
    (stack_prediction if network.stacks else prediction).predict(network, *rest)


def export(config, workdir, request) -> None:
    """Writes the network to the one file `request.output` (see `segmentation.exported`)."""
    exported.write(config, workdir, request)


def make_optimizer(train) -> optax.GradientTransformation:
    """Returns Adam, with decoupled weight decay where `train.weight_decay` is above 0 (Loshchilov and Hutter 2019, arXiv:1711.05101).

    With `train.schedule` "cosine" its rate falls from `train.rate` to 0 at `train.num_steps` (Loshchilov and Hutter 2017,
    arXiv:1608.03983, eq. 5, one period).
    """
    cosine = _schedule(train) == "cosine"
    rate = optax.cosine_decay_schedule(train.rate, train.num_steps) if cosine else train.rate
    return optax.adamw(rate, b1=train.beta1, b2=train.beta2, weight_decay=train.weight_decay)


def _schedule(train) -> str:
    return train.get("schedule", "constant")  # runs begun before there was a choice have none


def initial(network, key, imported, data) -> tuple[Any, Any]:
    """Returns (params, stats) at step 0: fresh, or of `imported` (the moving averages where it has some)."""
    planes = fields.num_planes(data)
    image = jnp.zeros((1, *([planes] if planes else []), data.height, data.width, data.channels))
    made = jax.jit(network.init, static_argnums=2)(key, image, False)
    params, stats = made["params"], made.get("batch_stats", {})
    if imported is not None:
        averaged = any(name.startswith("average/params/") for name in imported)
        where = "average" if averaged else "network"
        params, stats = weights.take(imported, f"{where}/params", params), weights.take(imported, f"{where}/stats", stats)
    return params, stats


LOSSES = {
    "cross_entropy": losses.cross_entropy,
    "dice": lambda logits, labels, counted, class_weights: losses.soft_dice(logits, labels, counted),
    "cross_entropy_dice": losses.cross_entropy_and_dice,
}
"""Name in the config to loss(logits, labels, weights of pixels, weights of classes)."""


def moved(key, batch, policy: str):
    """Returns (image, labels int32, weights of pixels or None) of a batch, augmented alike."""
    arrays = {name: batch[name] for name in ("mask", "weight") if name in batch}
    image, arrays = augment.augment(key, batch["image"], arrays, augment.POLICIES[policy])
    return image, (arrays["mask"] > 0).astype(jnp.int32), arrays.get("weight")


def make_train_step(config, network, optimizer):
    """Returns train_step(state, frozen, batch, key) -> (state, scalars): one update, and the average that follows it."""
    train, loss_of = config.train, LOSSES[config.train.loss]
    class_weights = jnp.asarray(train.class_weights, jnp.float32) if train.class_weights else None

    def train_step(state, frozen, batch, key):
        del frozen
        augment_key, dropout_key = jax.random.split(key)
        image, labels, counted = moved(augment_key, batch, train.augment)

        def loss(params):
            variables = {"params": params, "batch_stats": state.network.stats}
            out, changed = network.apply(variables, image, True, rngs={"dropout": dropout_key}, mutable=["batch_stats"])
            return loss_of(maps.class_logits(out), labels, counted, class_weights), (out, changed.get("batch_stats", {}))

        (value, (out, stats)), gradient = jax.value_and_grad(loss, has_aux=True)(state.network.params)
        net = descend(state.network, gradient, optimizer).replace(stats=stats)
        average = follow(state.average, {"params": net.params, "stats": stats}, train.ema_decay, state.step)
        hard, truth = losses.to_signs(maps.signs(out)), losses.to_signs(labels)
        scalars = {"network/loss": value, "network/iou": jnp.mean(losses.iou(hard, truth)), "network/gradient": optax.tree.norm(gradient)}
        return State(state.step + 1, net, average), scalars

    return train_step


def shown(probability, batch) -> np.ndarray:
    """Returns uint8 pictures (n, h, 3 w, 1 or 3): crops, their probability of foreground, their masks; of stacks the middle planes."""
    image, truth = (np.asarray(batch[name])[:NUM_SHOWN] for name in ("image", "mask"))
    found = np.asarray(probability(jnp.asarray(image)))
    if image.ndim == 5:
        image, truth, found = (one[:, one.shape[1] // 2] for one in (image, truth, found))
    others = [2 * found - 1, np.where(truth > 0, 1.0, -1.0)]
    columns = [image, *(np.repeat(other[..., None], image.shape[-1], axis=-1) for other in others)]
    return to_uint8(np.concatenate(columns, axis=2))
