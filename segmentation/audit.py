"""The critic audit: does the critic rank masks as the true quality does, does its gradient point the right way, do steps help?"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from segmentation import losses, maps, supervised
from segmentation.damage import damage

RANGE = {"module": 2.0, "squaring": 4.0, "percent": 1.0, "iou": 1.0, "iou_squared": 1.0}
"""From the worst to the best value of a quality, of which a point is a hundredth."""
POINTS = 0.05


def make_audit(config, network, critic, train_step):
    """Returns look(state, data, key) -> (scalars, table rows, protocol) of the critic that `train_step` trains.

    On `config.eval.num_images` held-out crops (training crops where none is held out): Spearman's rank correlation of said and true
    quality over the U-Net's own predictions, over those within 5 points of quality of each other (the fullest such window), and over
    damaged masks; the mean cosine between two gradients with respect to the predicted mask, of the error that the U-Net goes down (of the
    whole mask and, with `config.train.window_weight`, of its windows) and of how far the true quality is from its best (not for "truth",
    whose masks' quality is judged by IoU). And of `config.eval.num_audited_steps` single steps from this state, on crops of training
    scans, the share after which the true quality of these crops, segmented as in the step, is better.
    """
    quality = config.train.quality
    name = "iou" if quality == "truth" else quality
    of, stepped = losses.QUALITIES[name], make_stepped(config, network, train_step, name)

    def segment(params, stats, image):
        return maps.signs(network.apply({"params": params, "batch_stats": stats}, image, False))

    def judge(params, image, masks):
        return critic.apply({"params": params}, image, masks[..., None], False)

    @jax.jit
    def judged(state, chosen, batch, key):
        image, truth = batch["image"], losses.to_signs(batch["mask"])
        predicted = segment(*chosen, image)
        damaged = damage(key, truth, predicted)
        said = [judge(state.critic.params, image, masks)[0] for masks in (predicted, damaged)]
        followed = functools.partial(losses.weighed, losses.predicted_error, config.train)
        slope = jax.grad(lambda masks: followed(judge(state.critic.params, image, masks)))(predicted)
        true_slope = jax.grad(lambda masks: losses.predicted_error(name, of(masks, truth)))(predicted)
        return *said, of(predicted, truth), of(damaged, truth), _cosine(slope, true_slope)

    def look(state, data, key):
        found = _gathered(judged, state, supervised.inference(state), data, key)
        keys = jax.random.split(jax.random.fold_in(key, 1), config.eval.num_audited_steps)
        better = [bool(stepped(state, {}, batch, k)) for k, batch in zip(keys, itertools.cycle(data.batches("train")), strict=False)]
        said, said_damaged, true, true_damaged, cosine = found
        near = fullest_window(true, POINTS * RANGE[name])
        rows = [
            {"masks": "predicted", "n": len(true), "spearman": spearman(said, true)},
            {"masks": "predicted, within 5 points", "n": int(near.sum()), "spearman": spearman(said[near], true[near])},
            {"masks": "damaged", "n": len(true), "spearman": spearman(said_damaged, true_damaged)},
        ]
        names = ("predicted", "near", "damaged")
        scalars = {f"critic/spearman_{word}": row["spearman"] for word, row in zip(names, rows, strict=True)}
        scalars |= {f"critic/true_{name}": float(np.mean(true)), "critic/steps_better": float(np.mean(better))}
        if quality != "truth":
            scalars["critic/cosine"] = float(np.mean(cosine))
        return scalars, rows, f"{len(true)} crops, {len(better)} single steps, true quality {name}"

    return look


def make_stepped(config, network, train_step, name: str):
    """Returns stepped(state, frozen, batch, key): whether one step betters the quality `name` of its batch, segmented as in the step."""
    sign = -1.0 if losses.BEST[name] == 0 else 1.0

    @jax.jit
    def stepped(state, frozen, batch, key):
        augment_key, dropout_key, _ = jax.random.split(key, 3)  # the step's own
        image, labels, _ = supervised.moved(augment_key, batch, config.train.augment)
        after, _ = train_step(state, frozen, batch, key)

        def reached(net):
            variables = {"params": net.params, "batch_stats": net.stats}
            out, _ = network.apply(variables, image, True, rngs={"dropout": dropout_key}, mutable=["batch_stats"])
            return sign * losses.QUALITIES[name](maps.signs(out), losses.to_signs(labels)).mean()

        return reached(after.network) > reached(state.network)

    return stepped


def _gathered(judged, state, chosen, data, key) -> list[np.ndarray]:
    """What `judged` gives, over the valid crops of all held-out batches."""
    parts = []
    for split in ("held_out", "train"):
        for number, batch in enumerate(data.batches(split)):
            valid = np.asarray(batch["valid"])
            found = judged(state, chosen, batch, jax.random.fold_in(key, number))
            parts.append([np.asarray(values)[valid] for values in found])
        if parts:
            return [np.concatenate(values) for values in zip(*parts, strict=True)]
    raise AssertionError("a run has training scans")


def _cosine(first: jax.Array, second: jax.Array) -> jax.Array:
    """The cosine (b,) between two fields (b, h, w); 0 where one of them is 0."""
    product, norms = (first * second).sum((1, 2)), [jnp.sqrt((one**2).sum((1, 2))) for one in (first, second)]
    length = norms[0] * norms[1]
    return jnp.where(length > 0, product / jnp.where(length > 0, length, 1.0), 0.0)


def fullest_window(values: np.ndarray, width: float) -> np.ndarray:
    """Returns bool (n,): the values in that interval of `width` which begins at one of them and holds most."""
    inside = (values[None] >= values[:, None]) & (values[None] <= values[:, None] + width)
    return inside[inside.sum(1).argmax()]


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Returns Spearman's rank correlation of two (n,) arrays, ties at their mean rank; 0 where either is constant or n is below 3."""
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(scipy.stats.spearmanr(first, second).statistic)
