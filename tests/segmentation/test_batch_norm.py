"""The batch norm against flax's: output, what it stores, and the gradient of the closed form."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segmentation.batch_norm import BatchNorm

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(3, 5, 4, 6), (2, 3, 4, 5, 2)])
def test_output_statistics_and_gradients_are_those_of_flax(shape):
    x, weights = (jnp.asarray(RANDOM.normal(1, 2, shape), jnp.float32) for _ in range(2))
    params = {name: jnp.asarray(RANDOM.normal(1, 0.3, shape[-1:]), jnp.float32) for name in ("scale", "bias")}
    stats = {"mean": jnp.full(shape[-1:], 0.3), "var": jnp.full(shape[-1:], 1.7)}
    own, theirs = BatchNorm(momentum=0.8), nn.BatchNorm(momentum=0.8)
    results = []
    for apply in (
        lambda v, x: own.apply(v, x, True, mutable=["batch_stats"]),
        lambda v, x: theirs.apply(v, x, use_running_average=False, mutable=["batch_stats"]),
    ):

        def loss(params, x, apply=apply):
            y, changed = apply({"params": params, "batch_stats": stats}, x)
            return (jnp.sin(y) * weights).sum(), (y, changed["batch_stats"])

        results.append(jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(params, x))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), *results)
    held = {"params": params, "batch_stats": stats}
    np.testing.assert_allclose(own.apply(held, x, False), theirs.apply(held, x, use_running_average=True), rtol=1e-5, atol=1e-6)


def test_variables_are_called_as_those_of_flax_and_begin_alike():
    x = jnp.ones((1, 2, 2, 3))
    own, theirs = BatchNorm().init(jax.random.key(0), x, True), nn.BatchNorm().init(jax.random.key(0), x, use_running_average=False)
    jax.tree.map(np.testing.assert_array_equal, own, theirs)


def test_bfloat16_is_normalised_in_float32_and_returned_as_it_came():
    x = jnp.asarray(RANDOM.normal(100, 1, (4, 8, 8, 2)), jnp.bfloat16)
    y = BatchNorm(dtype=jnp.bfloat16).init_with_output(jax.random.key(0), x, True)[0]
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(y, np.float32).std((0, 1, 2)), 1, rtol=0.02)
