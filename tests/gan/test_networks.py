"""The networks against plain XLA operations, closed forms and the published sizes."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.networks import Discriminator, Generator, Upsample, dropout


@pytest.mark.parametrize(
    ("size", "base", "gigaflops"), [(32, 256, 1.26), (48, 256, 2.83), (64, 256, 5.03), (96, 128, 2.83), (128, 128, 5.03)]
)
def test_published_sizes(size, base, gigaflops):
    """Widths 8n-4n-2n-n on a grid of size/16: parameter shapes and the arithmetic of the four transposed convolutions."""
    generator = Generator(size, size, 1, base)
    made = jax.eval_shape(lambda key: generator.init(key, jnp.zeros((1, 100)), train=True), jax.random.key(0))["params"]
    kernels = [made[f"Upsample_{i}"]["kernel"].shape for i in range(4)]
    assert kernels == [(5, 5, 8 * base, 4 * base), (5, 5, 4 * base, 2 * base), (5, 5, 2 * base, base), (5, 5, base, 1)]
    assert made["Dense_0"]["kernel"].shape == (100, (size // 16) ** 2 * 8 * base)
    flops = sum(2 * np.prod(kernel) * (size // 16 * 2**i) ** 2 for i, kernel in enumerate(kernels))
    assert flops / 1e9 == pytest.approx(gigaflops, rel=0.02)


@pytest.mark.parametrize("resize", [False, True])
@pytest.mark.parametrize(("height", "width", "channels"), [(32, 32, 1), (32, 64, 3), (48, 16, 1)])
def test_shapes_and_range_for_any_height_and_width(resize, height, width, channels):
    generator = Generator(height, width, channels, 2, resize_convolution=resize)
    noise = jax.random.normal(jax.random.key(1), (3, 8))

    @jax.jit
    def both(noise):
        image, _ = generator.init_with_output(jax.random.key(0), noise, train=True)
        return image, Discriminator(2).init_with_output(jax.random.key(2), image, train=False)[0]

    image, judged = both(noise)
    assert image.shape == (3, height, width, channels) and image.dtype == jnp.float32
    assert np.abs(image).max() <= 1 and np.std(image) > 0
    assert judged.shape == (3,) and judged.dtype == jnp.float32


def test_resize_upsampling_repeats_pixels_before_its_convolution():
    layer = Upsample(2, 3, True, False, jnp.float32)
    x = jax.random.normal(jax.random.key(0), (1, 4, 4, 2))
    variables = layer.init(jax.random.key(1), x)
    identity = jnp.zeros((3, 3, 2, 2)).at[1, 1].set(jnp.eye(2))
    variables = {"params": {"Conv_0": {"kernel": identity}}} | {name: v for name, v in variables.items() if name != "params"}
    np.testing.assert_array_equal(layer.apply(variables, x), np.kron(x, np.ones((1, 2, 2, 1))))


def test_bfloat16_stays_near_float32():
    noise = jax.random.normal(jax.random.key(1), (4, 8))
    wide = Generator(32, 32, 1, 4)

    @jax.jit
    def both(noise):
        exact, variables = wide.init_with_output(jax.random.key(0), noise, train=True)
        return exact, wide.clone(dtype=jnp.bfloat16).apply(variables, noise, train=True, mutable=["batch_stats"])[0]

    exact, coarse = both(noise)
    assert coarse.dtype == jnp.float32
    assert 0 < float(jnp.abs(exact - coarse).max()) < 0.05


def test_dropout_zeroes_or_scales_and_only_in_training():
    image = jax.random.normal(jax.random.key(0), (4, 32, 32, 1))
    network = Discriminator(4, dropout=0.5, norm="none")
    params = jax.jit(network.init, static_argnames="train")(jax.random.key(1), image, train=False)
    quiet = jax.jit(lambda params, image: network.apply(params, image, train=False))(params, image)
    undropped = jax.jit(lambda params, image: network.clone(dropout=0.0).apply(params, image, train=True))
    np.testing.assert_array_equal(quiet, undropped(params, image))
    train = jax.jit(lambda params, image, key: network.apply(params, image, train=True, rngs={"dropout": key}))
    loud = [train(params, image, jax.random.key(k)) for k in (0, 0, 1)]
    np.testing.assert_array_equal(loud[0], loud[1])
    assert np.abs(loud[0] - loud[2]).max() > 0
    x = jnp.ones((64, 5, 7, 3))
    dropped = np.asarray(dropout(jax.random.key(2), x, 0.3))
    assert set(np.unique(dropped)) == {0.0, np.float32(256 / (256 - 77))}
    assert np.mean(dropped == 0) == pytest.approx(77 / 256, abs=0.02) and not np.array_equal(dropped[0], dropped[1])


def test_batch_norm_uses_the_batch_it_is_given():
    """A brighter, more contrasty copy of a batch gives the same logits once the first, unnormalised block is linear."""
    network = Discriminator(4, leak=1.0, dropout=0.0)
    image = jax.random.normal(jax.random.key(0), (8, 32, 32, 1))
    variables = jax.jit(network.init, static_argnames="train")(jax.random.key(1), image, train=False)
    apply = jax.jit(lambda image: network.apply(variables, image, train=False, mutable=["batch_stats"])[0])
    plain, scaled = apply(image), apply(3.0 * image)
    np.testing.assert_allclose(plain, scaled, rtol=0.05, atol=1e-3)


def test_spectral_norm_bounds_every_layer_by_one():
    """After power iteration each used kernel, as a matrix (fan-in, features), has largest singular value 1 (NumPy SVD)."""
    image = jax.random.normal(jax.random.key(0), (4, 32, 32, 1))
    network = Discriminator(2, dropout=0.0, norm="spectral")
    variables = jax.jit(network.init, static_argnames=("train", "update_stats"))(jax.random.key(1), image, train=False, update_stats=True)
    params, stats = variables["params"], variables["batch_stats"]

    @jax.jit
    def moved(params, stats, image):
        variables = {"params": params, "batch_stats": stats}
        return network.apply(variables, image, train=False, update_stats=True, mutable=["batch_stats"])[1]["batch_stats"]

    for _ in range(60):
        stats = moved(params, stats, image)
    flat = {"/".join(k): v for k, v in _flatten(stats).items()}
    sigmas = {name: float(value) for name, value in flat.items() if name.endswith("sigma")}
    assert len(sigmas) == 5
    for block in range(4):
        kernel = np.asarray(params[f"conv{block}"]["kernel"]).reshape(-1, 2 * 2**block)
        sigma = next(value for name, value in sigmas.items() if f"conv{block}" in name)
        assert sigma == pytest.approx(np.linalg.svd(kernel, compute_uv=False)[0], rel=2e-2)


def _flatten(tree, path=()):
    if not isinstance(tree, dict):
        return {path: tree}
    return {key: value for name, item in tree.items() for key, value in _flatten(item, (*path, name)).items()}


def test_leaky_slope_is_as_given():
    assert float(nn.leaky_relu(jnp.array(-1.0), 0.01)) == pytest.approx(-0.01)
    assert Generator(32, 32, 1, 2).leak == Discriminator(2).leak == 0.01


def test_the_label_field_weighs_less():
    image = jax.random.normal(jax.random.key(0), (2, 16, 16, 2))
    variables = jax.jit(Discriminator(2).init, static_argnames="train")(jax.random.key(1), image, train=False)

    @functools.partial(jax.jit, static_argnums=0)
    def judged(weight, image):
        return Discriminator(2, label_weight=weight).apply(variables, image, train=False, mutable=["batch_stats"])[0]

    np.testing.assert_array_equal(judged(0.25, image), judged(1.0, image * jnp.array([1.0, 0.25]).reshape(1, 1, 1, 2)))
    assert not np.allclose(judged(0.25, image), judged(1.0, image))
