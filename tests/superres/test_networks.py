"""Generator and discriminator: shapes, parameter counts, what normalises them, where their outputs lie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from superres import networks
from superres.networks import Discriminator, Generator
from training import cost

TINY = {"num_blocks": 1, "num_maps": 8}


def shapes(network, *arguments):
    """Returns the shapes of (variables, output) without computing anything."""
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), *arguments))
    output = jax.eval_shape(lambda v: network.apply(v, *arguments, mutable=["batch_stats"])[0], variables)
    return variables, output


def made(network, image):
    return jax.jit(lambda key: network.init(key, image, False))(jax.random.key(0))


@pytest.mark.parametrize("scale", networks.SCALES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_images_of_any_size_grow_by_the_scale(scale, channels, dtype):
    network = Generator(scale=scale, channels=channels, dtype=dtype, **TINY)
    variables, output = shapes(network, jnp.zeros((2, 7, 10, channels)), True)
    assert output.shape == (2, 7 * scale, 10 * scale, channels) and output.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


@pytest.mark.parametrize(("first", "num_blocks"), [(9, 16), (3, 16), (9, 5)])
def test_parameters_of_the_generator_by_the_papers_layer_list(first, num_blocks):
    variables, _ = shapes(Generator(channels=3, first_kernel=first, num_blocks=num_blocks), jnp.zeros((1, 8, 8, 3)), False)
    ends = first**2 * 3 * 64 + 64 + 1 + 81 * 64 * 3 + 3
    blocks = num_blocks * (2 * 9 * 64 * 64 + 4 * 64 + 1)
    trunk, up = 9 * 64 * 64 + 2 * 64, 2 * (9 * 64 * 256 + 256 + 1)
    assert cost.num_params(variables["params"]) == ends + blocks + trunk + up
    assert cost.num_params(variables["batch_stats"]) == (2 * num_blocks + 1) * 2 * 64


def test_without_batch_norm_the_convolutions_have_biases_instead():
    variables, _ = shapes(Generator(norm="none", **TINY), jnp.zeros((1, 8, 8, 1)), True)
    assert set(variables) == {"params"} and not any("norm" in name for name in variables["params"])
    assert all("bias" in layer for name, layer in variables["params"].items() if name.endswith("_conv"))
    plain, _ = shapes(Generator(trunk_norm=False, trunk_prelu=True, **TINY), jnp.zeros((1, 8, 8, 1)), True)
    assert "trunk_norm" not in plain["params"] and "bias" in plain["params"]["trunk_conv"] and "trunk_prelu" in plain["params"]


def test_pixel_shuffle_puts_every_map_where_it_says():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 12)).astype(np.float32)
    y = np.asarray(networks.pixel_shuffle(jnp.asarray(x)))
    for row in range(6):
        for column in range(8):
            part = 2 * (row % 2) + column % 2
            np.testing.assert_array_equal(y[:, row, column], x[:, row // 2, column // 2, 3 * part : 3 * part + 3])


def test_a_new_sub_pixel_layer_enlarges_by_nearest_neighbour():
    kernel = made(Generator(**TINY), jnp.zeros((1, 8, 8, 1)))["params"]["up0_conv"]["kernel"]
    parts = np.asarray(kernel).reshape(3, 3, 8, 4, 8)
    assert all(np.array_equal(parts[..., part, :], parts[..., 0, :]) for part in range(4)) and parts.std() > 0


def test_training_normalises_by_the_batch_and_moves_the_statistics():
    network, image = Generator(momentum=0.75, **TINY), jax.random.uniform(jax.random.key(1), (2, 8, 8, 1))
    variables = made(network, image)
    train = jax.jit(lambda x: network.apply(variables, x, True, mutable=["batch_stats", "intermediates"], capture_intermediates=True))
    outputs, changed = train(image)
    once, layer = changed["batch_stats"]["block0_norm0"], changed["intermediates"]["block0_conv0"]
    of_batch = np.asarray(layer["__call__"][0]).reshape(-1, 8)
    np.testing.assert_allclose(once["mean"], 0.25 * of_batch.mean(0), atol=1e-6)
    np.testing.assert_allclose(once["var"], 0.75 + 0.25 * of_batch.var(0), atol=1e-6)
    apply = jax.jit(lambda x: network.apply(variables, x, False))
    held = apply(image)
    assert np.abs(outputs - held).max() > 1e-3
    np.testing.assert_allclose(held[:1], apply(image[:1]), atol=1e-6)


def test_outputs_are_in_the_range_of_the_images():
    image = jax.random.normal(jax.random.key(1), (1, 8, 8, 1))
    unbounded = Generator(output="none", **TINY)
    variables = jax.tree.map(lambda leaf: 2 * leaf, made(unbounded, image))
    apply = jax.jit(lambda x: {name: Generator(output=name, **TINY).apply(variables, x, False) for name in ("none", "tanh", "sigmoid")})
    found = jax.device_get(apply(image))
    raw = found["none"]
    np.testing.assert_allclose(found["tanh"], np.tanh(raw), atol=1e-6)
    np.testing.assert_allclose(found["sigmoid"], np.tanh(raw / 2), atol=1e-6)  # 2 sigmoid(x) - 1, written otherwise


def test_the_first_convolution_pads_with_the_value():
    image = jax.random.normal(jax.random.key(1), (1, 6, 6, 1))
    network = Generator(pad_value=-1.0, first_kernel=5, **TINY)
    variables = made(network, image)
    padded = jnp.pad(image, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=-1.0)
    layer = variables["params"]["first_conv"]
    patches = np.lib.stride_tricks.sliding_window_view(np.asarray(padded)[0, ..., 0], (5, 5))
    expected = np.einsum("yxij,ijo->yxo", patches, np.asarray(layer["kernel"])[:, :, 0]) + np.asarray(layer["bias"])
    seen = jax.jit(lambda x: network.apply(variables, x, False, capture_intermediates=True, mutable=["intermediates"])[1])
    found = seen(image)["intermediates"]["first_conv"]
    np.testing.assert_allclose(found["__call__"][0][0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"scale": 3}, "2, 4, 8"),
        ({"channels": 2}, "1, 3"),
        ({"norm": "layer"}, "batch, none"),
        ({"output": "relu"}, "tanh, sigmoid, none"),
        ({"first_kernel": 4}, "odd"),
        ({"output_mean": True, "channels": 3}, "channels=1"),
    ],
)
def test_wrong_fields_name_what_there_is(fields, reason):
    with pytest.raises(ValueError, match=reason):
        shapes(Generator(**fields), jnp.zeros((1, 8, 8, fields.get("channels", 1))), False)


def test_the_discriminator_of_the_paper():
    variables, logits = shapes(Discriminator(pool="flatten"), jnp.zeros((2, 96, 96, 3)))
    assert logits.shape == (2,) and logits.dtype == jnp.float32
    widths = (3, 64, 64, 128, 128, 256, 256, 512, 512)
    convolutions = 9 * sum(into * out for into, out in zip(widths, widths[1:], strict=False))
    norms, dense = 64 + 2 * sum(widths[2:]), 6 * 6 * 512 * 1024 + 1024 + 1024 + 1
    assert cost.num_params(variables["params"]) == convolutions + norms + dense
    assert variables["params"]["conv0"].keys() == {"kernel", "bias"} and "norm0" not in variables["params"]


@pytest.mark.parametrize("size", [(96, 96), (33, 50)])
def test_the_mean_over_space_takes_any_size(size):
    one, _ = shapes(Discriminator(), jnp.zeros((2, 256, 256, 1)))
    other, logits = shapes(Discriminator(dtype=jnp.bfloat16), jnp.zeros((3, *size, 1)))
    assert jax.tree.map(jnp.shape, one) == jax.tree.map(jnp.shape, other)
    assert logits.shape == (3,) and logits.dtype == jnp.float32
    assert set(shapes(Discriminator(norm="none"), jnp.zeros((2, 32, 32, 1)))[0]) == {"params"}
    with pytest.raises(ValueError, match="flatten, mean"):
        shapes(Discriminator(pool="max"), jnp.zeros((2, 32, 32, 1)))


def test_the_discriminator_judges_by_the_batch_it_is_given():
    image = jax.random.normal(jax.random.key(1), (4, 16, 16, 1))
    network = Discriminator(base_maps=8)
    variables = jax.jit(network.init)(jax.random.key(0), image)
    judge = jax.jit(lambda image: network.apply(variables, image, mutable=["batch_stats"])[0])
    logits = judge(image)
    np.testing.assert_allclose(judge(image[::-1]), logits[::-1], atol=1e-5)
    assert np.abs(judge(image[:2]) - logits[:2]).max() > 1e-3 and np.std(logits) > 1e-3
