"""A U-Net inside a GAN whose critic learns a function of quality: `make_task` for the loop.

The critic sees scan and mask and regresses `config.train.quality` (module, squaring, percent, iou, iou_squared; "truth": whether the mask
is a true one) on predicted, true and damaged masks; the U-Net lessens the error that the critic predicts for its masks, beside a
supervised loss where `config.train.supervised_weight` is above 0. Published for ISBI 2012 with weight 0; see configs/unet_gan_isbi2012.py.
"""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from segmentation import audit, judged, losses, maps, networks, supervised
from segmentation.damage import damage
from training import devices
from training.descent import descend, follow
from training.errors import ConfigError
from training.task import Evaluation, Net, Task

QUALITIES = (*losses.QUALITIES, "truth")


@flax.struct.dataclass
class State:
    """The U-Net, its critic, the moving average of the U-Net's parameters and statistics ({}: none) and the step, int32."""

    step: jax.Array
    network: Net
    critic: Net
    average: Any


LIMITS = supervised.LIMITS | {
    "model.critic_width": (1, 256),
    "model.critic_depth": (0, 6),
    "model.critic_strided": (0, 8),
    "model.critic_hidden": (1, 4096),
    "train.critic_rate": (0.0, 1.0),
    "train.critic_warmup": (0, 10_000_000),
    "train.supervised_weight": (0.0, 1e6),
    "train.window_weight": (0.0, 1e6),
    "eval.num_images": (1, 100_000),
    "eval.num_audited_steps": (1, 10_000),
}


def make_critic(config) -> networks.Critic:
    """Returns the critic that `config.model` describes."""
    model, dtype = config.model, jnp.dtype(devices.with_dtype(config).model.dtype)
    shape = {"base_width": model.critic_width, "depth": model.critic_depth, "num_strided": model.critic_strided}
    shape |= {"windows": config.train.window_weight > 0, "products": model.critic_products}
    return networks.Critic(hidden=model.critic_hidden, kernel=(model.kernel, model.kernel), leak=model.leak, dtype=dtype, **shape)


make_network, make_probability, inference = supervised.make_network, supervised.make_probability, supervised.inference
predict, export = supervised.predict, supervised.export


def make_task(config) -> Task:
    """Returns the task the loop trains; config as in configs/unet_gan_isbi2012.py, ConfigError naming a field that cannot be."""
    supervised.check(config, LIMITS)
    train = config.train
    if train.quality not in QUALITIES:
        raise ConfigError(f"config.train.quality={train.quality!r}: choose {', '.join(QUALITIES)}.")
    if train.loss not in supervised.LOSSES:
        raise ConfigError(f"config.train.loss={train.loss!r}: choose {', '.join(supervised.LOSSES)}.")
    # What the critic would continue by reflection is no window of the mask.
    side, sizes = 2 ** max(config.model.critic_depth, config.model.critic_strided), (config.data.height, config.data.width)
    if train.window_weight and any(size % side for size in sizes):
        raise ConfigError(f"config.data.height={sizes[0]}, width={sizes[1]}: multiples of {side} are needed for the critic's windows.")
    network, critic, probability = make_network(config), make_critic(config), make_probability(config)
    optimizers = supervised.make_optimizer(train), optax.adam(train.critic_rate, b1=train.beta1, b2=train.beta2)

    def init(key, imported):
        network_key, critic_key = jax.random.split(key)
        params, stats = supervised.initial(network, network_key, imported, config.data)
        image = jnp.zeros((1, config.data.height, config.data.width, config.data.channels))
        judge = jax.jit(critic.init, static_argnums=3)(critic_key, image, image[..., :1], False)["params"]
        moments = [jax.jit(optimizer.init)(of) for optimizer, of in zip(optimizers, (params, judge), strict=True)]
        nets = Net(params, stats, moments[0]), Net(judge, {}, moments[1])
        average = {"params": params, "stats": stats} if train.ema_decay else {}
        return State(jnp.zeros((), jnp.int32), *nets, jax.tree.map(jnp.copy, average))

    step = make_train_step(config, network, critic, optimizers)
    look = audit.make_audit(config, network, critic, step)

    def evaluate(state, frozen, data, key):
        del frozen
        found = judged.evaluate(config, network, functools.partial(probability, *inference(state)), data.prepared)
        scalars, rows, protocol = look(state, data, key)
        tables = {**found.tables, "critic audit": rows}
        return Evaluation({**found.scalars, **scalars}, tables, found.figures, f"{found.protocol}. Critic audit: {protocol}", found.score)

    def preview(state, frozen, batch, key):
        del frozen, key
        return supervised.shown(functools.partial(probability, *inference(state)), batch)

    return Task(frozen={}, init=init, train_step=step, settle=lambda state: state, evaluate=evaluate, preview=preview)


def targets(quality: str, masks: jax.Array, truth: jax.Array, real: jax.Array) -> jax.Array:
    """Returns what the critic is to say of masks (n, h, w) in [-1, 1] with these truths: the quality (n,), for "truth" `real` (n,)."""
    return real if quality == "truth" else losses.QUALITIES[quality](masks, truth)


def window_targets(quality: str, masks: jax.Array, truth: jax.Array, real: jax.Array, side: int) -> jax.Array:
    """Returns (n, h / side, w / side): `targets` of each window of `side` x `side` pixels, a divisor of h and w, by itself."""
    places = masks.shape[0], masks.shape[1] // side, masks.shape[2] // side

    def cut(x):
        return x.reshape(places[0], places[1], side, places[2], side).swapaxes(2, 3).reshape(-1, side, side)

    return targets(quality, cut(masks), cut(truth), jnp.repeat(real, places[1] * places[2])).reshape(places)


def critic_loss(quality: str, said: jax.Array, wanted: jax.Array) -> jax.Array:
    """Returns the mean squared error of what the critic said, for "truth" the cross entropy of its logits."""
    if quality == "truth":
        return jnp.mean(optax.sigmoid_binary_cross_entropy(said, wanted))
    return jnp.mean((said - wanted) ** 2)


def make_train_step(config, network, critic, optimizers):
    """Returns train_step(state, frozen, batch, key) -> (state, scalars): one update of both networks.

    Until `train.critic_warmup` steps only the critic and, where it has a weight, the supervised loss move anything.
    """
    train = config.train
    class_weights = jnp.asarray(train.class_weights, jnp.float32) if train.class_weights else None
    windows, side = train.window_weight > 0, 2**config.model.critic_strided

    def judge(params, image, masks):
        return critic.apply({"params": params}, image, masks[..., None], False)

    def wanted_of(masks, truth, real):
        return targets(train.quality, masks, truth, real), window_targets(train.quality, masks, truth, real, side) if windows else None

    def train_step(state, frozen, batch, key):
        del frozen
        augment_key, dropout_key, damage_key = jax.random.split(key, 3)
        image, labels, counted = supervised.moved(augment_key, batch, train.augment)
        truth = losses.to_signs(labels)

        def segment(params):
            variables = {"params": params, "batch_stats": state.network.stats}
            out, changed = network.apply(variables, image, True, rngs={"dropout": dropout_key}, mutable=["batch_stats"])
            plain = (
                supervised.LOSSES[train.loss](maps.class_logits(out), labels, counted, class_weights) if train.supervised_weight else 0.0
            )
            return (maps.signs(out), train.supervised_weight * plain), changed.get("batch_stats", {})

        (predicted, plain), pull, stats = jax.vjp(segment, state.network.params, has_aux=True)
        masks = jnp.concatenate([predicted, truth, damage(damage_key, truth, predicted)])
        params, real = state.critic.params, jnp.repeat(jnp.array([0.0, 1.0, 0.0]), len(truth))
        wanted = wanted_of(masks, jnp.concatenate([truth] * 3), real)

        def of_critic(params):
            said = judge(params, image, masks)
            return losses.weighed(critic_loss, train, said, wanted), said

        def of_masks(predicted):
            return losses.weighed(losses.predicted_error, train, judge(params, image, predicted))

        (loss_c, said), gradient_c = jax.value_and_grad(of_critic, has_aux=True)(params)
        error, to_masks = jax.value_and_grad(of_masks)(predicted)
        led = jnp.where(state.step < train.critic_warmup, 0.0, 1.0)
        (gradient,) = pull((led * to_masks, jnp.ones_like(plain)))
        net = descend(state.network, gradient, optimizers[0]).replace(stats=stats)
        average = follow(state.average, {"params": net.params, "stats": stats}, train.ema_decay, state.step)
        own = critic_loss(train.quality, said[0][: len(truth)], wanted[0][: len(truth)])
        scalars = {"critic/loss": loss_c, "critic/loss_predicted": own}
        scalars["network/predicted_error"] = error
        scalars |= {"network/iou": jnp.mean(losses.iou(losses.to_signs(predicted), truth)), "network/gradient": optax.tree.norm(gradient)}
        return State(state.step + 1, net, descend(state.critic, gradient_c, optimizers[1]), average), scalars

    return train_step
