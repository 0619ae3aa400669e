"""Multiply-adds counted on shapes, against closed forms and the published figure."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from superres import cost
from superres.networks import Generator


def test_convolutions_and_products_by_their_closed_form():
    image, kernel = jax.ShapeDtypeStruct((2, 9, 12, 5), jnp.float32), jax.ShapeDtypeStruct((3, 3, 5, 7), jnp.float32)

    @jax.jit
    def function(x, kernel, matrix):
        y = jax.lax.conv_general_dilated(x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return nn.relu(y @ matrix)

    expected = 2 * (2 * 5 * 6 * 7 * 9 * 5 + 2 * 5 * 6 * 7 * 4)
    found = cost.gflop(function, image, kernel, jax.ShapeDtypeStruct((7, 4), jnp.float32))
    assert found == pytest.approx(expected * 1e-9, rel=1e-12)


@pytest.mark.parametrize(("groups", "inputs"), [(1, 6), (3, 2)])
def test_a_grouped_convolution_sees_its_group_only(groups, inputs):
    layer = nn.Conv(6, (3, 3), feature_group_count=groups)
    image = jnp.zeros((1, 4, 4, 6))
    variables = jax.eval_shape(layer.init, jax.random.key(0), image)
    assert cost.gflop(layer.apply, variables, image) == pytest.approx(2e-9 * 16 * 6 * 9 * inputs)


def test_srgan_from_64_to_256_costs_what_is_known():
    network, image = Generator(channels=3), jnp.zeros((1, 64, 64, 3))
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), image, False))
    forward = jax.jit(lambda variables, image: network.apply(variables, image, False))
    found = cost.gflop(forward, variables, image)
    places = 64 * 64
    trunk = places * (81 * 3 * 64 + 33 * 9 * 64 * 64)
    assert found == pytest.approx(2e-9 * (trunk + 5 * places * 9 * 64 * 256 + 16 * places * 81 * 64 * 3), rel=1e-12)
    assert round(found, 1) == 18.2
    # XLA counts no products with padding, but also what works number by number.
    assert forward.lower(variables, image).cost_analysis()["flops"] == pytest.approx(found * 1e9, rel=0.03)


def test_parameters_are_numbers():
    assert cost.num_params({"a": jnp.zeros((3, 4)), "b": {"c": jax.ShapeDtypeStruct((), jnp.float32)}}) == 13
