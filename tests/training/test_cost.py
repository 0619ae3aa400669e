"""Multiply-adds counted on shapes, against closed forms and the published figure."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from segmentation.convolutions import convolution
from superres.networks import Generator
from training import cost


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


ROWS, MATRIX = jax.ShapeDtypeStruct((3, 5), jnp.float32), jax.ShapeDtypeStruct((5, 5), jnp.float32)
PRODUCT = 2e-9 * 3 * 5 * 5


def twice(x, matrix):
    return x @ matrix @ matrix


def once(x, matrix):
    return x @ matrix


def chosen(x, matrix):
    return jax.lax.cond(x[0, 0] > 0, once, twice, x, matrix)


def switched(x, matrix):
    return jax.lax.switch(jnp.int32(x[0, 0]), [once, twice, lambda x, matrix: x], x, matrix)


def by_platform(x, matrix):
    return jax.lax.platform_dependent(x, matrix, cpu=once, default=twice)


@pytest.mark.parametrize("function", [chosen, switched, by_platform])
def test_of_branches_the_most_expensive_counts_once(function):
    assert cost.gflop(function, ROWS, MATRIX) == pytest.approx(2 * PRODUCT, rel=1e-12)


def test_the_body_of_a_scan_counts_as_often_as_it_runs():
    def function(x, matrix):
        return jax.lax.scan(lambda carry, _: (chosen(carry, matrix), None), x, length=7)[0] @ matrix

    assert cost.gflop(function, ROWS, MATRIX) == pytest.approx((7 * 2 + 1) * PRODUCT, rel=1e-12)


def test_a_convolution_along_three_axes_costs_its_closed_form():
    stack, kernel = jax.ShapeDtypeStruct((1, 4, 6, 8, 3), jnp.float32), jax.ShapeDtypeStruct((3, 3, 3, 3, 5), jnp.float32)
    assert cost.gflop(convolution, stack, kernel) == pytest.approx(2e-9 * 4 * 6 * 8 * 27 * 3 * 5, rel=1e-12)


def test_parameters_are_numbers():
    assert cost.num_params({"a": jnp.zeros((3, 4)), "b": {"c": jax.ShapeDtypeStruct((), jnp.float32)}}) == 13
