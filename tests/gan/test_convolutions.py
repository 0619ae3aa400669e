"""Both convolutions and all their gradients, of second order too, against the plain XLA forms and a scatter by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from gan.convolutions import strided_convolution, transposed_convolution

LAYOUT = ("NHWC", "HWIO", "NHWC")


def plain_strided(x, kernel):
    return lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=LAYOUT)


def plain_transposed(x, kernel):
    return lax.conv_transpose(x, kernel, (2, 2), "SAME", dimension_numbers=LAYOUT)


@pytest.mark.parametrize("size", [3, 4, 5, 6])
@pytest.mark.parametrize("shape", [(2, 6, 10), (1, 2, 2), (3, 4, 2)])
@pytest.mark.parametrize(("ours", "plain"), [(strided_convolution, plain_strided), (transposed_convolution, plain_transposed)])
def test_value_and_gradients_equal_the_plain_form(ours, plain, shape, size):
    random, output = np.random.default_rng(size), jax.eval_shape(plain, jnp.zeros((*shape, 4)), jnp.zeros((size, size, 4, 3))).shape
    x, kernel, cotangent = (jnp.asarray(random.normal(size=of), jnp.float32) for of in ((*shape, 4), (size, size, 4, 3), output))

    def value_and_gradients(form):
        @jax.jit
        def pulled(x, kernel, cotangent):
            value, pull = jax.vjp(form, x, kernel)
            return value, pull(cotangent)

        return pulled(x, kernel, cotangent)

    (found, mine), (wanted, theirs) = value_and_gradients(ours), value_and_gradients(plain)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    for one, other in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=5e-5, atol=5e-5)


@pytest.mark.parametrize(("ours", "plain"), [(strided_convolution, plain_strided), (transposed_convolution, plain_transposed)])
def test_second_derivatives_equal_the_plain_form(ours, plain):
    """A gradient penalty differentiates the input gradient by the kernel."""
    x, kernel = jax.random.normal(jax.random.key(0), (2, 4, 4, 3)), jax.random.normal(jax.random.key(1), (5, 5, 3, 2))

    def penalty(f):
        return jax.jit(jax.grad(lambda k: (jax.grad(lambda image: jnp.tanh(f(image, k)).sum())(x) ** 2).sum()))(kernel)

    np.testing.assert_allclose(penalty(ours), penalty(plain), rtol=1e-4, atol=1e-4)


def test_transposed_convolution_is_a_scatter_of_kernels():
    """By hand: every input value adds its kernel at twice its place, shifted by ceil(k / 2) - k + 1."""
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(1, 3, 4, 2)), rng.normal(size=(5, 5, 2, 3))
    wanted = np.zeros((1, 6, 8, 3))
    for i, j, ky, kx in np.ndindex(3, 4, 5, 5):
        y, z = 2 * i + 3 - ky, 2 * j + 3 - kx
        if 0 <= y < 6 and 0 <= z < 8:
            wanted[0, y, z] += x[0, i, j] @ kernel[ky, kx]
    np.testing.assert_allclose(
        transposed_convolution(jnp.array(x, jnp.float32), jnp.array(kernel, jnp.float32)), wanted, rtol=1e-4, atol=1e-4
    )
