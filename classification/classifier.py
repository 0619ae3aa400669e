"""A classifier of scans, trained on labelled ones: `make_task` for the loop.

The number of classes is that of the scans: the task is made for two and again once they are read (`Task.for_scans`). The best
checkpoint is that of the lowest held-out negative log-likelihood after temperature scaling, the last the one a resume goes on from.
"""

import math
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from classification import judged, networks, prediction
from microscopy import fields, preparation
from microscopy.pictures import to_uint8
from microscopy.preparation import Prepared
from microscopy.scan import DataError
from training import affine, checkpoints, devices, weights
from training import workdir as workdirs
from training.descent import descend, follow
from training.errors import ConfigError
from training.task import Net, Task

NUM_SHOWN = 64
RIGHT, WRONG = (47, 158, 68), (230, 60, 60)
"""RGB of the frames of the sample pictures."""


@flax.struct.dataclass
class State:
    """The network, the moving average of its parameters and statistics ({}: none), the step and the crop (height, width) in px, int32."""

    step: jax.Array
    network: Net
    average: Any
    crop: jax.Array


LIMITS = {
    "model.base_width": (1, 1024),
    "model.num_blocks": (1, 8),
    "model.dropout": (0.0, 0.95),
    "model.momentum": (0.0, 0.9999),
    "train.batch_size": (1, 1_000_000),
    "train.rate": (0.0, 1.0),
    "train.beta1": (0.0, 0.9999),
    "train.beta2": (0.0, 0.999999),
    "train.weight_decay": (0.0, 10.0),
    "train.label_smoothing": (0.0, 0.5),
    "train.shift": (0.0, 1.0),
    "train.zoom": (0.0, 2.0),
    "train.turn": (0.0, 180.0),
    "train.ema_decay": (0.0, 0.999999),
    "eval.num_bootstrap": (0, 100_000),
}
"""Smallest and largest value of every number in a classifier's config."""


def check(config) -> None:
    """Raises ConfigError naming the field unless a classifier can be trained with the config."""
    for name, (low, high) in LIMITS.items():
        section, field = name.split(".")
        if field not in config[section]:
            raise ConfigError(f"config.{name} is missing: the config was written for another version; begin from configs/.")
        value = config[section][field]
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ConfigError(f"config.{name}={value}: {low} to {high}.")
    if config.model.kind not in networks.KINDS:
        raise ConfigError(f"config.model.kind={config.model.kind!r}: choose {' or '.join(networks.KINDS)}.")
    if config.data.use_masks or fields.num_planes(config.data):
        what = "use_masks=true" if config.data.use_masks else f"planes={config.data.planes}"
        raise ConfigError(f"config.data.{what}: a classifier takes images without masks; leave it out.")
    given_weights(config.train)
    if config.data.get("class_balanced", False) and config.train.class_weights == "balanced":
        raise ConfigError("config.data.class_balanced=true and config.train.class_weights=balanced weigh classes twice: use one of them.")


def given_weights(train) -> tuple[float, ...] | None:
    """Returns the numbers of `config.train.class_weights`, None where it is "none" or "balanced"; ConfigError for another text."""
    text = train.class_weights
    if text in ("none", "balanced"):
        return None
    try:
        found = tuple(float(part) for part in text.split(","))
    except (ValueError, AttributeError):
        found = ()
    if not found or not all(math.isfinite(value) and value >= 0 for value in found) or not any(found):
        raise ConfigError(f"config.train.class_weights={text!r}: balanced, none, or a number of each class, such as 1,2.5,1.")
    return found


def class_weights(config, prepared: Prepared) -> np.ndarray:
    """Returns what a sample of each class counts in the loss, float32 (num_classes); ConfigError for a wrong number of them.

    "balanced": n / (num_classes n_k) for n_k of the n training scans, so that all classes together count alike.
    """
    num, given = len(prepared.classes), given_weights(config.train)
    if given and len(given) != num:
        raise ConfigError(f"config.train.class_weights={config.train.class_weights!r}: {len(given)} numbers for {num} classes.")
    if given or config.train.class_weights == "none":
        return np.asarray(given or [1.0] * num, np.float32)
    labels = [scan.label for scan in prepared.splits["train"]]
    return np.array([len(labels) / (num * labels.count(name)) for name in prepared.classes], np.float32)


def check_scans(prepared: Prepared, source: str) -> None:
    """Raises DataError unless every scan has one of two or more classes and every class a scan to train on."""
    scans = [scan for part in prepared.splits.values() for scan in part]
    without = [scan.file or scan.id for scan in scans if scan.label is None]
    remedy = "Put the images into one folder a class, or name a source with classes."
    if not prepared.classes:
        raise DataError(f"config.data.source={source}: none of its {len(scans)} scans has a class.\n{remedy}")
    if without:
        raise DataError(f"{without[0]}: has no class ({len(without)} of {len(scans)} scans have none).\n{remedy}")
    if len(prepared.classes) < 2:
        raise DataError(f"config.data.source={source}: all {len(scans)} scans are of the class {prepared.classes[0]}.\n{remedy}")
    counts, trained = preparation.classes(prepared), {scan.label for scan in prepared.splits["train"]}
    lost = [name for name in prepared.classes if name not in trained]
    if lost:
        raise DataError(
            f"config.data.source={source}: no scan of the class {lost[0]} is left to train on (it has {counts[lost[0]]} in all).\n"
            "Add scans of it, remove the class, or lower config.data.held_out and config.data.test; another config.seed splits anew."
        )


def make_network(config, num_classes: int) -> networks.Classifier:
    """Returns the network that `config.model` describes."""
    dtype = jnp.dtype(devices.with_dtype(config).model.dtype)
    own = {name: config.model[name] for name in ("kind", "base_width", "num_blocks", "dropout", "momentum")}
    return networks.Classifier(num_classes, dtype=dtype, **own)


def make_logits(config, num_classes: int):
    """Returns logits(params, stats, image): (n, h, w, c) in [-1, 1] to float32 (n, num_classes); jitted."""
    network = make_network(config, num_classes)
    return jax.jit(lambda params, stats, image: network.apply({"params": params, "batch_stats": stats}, image, False))


def inference(state: State) -> tuple[Any, Any]:
    """Returns (params, stats) that scans are classified with: the moving averages where there are some."""
    chosen = state.average or {"params": state.network.params, "stats": state.network.stats}
    return chosen["params"], chosen["stats"]


def make_task(config) -> Task:
    """Returns the task the loop trains; config as in configs/classifier.py, ConfigError naming a field that cannot be."""
    check(config)
    return _task(config, np.ones(2, np.float32), (0, 0))


def _task(config, counted: np.ndarray, crop: tuple[int, int]) -> Task:
    """`counted` is what a sample of each class counts in the loss, of as many classes as it is long."""
    network, logits = make_network(config, len(counted)), make_logits(config, len(counted))
    train = config.train
    optimizer = optax.adamw(train.rate, b1=train.beta1, b2=train.beta2, weight_decay=train.weight_decay)

    def init(key, imported):
        params, stats = _initial(network, key, imported, config.data)
        average = {"params": params, "stats": stats} if train.ema_decay else {}
        net = Net(params, stats, jax.jit(optimizer.init)(params))
        return State(jnp.zeros((), jnp.int32), net, jax.tree.map(jnp.copy, average), jnp.asarray(crop, jnp.int32))

    def evaluate(state, frozen, data, key):
        del frozen, key
        fitted = prediction.temperature_of(data.workdir, int(state.step)) if data.workdir else None
        return judged.evaluate(config, lambda image: logits(*inference(state), image), data.prepared, fitted)

    def preview(state, frozen, batch, key):
        del frozen, key
        return shown(np.asarray(logits(*inference(state), batch["image"][:NUM_SHOWN])), batch)

    def for_scans(scans):
        check_scans(scans, config.data.source)
        return _task(config, class_weights(config, scans), scans.crop)

    frozen = {"class_weights": counted}
    step = make_train_step(config, network, optimizer)
    return Task(frozen, init, step, lambda state: state, evaluate, preview, for_scans=for_scans)


def _initial(network, key, imported, data) -> tuple[Any, Any]:
    image = jnp.zeros((1, data.height, data.width, data.channels))
    made = jax.jit(network.init, static_argnums=2)(key, image, False)
    params, stats = made["params"], made["batch_stats"]
    if imported is not None:
        where = "average" if any(name.startswith("average/params/") for name in imported) else "network"
        params, stats = weights.take(imported, f"{where}/params", params), weights.take(imported, f"{where}/stats", stats)
    return params, stats


def cross_entropy(logits: jax.Array, labels: jax.Array, counted: jax.Array, smoothing: float) -> jax.Array:
    """Returns the mean cross entropy, each sample weighted by `counted` (num_classes) of its class.

    `logits` (n, num_classes), `labels` (n) int. The true class has 1 - smoothing and `smoothing` is spread over all (Szegedy et al. 2016,
    arXiv:1512.00567, section 7).
    """
    target = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    own = counted[labels]
    return jnp.sum(own * optax.softmax_cross_entropy(logits, target)) / jnp.maximum(jnp.sum(own), 1e-12)


def make_train_step(config, network, optimizer):
    """Returns train_step(state, frozen, batch, key) -> (state, scalars): one update, and the average that follows it."""
    train = config.train
    policy = affine.Policy(train.shift, train.zoom, train.turn)

    def train_step(state, frozen, batch, key):
        augment_key, dropout_key = jax.random.split(key)
        image, labels = affine.augment(augment_key, batch["image"], policy), batch["label"]

        def loss(params):
            variables = {"params": params, "batch_stats": state.network.stats}
            logits, changed = network.apply(variables, image, True, rngs={"dropout": dropout_key}, mutable=["batch_stats"])
            return cross_entropy(logits, labels, frozen["class_weights"], train.label_smoothing), (logits, changed["batch_stats"])

        (value, (logits, stats)), gradient = jax.value_and_grad(loss, has_aux=True)(state.network.params)
        net = descend(state.network, gradient, optimizer).replace(stats=stats)
        average = follow(state.average, {"params": net.params, "stats": stats}, train.ema_decay, state.step)
        right = jnp.mean((jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32))
        scalars = {"network/loss": value, "network/accuracy": right, "network/gradient": optax.tree.norm(gradient)}
        return state.replace(step=state.step + 1, network=net, average=average), scalars

    return train_step


def shown(logits: np.ndarray, batch) -> np.ndarray:
    """Returns uint8 pictures (n, h, w, 3) of the batch's first crops, framed in green where their class is found and in red elsewhere."""
    image, labels = (np.asarray(batch[name])[: len(logits)] for name in ("image", "label"))
    pictures = np.array(np.broadcast_to(to_uint8(image), (*image.shape[:3], 3)))
    wide = max(1, image.shape[1] // 32)
    for picture, right in zip(pictures, logits.argmax(1) == labels, strict=True):
        inside = picture[wide:-wide, wide:-wide].copy()
        picture[:] = RIGHT if right else WRONG
        picture[wide:-wide, wide:-wide] = inside
    return pictures


def predict(config, workdir, request) -> None:
    """Writes the classes of the scans of `request.input` to `request.output` (`classification.prediction`)."""
    prediction.check(request)
    state, classes, step = restored(config, workdir, request.checkpoint)
    logits, variables = make_logits(config, len(classes)), jax.device_put(inference(state))
    prepared = Prepared({}, workdirs.read_value_map(workdir), tuple(np.asarray(state.crop).tolist()), [], {}, classes)
    prediction.predict(config.data, prepared, lambda image: logits(*variables, image), workdir, step, request)


def restored(config, workdir, which: str = "last") -> tuple[State, tuple[str, ...], int]:
    """Returns (state, names of the classes, step) of a workdir's checkpoint, for reading only; RunError where there is none."""
    classes = workdirs.read_classes(workdir)
    state, step = checkpoints.restore_for_inference(workdir, _task(config, np.ones(len(classes), np.float32), (0, 0)), which)
    return state, classes, step
