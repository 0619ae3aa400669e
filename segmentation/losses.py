"""What a segmentation network is trained to make small, and the qualities of a mask that a critic can learn.

Losses take logits (b, *sizes, k) float and labels (b, *sizes) int in 0..k-1 and return a number, float32. `weights` (b, *sizes), where
given, are what each pixel counts: 0 and 1 for valid pixels, those of `microscopy.boundaries`, or their product; 1 everywhere by default.
Labels outside 0..k-1 are the caller's to refuse: on a device nothing can.

Qualities take maps (b, *sizes) in [-1, 1], +1 the cells, and return one number an image, (b,) float32, differentiable in both.
"""

import jax
import jax.numpy as jnp
import numpy as np

SMOOTH = 1.0
"""Pixels added above and below in the Dice coefficient: a class that is neither there nor predicted scores 1, not 0 / 0."""


def cross_entropy(
    logits: jax.Array, labels: jax.Array, weights: jax.Array | None = None, class_weights: jax.Array | None = None
) -> jax.Array:
    """Returns the weighted mean of -log softmax(logits)[label]: sum w c l / sum w c; 0 where no pixel counts.

    `class_weights` (k,) multiply each pixel's weight by its class's c. With `boundary_weights` this is the energy of Ronneberger et al.
    2015 (arXiv:1505.04597, eq. 1), a mean here so that it does not grow with the image.
    """
    logits = logits.astype(jnp.float32)
    losses = jax.nn.logsumexp(logits, axis=-1) - jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    counted = _counted(labels, weights)
    if class_weights is not None:
        counted = counted * jnp.asarray(class_weights, jnp.float32)[labels]
    return _ratio((counted * losses).sum(), counted.sum(), 0.0)


def soft_dice(logits: jax.Array, labels: jax.Array, weights: jax.Array | None = None) -> jax.Array:
    """Returns 1 - the mean over classes of (2 sum w p g + s) / (sum w p + sum w g + s), 0..1.

    p is the softmax, g 1 where the label is the class, s is `SMOOTH`; sums run over the whole batch, background is a class like the others.
    Source: Drozdzal et al. 2016 (arXiv:1608.04117), for several classes by the mean; Milletari et al. 2016 (arXiv:1606.04797)
    square the terms below.
    """
    predicted = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)
    truth = jax.nn.one_hot(labels, logits.shape[-1])
    counted = _counted(labels, weights)[..., None]
    space = tuple(range(labels.ndim))
    both, either = (counted * predicted * truth).sum(space), (counted * (predicted + truth)).sum(space)
    return 1 - ((2 * both + SMOOTH) / (either + SMOOTH)).mean()


def cross_entropy_and_dice(
    logits: jax.Array, labels: jax.Array, weights: jax.Array | None = None, class_weights: jax.Array | None = None
) -> jax.Array:
    """Returns `cross_entropy` + `soft_dice` of the same arguments (Isensee et al. 2021, doi 10.1038/s41592-020-01008-z)."""
    return cross_entropy(logits, labels, weights, class_weights) + soft_dice(logits, labels, weights)


def _counted(labels, weights):
    return jnp.ones(labels.shape, jnp.float32) if weights is None else weights.astype(jnp.float32)


def _ratio(above, below, otherwise: float):
    """Returns above / below, `otherwise` where below is 0, with gradients that are finite there too."""
    return jnp.where(below > 0, above / jnp.where(below > 0, below, 1.0), otherwise)


def balanced_class_weights(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns float32 (num_classes,): n / (k n_c) for n pixels, k classes and n_c pixels of class c, 0 for a class that is not there.

    With them all classes present weigh alike in `cross_entropy`. Host, NumPy.
    """
    counts = np.bincount(np.ravel(labels), minlength=num_classes).astype(np.float64)
    return np.where(counts > 0, counts.sum() / (num_classes * np.maximum(counts, 1)), 0.0).astype(np.float32)


def to_signs(labels: jax.Array) -> jax.Array:
    """Returns float32 of the same shape: +1 where a label is above 0 (a cell), -1 elsewhere; of a +-1 or tanh map its hard form."""
    return jnp.where(labels > 0, 1.0, -1.0)


def module(predicted: jax.Array, truth: jax.Array, weights: jax.Array | None = None) -> jax.Array:
    """Returns the mean of |predicted - truth|, 0..2, best 0: `metrics.overlap.module`."""
    return _mean(jnp.abs(predicted - truth), weights)


def squaring(predicted: jax.Array, truth: jax.Array, weights: jax.Array | None = None) -> jax.Array:
    """Returns the mean of (predicted - truth)^2, 0..4, best 0: `metrics.overlap.squaring`."""
    return _mean((predicted - truth) ** 2, weights)


def percent(predicted: jax.Array, truth: jax.Array, weights: jax.Array | None = None) -> jax.Array:
    """Returns the mean of (1 + predicted truth) / 2, 0..1 (the percentage over 100), best 1.

    On +-1 maps the share of equal signs, `metrics.overlap.percent`. Between, with (1 + x) / 2 as the probability of a cell, the share
    to be expected.
    """
    return _mean((1 + predicted * truth) / 2, weights)


def iou(predicted: jax.Array, truth: jax.Array, weights: jax.Array | None = None) -> jax.Array:
    """Returns sum p q / sum (p + q - p q) with p, q = (1 + x) / 2, 0..1, best 1; 1 where neither map has any cell.

    On +-1 maps the intersection over union of the cells, `metrics.overlap.iou`. The soft form is that of Rahman and Wang 2016,
    doi 10.1007/978-3-319-50835-1_22.
    """
    p, q = (predicted + 1) / 2, (truth + 1) / 2
    return _ratio(_sum(p * q, weights), _sum(p + q - p * q, weights), 1.0)


def iou_squared(predicted: jax.Array, truth: jax.Array, weights: jax.Array | None = None) -> jax.Array:
    """Returns `iou` squared, 0..1, best 1: what the published U-Net in a GAN was trained on."""
    return iou(predicted, truth, weights) ** 2


QUALITIES = {"module": module, "squaring": squaring, "percent": percent, "iou": iou, "iou_squared": iou_squared}
"""Name in the config to function. Scores are these of `to_signs(predicted)`, but for module and squaring of the maps themselves."""
BEST = {"module": 0.0, "squaring": 0.0, "percent": 1.0, "iou": 1.0, "iou_squared": 1.0}
"""The quality of a mask that is the truth: how far from it is what a network has to lessen."""


def predicted_error(quality: str, said: jax.Array) -> jax.Array:
    """Returns the mean of how far from the best the critic says masks are, for "truth" the cross entropy of calling them true."""
    if quality == "truth":
        return jnp.mean(jax.nn.softplus(-said))
    best = BEST[quality]
    return jnp.mean(said - best if best == 0 else best - said)


def weighed(form, train, *pairs):
    """Returns form(quality, ..) of the numbers in each pair, and by `train.window_weight` of the windows' (None: there are none)."""
    whole = form(train.quality, *(pair[0] for pair in pairs))
    return whole if pairs[0][1] is None else whole + train.window_weight * form(train.quality, *(pair[1] for pair in pairs))


def _sum(x, weights):
    return (x if weights is None else x * weights).sum(tuple(range(1, x.ndim)), dtype=jnp.float32)


def _mean(x, weights):
    return _ratio(_sum(x, weights), _sum(jnp.ones_like(x), weights), 0.0)
