"""One step down a gradient, and the moving average that follows the parameters."""

import jax
import jax.numpy as jnp
import optax

from training.task import Net


def descend(net: Net, gradient, optimizer: optax.GradientTransformation) -> Net:
    """Returns the net after one step of its optimiser along `gradient`, a tree like its parameters."""
    updates, opt_state = optimizer.update(gradient, net.opt_state, net.params)
    return net.replace(params=optax.apply_updates(net.params, updates), opt_state=opt_state)


def follow(average, params, decay: float, step: jax.Array):
    """Returns decay * average + (1 - decay) * params; {} where there is no average.

    The decay is at most (1 + step) / (10 + step), as in tf.train.ExponentialMovingAverage, so that the average forgets the random start.
    """
    if not average:
        return average
    now = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, p: now * a + (1.0 - now) * p, average, params)
