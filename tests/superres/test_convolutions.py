"""The convolution to few maps against `lax` and its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from superres.convolutions import narrow_convolution


def reference(x, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@pytest.mark.parametrize(("height", "width", "size", "maps"), [(8, 11, 9, 3), (5, 4, 3, 1), (3, 12, 9, 1), (1, 1, 3, 2)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_value_and_gradients_are_those_of_the_plain_convolution(height, width, size, maps, dtype):
    random, shapes = np.random.default_rng(0), ((2, height, width, 6), (size, size, 6, maps), (2, height, width, maps))
    arrays = [jnp.asarray(random.normal(size=shape), dtype) for shape in shapes]

    def value_and_gradients(form, *arrays):
        @jax.jit
        def pulled(x, kernel, cotangent):
            value, pull = jax.vjp(form, x, kernel)
            return value, *pull(cotangent)

        return pulled(*arrays)

    tolerance = 1e-5 if dtype == jnp.float32 else 2e-2
    found, expected = value_and_gradients(narrow_convolution, *arrays), value_and_gradients(reference, *(np.float32(one) for one in arrays))
    for array, wanted in zip(found, expected, strict=True):
        assert array.dtype == dtype
        np.testing.assert_allclose(array.astype(np.float32), wanted, atol=tolerance * float(jnp.abs(wanted).max()))


def test_its_kernel_gradient_is_the_slope_of_finite_differences():
    x = jax.random.normal(jax.random.key(0), (2, 5, 6, 4))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 4, 2))
    function = jax.jit(lambda kernel: (narrow_convolution(x, kernel) ** 2).sum())
    gradient = jax.grad(function)(kernel)
    step = 1e-2 * gradient / jnp.linalg.norm(gradient)
    slope = (function(kernel + step) - function(kernel - step)) / 2e-2
    assert float(jnp.linalg.norm(gradient)) == pytest.approx(float(slope), rel=1e-3)
