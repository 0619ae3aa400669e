"""The critic: shapes, its strided convolution against JAX's own, what it sees, that it can learn a quality."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from segmentation import convolutions
from segmentation.networks import Critic

RANDOM = np.random.default_rng(1)


def images(*shape):
    return jnp.asarray(RANDOM.uniform(-1, 1, shape), jnp.float32)


def filled(network, *arguments):
    """Returns variables of the right shapes, made without compiling anything; biases and statistics are there to be seen."""

    def leaf(path, shape):
        name, values = path[-1].key, RANDOM.normal(size=shape.shape)
        if name == "kernel":
            values *= np.sqrt(2 / np.prod(shape.shape[:-1]))
        else:
            values = 0.2 * values + (1 if name == "scale" else 0) if name != "var" else 1 + 0.2 * abs(values)
        return jnp.asarray(values, jnp.float32)

    return jax.tree_util.tree_map_with_path(leaf, jax.eval_shape(lambda: network.init(jax.random.key(0), *arguments)))


@pytest.mark.parametrize("axes", [2, 3])
def test_the_strided_convolution_is_one_of_four_pixels_a_side(axes):
    x, kernel = images(2, *(6, 10, 4)[:axes], 3), images(*(4,) * axes, 3, 5)
    layout = ("NDHWC", "DHWIO", "NDHWC") if axes == 3 else ("NHWC", "HWIO", "NHWC")
    expected = lax.conv_general_dilated(x, kernel, (2,) * axes, [(1, 1)] * axes, dimension_numbers=layout)
    blocks = kernel.reshape(*(2, 2) * axes, 3, 5).transpose(*range(0, 2 * axes, 2), *range(1, 2 * axes, 2), 2 * axes, 2 * axes + 1)
    ours = convolutions.halved(x, blocks.reshape(*(2,) * axes, 2**axes * 3, 5))
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_windows_say_numbers_of_their_own_places():
    image, mask = images(2, 32, 64, 1), jnp.sign(images(2, 32, 64, 1))
    model = Critic(base_width=4, depth=0, num_strided=3, hidden=8, windows=True)
    variables = filled(model, image, mask, True)
    call = jax.jit(lambda mask: model.apply(variables, image, mask, True)[1])
    judged, other = call(mask), call(mask.at[:, 2:6, 10:14].multiply(-1))
    moved = np.abs(other - judged) > 1e-6
    assert judged.shape == (2, 4, 8) and moved[:, 0, 1].all() and not moved[:, 2:].any() and not moved[:, :, 4:].any()
    assert Critic(base_width=4, depth=0, num_strided=3, hidden=8).apply(variables, image, mask, True)[1] is None


def test_products_are_the_networks_maps_times_the_mask():
    """Weights of the products change nothing where the mask is 0, and as much as those of the maps themselves where it is 1."""
    image, width = images(2, 16, 16, 1), 4
    model = Critic(base_width=width, depth=0, num_strided=1, hidden=8, products=True)
    variables = filled(model, image, image, True)
    stored = variables["params"]["strided0"]["kernel"]
    kernel = stored.reshape(2, 2, 4, 2 * width + 1, -1)  # the maps, the mask, the maps times the mask
    other = images(*kernel[..., :width, :].shape)

    @jax.jit
    def call(maps, products, value):
        changed = {
            "strided0": variables["params"]["strided0"]
            | {"kernel": jnp.concatenate([maps, kernel[..., width : width + 1, :], products], 3).reshape(stored.shape)}
        }
        return model.apply({"params": variables["params"] | changed}, image, jnp.full_like(image, value), True)[0]

    maps, products = kernel[..., :width, :], kernel[..., width + 1 :, :]
    np.testing.assert_allclose(call(maps, other, 0.0), call(maps, products, 0.0), atol=1e-5)
    np.testing.assert_allclose(call(maps + products, other - other, 1.0), call(maps, products, 1.0), atol=1e-4)
    assert np.abs(call(maps, other, 1.0) - call(maps, products, 1.0)).min() > 1e-3


@pytest.mark.parametrize("products", [False, True])
def test_several_masks_of_a_scan_are_judged_as_each_alone(products):
    image, masks = images(2, 16, 16, 1), images(6, 16, 16, 1)
    model = Critic(base_width=4, depth=1, num_strided=1, hidden=8, products=products)
    variables = filled(model, image, masks, True)
    judge = jax.jit(lambda image, masks: model.apply(variables, image, masks, True)[0])
    together = judge(image, masks)
    alone = [judge(image[i % 2 : i % 2 + 1], masks[i : i + 1]) for i in range(6)]
    np.testing.assert_allclose(together, jnp.concatenate(alone), atol=1e-5)


@pytest.mark.parametrize(("sizes", "axes"), [((32, 32), 2), ((21, 70), 2), ((1, 1), 2), ((8, 9, 17), 3)])
def test_scans_of_any_size_have_one_number_each(sizes, axes):
    model = Critic(base_width=4, depth=2, num_strided=3, hidden=8, axes=axes, kernel=(3,) * axes, norm="batch", dtype=jnp.bfloat16)
    image = jnp.zeros((2, *sizes, 1))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), image, image, True))
    output = jax.eval_shape(lambda v: model.apply(v, image, image, True, mutable=["batch_stats"])[0][0], variables)
    assert output.shape == (2,) and output.dtype == jnp.float32


def test_a_mask_is_judged_by_itself_unless_batch_norm_is_asked_for_and_flatten_ties_to_a_size():
    image, mask = images(3, 16, 16, 1), jnp.sign(images(3, 16, 16, 1))
    model = Critic(base_width=4, depth=1, num_strided=2, hidden=8)
    variables = filled(model, image, mask, True)
    call = jax.jit(lambda image, mask: model.apply(variables, image, mask, True)[0])
    judged = call(image, mask)
    assert np.ptp(judged) > 1e-4
    np.testing.assert_allclose(call(image.at[1:].set(0.0), mask.at[1:].set(1.0))[:1], judged[:1], atol=1e-6)
    other_scan, other_mask = np.abs(call(-image, mask) - judged), np.abs(call(image, -mask) - judged)
    assert other_scan.min() > 1e-4 and other_mask.min() > 1e-4
    flat = Critic(base_width=4, depth=1, num_strided=2, hidden=8, pool="flatten")
    shape = jax.eval_shape(lambda: flat.init(jax.random.key(0), image, mask, True))["params"]["hidden"]["kernel"].shape
    assert shape == (4 * 4 * 8, 8)
    with pytest.raises(ValueError, match="equal sizes"):
        model.apply(variables, image, mask[:, :8], True)
    with pytest.raises(ValueError, match="choose mean, flatten"):
        Critic(pool="max").init(jax.random.key(0), image, mask, True)
